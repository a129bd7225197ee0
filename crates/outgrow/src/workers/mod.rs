//! Workers that are processes: how they are started (`family`), and how they find each other (`meet`). What they do then is
//! for whoever has brought them together.

mod family;
mod meet;

pub use family::{Family, end_with_parent};
pub use meet::{PATIENCE, Port, by_memory, by_tcp, join_by_key, join_by_memory};

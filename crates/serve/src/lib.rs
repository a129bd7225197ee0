//! Models behind a server: what clients ask for, put together into batches in time.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

pub mod batcher;
mod engine;
mod http;
pub mod protocol;
mod run;
mod served;
mod server;

pub use engine::{Engine, Ticket};
pub use http::{Limits, Site, router};
pub use run::run_until_signal;
pub use served::{Prepared, Served, VERSION};
pub use server::serve;

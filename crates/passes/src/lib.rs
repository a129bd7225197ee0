//! Graph to graph passes: gradient, mixed precision, attention found among products, simplification, recomputation,
//! rematerialisation and fusion. The verifier runs after each.

mod attention;
mod dead_code;
mod fuse;
mod gradient;
mod mask;
mod narrow;
mod pipeline;
mod reach;
mod recompute;
mod rematerialize;
mod simplify;

pub use attention::FindAttention;
pub use dead_code::DeadCode;
pub use fuse::{Fuse, schedule, unit_of, units};
pub use gradient::{add_gradients, gradient};
pub use mask::Masks;
pub use narrow::narrow_products;
pub use pipeline::{Pass, PassManager, prepare, prepare_within};
pub use recompute::Recompute;
pub use rematerialize::Rematerialize;
pub use simplify::Simplify;

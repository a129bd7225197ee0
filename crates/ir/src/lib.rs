//! The typed dataflow graph that training, inference, compression and cost all read: primitives with their shape
//! rules, reference evaluation, derivatives and costs; composites built from them; a verifier; a text form; and a
//! slow and obvious reference interpreter. This crate executes nothing fast and touches neither files nor clocks.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod attr;
mod builder;
mod cost;
mod counted;
mod diagnostic;
mod dim;
mod graph;
mod interpret;
mod machine;
pub mod nn;
pub mod ops;
mod region;
mod rewrite;
mod shield;
mod signature;
mod text;
mod types;
mod verify;

pub use attr::{Attr, AttrReader, Scalar};
pub use builder::Builder;
pub use cost::Cost;
pub use counted::counted;
pub use diagnostic::{Diagnostic, Diagnostics, Place, Problem};
pub use dim::{Dim, Sizes, Symbol, Symbols};
pub use graph::{Graph, GroupId, Node, Value};
pub use interpret::{evaluate_all, interpret};
pub use machine::{MachineProfile, MemoryLevel, Peak};
pub use ops::input::Input;
pub use ops::{Op, OpRule, Sample, SampleInput, Vjp};
pub use region::{Composite, Region, RegionId, Results};
pub use rewrite::{Rewriter, prune};
pub use shield::{quiet_shielded_panics, shielded};
pub use signature::{InputRole, Metric, Output, OutputRole};
pub use types::TensorType;

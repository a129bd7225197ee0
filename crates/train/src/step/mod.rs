//! A step, cut into what is to be done ([`StepPlan`]), in which order ([`StepMachine`]: events in, actions out, no I/O)
//! and with what ([`TreeSum`], [`Sums`]); [`LocalStep`] does it all in one process.

mod local;
mod machine;
mod plan;
mod sums;
mod tree;

pub(crate) use local::sample;
pub use local::{LocalStep, StepOutcome};
pub use machine::{Action, Event, StepMachine, Unexpected};
pub use plan::{Node, StepPlan};
pub use sums::{Sums, Verdict};
pub use tree::TreeSum;

//! A step, cut into what is to be done ([`StepPlan`]), in which order ([`StepMachine`]: events in, actions out, no I/O)
//! and with what ([`TreeSum`]); [`LocalStep`] does it all in one process.

mod local;
mod machine;
mod plan;
mod tree;

pub(crate) use local::sample;
pub use local::{LocalStep, StepOutcome};
pub use machine::{Action, Event, StepMachine, Unexpected};
pub use plan::{Node, StepPlan};
pub use tree::TreeSum;

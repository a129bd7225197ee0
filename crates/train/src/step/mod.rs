//! A step, cut into what is to be done ([`StepPlan`]), in which order ([`StepMachine`]: events in, actions out, no I/O)
//! and with what ([`TreeSum`], [`Sums`], and `Shards` among several workers); [`WorkerStep`] does one worker's part of it.

mod exchange;
mod machine;
mod plan;
mod shards;
mod sums;
mod tree;
mod worker;

pub use machine::{Action, Event, StepMachine, Unexpected};
pub use plan::{Bucket, Combined, StepPlan, check};
pub use sums::{Stretches, Sums, Verdict};
pub use tree::TreeSum;
pub(crate) use worker::sample;
pub use worker::{StepOutcome, WorkerStep};

//! Training: optimisers, schedules, metrics, early stopping, and the trainer that puts them to work. A run's numbers
//! depend on the model, the data, the `[train]` section and the seed alone. This crate knows nothing of data sets.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

pub mod defaults;
pub mod early_stopping;
mod evaluate;
mod flat;
mod memory;
pub mod metric;
mod metrics;
mod nonfinite;
mod observe;
pub mod optim;
mod pass;
mod program;
mod rehearse;
mod run;
mod saving;
pub mod schedule;
pub mod spec;
mod state;
pub mod step;
mod task;
mod trainer;
mod update;
mod vector;
mod watch;

pub use evaluate::Evaluator;
pub use flat::{Entry, Layout};
pub use memory::{memory_needed, step_graph};
pub use metrics::Metrics;
pub use observe::{Silent, TrainEvent, TrainObserver};
pub use program::{ModelProgram, Sample};
pub use rehearse::Rehearsal;
pub use state::{StateRange, TrainState};
pub use step::{StepOutcome, WorkerStep};
pub use task::{model_inputs, target};
pub use trainer::{Outcome, Trainer, TrainerOptions};
pub use update::Update;
pub use vector::DeviceVector;

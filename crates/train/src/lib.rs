//! Optimisers, schedules, metrics and the trainer.
pub mod optim;
pub mod spec;

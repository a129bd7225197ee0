//! Optimisers, schedules, metrics and the trainer.
pub mod early_stopping;
pub mod metric;
pub mod optim;
pub mod schedule;
pub mod spec;

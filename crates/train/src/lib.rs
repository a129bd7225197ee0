//! Optimisers, schedules, metrics and the trainer.
pub mod spec;

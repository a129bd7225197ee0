//! Optimisers, schedules, metrics and the trainer.

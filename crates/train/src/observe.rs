//! What a trainer tells while it works.

use crate::metrics::Metrics;
use crate::spec::MetricName;
use outgrow_ir::Diagnostics;
use std::path::Path;

/// Something that happened in training.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainEvent<'a> {
    /// Training begins, or goes on after this many steps.
    Started {
        /// Steps done before.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Steps of an epoch.
        steps_per_epoch: u64,
        /// Samples of a step.
        batch: usize,
    },
    /// A step is done.
    Step {
        /// Steps done, this one included.
        step: u64,
        /// Its epoch, counted from 0.
        epoch: u64,
        /// The mean loss of its batch.
        loss: f64,
        /// The fraction of right answers in its batch, for classes.
        accuracy: Option<f64>,
        /// Its learning rate.
        lr: f64,
        /// Its samples, without padding.
        samples: usize,
    },
    /// The validation data was evaluated.
    Evaluated {
        /// Steps done.
        step: u64,
        /// Epochs begun.
        epoch: u64,
        /// What came out.
        metrics: &'a Metrics,
    },
    /// An epoch, or the last part of one, is over; if it ends with an evaluation, that has been told.
    EpochEnded {
        /// Steps done.
        step: u64,
        /// The epoch, counted from 0.
        epoch: u64,
    },
    /// A checkpoint is on the disk.
    Checkpointed {
        /// Steps done.
        step: u64,
        /// Its record.
        path: &'a Path,
    },
    /// A newer checkpoint could not be used and was passed over.
    Skipped {
        /// What is wrong with it.
        problem: &'a str,
    },
    /// The learning rate falls, since a metric no longer gets better.
    Plateau {
        /// Steps done.
        step: u64,
        /// The metric.
        metric: MetricName,
    },
    /// Training stops before its last step, since a metric no longer gets better.
    StoppedEarly {
        /// Steps done.
        step: u64,
    },
}

/// Whoever wants to know how training goes.
pub trait TrainObserver {
    /// Takes notice.
    fn on_event(&mut self, event: &TrainEvent<'_>);

    /// Whether training is to end now, with its state saved, to be gone on with later. Asked before each step, of the
    /// first worker only.
    fn is_asked_to_end(&mut self) -> bool {
        false
    }

    /// Makes durable what it was told so far. A checkpoint is written only after this has succeeded: what came before a
    /// checkpoint that training goes on from is never told again.
    fn sync(&mut self) -> Result<(), Diagnostics> {
        Ok(())
    }
}

/// Takes no notice.
#[derive(Debug, Default)]
pub struct Silent;

impl TrainObserver for Silent {
    fn on_event(&mut self, _: &TrainEvent<'_>) {}
}

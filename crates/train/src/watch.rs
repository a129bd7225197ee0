//! What follows from evaluations: early stopping watches a validation metric and keeps the best weights, and the schedule
//! `plateau` reduces the learning rate.

use crate::early_stopping::Patience;
use crate::metrics::Metrics;
use crate::observe::{TrainEvent, TrainObserver};
use crate::schedule::{self, Plateau};
use crate::spec::Schedule;
use crate::trainer::Trainer;
use outgrow_ir::Diagnostic;

impl Trainer {
    /// The learning rate of the step that follows so many, by the schedule and what evaluations have made of it.
    pub(crate) fn lr(&self, step: u64, steps_per_epoch: u64, steps: u64) -> f64 {
        schedule::lr(&self.config, step, steps_per_epoch, steps, self.state.reductions())
    }

    /// Has the schedule take notice of an evaluation, if it goes by those.
    pub(crate) fn watch_plateau(&mut self, metrics: &Metrics, observer: &mut dyn TrainObserver) {
        let Schedule::Plateau(config) = self.config.schedule else { return };
        // What the model has no such metric of is refused before training.
        let Some(value) = metrics.get(config.metric) else { return };
        let state = &mut self.state;
        if state.plateau.get_or_insert_with(|| Plateau::new(&config)).observe(value) {
            observer.on_event(&TrainEvent::Plateau { step: state.step, metric: config.metric });
        }
    }

    /// Takes notice of an evaluation, and marks training as stopped when the manifest's patience is over.
    pub(crate) fn watch(
        &mut self,
        metrics: &Metrics,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), Diagnostic> {
        let Some(config) = self.config.early_stopping else { return Ok(()) };
        // What the model has no such metric of is refused before training.
        let Some(value) = metrics.get(config.metric) else { return Ok(()) };
        let state = &mut self.state;
        let watcher = state.early_stopping.get_or_insert_with(|| Patience::new(&config));
        let decision = watcher.observe(value);
        if decision.improved && config.restore_best {
            match &mut state.best {
                Some((params, buffers)) => {
                    params.copy_from(&state.params)?;
                    buffers.copy_from(&state.buffers)?;
                }
                best => *best = Some((state.params.duplicate()?, state.buffers.duplicate()?)),
            }
        }
        if decision.stop {
            state.stopped = true;
            observer.on_event(&TrainEvent::StoppedEarly { step: state.step });
        }
        Ok(())
    }

    /// Puts the best weights in place of the last ones, when the manifest asks for that.
    pub(crate) fn restore_best(&mut self) -> Result<(), Diagnostic> {
        if let Some((params, buffers)) = &self.state.best {
            self.state.params.copy_from(params)?;
            self.state.buffers.copy_from(buffers)?;
        }
        Ok(())
    }
}

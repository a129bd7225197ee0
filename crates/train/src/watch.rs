//! Early stopping: watches a validation metric and keeps the best weights.

use crate::early_stopping::Patience;
use crate::metrics::Metrics;
use crate::observe::{TrainEvent, TrainObserver};
use crate::trainer::Trainer;
use outgrow_ir::Diagnostic;

impl Trainer {
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

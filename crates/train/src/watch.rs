//! Early stopping: watches a validation metric and keeps the best weights.

use crate::early_stopping::EarlyStopping;
use crate::evaluate::Metrics;
use crate::observe::{TrainEvent, TrainObserver};
use crate::trainer::Trainer;

impl Trainer {
    /// Takes notice of an evaluation, and marks training as stopped when the manifest's patience is over.
    pub(crate) fn watch(&mut self, metrics: &Metrics, observer: &mut dyn TrainObserver) {
        let Some(config) = self.config.early_stopping else { return };
        // A metric that does not apply to this model never stops it.
        let Some(value) = metrics.get(config.metric) else { return };
        let state = &mut self.state;
        let watcher = state.early_stopping.get_or_insert_with(|| EarlyStopping::new(&config));
        let decision = watcher.observe(value);
        if decision.improved && config.restore_best {
            state.best = Some((state.params.clone(), state.buffers.clone()));
        }
        if decision.stop {
            state.stopped = true;
            observer.on_event(&TrainEvent::StoppedEarly { step: state.step });
        }
    }

    /// Puts the best weights in place of the last ones, when the manifest asks for that.
    pub(crate) fn restore_best(&mut self) {
        if let Some((params, buffers)) = &self.state.best {
            self.state.params.clone_from(params);
            self.state.buffers.clone_from(buffers);
        }
    }
}

//! How much of the threads' time training took.

use outgrow_train::Trainer;

use super::Session;
use super::outcome::Usage;

/// Measures from a start to a stop.
#[derive(Debug)]
pub struct Meter {
    busy_ns: u64,
    seconds: f64,
}

impl Meter {
    /// Starts to measure.
    pub fn start(session: &Session<'_>, trainer: &Trainer) -> Self {
        let busy_ns = session.compile.pool.busy_ns().iter().sum();
        Self { busy_ns, seconds: trainer.outcome().train_seconds }
    }

    /// What was used since. Evaluations in between count as use, but not as time, so the ratio is cut at 1.
    pub fn stop(self, session: &Session<'_>, trainer: &Trainer) -> Usage {
        let busy: u64 = session.compile.pool.busy_ns().iter().sum();
        let seconds = trainer.outcome().train_seconds - self.seconds;
        Usage::new(session.compile.pool.threads(), busy - self.busy_ns, seconds)
    }
}

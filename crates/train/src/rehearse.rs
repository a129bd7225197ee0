//! A few steps that are timed before training begins and then undone, for an estimate of how long it takes.

use crate::trainer::Trainer;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Batch, BatchStream, Batches, TrainingData};

/// The first steps, which are slower, as caches are empty and threads start, are not timed.
const FIRST: u64 = 1;
/// Steps that are timed.
const TIMED: u64 = 3;
/// Batches of an evaluation that are timed, after one that is not.
const EVALUATED: usize = 2;
/// Who is alone times no more steps once it has taken so long, in nanoseconds.
const ENOUGH_NS: u64 = 2_000_000_000;

/// What steps and evaluations take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rehearsal {
    /// Seconds of a training step, its data included.
    pub step_seconds: f64,
    /// Seconds of a batch of an evaluation, where there is validation data and this worker is alone.
    pub evaluated_batch_seconds: Option<f64>,
}

/// The first batches of others.
struct First(Batches, usize);

impl Iterator for First {
    type Item = Result<Batch, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        self.1 = self.1.checked_sub(1)?;
        self.0.next()
    }
}

impl BatchStream for First {
    fn recycle(&mut self, batch: Batch) {
        self.0.recycle(batch);
    }
}

impl Trainer {
    /// Times a few of the steps that come next, and leaves everything as it was: no bit of a result depends on whether
    /// this was called. All workers of a group do so at the same time. It takes memory for one more state, as a checkpoint
    /// does.
    ///
    /// # Errors
    /// When the data gives no batches, or the memory or a worker is missing. Numbers that are not finite are left for
    /// training to find.
    pub fn rehearse(&mut self, data: &dyn TrainingData) -> Result<Rehearsal, Diagnostics> {
        let before = self.state.duplicate()?;
        let timed = self.time(data);
        self.state.copy_from(&before)?;
        self.step.forget_profile();
        timed
    }

    fn time(&mut self, data: &dyn TrainingData) -> Result<Rehearsal, Diagnostics> {
        let clock = self.options.clock.clone();
        let (steps_per_epoch, steps) =
            (self.steps_per_epoch(data.samples()), self.total_steps(data.samples()));
        let (epoch, index) = (self.state.step / steps_per_epoch, self.state.step % steps_per_epoch);
        let mut batches = data.train(epoch, index, self.step.rows())?;
        let (begun, mut started, mut timed) = (clock.now_ns(), clock.now_ns(), 0);
        for number in 0..FIRST + TIMED {
            if number == FIRST {
                started = clock.now_ns();
            }
            let Some(batch) = batches.next() else { break };
            let batch = batch?;
            let lr = self.lr(self.state.step.min(steps - 1), steps_per_epoch, steps);
            self.step_at(&batch, lr)?;
            batches.recycle(batch);
            timed = (number + 1).saturating_sub(FIRST);
            let enough = timed > 0 && clock.now_ns() - begun > ENOUGH_NS;
            // Clocks differ, and workers of a group step together.
            if enough && self.group.is_none() {
                break;
            }
        }
        let step_seconds = (clock.now_ns() - started) as f64 * 1e-9 / timed.max(1) as f64;
        drop(batches);
        let evaluated_batch_seconds = match &self.group {
            Some(_) => None,
            None => self.time_evaluation(data)?,
        };
        Ok(Rehearsal { step_seconds, evaluated_batch_seconds })
    }

    /// Seconds of a batch of an evaluation, of those after the first; none without validation data.
    fn time_evaluation(&mut self, data: &dyn TrainingData) -> Result<Option<f64>, Diagnostics> {
        let clock = self.options.clock.clone();
        let Some(batches) = data.validation(self.portion())? else { return Ok(None) };
        let mut ends = vec![clock.now_ns()];
        self.evaluate_with(Box::new(First(batches, 1 + EVALUATED)), &mut |_, _| ends.push(clock.now_ns()))?;
        let (first, last) = (ends[usize::from(ends.len() > 2)], ends[ends.len() - 1]);
        let timed = if ends.len() > 2 { ends.len() - 2 } else { ends.len() - 1 };
        Ok((timed > 0).then(|| (last - first) as f64 * 1e-9 / timed as f64))
    }
}

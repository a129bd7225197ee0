//! The loop around the steps: batches in their order, evaluations, checkpoints, the end.

use crate::observe::{TrainEvent, TrainObserver};
use crate::step::StepOutcome;
use crate::trainer::{Outcome, Trainer};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Batch, Batches, TrainingData};

/// How long a run is, and what of it has been saved.
struct Course {
    steps_per_epoch: u64,
    steps: u64,
    /// When the last checkpoint was written, by the clock.
    saved_at: u64,
    /// Whether a worker has asked all to have the state saved now.
    save: bool,
}

impl Trainer {
    /// Trains from the current state to the last step, or until the observer asks for an end.
    ///
    /// # Errors
    /// When the data gives none or the wrong batches, when numbers are no longer finite, or when something cannot be
    /// written.
    pub fn run(
        &mut self,
        data: &dyn TrainingData,
        observer: &mut dyn TrainObserver,
    ) -> Result<Outcome, Diagnostics> {
        self.config.check_samples(data.samples())?;
        let mut course = Course {
            steps_per_epoch: self.steps_per_epoch(data.samples()),
            steps: self.total_steps(data.samples()),
            saved_at: self.options.clock.now_ns(),
            save: false,
        };
        observer.on_event(&TrainEvent::Started {
            step: self.state.step,
            steps: course.steps,
            steps_per_epoch: course.steps_per_epoch,
            batch: self.config.batch,
        });
        let mut batches: Option<Batches> = None;
        while self.state.step < course.steps && !self.state.stopped {
            if observer.is_asked_to_end() && self.can_end(&course) {
                return self.end_early(observer);
            }
            let started = self.options.clock.now_ns();
            let (epoch, index) =
                (self.state.step / course.steps_per_epoch, self.state.step % course.steps_per_epoch);
            let source = match &mut batches {
                Some(source) => source,
                None => batches.insert(data.train(epoch, index, self.step.rows())?),
            };
            let batch = source.next().ok_or_else(|| ended(self.state.step))??;
            if (batch.epoch, batch.index) != (epoch, index) {
                return Err(out_of_order(&batch, epoch, index).into());
            }
            self.take_step(&batch, &mut course, observer)?;
            source.recycle(batch);
            self.state.train_ns += self.options.clock.now_ns() - started;
            self.after_step(data, &mut course, observer)?;
        }
        self.save(observer)?;
        self.wait_saved(observer)?;
        self.restore_best()?;
        Ok(self.outcome())
    }

    /// Whether the state of all workers is here, so that training can end between two steps. Where each has a range of it,
    /// all are asked to bring it here after the next step.
    fn can_end(&mut self, course: &Course) -> bool {
        let here = !self.step.is_sharded() || course.save;
        if !here {
            self.step.ask_to_save();
        }
        here
    }

    /// Ends before the last step; the other workers notice that this one has left.
    fn end_early(&mut self, observer: &mut dyn TrainObserver) -> Result<Outcome, Diagnostics> {
        // Where it had to be brought here, it has been saved then.
        if !self.step.is_sharded() {
            self.save(observer)?;
        }
        self.wait_saved(observer)?;
        Ok(self.outcome())
    }

    fn take_step(
        &mut self,
        batch: &Batch,
        course: &mut Course,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), Diagnostics> {
        let lr = self.lr(self.state.step, course.steps_per_epoch, course.steps);
        let StepOutcome { loss, accuracy, finite, save } = self.step_at(batch, lr)?;
        course.save = save;
        if !finite {
            return Err(self.non_finite(batch, loss).into());
        }
        let (step, epoch, samples) = (self.state.step, batch.epoch, batch.whole_real);
        observer.on_event(&TrainEvent::Step { step, epoch, loss, accuracy, lr, samples });
        Ok(())
    }

    /// Evaluates and saves, where it is time to.
    fn after_step(
        &mut self,
        data: &dyn TrainingData,
        course: &mut Course,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), Diagnostics> {
        let step = self.state.step;
        let (is_last, epoch) = (step == course.steps, (step - 1) / course.steps_per_epoch);
        let every = self.config.evaluate_every.steps(course.steps_per_epoch);
        if step.is_multiple_of(every) || is_last {
            self.validate(data, epoch, observer)?;
        }
        if step.is_multiple_of(course.steps_per_epoch) || is_last {
            observer.on_event(&TrainEvent::EpochEnded { step, epoch });
        }
        let policy = self.config.checkpoints;
        let age_ns = self.options.clock.now_ns() - course.saved_at;
        let old = policy.every_seconds.is_some_and(|s| age_ns as f64 * 1e-9 >= s);
        // Clocks differ: where all workers are needed to save, the first one asks them to.
        let asked = if self.step.is_sharded() { course.save } else { old };
        let due = policy.every_steps.is_some_and(|n| step.is_multiple_of(n)) || asked;
        if old && !due && self.saver.is_some() {
            self.step.ask_to_save();
        }
        self.poll_saved(observer)?;
        // The last state is saved at the end of the run.
        if due && !is_last {
            self.save(observer)?;
            course.saved_at = self.options.clock.now_ns();
        }
        Ok(())
    }

    /// Evaluates on the validation data, and stops if the manifest says so.
    fn validate(
        &mut self,
        data: &dyn TrainingData,
        epoch: u64,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), Diagnostics> {
        let Some(batches) = data.validation(self.portion())? else { return Ok(()) };
        let metrics = self.evaluate(batches)?;
        observer.on_event(&TrainEvent::Evaluated { step: self.state.step, epoch, metrics: &metrics });
        self.watch_plateau(&metrics, observer);
        Ok(self.watch(&metrics, observer)?)
    }
}

fn ended(step: u64) -> Diagnostic {
    let problem = format!("invariant: batches go on epoch after epoch, but ended before step {step}");
    Diagnostic::fault("train.data-ended", problem)
}

fn out_of_order(batch: &Batch, epoch: u64, index: u64) -> Diagnostic {
    let problem =
        format!("invariant: batch {}/{} came in place of {epoch}/{index}", batch.epoch, batch.index);
    Diagnostic::fault("train.data-order", problem)
}

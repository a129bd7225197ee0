//! A grid of rates: one short run for each, or one for each part of a cross-validation, judged by the loss on data
//! that the run does not train on.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_train::spec::{Interval, Schedule, Train};
use outgrow_train::{TrainState, Trainer, schedule};
use outgrow_transform::{Batches, TrainingData};

/// What came of one rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The rate.
    pub lr: f64,
    /// The loss after each of its runs; none where training diverged.
    pub losses: Vec<Option<f64>>,
}

impl Trial {
    /// The mean of the losses, if no run diverged.
    pub fn mean(&self) -> Option<f64> {
        let sum: Option<f64> = self.losses.iter().copied().sum();
        sum.map(|sum| sum / self.losses.len() as f64).filter(|mean| mean.is_finite())
    }

    /// The standard deviation of the losses among the runs, when there are several.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.losses.len() > 1)?;
        let squares: f64 = self.losses.iter().flatten().map(|loss| (loss - mean) * (loss - mean)).sum();
        Some(libm::sqrt(squares / (self.losses.len() - 1) as f64))
    }
}

/// The trial of the least mean loss; of equal ones the first.
pub fn best(trials: &[Trial]) -> Option<usize> {
    let means = trials.iter().enumerate().filter_map(|(i, trial)| Some((i, trial.mean()?)));
    means.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

/// `count` rates from `from` to `to`, evenly spaced on a logarithmic scale, those between rounded to three digits.
pub fn rates(from: f64, to: f64, count: u32) -> Vec<f64> {
    let last = count.max(2) - 1;
    let rate = |i: u32| match i {
        0 => from,
        i if i == last => to,
        i => rounded(from * libm::pow(to / from, f64::from(i) / f64::from(last)), 3),
    };
    let mut rates: Vec<f64> = (0..=last).map(rate).filter(|rate| (from..=to).contains(rate)).collect();
    rates.dedup();
    rates
}

/// The number with so many significant digits.
pub fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.max(1) - 1).parse().unwrap_or(value)
}

/// Short runs, all from the same initial weights and over the same batches.
pub struct Runs<'a> {
    /// What trains; its state is overwritten.
    pub trainer: &'a mut Trainer,
    /// Where each run starts.
    pub start: TrainState,
    /// How the manifest trains.
    pub config: &'a Train,
    /// Steps of each run.
    pub steps: u64,
}

impl Runs<'_> {
    /// Trains at a rate and gives the loss on `held_out`; nothing when training diverges.
    pub fn run(
        &mut self,
        data: &dyn TrainingData,
        held_out: Batches,
        lr: f64,
        mut watch: impl FnMut(u64),
    ) -> Result<Option<f64>, Diagnostics> {
        self.trainer.state.copy_from(&self.start)?;
        let per_epoch = self.trainer.steps_per_epoch(data.samples());
        let total = self.trainer.total_steps(data.samples());
        let config = shortened(self.config, lr, self.steps, per_epoch, total);
        let mut batches = data.train(0, 0, self.trainer.rows())?;
        for step in 0..self.steps {
            let Some(batch) = batches.next() else {
                return Err(
                    Diagnostic::fault("tune.data", "invariant: batches go on epoch after epoch").into()
                );
            };
            let batch = batch?;
            let rate = schedule::lr(&config, step, per_epoch, self.steps, 0);
            let outcome = self.trainer.step_at(&batch, rate)?;
            batches.recycle(batch);
            if !outcome.finite {
                return Ok(None);
            }
            watch(step + 1);
        }
        let loss = self.trainer.evaluate(held_out)?.loss;
        Ok(loss.is_finite().then_some(loss))
    }
}

/// The manifest's training at another rate, its warm-up and schedule shortened from `total` steps to `steps`.
fn shortened(train: &Train, lr: f64, steps: u64, per_epoch: u64, total: u64) -> Train {
    let shorten = |n: u64| (u128::from(n) * u128::from(steps) / u128::from(total.max(1))) as u64;
    let schedule = match train.schedule {
        Schedule::Step { every, gamma } => {
            let every = match every {
                Interval::Epochs(epochs) => epochs.saturating_mul(per_epoch),
                Interval::Steps(steps) => steps,
            };
            Schedule::Step { every: Interval::Steps(shorten(every).max(1)), gamma }
        }
        // A schedule that falls must not rise where the rate is below its end.
        Schedule::Cosine { min_lr } => Schedule::Cosine { min_lr: min_lr.min(lr) },
        // Short runs are evaluated at their end.
        Schedule::Plateau(_) => Schedule::Constant,
        other => other,
    };
    Train { lr, schedule, warmup_steps: shorten(train.warmup_steps), ..train.clone() }
}

#[cfg(test)]
mod tests {
    use outgrow_train::spec::TrainSpec;

    use super::*;

    #[test]
    fn grids_are_evenly_spaced() {
        for (from, to, count, expect) in [
            (1e-3, 1.0, 4, vec![1e-3, 0.01, 0.1, 1.0]),
            (1e-3, 1e-1, 5, vec![1e-3, 0.00316, 0.01, 0.0316, 0.1]),
            (0.5, 0.501, 4, vec![0.5, 0.501]),
            (0.123_456, 0.2, 2, vec![0.123_456, 0.2]),
        ] {
            assert_eq!(rates(from, to, count), expect);
        }
    }

    #[test]
    fn the_least_mean_loss_wins() {
        let trial = |lr, losses: &[Option<f64>]| Trial { lr, losses: losses.to_vec() };
        let trials = [
            trial(0.1, &[Some(2.0), Some(4.0)]),
            trial(0.2, &[Some(0.1), None]),
            trial(0.3, &[Some(1.0), Some(3.0)]),
            trial(0.4, &[Some(2.0), Some(2.0)]),
        ];
        assert_eq!(best(&trials), Some(2));
        assert_eq!((trials[0].mean(), trials[1].mean()), (Some(3.0), None));
        assert_eq!(trials[0].deviation(), Some(2.0f64.sqrt()));
        assert_eq!((best(&trials[1..2]), trial(1.0, &[Some(1.0)]).deviation()), (None, None));
    }

    #[test]
    fn schedules_are_shortened_with_the_run() {
        let short = |json: &str| {
            let train = serde_json::from_str::<TrainSpec>(json).unwrap().validate().unwrap();
            let short = shortened(&train, 0.5, 10, 20, 100);
            (0..10).map(|step| schedule::lr(&short, step, 20, 10, 0)).collect::<Vec<_>>()
        };
        let halves =
            short(r#"{"steps": 100, "schedule": {"name": "step", "every_epochs": 1, "gamma": 0.5}}"#);
        assert_eq!(halves, [0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.03125, 0.03125]);
        let warm = short(r#"{"steps": 100, "warmup_steps": 40}"#);
        assert!(warm[3] < 0.5 && warm[4..].iter().all(|lr| *lr == 0.5), "{warm:?}");
        let flat = short(r#"{"steps": 100, "schedule": {"name": "cosine", "min_lr": 3}}"#);
        assert_eq!(flat, [0.5; 10]);
    }
}

//! The range test (Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3): one run in
//! which the rate rises exponentially from step to step, and what its losses say.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_train::Trainer;
use outgrow_transform::TrainingData;
use serde::Serialize;

/// The part of the steps over which losses are averaged.
const WINDOW: f64 = 0.05;
/// To how many times its least value the smoothed loss may rise.
const RISE_MAX: f64 = 4.0;
/// By what the rate of the least loss is divided to be far from divergence: the customary rule.
const MARGIN: f64 = 10.0;

/// One step of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Its learning rate.
    pub lr: f64,
    /// The loss of its batch.
    pub loss: f64,
    /// The loss averaged over the last steps.
    pub smoothed: f64,
}

/// What the losses say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The rate at which the smoothed loss falls fastest over the logarithm of the rate.
    pub steepest: f64,
    /// The rate at which the smoothed loss is least: already at the edge of divergence.
    pub minimum: f64,
    /// The rate to use: a tenth of the one of the least loss, but within the range. The steepest rate is too small
    /// where the loss falls from the first step on, at whatever rate.
    pub suggestion: f64,
}

/// The rates of a test of so many steps.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// The first.
    pub from: f64,
    /// The last.
    pub to: f64,
    /// How many.
    pub steps: u64,
}

impl Rates {
    /// The rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let part = step as f64 / (self.steps.max(2) - 1) as f64;
        self.from * libm::pow(self.to / self.from, part)
    }
}

/// Losses averaged with weights that fall off exponentially into the past, without a bias towards zero at the start.
struct Smoothing {
    keep: f64,
    sum: f64,
    weight: f64,
}

impl Smoothing {
    fn over(steps: u64) -> Self {
        let window = (steps as f64 * WINDOW).max(1.0);
        Self { keep: 1.0 - 1.0 / window, sum: 0.0, weight: 0.0 }
    }

    fn add(&mut self, value: f64) -> f64 {
        self.sum = self.keep * self.sum + (1.0 - self.keep) * value;
        self.weight = self.keep * self.weight + (1.0 - self.keep);
        self.sum / self.weight
    }
}

/// Runs the test from the trainer's present state. It ends early when the loss is no longer finite, or when its
/// average is above both where it began and four times the least so far.
pub fn run(
    trainer: &mut Trainer,
    data: &dyn TrainingData,
    rates: Rates,
    mut watch: impl FnMut(u64),
) -> Result<Vec<Step>, Diagnostics> {
    let mut batches = data.train(0, 0, trainer.rows())?;
    let mut smoothing = Smoothing::over(rates.steps);
    let mut steps: Vec<Step> = Vec::new();
    let mut least = f64::INFINITY;
    for step in 0..rates.steps {
        let Some(batch) = batches.next() else { break };
        let (batch, lr) = (batch?, rates.at(step));
        let outcome = trainer.step_at(&batch, lr)?;
        batches.recycle(batch);
        if !outcome.finite {
            break;
        }
        let smoothed = smoothing.add(outcome.loss);
        least = least.min(smoothed);
        steps.push(Step { lr, loss: outcome.loss, smoothed });
        watch(step + 1);
        if smoothed > (RISE_MAX * least).max(steps[0].smoothed) && step as f64 >= rates.steps as f64 * WINDOW
        {
            break;
        }
    }
    Ok(steps)
}

/// What the losses of a test of `planned` steps say.
///
/// # Errors
/// When the loss never falls.
pub fn find(steps: &[Step], planned: u64) -> Result<Finding, Diagnostic> {
    // The first averages are over too few losses to be judged.
    let window = (planned as f64 * WINDOW) as usize;
    let reach = (planned / 50).max(1) as usize;
    let judged = window.min(steps.len())..steps.len();
    let least = judged.clone().min_by(|a, b| steps[*a].smoothed.total_cmp(&steps[*b].smoothed));
    let slope = |i: usize| {
        let (a, b) = (&steps[i - reach], &steps[i + reach]);
        (b.smoothed - a.smoothed) / libm::log(b.lr / a.lr)
    };
    let inner = judged.start + reach..least.map_or(0, |least| least.saturating_sub(reach) + 1);
    let falling = inner.map(|i| (i, slope(i))).filter(|(_, slope)| *slope < 0.0);
    let steepest = falling.min_by(|a, b| a.1.total_cmp(&b.1));
    match (least, steepest) {
        (Some(least), Some((steepest, _))) => {
            let minimum = steps[least].lr;
            let suggestion = (minimum / MARGIN).max(steps[0].lr);
            Ok(Finding { steepest: steps[steepest].lr, minimum, suggestion })
        }
        _ => Err(Diagnostic::new("tune.no-descent", "the loss does not fall at any rate of the range")
            .expected("a range that begins where training works, and more steps where the loss is noisy")
            .hint("choose a smaller --from, a larger --to or more --steps; or use --method grid")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(rates: Rates, loss: impl Fn(f64) -> f64) -> Vec<Step> {
        let mut smoothing = Smoothing::over(rates.steps);
        let step = |i| {
            let lr = rates.at(i);
            Step { lr, loss: loss(lr), smoothed: smoothing.add(loss(lr)) }
        };
        (0..rates.steps).map(step).collect()
    }

    /// A loss that falls fastest at 0.001, is least at 0.03 and rises after that.
    fn valley(lr: f64) -> f64 {
        let x = lr.log10();
        2.0 - 1.5 / (1.0 + (-4.0 * (x + 3.0)).exp()) + 5.0 * (x + 1.5).max(0.0).powi(2)
    }

    #[test]
    fn the_slope_and_the_minimum_are_found() {
        for count in [100, 400, 1000] {
            let rates = Rates { from: 1e-5, to: 1.0, steps: count };
            let found = find(&steps(rates, valley), count).unwrap();
            // Averages lag behind by about the window, a twentieth of five decades.
            let (steepest, minimum) = (found.steepest.log10(), found.minimum.log10());
            assert!((-3.1..-2.5).contains(&steepest), "{count}: {steepest}");
            assert!((-1.7..-0.9).contains(&minimum), "{count}: {minimum}");
            assert_eq!(found.suggestion, found.minimum / 10.0);
        }
    }

    #[test]
    fn a_loss_that_never_falls_gives_no_rate() {
        let rates = Rates { from: 1e-3, to: 1.0, steps: 100 };
        assert_eq!(find(&steps(rates, |lr| lr), 100).unwrap_err().code, "tune.no-descent");
        assert_eq!(find(&steps(rates, |_| 1.0), 100).unwrap_err().code, "tune.no-descent");
        assert!(find(&[], 100).is_err() && find(&steps(rates, valley)[..1], 100).is_err());
        assert_eq!((rates.at(0), rates.at(99)), (1e-3, 1.0));
    }
}

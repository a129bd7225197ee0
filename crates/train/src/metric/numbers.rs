//! How well numbers are predicted: root mean squared error, mean absolute error, and the coefficient of determination, as
//! scikit-learn has them.

use super::{Moments, Tally};
use serde::{Deserialize, Serialize};

/// How well one number is predicted, or several on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NumberMetrics {
    /// The root of the mean squared error.
    pub rmse: f64,
    /// The mean absolute error.
    pub mae: f64,
    /// The coefficient of determination; none of fewer than two samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
}

/// Errors of numbers that are predicted for samples, by batch.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberErrors {
    width: usize,
    /// Of each batch its samples, and [`EACH`] more for each number.
    batches: Tally,
}

/// Of each number: sums of squared and of absolute errors, and mean and squares of its targets.
const EACH: usize = 4;

impl NumberErrors {
    /// No samples yet, of so many numbers each.
    pub fn new(width: usize) -> Self {
        Self { width, batches: Tally::new(1 + EACH * width) }
    }

    /// Adds a batch of so many samples; predictions and targets are `[sample, number]` in row-major order.
    pub fn add(&mut self, samples: usize, predicted: impl Fn(usize) -> f64, target: impl Fn(usize) -> f64) {
        let mut moments = vec![Moments::default(); self.width];
        let batch = self.batches.batch();
        batch[0] = samples as f64;
        for i in 0..samples * self.width {
            let (number, target) = (i % self.width, target(i));
            let error = predicted(i) - target;
            batch[1 + EACH * number] += error * error;
            batch[2 + EACH * number] += error.abs();
            moments[number].add(target);
        }
        for (own, moments) in batch[1..].chunks_exact_mut(EACH).zip(&moments) {
            (own[2], own[3]) = (moments.mean, moments.squares);
        }
    }

    /// What has been seen, for [`NumberErrors::merge`].
    pub fn numbers(&self) -> &[f64] {
        self.batches.numbers()
    }

    /// Becomes what several have seen, one after the other; nothing if they tell of something else.
    pub fn merge(&mut self, all: &[Vec<f64>]) -> Option<()> {
        self.batches.merge(all)
    }

    /// The samples of all batches.
    pub fn samples(&self) -> f64 {
        self.batches.sums()[0]
    }

    /// How well each number is predicted.
    pub fn each(&self) -> Vec<NumberMetrics> {
        let sums = self.batches.sums();
        let of = |number: usize| {
            let place = 1 + EACH * number;
            let mut targets = Moments::default();
            for batch in self.batches.batches() {
                targets.merge(&Moments {
                    count: batch[0],
                    mean: batch[place + 2],
                    squares: batch[place + 3],
                });
            }
            NumberMetrics {
                rmse: libm::sqrt(sums[place] / sums[0]),
                mae: sums[place + 1] / sums[0],
                r2: determination(sums[place], &targets),
            }
        };
        (0..self.width).map(of).collect()
    }
}

impl NumberMetrics {
    /// Of all numbers together: errors are those of all, the coefficient of determination is the mean of theirs. Nothing of
    /// nothing.
    pub fn of_all(each: &[Self]) -> Option<Self> {
        let count = each.len() as f64;
        let mean = |of: &dyn Fn(&Self) -> f64| each.iter().map(of).sum::<f64>() / count;
        let r2 = each.iter().map(|one| one.r2).sum::<Option<f64>>().map(|sum| sum / count);
        let rmse = libm::sqrt(mean(&|one| one.rmse * one.rmse));
        (!each.is_empty()).then(|| Self { rmse, mae: mean(&|one| one.mae), r2 })
    }
}

/// One minus the squared errors over the squares of what the targets differ from their mean by; of targets that are all the
/// same, 1 if all are predicted exactly, else 0.
fn determination(squared_errors: f64, targets: &Moments) -> Option<f64> {
    match targets.count {
        count if count < 2.0 => None,
        _ if targets.squares > 0.0 => Some(1.0 - squared_errors / targets.squares),
        _ => Some(if squared_errors == 0.0 { 1.0 } else { 0.0 }),
    }
}

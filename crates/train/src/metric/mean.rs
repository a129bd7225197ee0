//! A weighted mean, for the loss and all that follows from a mean.

use serde::{Deserialize, Serialize};

/// A weighted mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// Adds a value with a weight; one of weight zero is left out, whatever it is.
    pub fn add(&mut self, value: f64, weight: f64) {
        if weight != 0.0 {
            self.sum += value * weight;
            self.weight += weight;
        }
    }

    /// Adds what another has seen after this one.
    pub fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }

    /// The mean; nothing when no weight was added.
    pub fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    /// The root of the mean: of squared errors, the RMSE.
    pub fn root(&self) -> Option<f64> {
        self.value().map(libm::sqrt)
    }

    /// e to the mean: of the cross-entropy of a token in nats, the perplexity.
    pub fn perplexity(&self) -> Option<f64> {
        self.value().map(libm::exp)
    }

    /// The mean squared error of predictions, each element with the weight of its sample: `outputs` and `targets` are
    /// `[samples, features]` in row-major order and as long as each other, `weights` is `[samples]`.
    pub fn add_squared_errors(&mut self, outputs: &[f32], targets: &[f32], weights: &[f32]) {
        let features = outputs.len() / weights.len().max(1);
        for (i, (output, target)) in outputs.iter().zip(targets).enumerate() {
            let error = f64::from(*output) - f64::from(*target);
            self.add(error * error, f64::from(weights[i / features]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_does_not_count() {
        let mut mean = Mean::default();
        assert_eq!(mean.value(), None);
        mean.add(2.0, 1.0);
        mean.add(f64::NAN, 0.0);
        mean.add(5.0, 2.0);
        assert_eq!(mean.value(), Some(4.0));
        assert_eq!(mean.root(), Some(2.0));
        assert!((mean.perplexity().unwrap() - 54.598_150_033_144_24).abs() < 1e-12);
    }

    #[test]
    fn merging_is_adding_what_came_later() {
        let add = |values: &[f64]| {
            let mut mean = Mean::default();
            values.iter().for_each(|v| mean.add(*v, 0.5));
            mean
        };
        let mut first = add(&[1.0, 2.0]);
        first.merge(&add(&[6.0]));
        assert_eq!(first.value(), Some(3.0));
        assert_eq!(first, add(&[1.0, 2.0, 6.0]));
    }

    #[test]
    fn squared_errors_weigh_by_sample() {
        let mut mean = Mean::default();
        mean.add_squared_errors(
            &[1.0, 2.0, 3.0, 4.0, 9.0, 9.0],
            &[0.0, 2.0, 3.0, 1.0, 0.0, 0.0],
            &[1.0, 2.0, 0.0],
        );
        // (1 + 0 + 2 · 0 + 2 · 9) over a weight of 1 + 1 + 2 + 2.
        assert_eq!(mean.value(), Some(19.0 / 6.0));
    }
}

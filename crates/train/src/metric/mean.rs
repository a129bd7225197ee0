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
}

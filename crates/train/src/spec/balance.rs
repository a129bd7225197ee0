//! What the `[train]` section says about classes of unequal size.

use std::collections::BTreeMap;

use outgrow_models::spec::number::Positive;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often the samples of each class come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Each sample once an epoch.
    #[default]
    Plain,
    /// Each class as often as every other: samples of rare classes come several times an epoch, and of frequent ones
    /// not all.
    Balanced,
}

/// The weight of each class in the loss: `"balanced"`, or `{ spam = 5.0 }` by the classes' names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassWeights {
    /// By a rule.
    Rule(ClassWeightRule),
    /// By the classes' names; 1 for those that are not named.
    Named(BTreeMap<String, Positive>),
}

/// A rule for the weights of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeightRule {
    /// In inverse proportion to the number of training samples, and 1 on average over the samples.
    Balanced,
}

impl ClassWeightRule {
    /// The weights of classes with so many training samples: `n / (k · n_c)` with `n` samples and `k` classes that have
    /// any; 1 for a class without.
    pub fn weights(self, counts: &[u64]) -> Vec<f32> {
        let samples: u64 = counts.iter().sum();
        let classes = counts.iter().filter(|n| **n > 0).count();
        let weight = |n: &u64| match n {
            0 => 1.0,
            n => (samples as f64 / (classes as f64 * *n as f64)) as f32,
        };
        counts.iter().map(weight).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_weights_make_every_class_weigh_the_same() {
        let counts = [10, 0, 30, 80];
        let weights = ClassWeightRule::Balanced.weights(&counts);
        let weighed: Vec<f32> = weights.iter().zip(counts).map(|(w, n)| w * n as f32).collect();
        assert_eq!(weighed, [40.0, 0.0, 40.0, 40.0]);
        assert_eq!(weights[1], 1.0);
    }
}

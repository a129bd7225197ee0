//! What the `[train]` section minimises: a name alone, or a table with options.

use outgrow_models::LossKind;
use outgrow_models::spec::number::{NonNegative, Positive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The loss: `"mae"`, or `{ name = "huber", delta = 0.5 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LossSpec {
    /// By name, with default options.
    Name(LossName),
    /// With options.
    Options(LossOptions),
}

impl Default for LossSpec {
    fn default() -> Self {
        Self::Name(LossName::Auto)
    }
}

/// A loss that needs no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// Cross-entropy for classes and tokens, logistic for two classes from one logit, mean squared error for numbers.
    Auto,
    /// Softmax cross-entropy from logits.
    CrossEntropy,
    /// Logistic loss from one logit.
    Logistic,
    /// For classes: samples that are right already count little (Lin et al. 2017); `gamma` is 2.
    Focal,
    /// Mean squared error, of scaled numbers where `data.target_scaling` is on.
    Mse,
    /// Mean absolute error, of scaled numbers where `data.target_scaling` is on.
    Mae,
    /// A square near zero and a line away from it (Huber 1964); `delta` is 1.
    Huber,
}

/// A loss with options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum LossOptions {
    /// For classes: samples that are right already count little (Lin et al. 2017).
    Focal(FocalOptions),
    /// A square near zero and a line away from it (Huber 1964).
    Huber(HuberOptions),
}

/// The options of `focal`: a sample whose class has probability p costs −(1 − p)^gamma log p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FocalOptions {
    /// How little samples count that are right already; with 0 it is the cross-entropy.
    pub gamma: NonNegative,
}

impl Default for FocalOptions {
    fn default() -> Self {
        Self { gamma: NonNegative::new(2.0).expect("2 is not negative") }
    }
}

/// The options of `huber`: an error d costs d²/2 up to `delta`, and delta (|d| − delta/2) beyond.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HuberOptions {
    /// Up to which error it is a square: in standard deviations of each number where `data.target_scaling` is on (as
    /// it is unless the model says otherwise), else in the numbers' own units.
    pub delta: Positive,
}

impl Default for HuberOptions {
    fn default() -> Self {
        Self { delta: Positive::new(1.0).expect("1 is positive") }
    }
}

impl LossSpec {
    /// The loss that is asked for; none where it follows from what is predicted.
    pub fn kind(self) -> Option<LossKind> {
        let focal = |options: FocalOptions| LossKind::Focal { gamma: options.gamma.get() };
        let huber = |options: HuberOptions| LossKind::Huber { delta: options.delta.get() };
        Some(match self {
            Self::Name(LossName::Auto) => return None,
            Self::Name(LossName::CrossEntropy) => LossKind::CrossEntropy,
            Self::Name(LossName::Logistic) => LossKind::BinaryCrossEntropy,
            Self::Name(LossName::Focal) => focal(FocalOptions::default()),
            Self::Name(LossName::Mse) => LossKind::MeanSquaredError,
            Self::Name(LossName::Mae) => LossKind::MeanAbsoluteError,
            Self::Name(LossName::Huber) => huber(HuberOptions::default()),
            Self::Options(LossOptions::Focal(options)) => focal(options),
            Self::Options(LossOptions::Huber(options)) => huber(options),
        })
    }
}

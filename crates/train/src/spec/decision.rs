//! What the `[train]` section says about where two classes are divided.

use outgrow_models::spec::number::Probability;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metric::ThresholdRule;

/// The probability above which the second of two classes is answered: a number, or how to find it on the validation data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DecisionThreshold {
    /// Found by a rule.
    Rule(DecisionRule),
    /// Above 0 and below 1.
    At(Probability),
}

/// What a threshold is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionRule {
    /// The highest mean of both classes' F1.
    F1,
    /// The highest of Youden's index: of the sum of both classes' recalls.
    Youden,
}

impl DecisionRule {
    /// The name, as the manifest has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F1 => "f1",
            Self::Youden => "youden",
        }
    }

    /// How it is found.
    pub fn rule(self) -> ThresholdRule {
        match self {
            Self::F1 => ThresholdRule::F1,
            Self::Youden => ThresholdRule::Youden,
        }
    }
}

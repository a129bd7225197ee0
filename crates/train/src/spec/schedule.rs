//! The learning-rate schedule of the `[train]` section: a name alone, or a table with options.

use std::num::{NonZeroU32, NonZeroU64};

use super::MetricName;
use outgrow_models::spec::number::{Fraction, NonNegative, Positive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schedule: `"cosine"`, or `{ name = "cosine", min_lr = 1e-5 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ScheduleSpec {
    /// By name, with default options.
    Name(ScheduleName),
    /// With options.
    Options(ScheduleOptions),
}

impl Default for ScheduleSpec {
    fn default() -> Self {
        Self::Name(ScheduleName::Constant)
    }
}

/// A schedule that needs no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// The learning rate stays as it is.
    Constant,
    /// Along half a cosine from the learning rate to zero at the last step.
    Cosine,
    /// Up to the learning rate and down to almost nothing (Smith and Topin 2018).
    OneCycle,
    /// Up to the learning rate and down to zero four times, each twice as long as the one before (Holzmüller et al. 2024).
    Coslog,
    /// Ten times lower after each five evaluations in a row in which the validation loss has not got better.
    Plateau,
}

/// A schedule with options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum ScheduleOptions {
    /// The learning rate stays as it is.
    Constant(ConstantOptions),
    /// The learning rate is multiplied by `gamma` again and again.
    Step(StepOptions),
    /// Along half a cosine from the learning rate to `min_lr` at the last step.
    Cosine(CosineOptions),
    /// Up to the learning rate and down to almost nothing (Smith and Topin 2018).
    OneCycle(OneCycleOptions),
    /// Up to the learning rate and down to zero again and again, each time twice as long (Holzmüller et al. 2024).
    Coslog(CoslogOptions),
    /// Lower each time that a validation metric no longer gets better; needs validation data.
    Plateau(PlateauOptions),
}

/// No options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstantOptions {}

/// The options of `step`: exactly one of `every_epochs` and `every_steps`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepOptions {
    /// The number of epochs between two changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_epochs: Option<NonZeroU64>,
    /// The number of steps between two changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<NonZeroU64>,
    /// What the learning rate is multiplied by.
    #[serde(default = "tenth")]
    pub gamma: Positive,
}

/// The options of `cosine`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CosineOptions {
    /// The learning rate at the end.
    pub min_lr: NonNegative,
}

impl Default for CosineOptions {
    fn default() -> Self {
        Self { min_lr: NonNegative::new(0.0).expect("0 is not negative") }
    }
}

/// The options of `one-cycle`; `train.lr` is the highest rate. Both ways follow half a cosine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycleOptions {
    /// The part of the steps that goes up.
    pub pct_start: Fraction,
    /// The first learning rate is `lr / div_factor`.
    pub div_factor: Positive,
    /// The last learning rate is the first divided by this.
    pub final_div_factor: Positive,
}

impl Default for OneCycleOptions {
    fn default() -> Self {
        Self {
            pct_start: Fraction::new(0.3).expect("0.3 is a fraction"),
            div_factor: Positive::new(25.0).expect("25 is positive"),
            final_div_factor: Positive::new(1e4).expect("10,000 is positive"),
        }
    }
}

/// The options of `coslog`: with t from 0 to 1 over the run, the learning rate is `lr` times
/// (1 − cos(2π log₂(1 + (2^cycles − 1) t))) / 2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CoslogOptions {
    /// How often it rises and falls.
    #[schemars(range(max = 30))]
    pub cycles: NonZeroU32,
}

impl Default for CoslogOptions {
    fn default() -> Self {
        Self { cycles: NonZeroU32::new(4).expect("4 is not zero") }
    }
}

/// The options of `plateau`: the learning rate is multiplied by `factor` where the validation metric has not got better in
/// `patience` evaluations in a row, and patience begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlateauOptions {
    /// What the learning rate is multiplied by; above 0.
    pub factor: Fraction,
    /// After how many evaluations in a row without a better value the rate is reduced.
    pub patience: NonZeroU32,
    /// The rate is not reduced below this.
    pub min_lr: NonNegative,
    /// The validation metric that is watched, one that the model has.
    pub metric: MetricName,
    /// How much better a value must be to count.
    pub min_delta: NonNegative,
}

impl Default for PlateauOptions {
    fn default() -> Self {
        let zero = NonNegative::new(0.0).expect("0 is not negative");
        Self {
            factor: Fraction::new(0.1).expect("0.1 is a fraction"),
            patience: NonZeroU32::new(5).expect("5 is not zero"),
            min_lr: zero,
            metric: MetricName::default(),
            min_delta: zero,
        }
    }
}

/// A schedule without contradictions; a linear warm-up stands beside it in [`super::Train`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// The learning rate stays as it is.
    Constant,
    /// The learning rate is multiplied by `gamma` after each interval.
    Step {
        /// The interval.
        every: Interval,
        /// The factor.
        gamma: f64,
    },
    /// Half a cosine from the learning rate to `min_lr` at the last step.
    Cosine {
        /// The learning rate at the end.
        min_lr: f64,
    },
    /// Up and down.
    OneCycle {
        /// The part of the steps that goes up.
        pct_start: f64,
        /// The first learning rate is `lr / div_factor`.
        div_factor: f64,
        /// The last learning rate is the first divided by this.
        final_div_factor: f64,
    },
    /// Up and down, each time twice as long.
    Coslog {
        /// How often; at most 30.
        cycles: u32,
    },
    /// Lower each time that a validation metric no longer gets better.
    Plateau(Plateau),
}

/// When a plateau of a validation metric reduces the learning rate, and by how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plateau {
    /// What the rate is multiplied by, above 0 and below 1.
    pub factor: f64,
    /// After how many evaluations in a row without a better value.
    pub patience: u32,
    /// The rate is not reduced below this.
    pub min_lr: f64,
    /// What is watched.
    pub metric: MetricName,
    /// How much better a value must be to count.
    pub min_delta: f64,
}

impl Schedule {
    /// The name, as the manifest has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Step { .. } => "step",
            Self::Cosine { .. } => "cosine",
            Self::OneCycle { .. } => "one-cycle",
            Self::Coslog { .. } => "coslog",
            Self::Plateau(_) => "plateau",
        }
    }

    /// Whether the rates of the first steps depend on how many there are in all.
    pub fn depends_on_length(&self) -> bool {
        match self {
            Self::Constant | Self::Step { .. } | Self::Plateau(_) => false,
            Self::Cosine { .. } | Self::OneCycle { .. } | Self::Coslog { .. } => true,
        }
    }
}

/// A stretch of training; in JSON `{"epochs": 3}` or `{"steps": 30}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    /// So many passes over the training data.
    Epochs(u64),
    /// So many steps.
    Steps(u64),
}

impl Interval {
    /// Its steps, where an epoch has so many.
    pub fn steps(self, per_epoch: u64) -> u64 {
        match self {
            Self::Epochs(epochs) => epochs.saturating_mul(per_epoch),
            Self::Steps(steps) => steps,
        }
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (number, one) = match self {
            Self::Epochs(epochs) => (epochs, "epoch"),
            Self::Steps(steps) => (steps, "step"),
        };
        write!(f, "{number} {one}{}", if *number == 1 { "" } else { "s" })
    }
}

fn tenth() -> Positive {
    Positive::new(0.1).expect("0.1 is positive")
}

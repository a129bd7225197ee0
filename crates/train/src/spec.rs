//! The `[train]` section of a manifest: how long, with which optimiser, schedule, loss and checkpoints.
//!
//! [`TrainSpec`] is what a person writes; its doc comments are what `outgrow schema` and editors show.
//! [`TrainSpec::validate`] turns it into a [`Train`], which has no contradictions left in it.

mod balance;
mod decision;
mod groups;
mod loss;
mod optimizer;
mod schedule;
mod validate;

use std::num::{NonZeroU32, NonZeroU64};

use outgrow_ir::{Diagnostic, Diagnostics, counted};
use outgrow_models::spec::number::{Fraction, NonNegative, Positive};
use outgrow_models::{LossKind, TargetSpec};
use outgrow_runtime::{Backend, Products};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use balance::*;
pub use decision::*;
pub use groups::*;
pub use loss::*;
pub use optimizer::*;
pub use schedule::*;

/// Training: exactly one of `epochs` and `steps`; everything else has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// The number of passes over the training data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 10)]
    pub epochs: Option<NonZeroU64>,
    /// The number of steps, in place of `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1000)]
    pub steps: Option<NonZeroU64>,
    /// The number of samples in a step. When left out: 32, or the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 32)]
    pub batch: Option<NonZeroU32>,
    /// Into how many logical parts a step's batch is cut; a power of two that divides the batch. It is part of what
    /// the result depends on, whatever number of threads or workers runs it.
    #[serde(default = "one")]
    pub micro_shards: NonZeroU32,
    /// The optimiser: a name, or a table with a name and options; `adam` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"adam")]
    pub optimizer: Option<OptimizerSpec>,
    /// The learning rate. When left out: 0.001, or 0.01 for adagrad and rmsprop, or 0.1 for ftrl, or the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.001)]
    pub lr: Option<Positive>,
    /// Weight decay: added to the gradient, or decoupled for adamw and lamb. When left out: 0, or 0.01 for adamw and
    /// lamb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.01)]
    pub weight_decay: Option<NonNegative>,
    /// Groups of parameters with a learning rate and weight decay of their own. A parameter belongs to the first group
    /// with a pattern for its name; `outgrow graph` shows the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = groups_example())]
    pub param_groups: Option<Vec<ParamGroupSpec>>,
    /// How the learning rate changes: a name, or a table with a name and options; `constant` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"constant")]
    pub schedule: Option<ScheduleSpec>,
    /// The number of first steps in which the learning rate rises linearly from zero.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Scales the gradient down so that its norm over all parameters is at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1.0)]
    pub clip_norm: Option<Positive>,
    /// Cuts each element of the gradient to at most this, up or down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.5)]
    pub clip_value: Option<Positive>,
    /// What is minimised: a name, or a table with a name and options; `auto` when left out. The validation loss is the same.
    #[serde(default)]
    pub loss: LossSpec,
    /// For classes and tokens: so much of each target is shared by all classes alike (Szegedy et al. 2016), in training
    /// only; nothing when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.1)]
    pub label_smoothing: Option<Fraction>,
    /// For two classes: the probability above which the second one (in the order of the classes' names) is answered, 0.5 when
    /// left out. `"f1"` and `"youden"` find it once training is done, on the validation data: where the mean of both classes'
    /// F1, or the mean of their recalls, is the highest. It is kept in the model, and metrics, `eval`, `predict` and `serve`
    /// go by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"f1")]
    pub decision_threshold: Option<DecisionThreshold>,
    /// Stops when a validation metric no longer gets better; needs validation data, as `split` in `[data]` sets aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = serde_json::json!({"metric": "loss", "patience": 5}))]
    pub early_stopping: Option<EarlyStoppingSpec>,
    /// Writes a checkpoint after each so many steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 500)]
    pub checkpoint_every_steps: Option<NonZeroU64>,
    /// Writes a checkpoint when the last one is this old; every 60 seconds when neither this nor
    /// `checkpoint_every_steps` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 60.0)]
    pub checkpoint_every_seconds: Option<Positive>,
    /// How many of the newest checkpoints are kept.
    #[serde(default = "three")]
    pub keep_checkpoints: NonZeroU32,
    /// Whether a last batch that is too short is dropped; otherwise (and when left out) it is filled up with samples of
    /// weight zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = false)]
    pub drop_last: Option<bool>,
    /// Whether each epoch has an order of its own; otherwise samples come as they are stored.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// How often the samples of each class come: `plain` (each sample once an epoch) or `balanced` (each class as often
    /// as every other).
    #[serde(default)]
    pub sampling: Sampling,
    /// The weight of each class in the loss: `"balanced"` for the inverse of its frequency, or `{ spam = 5.0 }` by the
    /// classes' names. Evaluation does not weigh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"balanced")]
    pub class_weights: Option<ClassWeights>,
    /// Evaluates on the validation data after each so many epochs; 1 when neither this nor `eval_every_steps` is
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1)]
    pub eval_every_epochs: Option<NonZeroU64>,
    /// Evaluates on the validation data after each so many steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 500)]
    pub eval_every_steps: Option<NonZeroU64>,
    /// Writes the metrics of a step to `metrics.jsonl` after each so many steps. When left out: about a thousand
    /// times in the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_every_steps: Option<NonZeroU64>,
    /// What a training step computes with; evaluation is in f32, as serving is. `auto` leaves it to the kernels.
    #[serde(default)]
    pub precision: Precision,
}

/// Stops when a validation metric no longer gets better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStoppingSpec {
    /// The validation metric that is watched, one that the model has: `rmse`, for example, where numbers are predicted.
    #[serde(default)]
    pub metric: MetricName,
    /// After how many evaluations in a row without a better value training stops.
    #[serde(default = "patience")]
    pub patience: NonZeroU32,
    /// How much better a value must be to count.
    #[serde(default = "zero")]
    pub min_delta: NonNegative,
    /// Which of equally good evaluations is the best: the `first` or the `last`.
    #[serde(default)]
    pub ties: Ties,
    /// Whether the weights of the best evaluation are the result, not those of the last.
    #[serde(default = "yes")]
    pub restore_best: bool,
}

/// Which of equally good evaluations is the best. However that may be, only a better value makes patience begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// The first.
    #[default]
    First,
    /// The last: where few rows are validated on, an early epoch is as right as a late one by chance.
    Last,
}

/// A metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// The loss.
    #[default]
    Loss,
    /// The fraction of right answers.
    Accuracy,
    /// The fraction of samples whose class is among the five likeliest.
    Top5,
    /// The area under the ROC curve, for two classes.
    Auc,
    /// The mean of the classes' F1.
    F1,
    /// The same, each class with the weight of its samples.
    F1Weighted,
    /// The mean of the classes' precision.
    Precision,
    /// The mean of the classes' recall.
    Recall,
    /// The mean negative logarithm of the probability of the right class.
    LogLoss,
    /// The root of the mean squared error.
    Rmse,
    /// The mean absolute error.
    Mae,
    /// The coefficient of determination.
    R2,
    /// e to the mean cross-entropy of a token.
    Perplexity,
}

impl MetricName {
    /// All of them, in the order to show them.
    pub const ALL: [Self; 13] = [
        Self::Loss,
        Self::Accuracy,
        Self::Top5,
        Self::Auc,
        Self::F1,
        Self::F1Weighted,
        Self::Precision,
        Self::Recall,
        Self::LogLoss,
        Self::Rmse,
        Self::Mae,
        Self::R2,
        Self::Perplexity,
    ];

    /// Whether a larger value is better.
    pub fn larger_is_better(self) -> bool {
        !matches!(self, Self::Loss | Self::LogLoss | Self::Rmse | Self::Mae | Self::Perplexity)
    }

    /// Whether people look at it first.
    pub fn is_chief(self) -> bool {
        !matches!(self, Self::F1Weighted | Self::Precision | Self::Recall | Self::LogLoss | Self::Mae)
    }

    /// The metric of this name, if there is one.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// The name, as the manifest has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
            Self::Top5 => "top5",
            Self::Auc => "auc",
            Self::F1 => "f1",
            Self::F1Weighted => "f1_weighted",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::LogLoss => "log_loss",
            Self::Rmse => "rmse",
            Self::Mae => "mae",
            Self::R2 => "r2",
            Self::Perplexity => "perplexity",
        }
    }

    /// Whether a model that predicts this has the metric.
    pub fn applies_to(self, target: &TargetSpec) -> bool {
        match self {
            Self::Loss => true,
            Self::Accuracy => !matches!(target, TargetSpec::Regression { .. }),
            Self::Top5 => {
                matches!(target, TargetSpec::Tokens { .. })
                    || matches!(target, TargetSpec::Class { classes } if *classes > 5)
            }
            Self::Auc => matches!(target, TargetSpec::Binary | TargetSpec::Class { classes: 2 }),
            Self::F1 | Self::F1Weighted | Self::Precision | Self::Recall | Self::LogLoss => {
                matches!(target, TargetSpec::Binary | TargetSpec::Class { .. })
            }
            Self::Rmse | Self::Mae | Self::R2 => matches!(target, TargetSpec::Regression { .. }),
            Self::Perplexity => matches!(target, TargetSpec::Tokens { .. }),
        }
    }

    /// The metrics of a model that predicts this.
    pub fn of(target: &TargetSpec) -> Vec<Self> {
        Self::ALL.into_iter().filter(|metric| metric.applies_to(target)).collect()
    }
}

/// What a training step computes with. Weights, the optimiser and evaluation are f32 with each, and none needs the loss to
/// be scaled: bf16 has the range of f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// f32, but that matrix products and convolutions of a step may be computed of two bf16 parts of each number, in three
    /// products with sums in f32: 16 bits of mantissa, where TF32 has 11. Kernels without AMX (`--kernel-path amx`)
    /// have nothing faster for that than f32, and compute the same bits as with `f32`.
    Bf16x3,
    /// Mixed: matrix products and convolutions, forward and backward, take operands rounded to bf16 (8 bits of
    /// mantissa) and sum in f32. All else is f32, attention included.
    Bf16,
    /// What these kernels have: `bf16x3` where it is faster than `f32`, else `f32`; never `bf16`, which rounds to 8 bits.
    /// The run keeps what was chosen in its manifest.
    Auto,
}

impl Precision {
    /// What is computed with on a backend. By what that has alone, so the choice is the same for all of its machines: the
    /// fastest that loses no more than what is taken for f32 elsewhere, which is TF32 with its 11 bits. So a choice of
    /// [`Precision::Auto`] is never [`Precision::Bf16`].
    #[must_use]
    pub fn on(self, backend: &dyn Backend) -> Self {
        match self {
            Self::Auto if backend.has_faster(Products::Bf16x3) => Self::Bf16x3,
            Self::Auto => Self::F32,
            chosen => chosen,
        }
    }

    /// How the products of f32 in its step are computed.
    pub fn products(self) -> Products {
        match self {
            Self::Bf16x3 => Products::Bf16x3,
            Self::F32 | Self::Bf16 | Self::Auto => Products::F32,
        }
    }

    /// The name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16x3 => "bf16x3",
            Self::Bf16 => "bf16",
            Self::Auto => "auto",
        }
    }
}

/// Training whose description holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Train {
    /// How long.
    pub length: Interval,
    /// The number of samples in a step; a multiple of `micro_shards`.
    pub batch: usize,
    /// Into how many logical parts a batch is cut; a power of two.
    pub micro_shards: usize,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// The learning rate (FTRL's alpha).
    pub lr: f64,
    /// Weight decay: decoupled for adamw and lamb, else added to the gradient; 0 for FTRL.
    pub weight_decay: f64,
    /// Parameters with a learning rate and weight decay of their own.
    pub param_groups: Vec<ParamGroup>,
    /// How the learning rate changes after the warm-up.
    pub schedule: Schedule,
    /// The number of first steps in which the learning rate rises linearly from zero.
    pub warmup_steps: u64,
    /// The largest norm of the combined gradient.
    pub clip_norm: Option<f64>,
    /// The largest absolute value of an element of the combined gradient; cut before the norm is taken.
    pub clip_value: Option<f64>,
    /// What is minimised; none where that follows from what is predicted.
    pub loss: Option<LossKind>,
    /// How much of each target is shared by all classes.
    pub label_smoothing: f64,
    /// Where two classes are divided, if not in the middle.
    pub decision_threshold: Option<DecisionThreshold>,
    /// When to stop early.
    pub early_stopping: Option<EarlyStopping>,
    /// When to write checkpoints.
    pub checkpoints: CheckpointPolicy,
    /// Whether a short last batch is dropped.
    pub drop_last: bool,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// How often the samples of each class come.
    pub sampling: Sampling,
    /// The weight of each class in the loss.
    pub class_weights: Option<ClassWeights>,
    /// How often the validation data is evaluated.
    pub evaluate_every: Interval,
    /// How often the metrics of a step are written; about a thousand times in the whole run when not given.
    pub log_every_steps: Option<u64>,
    /// What a training step computes with.
    pub precision: Precision,
}

/// When to stop early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStopping {
    /// The validation metric that is watched.
    pub metric: MetricName,
    /// After how many evaluations in a row without a better value training stops.
    pub patience: u32,
    /// How much better a value must be to count.
    pub min_delta: f64,
    /// Which of equally good evaluations is the best.
    pub ties: Ties,
    /// Whether the best weights are the result.
    pub restore_best: bool,
}

/// When to write checkpoints: after so many steps or so many seconds, whichever comes first; one of them is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckpointPolicy {
    /// After so many steps.
    pub every_steps: Option<u64>,
    /// After so many seconds.
    pub every_seconds: Option<f64>,
    /// How many of the newest are kept.
    pub keep: usize,
}

impl TrainSpec {
    /// Training without contradictions, or everything that is wrong with it. Items are paths such as `train.batch`.
    pub fn validate(&self) -> Result<Train, Diagnostics> {
        validate::train(self)
    }
}

impl Train {
    /// The same with a batch that so many training samples fill, cut where it is larger: to the most of them that the
    /// micro-shards divide.
    pub fn cut_to(&self, samples: u64) -> Self {
        let most = usize::try_from(samples).unwrap_or(usize::MAX) / self.micro_shards * self.micro_shards;
        let batch = if most == 0 { self.batch } else { self.batch.min(most) };
        Self { batch, ..self.clone() }
    }

    /// Refuses a batch that this many training samples do not fill, and more epochs of them than steps can be counted.
    ///
    /// # Errors
    /// What is refused.
    pub fn check_samples(&self, samples: u64) -> Result<(), Diagnostic> {
        let batch = self.batch;
        if batch as u64 > samples {
            let problem = format!(
                "a batch of {batch} is larger than the training data, which has {}",
                counted(samples, "sample")
            );
            let diagnostic = Diagnostic::new("train.batch-too-large", problem).item("train.batch");
            return Err(diagnostic.expected(format!("at most {samples}")));
        }
        let per_epoch = self.steps_per_epoch(samples);
        match self.length {
            Interval::Epochs(epochs) if epochs.checked_mul(per_epoch).is_none() => {
                let problem =
                    format!("{epochs} epochs of {per_epoch} steps are more steps than can be counted");
                let diagnostic = Diagnostic::new("train.too-long", problem).item("train.epochs");
                Err(diagnostic.expected(format!("at most {}", u64::MAX / per_epoch)))
            }
            _ => Ok(()),
        }
    }

    /// Steps of an epoch over this many samples.
    pub fn steps_per_epoch(&self, samples: u64) -> u64 {
        let batch = self.batch as u64;
        if self.drop_last { samples / batch } else { samples.div_ceil(batch) }
    }
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn three() -> NonZeroU32 {
    NonZeroU32::new(3).expect("3 is not zero")
}

fn patience() -> NonZeroU32 {
    NonZeroU32::new(5).expect("5 is not zero")
}

fn groups_example() -> serde_json::Value {
    serde_json::json!([{"params": ["*.bias"], "lr_factor": 0.1, "weight_decay": 0.0}])
}

fn zero() -> NonNegative {
    NonNegative::new(0.0).expect("0 is not negative")
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_runtime::{CpuBackend, KernelPath, ThreadPool};
    use std::sync::Arc;

    /// On every path there is, on this machine or another: what has nothing faster is never asked for it.
    #[test]
    fn auto_is_never_coarser_than_parts_and_those_only_where_they_are_faster() {
        let pool = Arc::new(ThreadPool::new(1));
        for path in KernelPath::ALL {
            let backend = CpuBackend { pool: pool.clone(), path };
            let expect = if path == KernelPath::Amx { Precision::Bf16x3 } else { Precision::F32 };
            assert_eq!(Precision::Auto.on(&backend), expect, "{path}");
            for given in [Precision::F32, Precision::Bf16x3, Precision::Bf16] {
                assert_eq!(given.on(&backend), given, "{path}");
            }
        }
    }

    #[test]
    fn precisions_have_the_names_of_manifests() {
        for precision in [Precision::F32, Precision::Bf16x3, Precision::Bf16, Precision::Auto] {
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.name());
        }
    }
}

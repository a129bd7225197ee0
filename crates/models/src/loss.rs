//! The losses that models are trained with, and what each is of a single sample.

use crate::TargetSpec;
use outgrow_ir::Diagnostic;

/// Which loss a model is trained with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossKind {
    /// Of classes or tokens, from logits.
    CrossEntropy,
    /// Of two classes, from one logit.
    BinaryCrossEntropy,
    /// Of classes, from logits, one or one for each: samples that are right already count little.
    Focal {
        /// How little; not below 0.
        gamma: f64,
    },
    /// Of numbers.
    MeanSquaredError,
    /// Of numbers.
    MeanAbsoluteError,
    /// Of numbers: a square near zero, and a line away from it.
    Huber {
        /// Up to which difference it is a square; above 0.
        delta: f64,
    },
}

impl LossKind {
    /// The usual loss of what is predicted.
    pub fn usual(target: &TargetSpec) -> Self {
        match target {
            TargetSpec::Class { .. } | TargetSpec::Tokens { .. } => Self::CrossEntropy,
            TargetSpec::Binary => Self::BinaryCrossEntropy,
            TargetSpec::Regression { .. } => Self::MeanSquaredError,
        }
    }

    /// The name, as the manifest has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross-entropy",
            Self::BinaryCrossEntropy => "logistic",
            Self::Focal { .. } => "focal",
            Self::MeanSquaredError => "mse",
            Self::MeanAbsoluteError => "mae",
            Self::Huber { .. } => "huber",
        }
    }

    /// Its one option, by its name.
    pub fn option(self) -> Option<(&'static str, f64)> {
        match self {
            Self::Focal { gamma } => Some(("gamma", gamma)),
            Self::Huber { delta } => Some(("delta", delta)),
            _ => None,
        }
    }

    /// The loss of a number that is predicted with this error, in the units in which the model works.
    pub fn of_error(self, error: f64) -> f64 {
        match self {
            Self::MeanAbsoluteError => error.abs(),
            Self::Huber { delta } => {
                let cut = error.abs().min(delta);
                cut * (error.abs() - cut / 2.0)
            }
            _ => error * error,
        }
    }

    /// The loss of a sample whose class gets this probability.
    pub fn of_probability(self, probability: f64) -> f64 {
        let log = -libm::log(probability);
        match self {
            Self::Focal { gamma } => libm::pow(1.0 - probability, gamma) * log,
            _ => log,
        }
    }

    /// Whether it is a loss of what is predicted.
    pub fn fits(self, target: &TargetSpec) -> bool {
        match self {
            Self::CrossEntropy => matches!(target, TargetSpec::Class { .. } | TargetSpec::Tokens { .. }),
            Self::BinaryCrossEntropy => *target == TargetSpec::Binary,
            Self::Focal { .. } => matches!(target, TargetSpec::Class { .. } | TargetSpec::Binary),
            Self::MeanSquaredError | Self::MeanAbsoluteError | Self::Huber { .. } => {
                matches!(target, TargetSpec::Regression { .. })
            }
        }
    }

    /// Whether targets of this loss may be shared by several classes.
    pub fn can_be_smoothed(self) -> bool {
        matches!(self, Self::CrossEntropy | Self::BinaryCrossEntropy)
    }

    /// Whether it is one of this target, and goes together with what else is asked for.
    pub(crate) fn check(self, target: &TargetSpec, mixed: bool, smoothing: f64) -> Result<(), Diagnostic> {
        if !self.fits(target) {
            let problem = format!("invariant: the loss `{}` is not of {}", self.name(), target.describe());
            return Err(Diagnostic::fault("model.loss", problem).item("train.loss"));
        }
        let shared = match self {
            Self::Focal { .. } if mixed => Some(("samples are mixed", "`mixup` and `cutmix`")),
            Self::Focal { .. } if smoothing > 0.0 => Some(("labels are smoothed", "`label_smoothing`")),
            _ => None,
        };
        shared.map_or(Ok(()), |(what, keys)| {
            let problem = format!("the focal loss is of samples of one class each, and {what}");
            Err(Diagnostic::new("model.focal", problem)
                .item("train.loss")
                .expected("cross-entropy, or each sample as it is")
                .hint(format!("leave `train.loss` out, or {keys}")))
        })
    }
}

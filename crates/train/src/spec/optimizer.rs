//! The optimiser of the `[train]` section: a name alone, or a table with that optimiser's options. Defaults are
//! PyTorch's; FTRL's follow McMahan et al. 2013 and LAMB's You et al. 2020.

use outgrow_models::spec::number::{Fraction, NonNegative, Positive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The optimiser: `"adam"`, or `{ name = "adam", beta1 = 0.9 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OptimizerSpec {
    /// By name, with default options.
    Name(OptimizerName),
    /// With options.
    Options(Optimizer),
}

impl OptimizerSpec {
    /// The optimiser with all its options.
    pub fn get(self) -> Optimizer {
        match self {
            Self::Name(name) => name.defaults(),
            Self::Options(optimizer) => optimizer,
        }
    }
}

/// The list of optimisers: one line each makes its name, its table and its defaults known.
macro_rules! optimizers {
    ($($(#[$doc:meta])* $variant:ident($options:ident)),+ $(,)?) => {
        /// The name of an optimiser.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum OptimizerName {
            $($(#[$doc])* $variant),+
        }

        /// An optimiser with its options.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "name", rename_all = "kebab-case")]
        pub enum Optimizer {
            $($(#[$doc])* $variant($options)),+
        }

        impl OptimizerName {
            /// The optimiser with its default options.
            pub fn defaults(self) -> Optimizer {
                match self {
                    $(Self::$variant => Optimizer::$variant($options::default())),+
                }
            }
        }

        impl Optimizer {
            /// Its name.
            pub fn name(self) -> OptimizerName {
                match self {
                    $(Self::$variant(_) => OptimizerName::$variant),+
                }
            }
        }
    };
}

optimizers! {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Gradient descent with momentum.
    Momentum(Momentum),
    /// Gradient descent with Nesterov's momentum.
    Nesterov(Nesterov),
    /// Adagrad (Duchi et al. 2011).
    Adagrad(Adagrad),
    /// RMSprop (Hinton 2012).
    Rmsprop(RmsProp),
    /// Adam (Kingma and Ba 2015).
    Adam(Adam),
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw(AdamW),
    /// FTRL-proximal (McMahan et al. 2013), for linear and logistic models with sparse weights.
    Ftrl(Ftrl),
    /// LAMB for large batches (You et al. 2020).
    Lamb(Lamb),
}

impl Optimizer {
    /// The learning rate where the manifest gives none: PyTorch's, and for FTRL its own `alpha`.
    pub fn default_lr(self) -> f64 {
        match self {
            Self::Sgd(_) | Self::Momentum(_) | Self::Nesterov(_) => 1e-3,
            Self::Adam(_) | Self::Adamw(_) | Self::Lamb(_) => 1e-3,
            Self::Adagrad(_) | Self::Rmsprop(_) => 1e-2,
            Self::Ftrl(options) => options.alpha.map_or(0.1, Positive::get),
        }
    }

    /// The weight decay where the manifest gives none: 0.01 where it is decoupled, else 0.
    pub fn default_weight_decay(self) -> f64 {
        match self {
            Self::Adamw(_) | Self::Lamb(_) => 1e-2,
            _ => 0.0,
        }
    }
}

/// A table of options: each field with its documentation, type, default and the value of the default.
macro_rules! options {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type),*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }
    };
}

options! {
    /// w ← w − lr · g.
    Sgd {}
}

options! {
    /// v ← momentum · v + (1 − dampening) · g (v = g at the first step); w ← w − lr · v.
    Momentum {
        /// How much of the last step is kept.
        momentum: Fraction = fraction(0.9),
        /// How much of the gradient is left out.
        dampening: Fraction = fraction(0.0),
    }
}

options! {
    /// v ← momentum · v + g; w ← w − lr · (g + momentum · v).
    Nesterov {
        /// How much of the last step is kept.
        momentum: Fraction = fraction(0.9),
    }
}

options! {
    /// s ← s + g²; w ← w − lr / (1 + step · lr_decay) · g / (√s + eps).
    Adagrad {
        /// How fast the learning rate falls with the number of steps.
        lr_decay: NonNegative = non_negative(0.0),
        /// The initial value of s.
        initial_accumulator: NonNegative = non_negative(0.0),
        /// Added to the divisor.
        eps: NonNegative = non_negative(1e-10),
    }
}

options! {
    /// s ← alpha · s + (1 − alpha) · g²; w ← w − lr · g / (√s + eps).
    RmsProp {
        /// How much of the running mean is kept.
        alpha: Fraction = fraction(0.99),
        /// Added to the divisor.
        eps: NonNegative = non_negative(1e-8),
        /// How much of the last step is kept.
        momentum: Fraction = fraction(0.0),
        /// Whether the mean of the gradient is taken off (Graves 2013).
        centered: bool = false,
    }
}

options! {
    /// m, v: running means of g and g²; w ← w − lr · m̂ / (√v̂ + eps).
    Adam {
        /// How much of the running mean of g is kept.
        beta1: Fraction = fraction(0.9),
        /// How much of the running mean of g² is kept.
        beta2: Fraction = fraction(0.999),
        /// Added to the divisor.
        eps: NonNegative = non_negative(1e-8),
    }
}

options! {
    /// As Adam, and w ← w − lr · weight_decay · w beside it.
    AdamW {
        /// How much of the running mean of g is kept.
        beta1: Fraction = fraction(0.9),
        /// How much of the running mean of g² is kept.
        beta2: Fraction = fraction(0.999),
        /// Added to the divisor.
        eps: NonNegative = non_negative(1e-8),
    }
}

options! {
    /// FTRL-proximal: weights in closed form from sums of gradients (McMahan et al. 2013, algorithm 1).
    Ftrl {
        /// The scale of the per-coordinate learning rate; the same as `train.lr`, which may be given instead.
        #[serde(skip_serializing_if = "Option::is_none")]
        alpha: Option<Positive> = None,
        /// Smooths the per-coordinate learning rate alpha / (beta + √(sum of g²)).
        beta: NonNegative = non_negative(1.0),
        /// Strength of L1: weights whose sum stays within it are exactly zero.
        l1: NonNegative = non_negative(0.0),
        /// Strength of L2.
        l2: NonNegative = non_negative(0.0),
    }
}

options! {
    /// Adam's step plus weight decay, scaled for each tensor by ‖w‖ / ‖step‖.
    Lamb {
        /// How much of the running mean of g is kept.
        beta1: Fraction = fraction(0.9),
        /// How much of the running mean of g² is kept.
        beta2: Fraction = fraction(0.999),
        /// Added to the divisor.
        eps: NonNegative = non_negative(1e-6),
    }
}

fn fraction(value: f64) -> Fraction {
    Fraction::new(value).expect("the default is a fraction")
}

fn non_negative(value: f64) -> NonNegative {
    NonNegative::new(value).expect("the default is not negative")
}

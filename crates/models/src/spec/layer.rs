//! One layer of a model as the manifest writes it. Which key a table has says which layer it is:
//! `{ dense = 128, activation = "relu" }`, `{ conv = 32, kernel = 3 }`, `{ max_pool = 2 }`.
//!
//! To add a layer: one struct here, one line in [`LayerSpec`], one variant in [`super::Layer`].

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number::{Fraction, Positive, True};

/// One layer: a table whose first key says what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LayerSpec {
    /// A fully connected layer.
    Dense(DenseSpec),
    /// A convolution over height and width.
    Conv(ConvSpec),
    /// Maximum over windows.
    MaxPool(MaxPoolSpec),
    /// Mean over windows.
    AvgPool(AvgPoolSpec),
    /// Mean over height and width.
    GlobalAvgPool(GlobalAvgPoolSpec),
    /// Everything but the batch in one dimension.
    Flatten(FlattenSpec),
    /// Random zeros while training.
    Dropout(DropoutSpec),
    /// Batch normalisation.
    BatchNorm(BatchNormSpec),
    /// Layer normalisation.
    LayerNorm(LayerNormSpec),
    /// A residual block.
    Residual(ResidualSpec),
    /// A table of vectors, one for each token or category.
    Embedding(EmbeddingSpec),
    /// An activation on its own.
    Activation(ActivationLayerSpec),
}

/// A fully connected layer: y = x Wᵀ + b over the last dimension; images are flattened first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenseSpec {
    /// The number of outputs.
    pub dense: NonZeroU32,
    /// Whether a bias is added.
    #[serde(default = "yes")]
    pub bias: bool,
    /// What is applied to the outputs; nothing when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<LayerActivation>,
}

/// A convolution of `[batch, channels, height, width]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvSpec {
    /// The number of output channels.
    pub conv: NonZeroU32,
    /// Height and width of the window: one number for both, or `[height, width]`.
    pub kernel: Extent,
    /// The distance between windows.
    #[serde(default)]
    pub stride: Extent,
    /// Zeros around the input: a number, `[height, width]`, `"same"` (the output is the input's size divided by
    /// the stride, rounded up) or `"valid"` (none).
    #[serde(default)]
    pub padding: PaddingSpec,
    /// The distance between the taps of a window.
    #[serde(default)]
    pub dilation: Extent,
    /// Input and output channels are cut into this many groups that do not see each other.
    #[serde(default = "one")]
    pub groups: NonZeroU32,
    /// Whether a bias is added.
    #[serde(default = "yes")]
    pub bias: bool,
    /// What is applied to the outputs; nothing when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<LayerActivation>,
}

/// The maximum over windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaxPoolSpec {
    /// Height and width of the window.
    pub max_pool: Extent,
    /// The distance between windows; the window's own size when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Extent>,
    /// How far windows may reach over the edge, at most half the window.
    #[serde(default)]
    pub padding: u32,
}

/// The mean over windows; padding counts as zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AvgPoolSpec {
    /// Height and width of the window.
    pub avg_pool: Extent,
    /// The distance between windows; the window's own size when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Extent>,
    /// How far windows may reach over the edge, at most half the window.
    #[serde(default)]
    pub padding: u32,
}

/// The mean over height and width: `[batch, channels, height, width]` becomes `[batch, channels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPoolSpec {
    /// Always `true`.
    pub global_avg_pool: True,
}

/// Everything but the batch becomes one dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlattenSpec {
    /// Always `true`.
    pub flatten: True,
}

/// While training, each element is zero with this probability and the others are scaled up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropoutSpec {
    /// The probability of a zero.
    pub dropout: Fraction,
}

/// Batch normalisation over every dimension but the channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchNormSpec {
    /// Always `true`.
    pub batch_norm: True,
    /// The weight of the newest batch in the running statistics.
    #[serde(default = "tenth")]
    pub momentum: Fraction,
    /// Added to the variance.
    #[serde(default = "norm_eps")]
    pub eps: Positive,
}

/// Layer normalisation over the last dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerNormSpec {
    /// Always `true`.
    pub layer_norm: True,
    /// Added to the variance.
    #[serde(default = "norm_eps")]
    pub eps: Positive,
}

/// y = f(x) + g(x), where f is the list of layers and g the shortcut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidualSpec {
    /// The layers of the block.
    #[schemars(length(min = 1))]
    pub residual: Vec<LayerSpec>,
    /// The layers of the shortcut, for a block that changes the shape; the input itself when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<LayerSpec>,
}

/// A table of vectors, one for each token or category of the input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingSpec {
    /// The length of each vector. The number of vectors comes from the data.
    pub embedding: NonZeroU32,
}

/// An activation on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationLayerSpec {
    /// Which one.
    pub activation: LayerActivation,
}

/// An elementwise function between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x Φ(x) with the exact normal distribution.
    Gelu,
    /// x / (1 + e⁻ˣ), also called swish.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// 1.0507 x where x is positive, else 1.7581 (eˣ − 1) (Klambauer et al. 2017).
    Selu,
    /// x tanh(log(1 + eˣ)) (Misra 2019).
    Mish,
}

/// An activation of a layer; `softmax` only at the end of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LayerActivation {
    /// max(x, 0).
    Relu,
    /// x Φ(x) with the exact normal distribution.
    Gelu,
    /// x / (1 + e⁻ˣ), also called swish.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e⁻ˣ). On the last layer of a classifier the loss is taken from the logits.
    Sigmoid,
    /// 1.0507 x where x is positive, else 1.7581 (eˣ − 1) (Klambauer et al. 2017).
    Selu,
    /// x tanh(log(1 + eˣ)) (Misra 2019).
    Mish,
    /// Only on the last layer of a classifier, where it means cross-entropy from the logits.
    Softmax,
}

impl LayerActivation {
    /// The activation, unless it is softmax, which is no elementwise function.
    pub fn elementwise(self) -> Option<Activation> {
        Some(match self {
            Self::Relu => Activation::Relu,
            Self::Gelu => Activation::Gelu,
            Self::Silu => Activation::Silu,
            Self::Tanh => Activation::Tanh,
            Self::Sigmoid => Activation::Sigmoid,
            Self::Selu => Activation::Selu,
            Self::Mish => Activation::Mish,
            Self::Softmax => return None,
        })
    }
}

/// A size in height and width: one number for both, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Extent {
    /// The same in both directions.
    Square(NonZeroU32),
    /// `[height, width]`.
    Each([NonZeroU32; 2]),
}

impl Default for Extent {
    fn default() -> Self {
        Self::Square(NonZeroU32::MIN)
    }
}

impl Extent {
    /// `[height, width]`.
    pub fn get(self) -> [usize; 2] {
        match self {
            Self::Square(size) => [size.get() as usize; 2],
            Self::Each(sizes) => sizes.map(|size| size.get() as usize),
        }
    }
}

/// Zeros around the input of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PaddingSpec {
    /// A rule.
    Rule(PaddingRule),
    /// The same on all sides.
    Square(u32),
    /// `[height, width]`: that many on either side.
    Each([u32; 2]),
}

impl Default for PaddingSpec {
    fn default() -> Self {
        Self::Square(0)
    }
}

/// A rule for padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PaddingRule {
    /// As much as makes the output the input's size divided by the stride, rounded up.
    Same,
    /// None.
    Valid,
}

fn yes() -> bool {
    true
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn tenth() -> Fraction {
    Fraction::new(0.1).expect("0.1 is a fraction")
}

fn norm_eps() -> Positive {
    Positive::new(1e-5).expect("1e-5 is positive")
}

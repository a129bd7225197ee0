//! The `[model]` section of a manifest: a list of layers, or a named architecture with options.
//!
//! [`ModelSpec`] is what a person writes; its doc comments are what `outgrow schema` and editors show.
//! [`ModelSpec::validate`] turns it into a [`Model`], which has no contradictions left in it.

mod layer;
pub mod number;
mod validate;

use std::num::NonZeroU32;

use outgrow_ir::Diagnostics;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use layer::*;
use number::{Fraction, Positive};

/// The model: either `layers = [...]`, or `name = "..."` with that architecture's options.
// Unknown keys are refused by the schema of this table as a whole: serde cannot tell them in flattened parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelSpec {
    /// The list of layers, or the named architecture.
    #[serde(flatten)]
    pub architecture: ArchitectureSpec,
    /// What to start from: a safetensors file, whose tensors must have the model's names and shapes, or the folder of a run
    /// that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// What becomes of the last layer of a model that starts from weights, or from an ONNX file: `keep`, or `new` for one
    /// that predicts what the data has. All other tensors must fit.
    #[serde(default, skip_serializing_if = "Head::is_default")]
    pub head: Head,
    /// The parameters that are not trained, by their names, where `*` stands for any characters; `outgrow graph` shows the
    /// names. Running statistics of batch norms go on all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = freeze_example())]
    pub freeze: Option<Vec<String>>,
    /// How the weights are drawn at the start. With any rule but `"default"`, biases start at zero.
    #[serde(default)]
    pub init: InitSpec,
}

/// A list of layers or a named architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ArchitectureSpec {
    /// A named architecture.
    Named(NamedSpec),
    /// A list of layers.
    Layers(LayerListSpec),
}

/// A model as a list of layers, from the input to the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerListSpec {
    /// The layers from the input to the output, such as `{ dense = 128, activation = "relu" }`.
    #[schemars(length(min = 1))]
    pub layers: Vec<LayerSpec>,
}

/// A named architecture with its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum NamedSpec {
    /// One fully connected layer from the features to the targets.
    Linear(NoOptions),
    /// One fully connected layer to a single logit (two classes) or to one logit per class.
    Logistic(NoOptions),
    /// Fully connected layers with an activation between them.
    Mlp(MlpSpec),
    /// RealMLP (Holzmüller et al. 2024, TD-S): a network for tables with defaults that were tuned on many of them. What
    /// `[train]` leaves out is its own too.
    #[serde(rename = "realmlp")]
    RealMlp(RealMlpSpec),
    /// LeNet-5 for small images: two convolutions with pooling, then three fully connected layers.
    #[serde(rename = "lenet")]
    LeNet(LeNetSpec),
    /// ResNet-18 (He et al. 2015), as in torchvision.
    #[serde(rename = "resnet18")]
    ResNet18(ResNetSpec),
    /// ResNet-34 (He et al. 2015), as in torchvision.
    #[serde(rename = "resnet34")]
    ResNet34(ResNetSpec),
    /// ResNet-50 (He et al. 2015), as in torchvision.
    #[serde(rename = "resnet50")]
    ResNet50(ResNetSpec),
    /// A decoder-only transformer that predicts the next token.
    Gpt(GptSpec),
    /// A linear model beside a network over embeddings (Cheng et al. 2016).
    WideDeep(WideDeepSpec),
    /// A model from an ONNX file, with its weights: all of them are trained, or those that are chosen.
    Onnx(OnnxSpec),
}

/// The options of `onnx`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OnnxSpec {
    /// The ONNX file. A relative path is looked up in the folder given by `--data`, then in `$OUTGROW_DATA`, then beside
    /// the manifest.
    #[schemars(example = &"resnet18.onnx")]
    pub file: String,
    /// The weights that are trained, by their names in the file, where `*` stands for any characters; all of them when
    /// left out. The others stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = trainable_example())]
    pub trainable: Option<Vec<String>>,
}

fn freeze_example() -> [&'static str; 2] {
    ["conv1.*", "layer1.*"]
}

fn trainable_example() -> [&'static str; 2] {
    ["layer4.*", "fc.*"]
}

/// What becomes of the last layer of a model that has learned before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// It stays; its width must be what the data asks for.
    #[default]
    Keep,
    /// A new one takes its place, of the width that the data asks for.
    New,
}

impl Head {
    fn is_default(&self) -> bool {
        *self == Self::Keep
    }
}

/// No options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoOptions {}

/// The options of `mlp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MlpSpec {
    /// The widths of the hidden layers; the output layer comes from the data.
    pub hidden: Vec<NonZeroU32>,
    /// The activation after each hidden layer.
    #[serde(default = "relu")]
    pub activation: Activation,
    /// The probability with which each hidden element is dropped while training.
    #[serde(default = "no_dropout")]
    pub dropout: Fraction,
}

/// `realmlp`: a network for tables of numbers and 0/1 features, with defaults that were tuned on many tables. What
/// `[train]` leaves out is its own too: length, batch, optimiser, rates by group, schedule, label smoothing, and the
/// epoch that is best on validation data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RealMlpSpec {
    /// The widths of the hidden layers; the output layer comes from the data.
    #[serde(default = "realmlp_hidden")]
    pub hidden: Vec<NonZeroU32>,
    /// The activation after each hidden layer. When left out: `selu` for classes and `mish` for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// The options of `lenet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeNetSpec {
    /// The activation after each layer but the last.
    #[serde(default = "relu")]
    pub activation: Activation,
}

/// The options of the ResNets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResNetSpec {
    /// The first layers: made for large or for small images.
    #[serde(default)]
    pub stem: Stem,
}

/// The first layers of a ResNet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A 7×7 convolution with stride 2 and a 3×3 maximum with stride 2, for images of about 224×224.
    #[default]
    Imagenet,
    /// A 3×3 convolution with stride 1 and no pooling, for images of about 32×32.
    Small,
}

/// The options of `gpt`. The context length and the vocabulary come from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GptSpec {
    /// The number of transformer blocks.
    #[serde(default = "four")]
    pub layers: NonZeroU32,
    /// The number of attention heads in each block; divides the width.
    #[serde(default = "four")]
    pub heads: NonZeroU32,
    /// The length of each token's vector.
    #[serde(default = "gpt_width")]
    pub width: NonZeroU32,
    /// The probability with which elements are dropped while training.
    #[serde(default = "no_dropout")]
    pub dropout: Fraction,
}

/// The options of `wide-deep`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WideDeepSpec {
    /// The widths of the hidden layers of the deep part.
    pub hidden: Vec<NonZeroU32>,
    /// The length of the vector for each category in the deep part.
    #[serde(default = "embedding_width")]
    pub embedding: NonZeroU32,
    /// The activation after each hidden layer.
    #[serde(default = "relu")]
    pub activation: Activation,
    /// The probability with which each hidden element is dropped while training.
    #[serde(default = "no_dropout")]
    pub dropout: Fraction,
}

/// How weights are drawn at the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum InitSpec {
    /// A rule by name.
    Rule(InitRule),
    /// Normal with mean 0 and this standard deviation.
    Normal(NormalInit),
    /// Uniform from −bound to bound.
    Uniform(UniformInit),
}

impl Default for InitSpec {
    fn default() -> Self {
        Self::Rule(InitRule::Default)
    }
}

/// A rule for initial weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InitRule {
    /// For a named architecture its original's rules (PyTorch's and torchvision's; for `gpt`, GPT-2's); for a list of
    /// layers Glorot normal, with biases zero.
    Default,
    /// All weights zero: for linear and logistic models.
    Zeros,
    /// Uniform within ±√(6 / (inputs + outputs)) (Glorot and Bengio 2010).
    XavierUniform,
    /// Normal with variance 2 / (inputs + outputs) (Glorot and Bengio 2010).
    XavierNormal,
    /// Uniform within ±√(6 / inputs) (He et al. 2015).
    KaimingUniform,
    /// Normal with variance 2 / inputs (He et al. 2015).
    KaimingNormal,
}

/// Normal initial weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormalInit {
    /// The standard deviation.
    pub normal: Positive,
}

/// Uniform initial weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UniformInit {
    /// The bound: weights are drawn from −bound to bound.
    pub uniform: Positive,
}

/// A model whose description holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The layers, or the architecture.
    pub architecture: Architecture,
    /// What the last layer's activation said about the output.
    pub output: Output,
    /// A safetensors file or a run's folder to start from, as the manifest writes it.
    pub weights: Option<String>,
    /// What becomes of the last layer where there are weights before training.
    pub head: Head,
    /// Patterns of the names of parameters that are not trained.
    pub freeze: Vec<String>,
    /// How weights are drawn at the start.
    pub init: InitSpec,
}

/// The activation that the manifest puts after the last layer. It is taken off the layers: a classifier's graph ends
/// in logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// None: plain numbers or logits, as the loss takes them.
    Linear,
    /// Softmax: the model must be a classifier.
    Softmax,
    /// Sigmoid: the logistic loss takes the logit; any other loss takes the sigmoid itself.
    Sigmoid,
}

/// An architecture with all its options.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// A list of layers, from input to output; their indices are the manifest's.
    Layers(Vec<Layer>),
    /// One fully connected layer to the targets.
    Linear,
    /// One fully connected layer to the logit or logits.
    Logistic,
    /// Fully connected layers.
    Mlp {
        /// The widths of the hidden layers.
        hidden: Vec<usize>,
        /// The activation after each hidden layer.
        activation: Activation,
        /// The probability of a dropped element after each hidden layer.
        dropout: f64,
    },
    /// RealMLP.
    RealMlp {
        /// The widths of the hidden layers.
        hidden: Vec<usize>,
        /// The activation after each hidden layer; where there is none, what is predicted decides.
        activation: Option<Activation>,
    },
    /// LeNet-5.
    LeNet {
        /// The activation after each layer but the last.
        activation: Activation,
    },
    /// A ResNet.
    ResNet {
        /// Which one.
        depth: ResNetDepth,
        /// The first layers.
        stem: Stem,
    },
    /// A decoder-only transformer; `width` is a multiple of `heads`.
    Gpt {
        /// The number of blocks.
        layers: usize,
        /// The number of heads.
        heads: usize,
        /// The length of each token's vector.
        width: usize,
        /// The probability of a dropped element.
        dropout: f64,
    },
    /// A linear model beside a network over embeddings.
    WideDeep {
        /// The widths of the hidden layers.
        hidden: Vec<usize>,
        /// The length of the vector for each category.
        embedding: usize,
        /// The activation after each hidden layer.
        activation: Activation,
        /// The probability of a dropped element after each hidden layer.
        dropout: f64,
    },
    /// A model from a file, which whoever builds it brings along.
    Onnx(OnnxSpec),
}

/// The number of layers of a ResNet, by its usual name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResNetDepth {
    /// ResNet-18, of basic blocks 2, 2, 2, 2.
    R18,
    /// ResNet-34, of basic blocks 3, 4, 6, 3.
    R34,
    /// ResNet-50, of bottleneck blocks 3, 4, 6, 3.
    R50,
}

/// One layer of a list, with numbers in place of rules.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// y = x Wᵀ + b over the last dimension.
    Dense {
        /// The number of outputs.
        units: usize,
        /// Whether a bias is added.
        bias: bool,
        /// What is applied to the outputs.
        activation: Option<Activation>,
    },
    /// A convolution of `[batch, channels, height, width]`; pairs are `[height, width]`.
    Conv {
        /// The number of output channels, a multiple of `groups`.
        channels: usize,
        /// The window.
        kernel: [usize; 2],
        /// The distance between windows.
        stride: [usize; 2],
        /// Zeros on either side.
        padding: [usize; 2],
        /// The distance between taps.
        dilation: [usize; 2],
        /// The number of groups.
        groups: usize,
        /// Whether a bias is added.
        bias: bool,
        /// What is applied to the outputs.
        activation: Option<Activation>,
    },
    /// The maximum over windows; pairs are `[height, width]`.
    MaxPool {
        /// The window.
        kernel: [usize; 2],
        /// The distance between windows.
        stride: [usize; 2],
        /// How far windows reach over the edge.
        padding: [usize; 2],
    },
    /// The mean over windows, padding counted as zeros; pairs are `[height, width]`.
    AvgPool {
        /// The window.
        kernel: [usize; 2],
        /// The distance between windows.
        stride: [usize; 2],
        /// How far windows reach over the edge.
        padding: [usize; 2],
    },
    /// The mean over height and width.
    GlobalAvgPool,
    /// Everything but the batch in one dimension.
    Flatten,
    /// Random zeros while training.
    Dropout {
        /// The probability of a zero.
        probability: f64,
    },
    /// Batch normalisation.
    BatchNorm {
        /// The weight of the newest batch in the running statistics.
        momentum: f64,
        /// Added to the variance.
        eps: f64,
    },
    /// Layer normalisation over the last dimension.
    LayerNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// An activation on its own.
    Activation(Activation),
    /// y = f(x) + g(x).
    Residual {
        /// The layers of f.
        layers: Vec<Layer>,
        /// The layers of g; the identity when empty.
        shortcut: Vec<Layer>,
    },
    /// A vector for each token or category.
    Embedding {
        /// The length of each vector.
        width: usize,
    },
}

impl ModelSpec {
    /// The model without contradictions, or everything that is wrong with it. Items are paths such as
    /// `model.layers[2].padding`.
    pub fn validate(&self) -> Result<Model, Diagnostics> {
        validate::model(self)
    }
}

fn relu() -> Activation {
    Activation::Relu
}

fn no_dropout() -> Fraction {
    Fraction::new(0.0).expect("0 is a fraction")
}

fn four() -> NonZeroU32 {
    NonZeroU32::new(4).expect("4 is not zero")
}

fn gpt_width() -> NonZeroU32 {
    NonZeroU32::new(128).expect("128 is not zero")
}

fn realmlp_hidden() -> Vec<NonZeroU32> {
    vec![NonZeroU32::new(256).expect("256 is not zero"); 3]
}

fn embedding_width() -> NonZeroU32 {
    NonZeroU32::new(8).expect("8 is not zero")
}

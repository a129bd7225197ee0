//! From a model's description to its graphs, parameters and buffers.

use crate::foreign::ForeignModel;
use crate::net::Net;
use crate::spec::{Architecture, Layer, Model, Output};
use crate::{Init, LossKind, architecture, freeze, objective};
use outgrow_ir::{Diagnostic, Diagnostics, Dim, Graph, InputRole, Node, Op, TensorType, Value, prune};
use outgrow_tensor::DType;
use std::collections::HashMap;

/// An input that the data gives the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Its name: `image`, `features`, `categories` or `tokens`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions without the batch.
    pub dims: Vec<usize>,
    /// For indexes: how many values each column can take; empty for numbers.
    pub cardinalities: Vec<usize>,
}

/// What the model predicts, and how many numbers that takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSpec {
    /// One of several classes, from one logit each; the target is i32 `[B]`.
    Class {
        /// How many classes.
        classes: usize,
    },
    /// One of two classes, from one logit; the target is i32 `[B]`, 0 or 1.
    Binary,
    /// Numbers; the target is f32 `[B, width]`.
    Regression {
        /// How many for each sample.
        width: usize,
    },
    /// The next token at each position; the target is i32 `[B, context]`.
    Tokens {
        /// How many different tokens there are.
        vocab: usize,
        /// Tokens of each sample.
        context: usize,
    },
}

/// What a graph is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Training: batch statistics and dropout.
    Train,
    /// Evaluation: running statistics, no randomness.
    Eval,
    /// Evaluation without a target, a loss and metrics.
    Answer(Length),
}

/// How long sequences are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As long as the data's.
    Known,
    /// Any, up to that.
    Any,
}

/// A parameter of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// PyTorch's name, as `layer1.0.conv1.weight`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<usize>,
    /// What its elements are drawn from at the start.
    pub init: Init,
}

/// State that is carried along but not trained by gradient: running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferSpec {
    /// PyTorch's name, as `bn1.running_mean`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<usize>,
    /// Its value at the start.
    pub init: Init,
    /// After each step, `new = (1 - momentum) old + momentum statistic`.
    pub momentum: f64,
}

/// How a number that is predicted is spread over the training data. The model works on `(number - mean) / deviation`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetScale {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, not zero.
    pub deviation: f64,
}

/// Choices that are not the manifest's.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions<'a> {
    /// Type of parameters and of what is computed with them. Only f32 is trained so far; f64 is for checks of
    /// derivatives. Buffers, float feeds, the loss and the outputs are of this type too, but of f32 where it is bf16.
    pub dtype: DType,
    /// Whether the samples of training are mixed: their target is the share of each class, f32 `[B, classes]`.
    pub mixed: bool,
    /// The model of an architecture that is not described here.
    pub foreign: Option<&'a dyn ForeignModel>,
    /// For numbers: the scale of each, or none where the model works in their own units. Losses are those of scaled
    /// numbers, results are in the targets' units.
    pub scales: &'a [TargetScale],
    /// For classes and tokens: in training, so much of each target is shared by all classes alike (Szegedy et al. 2016).
    pub label_smoothing: f64,
    /// The loss; the usual one of what is predicted where nothing is said.
    pub loss: Option<LossKind>,
}

impl Default for BuildOptions<'_> {
    fn default() -> Self {
        Self { dtype: DType::F32, mixed: false, foreign: None, scales: &[], label_smoothing: 0.0, loss: None }
    }
}

/// A model as graphs. All are of the symbolic batch size B.
///
/// Inputs of those for training and evaluation, in this order: the parameters, the buffers, the data by its names, target, weight, scale, and, in training
/// when there is dropout, the key.
///
/// Outputs: the loss (`scale · Σ weight · loss of the sample`); as metrics the sum of losses, of weights, for classes of
/// right answers and (unless there are two classes with one logit) of those with the target among the five greatest
/// logits; as the result `output` (logits or predictions); and in training, where there are buffers, the number of
/// samples and each buffer's statistic. Of mixed samples the class with the greatest share counts as the target. A token
/// model's sample counts with the mean over its tokens.
///
/// The result is `[B, classes]`, `[B]` for one logit, `[B, width]` for numbers, `[B, context, vocab]` for tokens.
#[derive(Clone, Debug)]
pub struct BuiltModel {
    /// The graph for training.
    pub train: Graph,
    /// The graph for evaluation.
    pub eval: Graph,
    /// The graph that answers for data alone: its result is that of evaluation. A token model's takes sequences of any
    /// length T up to its context, where its layers allow it: `[B, T]` gives `[B, T, vocab]`.
    pub answer: Graph,
    /// The parameters, in the order of the graphs' inputs.
    pub params: Vec<ParamSpec>,
    /// The buffers, in the order of the graphs' inputs.
    pub buffers: Vec<BufferSpec>,
    /// The parameters that are not trained: they are among the buffers.
    pub frozen: Vec<ParamSpec>,
    /// The names of the last layer's parameters.
    pub head: Vec<String>,
    /// The loss.
    pub loss: LossKind,
    /// What is predicted.
    pub target: TargetSpec,
    /// The scale of each number that is predicted; none where the model works in their own units.
    pub scales: Vec<TargetScale>,
}

/// More parameters than this are taken for a mistake.
const PARAMETERS_MAX: usize = 1 << 36;

impl InputSpec {
    /// For indexes in columns: the first row of each column in a table of all their values, and the number of rows.
    pub(crate) fn offsets(&self) -> Result<(Vec<i64>, usize), Diagnostic> {
        if self.dims != [self.cardinalities.len()] {
            let problem = format!("input `{}` does not say how many values its indexes can take", self.name);
            return Err(Diagnostic::fault("model.inputs", problem).item("model"));
        }
        let mut rows = 0usize;
        let mut offsets = Vec::with_capacity(self.cardinalities.len());
        for n in &self.cardinalities {
            offsets.push(rows as i64);
            rows = rows.saturating_add(*n);
        }
        if rows > i32::MAX as usize {
            let problem = format!("the columns of `{}` have {rows} values together", self.name);
            return Err(Diagnostic::new("model.inputs", problem)
                .item("model")
                .expected(format!("at most {}", i32::MAX))
                .hint("hash them into fewer buckets in `data.clean`"));
        }
        Ok((offsets, rows))
    }
}

impl TargetSpec {
    /// How many numbers the model's output has for each sample (or token).
    pub fn width(&self) -> usize {
        match self {
            Self::Class { classes } => *classes,
            Self::Binary => 1,
            Self::Regression { width } => *width,
            Self::Tokens { vocab, .. } => *vocab,
        }
    }

    /// The type of the target's feed.
    pub(crate) fn feed(&self, float: DType) -> TensorType {
        match self {
            Self::Class { .. } | Self::Binary => TensorType::new(DType::I32, [Dim::B]),
            Self::Regression { width } => TensorType::new(float, [Dim::B, Dim::Fixed(*width)]),
            Self::Tokens { context, .. } => TensorType::new(DType::I32, [Dim::B, Dim::Fixed(*context)]),
        }
    }

    /// How `model` predicts one of so many classes: two classes take one logit when the model is `logistic` or
    /// `wide-deep`, ends in a sigmoid, or ends in a dense layer of one unit.
    pub fn for_classes(model: &Model, classes: usize) -> Self {
        let one_logit = match &model.architecture {
            Architecture::Logistic | Architecture::WideDeep { .. } => true,
            Architecture::Layers(layers) => {
                model.output == Output::Sigmoid
                    || matches!(layers.last(), Some(Layer::Dense { units: 1, .. }))
            }
            _ => model.output == Output::Sigmoid,
        };
        if classes == 2 && one_logit { Self::Binary } else { Self::Class { classes } }
    }

    /// A few words for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Class { classes } => format!("{classes} classes"),
            Self::Binary => "two classes by one logit".into(),
            Self::Regression { width: 1 } => "one number".into(),
            Self::Regression { width } => format!("{width} numbers"),
            Self::Tokens { vocab, .. } => format!("one of {vocab} tokens at each position"),
        }
    }
}

/// The graphs of `model` on these inputs, predicting `target`.
///
/// # Errors
/// Diagnostics that name the layer, as `model.layers[2]`, when the layers do not fit each other, the inputs or the
/// target.
pub fn build(
    model: &Model,
    inputs: &[InputSpec],
    target: &TargetSpec,
    options: BuildOptions<'_>,
) -> Result<BuiltModel, Diagnostics> {
    if inputs.is_empty() || target.width() == 0 {
        let problem = "there is nothing to learn from or nothing to predict";
        return Err(Diagnostic::new("model.inputs", problem)
            .item("model")
            .expected("data with at least one feature and a target")
            .into());
    }
    let fits = |width: usize| options.scales.is_empty() || options.scales.len() == width;
    if !matches!(target, TargetSpec::Regression { width } if fits(*width)) && !options.scales.is_empty() {
        let problem = format!("invariant: {} scales are of {}", options.scales.len(), target.describe());
        return Err(Diagnostic::fault("model.scales", problem).item("model").into());
    }
    if options.mixed && !matches!(target, TargetSpec::Class { .. }) {
        let problem = format!("samples cannot be mixed where the model predicts {}", target.describe());
        return Err(Diagnostic::new("model.mixed", problem)
            .item("data.augment")
            .expected("classes with a logit each")
            .hint("leave `mixup` and `cutmix` out")
            .into());
    }
    if options.label_smoothing > 0.0 && matches!(target, TargetSpec::Regression { .. }) {
        return Err(Diagnostic::new(
            "model.label-smoothing",
            "numbers have no labels that could be smoothed",
        )
        .item("train.label_smoothing")
        .expected("classes or tokens")
        .hint("leave `label_smoothing` out")
        .into());
    }
    let loss = options.loss.unwrap_or(LossKind::usual(target));
    loss.check(target, options.mixed, options.label_smoothing)?;
    let (train, net) = graph(model, inputs, target, options, Mode::Train)?;
    let (eval, _) = graph(model, inputs, target, options, Mode::Eval)?;
    let answer = |length| graph(model, inputs, target, options, Mode::Answer(length));
    // Some layers, and what was brought along, are made for sequences of one length.
    let any = if options.foreign.is_none() { answer(Length::Any).ok() } else { None };
    let (answer, _) = any.map_or_else(|| answer(Length::Known), Ok)?;
    freeze::check(&model.freeze, &net.frozen, &net.params)?;
    Ok(BuiltModel {
        train,
        eval,
        answer,
        params: net.params,
        buffers: net.buffers,
        frozen: net.frozen,
        head: net.head,
        loss,
        target: target.clone(),
        scales: options.scales.to_vec(),
    })
}

fn graph<'a>(
    model: &Model,
    inputs: &[InputSpec],
    target: &TargetSpec,
    options: BuildOptions<'a>,
    mode: Mode,
) -> Result<(Graph, Net<'a>), Diagnostics> {
    let mut net = Net::new(mode, inputs, target, model.init, options);
    let prediction = architecture(&mut net, model)?;
    check_size(&net.params)?;
    objective::add(&mut net, model.output, prediction)?;
    let foreign = matches!(model.architecture, Architecture::Onnx(_));
    let mut graph = inputs_first(&std::mem::take(&mut net.b).finish()?, foreign);
    if matches!(mode, Mode::Answer(_)) {
        graph = prune(&graph, |_| true)?;
    } else if foreign {
        // As the parameters of a head that was replaced.
        graph = prune(&graph, |input| input.role == InputRole::Param)?;
        net.params.retain(|param| graph.input(&param.name).is_some());
        net.params.sort_by(|a, b| a.name.cmp(&b.name));
        net.buffers.sort_by(|a, b| a.name.cmp(&b.name));
    }
    net.head = head(model, &net.params);
    if !model.freeze.is_empty() {
        freeze::freeze(&mut graph, &mut net, model);
        graph = inputs_first(&graph, foreign);
        fn named((i, node): (usize, &Node)) -> Option<(&str, usize)> {
            match &node.op {
                Op::Input(input) => Some((input.name.as_ref(), i)),
                _ => None,
            }
        }
        let place: HashMap<&str, usize> = graph.nodes.iter().enumerate().filter_map(named).collect();
        net.buffers.sort_by_key(|buffer| place.get(buffer.name.as_str()).copied());
    }
    graph.verify()?;
    Ok((graph, net))
}

/// The names of the last layer's parameters, which are those that depend on what is predicted.
fn head(model: &Model, params: &[ParamSpec]) -> Vec<String> {
    let layer = |name: &str| name.rsplit_once('.').map_or(String::new(), |(layer, _)| layer.to_owned());
    let last = params.last().map(|param| layer(&param.name)).unwrap_or_default();
    let is_head = |name: &str| match model.architecture {
        Architecture::Linear | Architecture::Logistic => true,
        Architecture::WideDeep { .. } => name.starts_with("wide.") || layer(name) == last,
        _ => layer(name) == last,
    };
    params.iter().map(|param| param.name.clone()).filter(|name| is_head(name)).collect()
}

fn check_size(params: &[ParamSpec]) -> Result<(), Diagnostic> {
    let count = params.iter().try_fold(0usize, |sum, p| {
        sum.checked_add(p.dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?)
    });
    if count.is_some_and(|n| n <= PARAMETERS_MAX) {
        return Ok(());
    }
    Err(Diagnostic::new("model.size", "the model has absurdly many parameters")
        .item("model")
        .expected(format!("at most {PARAMETERS_MAX}")))
}

/// The same graph with its inputs in front: parameters, buffers, feeds, each in the order in which they came; or weights
/// in the order of their names, as a model needs it that is not always built in the same order.
fn inputs_first(graph: &Graph, by_name: bool) -> Graph {
    let named = |name: &str| if by_name { name.to_owned() } else { String::new() };
    let rank = |op: &Op| match op {
        Op::Input(input) => match input.role {
            InputRole::Param => (0, named(&input.name)),
            InputRole::Buffer => (1, named(&input.name)),
            _ => (2, String::new()),
        },
        _ => (3, String::new()),
    };
    let mut order: Vec<usize> = (0..graph.nodes.len()).collect();
    order.sort_by_cached_key(|i| rank(&graph.nodes[*i].op));
    let mut place = vec![Value(0); order.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = Value(new as u32);
    }
    let mut sorted = graph.clone();
    sorted.nodes = order.iter().map(|old| graph.nodes[*old].clone()).collect();
    for node in &mut sorted.nodes {
        node.inputs.iter_mut().for_each(|v| *v = place[v.index()]);
    }
    sorted.outputs.iter_mut().for_each(|output| output.value = place[output.value.index()]);
    for region in &mut sorted.regions {
        region.operands.iter_mut().chain(&mut region.results).for_each(|v| *v = place[v.index()]);
    }
    sorted.inputs.iter_mut().for_each(|v| *v = place[v.index()]);
    sorted.inputs.sort_unstable();
    sorted
}

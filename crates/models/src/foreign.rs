//! Models that are not described here but brought along, as an imported file is: whoever brings one builds its layers;
//! feeds, loss, metrics and, if asked for, a new last layer are those of every other model.

use crate::net::Net;
use crate::spec::{Head, OnnxSpec};
use crate::{BufferSpec, Init, InputSpec, Mode, ParamSpec, TargetSpec};
use outgrow_ir::{Builder, Diagnostic, Diagnostics, Dim, Op, Value};
use std::fmt::Debug;

/// A model that is brought along.
pub trait ForeignModel: Debug {
    /// Builds the layers.
    ///
    /// # Errors
    /// Everything that keeps the model from being built on these inputs.
    fn build(&self, b: &mut Builder, feeds: &Feeds<'_>) -> Result<ForeignBody, Diagnostics>;
}

/// What a model is built on.
#[derive(Debug)]
pub struct Feeds<'a> {
    /// For training or for evaluation.
    pub mode: Mode,
    /// The data's inputs with their values.
    pub inputs: &'a [(InputSpec, Value)],
    /// 1 for samples and 0 for padding, `[B]`.
    pub mask: Value,
    /// In training, the key of random numbers.
    pub key: Option<Value>,
}

/// What was built.
#[derive(Debug)]
pub struct ForeignBody {
    /// Logits or predictions.
    pub prediction: Value,
    /// The parameters, in the order of the graph's inputs.
    pub params: Vec<ParamSpec>,
    /// Running statistics and weights that stay as they are, in the order of the graph's inputs.
    pub buffers: Vec<BufferSpec>,
    /// In training, the statistic that goes into each buffer that moves.
    pub statistics: Vec<(String, Value)>,
}

/// The name of a new last layer.
const HEAD: &str = "head";

pub(crate) fn build(net: &mut Net<'_>, spec: &OnnxSpec, head: Head) -> Result<Value, Diagnostics> {
    let Some(model) = net.foreign else {
        let problem = format!("the model of `{}` was not brought along", spec.file);
        return Err(Diagnostic::fault("model.foreign", problem).item("model.file").into());
    };
    let key = (net.mode == Mode::Train).then(|| net.key());
    let feeds = Feeds { mode: net.mode, inputs: &net.inputs, mask: net.mask, key };
    let body = model.build(&mut net.b, &feeds)?;
    net.params.extend(body.params);
    net.buffers.extend(body.buffers);
    net.statistics.extend(body.statistics);
    match head {
        Head::Keep => {
            check_width(net, body.prediction)?;
            Ok(body.prediction)
        }
        Head::New => {
            let features = before_last_dense(net, body.prediction)?;
            let units = net.outputs();
            let default = Init::torch_default(net.last_dim(features));
            Ok(net.dense_as(HEAD, features, units, default, Some(default)))
        }
    }
}

/// Refuses a prediction of another shape than the data asks for.
fn check_width(net: &Net<'_>, prediction: Value) -> Result<(), Diagnostic> {
    let is = net.b.dims(prediction);
    let width = Dim::Fixed(net.outputs());
    let wanted = match &net.target {
        TargetSpec::Tokens { context, .. } => vec![Dim::B, Dim::Fixed(*context), width],
        _ => vec![Dim::B, width],
    };
    if is == wanted {
        return Ok(());
    }
    let shown = |dims: &[Dim]| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let problem =
        format!("the model predicts [{}], and the data asks for {}", shown(&is), net.target.describe());
    Err(Diagnostic::new("model.width", problem)
        .item("model.head")
        .expected(format!("[{}]", shown(&wanted)))
        .hint("set head = \"new\" for a last layer that predicts what the data has"))
}

/// What the last dense layer takes: back from the prediction over additions and whatever only rearranges, to the product
/// with a weight.
fn before_last_dense(net: &Net<'_>, prediction: Value) -> Result<Value, Diagnostic> {
    let graph = net.b.graph();
    let is_feed = |op: &Op| matches!(op, Op::Input(input) if !input.role.is_model());
    let weights = |value: Value| {
        let needed = graph.needed([value]);
        !graph.iter().any(|(v, node)| needed[v.index()] && is_feed(&node.op))
    };
    let mut at = prediction;
    loop {
        let node = graph.node(at);
        match (&node.op, node.inputs.as_slice()) {
            (Op::Dot(_), [x, w]) if weights(*w) && !weights(*x) => return Ok(*x),
            (Op::Dot(_), [w, x]) if weights(*w) && !weights(*x) => return Ok(*x),
            (Op::Add(_) | Op::Mul(_), [x, other]) if weights(*other) && !weights(*x) => at = *x,
            (Op::Add(_) | Op::Mul(_), [other, x]) if weights(*other) && !weights(*x) => at = *x,
            (Op::Reshape(_) | Op::Cast(_) | Op::Transpose(_), [x]) => at = *x,
            _ => {
                return Err(Diagnostic::new("model.head", "the model does not end in a dense layer")
                    .item("model.head")
                    .hint("cut it off where it does when you export it, or keep its head"));
            }
        }
    }
}

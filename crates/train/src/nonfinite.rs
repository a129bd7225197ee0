//! What to do when the loss or a gradient is no longer finite: find the first op that made it so. The programs keep
//! only what they need, so the batch is run once more with every value of the graph as an output, in order.

use crate::program::ModelProgram;
use crate::step::sample;
use crate::trainer::Trainer;
use crate::vector::floats;
use outgrow_ir::{Diagnostic, Graph, Op, Output, OutputRole, Value};
use outgrow_kernels::all_finite;
use outgrow_runtime::CompileOptions;
use outgrow_store::checkpoint::Part;
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::Batch;

const HINT: &str = "the last good checkpoint is kept; try a smaller `train.lr`, `train.clip_norm`, or look at the data of this step";

fn is_finite(tensor: &Tensor) -> bool {
    tensor.as_slice::<f32>().is_ok_and(all_finite)
}

/// Refuses a snapshot of a state that an update has made infinite or NaN: it would take the place of a good one.
pub(crate) fn check_finite(snapshot: &Part) -> Result<(), Diagnostic> {
    let pieces = snapshot.pieces.iter().map(|(name, piece)| (name, &piece.elements));
    let Some((name, _)) = snapshot.tensors.iter().chain(pieces).find(|(_, tensor)| !is_finite(tensor)) else {
        return Ok(());
    };
    let (kind, name) = name.split_once('/').unwrap_or(("", name));
    let problem = format!("after step {}, the {kind} of `{name}` is no longer finite", snapshot.step);
    Err(Diagnostic::new("train.non-finite", problem).item(name.to_owned()).hint(HINT))
}

/// The graph with every float value as an output, named by its number.
fn with_every_value(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let floats = |(value, node): (Value, &outgrow_ir::Node)| {
        let interesting = node.ty.dtype == DType::F32 && !matches!(node.op, Op::Input(_) | Op::Constant(_));
        interesting.then(|| Output { name: value.0.to_string(), role: OutputRole::Result, value })
    };
    graph.outputs = graph.iter().filter_map(floats).collect();
    graph
}

impl Trainer {
    /// A diagnostic that names the first op whose result is not finite on this batch.
    pub(crate) fn non_finite(&mut self, batch: &Batch, loss: f64) -> Diagnostic {
        let step = self.state.step + 1;
        let what = if loss.is_finite() { "a gradient" } else { "the loss" };
        let diagnostic =
            Diagnostic::new("train.non-finite", format!("{what} is no longer finite at step {step}"));
        let culprit = match self.first_non_finite(batch) {
            Ok(culprit) => culprit.map(|culprit| format!("first at {culprit}")),
            Err(error) => Some(format!("the op could not be found: {error}")),
        };
        let diagnostic = match self.first_of_all(culprit) {
            Ok(Some(culprit)) => diagnostic.item(culprit),
            Ok(None) => diagnostic,
            Err(lost) => return lost,
        };
        diagnostic.hint(HINT)
    }

    /// What the first worker found that found something: each has looked at its own micro-shards.
    fn first_of_all(&self, found: Option<String>) -> Result<Option<String>, Diagnostic> {
        let Some(group) = &self.group else { return Ok(found) };
        let all = group
            .lock()
            .exchange(found.unwrap_or_default().as_bytes(), "the search for what is not finite")?;
        let first = all.into_iter().find(|found| !found.is_empty());
        Ok(first.map(|found| String::from_utf8_lossy(&found).into_owned()))
    }

    fn first_non_finite(&mut self, batch: &Batch) -> Result<Option<String>, Diagnostic> {
        if let Some((name, _)) = self.state.params.tensors()?.iter().find(|(_, tensor)| !is_finite(tensor)) {
            return Ok(Some(format!("parameter `{name}`, before the step")));
        }
        let bad_input = |t: &Tensor| t.as_slice::<f32>().is_ok_and(|elements| !all_finite(elements));
        if batch.inputs.iter().chain(&batch.target).any(bad_input) {
            return Ok(Some("the input data itself".into()));
        }
        let graph = with_every_value(&self.step_graph);
        let shard = self.config.batch / self.config.micro_shards;
        let (memory, products) = (self.options.memory, self.config.precision.products());
        let options = CompileOptions { memory, products, ..CompileOptions::default() };
        let backend = self.options.backend.clone();
        let first = |found: outgrow_ir::Diagnostics| {
            found.0.into_iter().next().unwrap_or_else(|| Diagnostic::fault("train.non-finite", "unknown"))
        };
        let mut program =
            ModelProgram::new(&self.model, &graph, |_| true, shard, &*backend, &options).map_err(first)?;
        let mut out = backend.allocate(program.outputs.bytes())?;
        let mut host = Vec::new();
        for part in self.step.parts() {
            let sample = sample(batch, self.options.seed, self.state.step, part, shard);
            program.run(&self.state.params, &self.state.buffers, sample, &mut *out, None)?;
            let out = floats(&*backend, &*out, &mut host)?;
            for (i, output) in graph.outputs.iter().enumerate() {
                if !all_finite(program.outputs.layout.slice(i, out)) {
                    let node = graph.node(output.value);
                    return Ok(Some(format!("op `{}` of layer `{}`", node.op.rule().name(), node.origin)));
                }
            }
        }
        Ok(None)
    }
}

//! What to do when the loss or a gradient is no longer finite: find the first op that made it so. The programs keep
//! only what they need, so the batch is run once more with every value of the graph as an output, in order.

use crate::flat::Layout;
use crate::memory::filled;
use crate::program::layouts;
use crate::step::sample;
use crate::trainer::Trainer;
use outgrow_ir::{Diagnostic, Graph, Op, Value};
use outgrow_kernels::all_finite;
use outgrow_runtime::{CompileOptions, CpuBackend};
use outgrow_transform::Batch;

const HINT: &str = "the last good checkpoint is kept; try a smaller `train.lr`, `train.clip_norm`, or look at the data of this step";

/// The first tensor with a value that is not finite.
fn first_bad<'a>(layout: &'a Layout, values: &[f32]) -> Option<&'a str> {
    if all_finite(values) {
        return None;
    }
    let bad = layout.entries().iter().enumerate().find(|(i, _)| !all_finite(layout.slice(*i, values)));
    bad.map(|(_, entry)| entry.name.as_str())
}

/// The graph with every float value as an output, named by its number.
fn with_every_value(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let floats = |(value, node): (Value, &outgrow_ir::Node)| {
        let interesting =
            node.ty.dtype == outgrow_tensor::DType::F32 && !matches!(node.op, Op::Input(_) | Op::Constant(_));
        interesting.then(|| (value.0.to_string(), value))
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
        let culprit = self.first_non_finite(batch);
        let diagnostic = match culprit {
            Ok(Some(culprit)) => diagnostic.item(format!("first at {culprit}")),
            Ok(None) => diagnostic,
            Err(error) => diagnostic.item(format!("the op could not be found: {error}")),
        };
        diagnostic.hint(HINT)
    }

    /// Refuses a state that an update has made infinite or NaN: a checkpoint of it would take the place of a good one.
    pub(crate) fn check_finite(&self) -> Result<(), Diagnostic> {
        let (params, buffers) = layouts(&self.model);
        let names = self.step.update().slot_names();
        let slots = names.iter().zip(&self.state.slots).map(|(name, slot)| (*name, &params, slot));
        let groups = [("parameter", &params, &self.state.params), ("buffer", &buffers, &self.state.buffers)];
        for (kind, layout, values) in groups.into_iter().chain(slots) {
            if let Some(name) = first_bad(layout, values) {
                let problem =
                    format!("after step {}, the {kind} of `{name}` is no longer finite", self.state.step);
                return Err(Diagnostic::new("train.non-finite", problem).item(name.to_owned()).hint(HINT));
            }
        }
        Ok(())
    }

    fn first_non_finite(&mut self, batch: &Batch) -> Result<Option<String>, Diagnostic> {
        let (params, _) = layouts(&self.model);
        if let Some(name) = first_bad(&params, &self.state.params) {
            return Ok(Some(format!("parameter `{name}`, before the step")));
        }
        let bad_input =
            |t: &outgrow_tensor::Tensor| t.as_slice::<f32>().is_ok_and(|v| v.iter().any(|x| !x.is_finite()));
        if batch.inputs.iter().chain(&batch.target).any(bad_input) {
            return Ok(Some("the input data itself".into()));
        }
        let graph = with_every_value(&self.step_graph);
        let shard = self.config.batch / self.config.micro_shards;
        let total: f32 = batch.weight.iter().sum();
        let options = CompileOptions { in_place: Vec::new(), ..self.options.compile.clone() };
        let first = |found: outgrow_ir::Diagnostics| {
            found.0.into_iter().next().unwrap_or_else(|| Diagnostic::fault("train.non-finite", "unknown"))
        };
        let mut program =
            crate::program::ModelProgram::new(&self.model, &graph, |_| true, shard, &CpuBackend, &options)
                .map_err(first)?;
        let mut out = filled(program.outputs.total(), 0.0)?;
        for part in 0..self.config.micro_shards {
            let sample = sample(batch, self.options.seed, self.state.step, part, total, shard);
            program.run(&self.state.params, &self.state.buffers, sample, &mut out, None)?;
            for (i, (_, value)) in graph.outputs.iter().enumerate() {
                if program.outputs.slice(i, &out).iter().any(|x| !x.is_finite()) {
                    let node = graph.node(*value);
                    return Ok(Some(format!("op `{}` of layer `{}`", node.op.rule().name(), node.origin)));
                }
            }
        }
        Ok(None)
    }
}

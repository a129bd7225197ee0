//! The reference backend: the interpreter behind the same trait as every other backend.

use crate::backend::{Backend, Compiled, Executable, Instance, StepInfo, Work, known};
use crate::bindings::Place;
use crate::buffer::{Argument, only_host};
use crate::{Lifetime, MemoryPlan, Weights, plan_memory};
use outgrow_ir::{Diagnostic, Diagnostics, Graph, Op, Output, Value, interpret};
use outgrow_kernels::BufferRef;
use outgrow_tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// Interprets graphs, slowly and obviously.
#[derive(Debug)]
pub struct ReferenceBackend;

#[derive(Debug)]
struct Interpreted(Work);

/// Names and types of inputs or outputs.
pub(crate) type Interface = Vec<(String, outgrow_ir::TensorType)>;

/// Names and types of a graph's inputs, without those that weights are bound to, and of its outputs.
pub(crate) fn interface(graph: &Graph, weights: &Weights) -> (Interface, Interface) {
    let given = graph.inputs.iter().filter(|v| weights.bound(graph, **v).is_none());
    let input = |v: &Value| (graph.input_name(*v).to_owned(), graph.ty(*v).clone());
    let output = |output: &Output| (output.name.clone(), graph.ty(output.value).clone());
    (given.map(input).collect(), graph.outputs.iter().map(output).collect())
}

/// The steps of a graph when every node is one.
pub(crate) fn node_steps(graph: &Graph) -> Vec<StepInfo> {
    let step = |(value, node): (Value, &outgrow_ir::Node)| StepInfo {
        kernel: "interpret".into(),
        ops: node.op.rule().name().into(),
        origin: node.origin.clone(),
        cost: graph.node_cost(value),
        ..StepInfo::default()
    };
    graph.iter().map(step).collect()
}

/// The lifetimes of a graph's values when every node is a step.
pub(crate) fn node_lifetimes(graph: &Graph) -> Vec<Lifetime> {
    let mut last: Vec<usize> = (0..graph.nodes.len()).collect();
    for (value, node) in graph.iter() {
        node.inputs.iter().for_each(|v| last[v.index()] = value.index());
    }
    graph.outputs.iter().for_each(|output| last[output.value.index()] = graph.nodes.len());
    let life = |(value, node): (Value, &outgrow_ir::Node)| Lifetime {
        name: format!("%{} {}", value.0, node.origin),
        bytes: node.ty.unit_bytes(),
        first: value.index(),
        last: last[value.index()],
    };
    graph.iter().filter(|(_, n)| !matches!(n.op, Op::Input(_))).map(life).collect()
}

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn plan(&self, work: &Work) -> Result<MemoryPlan, Diagnostics> {
        Ok(plan_memory(node_lifetimes(&work.graph)))
    }

    fn compile(&self, work: Work) -> Result<Compiled, Diagnostics> {
        let (inputs, outputs) = interface(&work.graph, &work.weights);
        let (memory, steps) = (plan_memory(node_lifetimes(&work.graph)), node_steps(&work.graph));
        let (bindings, graph) = (work.bindings.clone(), work.graph.clone());
        let executable = Arc::new(Interpreted(work));
        let finals = vec![steps.len(); outputs.len()];
        Ok(Compiled { executable, bindings, inputs, outputs, memory, steps, finals, graph })
    }

    fn instance(&self, compiled: &Compiled) -> Result<Box<dyn Instance>, Diagnostic> {
        Ok(Box::new(known::<Interpreted>(compiled)?))
    }
}

impl Executable for Interpreted {}

/// The bytes of a tensor at a place, to be read.
fn read<'a>(arguments: &'a mut [Argument<'_>], place: Place, bytes: usize) -> Option<&'a [u8]> {
    let bytes_of = match arguments.get_mut(place.buffer)?.on_host()? {
        BufferRef::Read(all) => all,
        BufferRef::Write(all) => all,
    };
    bytes_of.get(place.offset..)?.get(..bytes)
}

/// The interpreter keeps nothing between runs.
impl Instance for Arc<Interpreted> {
    fn submit(&mut self, arguments: &mut [Argument<'_>]) -> Result<(), Diagnostic> {
        only_host(arguments)?;
        let Work { graph, bindings, weights, .. } = &self.0;
        let mut tensors = Vec::new();
        let mut places = bindings.inputs.iter();
        let missing = |what: &str, name: &str| {
            Diagnostic::fault(
                "runtime.run",
                format!("the {what} `{name}` is not in the buffers that were given"),
            )
        };
        for input in &graph.inputs {
            if let Some(weight) = weights.bound(graph, *input) {
                tensors.push(weight.tensor().clone());
                continue;
            }
            let (name, ty) = (graph.input_name(*input), graph.ty(*input));
            let bytes = places.next().and_then(|place| read(arguments, *place, ty.unit_bytes()));
            let shape = ty.static_shape().unwrap_or_default();
            let tensor = Tensor::from_le_bytes(ty.dtype, shape, bytes.ok_or_else(|| missing("input", name))?);
            let problem = |e: outgrow_tensor::TensorError| Diagnostic::fault("runtime.input", e.to_string());
            tensors.push(tensor.map_err(|e| problem(e).item(format!("input `{name}`")))?);
        }
        let results = interpret(graph, &tensors)?;
        for ((result, place), Output { name, .. }) in
            results.iter().zip(&bindings.outputs).zip(&graph.outputs)
        {
            let source = result.as_bytes();
            let target = match arguments.get_mut(place.buffer).and_then(Argument::on_host) {
                Some(BufferRef::Write(all)) => {
                    all.get_mut(place.offset..).and_then(|b| b.get_mut(..source.len()))
                }
                _ => None,
            };
            target.ok_or_else(|| missing("output", name))?.copy_from_slice(source);
        }
        Ok(())
    }

    fn submit_part(&mut self, arguments: &mut [Argument<'_>], steps: Range<usize>) -> Result<(), Diagnostic> {
        if steps.end < self.0.graph.nodes.len() { Ok(()) } else { self.submit(arguments) }
    }

    fn wait(&mut self) -> Result<(), Diagnostic> {
        Ok(())
    }
}

//! The reference backend: the interpreter behind the same trait as every other backend.

use crate::backend::{Backend, CompileOptions, Compiled, Executable, Instance, StepInfo, known};
use crate::bindings::{Bindings, Place, size};
use crate::buffer::{Argument, only_host};
use crate::{Lifetime, MemoryPlan, Weights, plan_memory};
use outgrow_ir::{Diagnostic, Diagnostics, Graph, Op, Value, interpret};
use outgrow_kernels::BufferRef;
use outgrow_tensor::Tensor;
use std::sync::Arc;

/// Interprets graphs, slowly and obviously.
#[derive(Debug)]
pub struct ReferenceBackend;

#[derive(Debug)]
struct Interpreted {
    graph: Graph,
    bindings: Bindings,
    weights: Arc<Weights>,
}

/// Names and types of inputs or outputs.
pub(crate) type Interface = Vec<(String, outgrow_ir::TensorType)>;

/// Names and types of a graph's inputs, without those that weights are bound to, and of its outputs.
pub(crate) fn interface(graph: &Graph, weights: &Weights) -> (Interface, Interface) {
    let given = graph.inputs.iter().filter(|v| weights.bound(graph, **v).is_none());
    let input = |v: &Value| (graph.input_name(*v).to_owned(), graph.ty(*v).clone());
    let output = |(name, v): &(String, Value)| (name.clone(), graph.ty(*v).clone());
    (given.map(input).collect(), graph.outputs.iter().map(output).collect())
}

/// The steps of a graph when every node is one.
pub(crate) fn node_steps(graph: &Graph) -> Vec<StepInfo> {
    let step = |(value, node): (Value, &outgrow_ir::Node)| StepInfo {
        kernel: "interpret".into(),
        ops: node.op.rule().name().into(),
        origin: node.origin.clone(),
        cost: graph.node_cost(value),
    };
    graph.iter().map(step).collect()
}

/// The lifetimes of a graph's values when every node is a step.
pub(crate) fn node_lifetimes(graph: &Graph) -> Vec<Lifetime> {
    let mut last: Vec<usize> = (0..graph.nodes.len()).collect();
    for (value, node) in graph.iter() {
        node.inputs.iter().for_each(|v| last[v.index()] = value.index());
    }
    graph.outputs.iter().for_each(|(_, v)| last[v.index()] = graph.nodes.len());
    let life = |(value, node): (Value, &outgrow_ir::Node)| Lifetime {
        name: format!("%{} {}", value.0, node.origin),
        bytes: node.ty.unit_elements() * node.ty.dtype.bytes(),
        first: value.index(),
        last: last[value.index()],
    };
    graph.iter().filter(|(_, n)| !matches!(n.op, Op::Input(_))).map(life).collect()
}

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn plan(&self, graph: &Graph, _: &Bindings, _: &CompileOptions) -> Result<MemoryPlan, Diagnostics> {
        Ok(plan_memory(node_lifetimes(graph)))
    }

    fn compile(
        &self,
        graph: &Graph,
        bindings: Bindings,
        options: &CompileOptions,
    ) -> Result<Compiled, Diagnostics> {
        let (inputs, outputs) = interface(graph, &options.weights);
        let (graph, weights) = (graph.clone(), options.weights.clone());
        let (memory, steps) = (plan_memory(node_lifetimes(&graph)), node_steps(&graph));
        let executable = Arc::new(Interpreted { graph: graph.clone(), bindings: bindings.clone(), weights });
        Ok(Compiled { executable, bindings, inputs, outputs, memory, steps, graph })
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
        let mut tensors = Vec::new();
        let mut places = self.bindings.inputs.iter();
        let missing = |what: &str, name: &str| {
            Diagnostic::fault(
                "runtime.run",
                format!("the {what} `{name}` is not in the buffers that were given"),
            )
        };
        for input in &self.graph.inputs {
            if let Some(weight) = self.weights.bound(&self.graph, *input) {
                tensors.push(weight.tensor().clone());
                continue;
            }
            let (name, ty) = (self.graph.input_name(*input), self.graph.ty(*input));
            let bytes = places.next().and_then(|place| read(arguments, *place, size(ty)));
            let shape = ty.static_shape().unwrap_or_default();
            let tensor = Tensor::from_le_bytes(ty.dtype, shape, bytes.ok_or_else(|| missing("input", name))?);
            let problem = |e: outgrow_tensor::TensorError| Diagnostic::fault("runtime.input", e.to_string());
            tensors.push(tensor.map_err(|e| problem(e).item(format!("input `{name}`")))?);
        }
        let results = interpret(&self.graph, &tensors)?;
        for ((result, place), (name, _)) in
            results.iter().zip(&self.bindings.outputs).zip(&self.graph.outputs)
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

    fn wait(&mut self) -> Result<(), Diagnostic> {
        Ok(())
    }
}

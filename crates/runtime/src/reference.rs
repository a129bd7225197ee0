//! The reference backend: the interpreter behind the same trait as every other backend.

use crate::backend::{Backend, CompileOptions, Compiled, Executable, Instance, StepInfo};
use crate::{BufferRef, Lifetime, MemoryPlan, ThreadPool, Weights, plan_memory};
use outgrow_ir::{Diagnostic, Diagnostics, Graph, Op, Value, interpret};
use outgrow_tensor::Tensor;
use std::sync::Arc;

/// Interprets graphs, slowly and obviously.
#[derive(Debug)]
pub struct ReferenceBackend;

#[derive(Debug)]
struct Interpreted {
    graph: Graph,
    in_place: Vec<(usize, usize)>,
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

    fn plan(&self, graph: &Graph, _: &CompileOptions) -> Result<MemoryPlan, Diagnostics> {
        Ok(plan_memory(node_lifetimes(graph)))
    }

    fn compile(&self, graph: Graph, options: &CompileOptions) -> Result<Compiled, Diagnostics> {
        let (inputs, outputs) = interface(&graph, &options.weights);
        let (in_place, weights) = (options.in_place.clone(), options.weights.clone());
        let executable = Arc::new(Interpreted { graph: graph.clone(), in_place, weights });
        let (memory, steps) = (plan_memory(node_lifetimes(&graph)), node_steps(&graph));
        Ok(Compiled { executable, pool: options.pool.clone(), inputs, outputs, memory, steps, graph })
    }
}

impl Executable for Interpreted {
    fn instance(self: Arc<Self>, _: &Arc<ThreadPool>) -> Result<Box<dyn Instance>, Diagnostic> {
        Ok(Box::new(self))
    }
}

/// The interpreter keeps nothing between runs.
impl Instance for Arc<Interpreted> {
    fn run(&mut self, buffers: &mut [BufferRef<'_>]) -> Result<(), Diagnostic> {
        let bytes = |buffer: &BufferRef<'_>| match buffer {
            BufferRef::Read(b) => b.to_vec(),
            BufferRef::Write(b) => b.to_vec(),
        };
        let (mut tensors, mut places) = (Vec::new(), Vec::new());
        let mut next = 0;
        for input in &self.graph.inputs {
            places.push(next);
            if let Some(weight) = self.weights.bound(&self.graph, *input) {
                tensors.push(weight.tensor().clone());
                continue;
            }
            let (name, ty) = (self.graph.input_name(*input), self.graph.ty(*input));
            let shape = ty.static_shape().unwrap_or_default();
            let given = buffers.get(next).map(bytes).unwrap_or_default();
            next += 1;
            let tensor = Tensor::from_le_bytes(ty.dtype, shape, &given);
            let problem = |e: outgrow_tensor::TensorError| Diagnostic::fault("runtime.input", e.to_string());
            tensors.push(tensor.map_err(|e| problem(e).item(format!("input `{name}`")))?);
        }
        let results = interpret(&self.graph, &tensors)?;
        for (i, result) in results.iter().enumerate() {
            let place =
                self.in_place.iter().find(|(_, output)| *output == i).map(|(input, _)| places[*input]);
            let place = place.unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            let source = result.as_bytes();
            match buffers.get_mut(place) {
                Some(BufferRef::Write(target)) if target.len() == source.len() => {
                    target.copy_from_slice(source)
                }
                _ => {
                    let problem = format!("output {i} needs a buffer of {} bytes for writing", source.len());
                    return Err(Diagnostic::fault("runtime.output", problem));
                }
            }
        }
        Ok(())
    }
}

//! The reference backend: the interpreter behind the same trait as every other backend.

use crate::backend::{Backend, CompileOptions, Compiled, Executable, StepInfo};
use crate::{BufferRef, Lifetime, MemoryPlan, plan_memory};
use outgrow_ir::{Diagnostic, Diagnostics, Graph, Op, Value, interpret};
use outgrow_tensor::Tensor;

/// Interprets graphs, slowly and obviously.
#[derive(Debug)]
pub struct ReferenceBackend;

#[derive(Debug)]
struct Interpreted {
    graph: Graph,
    in_place: Vec<(usize, usize)>,
}

/// Names and types of a graph's inputs and outputs.
pub(crate) type Interface = Vec<(String, outgrow_ir::TensorType)>;

pub(crate) fn interface(graph: &Graph) -> (Interface, Interface) {
    let input = |v: &Value| match &graph.node(*v).op {
        Op::Input(input) => (input.name.clone(), graph.ty(*v).clone()),
        _ => unreachable!("the verifier checks that inputs are inputs"),
    };
    let output = |(name, v): &(String, Value)| (name.clone(), graph.ty(*v).clone());
    (graph.inputs.iter().map(input).collect(), graph.outputs.iter().map(output).collect())
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
        let (inputs, outputs) = interface(&graph);
        let executable = Box::new(Interpreted { graph: graph.clone(), in_place: options.in_place.clone() });
        let (memory, steps) = (plan_memory(node_lifetimes(&graph)), node_steps(&graph));
        Ok(Compiled { executable, inputs, outputs, memory, steps, graph })
    }
}

impl Executable for Interpreted {
    fn run(&mut self, buffers: &mut [BufferRef<'_>]) -> Result<(), Diagnostic> {
        let (inputs, _) = interface(&self.graph);
        let bytes = |buffer: &BufferRef<'_>| match buffer {
            BufferRef::Read(b) => b.to_vec(),
            BufferRef::Write(b) => b.to_vec(),
        };
        let mut tensors = Vec::new();
        for ((name, ty), buffer) in inputs.iter().zip(buffers.iter()) {
            let shape = ty.static_shape().unwrap_or_default();
            let tensor = Tensor::from_le_bytes(ty.dtype, shape, &bytes(buffer));
            let problem = |e: outgrow_tensor::TensorError| Diagnostic::fault("runtime.input", e.to_string());
            tensors.push(tensor.map_err(|e| problem(e).item(format!("input `{name}`")))?);
        }
        let results = interpret(&self.graph, &tensors)?;
        let mut next = inputs.len();
        for (i, result) in results.iter().enumerate() {
            let place = self.in_place.iter().find(|(_, output)| *output == i).map(|(input, _)| *input);
            let place = place.unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            let source = result.to_le_bytes();
            match buffers.get_mut(place) {
                Some(BufferRef::Write(target)) if target.len() == source.len() => {
                    target.copy_from_slice(&source)
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

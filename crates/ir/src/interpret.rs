//! The reference interpreter: every node in order, each by its op's own slow and obvious evaluation.

use crate::{Diagnostic, Graph, Op};
use outgrow_tensor::Tensor;

/// Evaluates a graph with static shapes on `inputs`, in the graph's order; gives the outputs in theirs.
pub fn interpret(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
    let values = evaluate_all(graph, inputs)?;
    Ok(graph.outputs.iter().map(|output| values[output.value.index()].clone()).collect())
}

/// Evaluates a graph with static shapes on `inputs` and gives the value of every node.
pub fn evaluate_all(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
    if inputs.len() != graph.inputs.len() {
        let problem =
            format!("graph `{}` takes {} inputs, got {}", graph.name, graph.inputs.len(), inputs.len());
        return Err(Diagnostic::new("graph.inputs", problem)
            .expected("a tensor for each input, in the graph's order"));
    }
    let mut given = inputs.iter();
    let mut values: Vec<Tensor> = Vec::with_capacity(graph.nodes.len());
    for (value, node) in graph.iter() {
        let item = || format!("%{} ({})", value.0, node.op.rule().name());
        let Some(shape) = node.ty.static_shape() else {
            let problem = format!("{} has symbols, which must be bound before a graph is evaluated", node.ty);
            return Err(Diagnostic::new("graph.symbolic", problem)
                .item(item())
                .hint("bind it with `Graph::bind`"));
        };
        let result = match (&node.op, given.as_slice().first()) {
            (Op::Input(input), Some(tensor)) => {
                if tensor.dtype() != node.ty.dtype || *tensor.shape() != shape {
                    let problem = format!("got {}{}", tensor.dtype(), tensor.shape());
                    let diagnostic =
                        Diagnostic::new("graph.inputs", problem).item(format!("input `{}`", input.name));
                    return Err(diagnostic.expected(node.ty.to_string()));
                }
                given.next();
                tensor.clone()
            }
            _ => {
                let args: Vec<_> = node.inputs.iter().map(|v| &values[v.index()]).collect();
                node.op.rule().eval(&args, node.ty.dtype, &shape)
            }
        };
        values.push(result);
    }
    Ok(values)
}

//! The text form of graphs: whatever parses verifies, prints, and parses back to the very same graph. A small one is
//! also evaluated: what the verifier accepts, the interpreter can run.

use outgrow_ir::{Graph, Op, Output, interpret};
use outgrow_tensor::Tensor;

/// Elements and operations up to which a graph is evaluated.
const SMALL: u64 = 20_000;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let graph = match Graph::parse(text) {
        Ok(graph) => graph,
        Err(found) => {
            assert!(!found.0.is_empty() && !found.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    graph.verify().expect("what parses verifies");
    let printed = graph.to_string();
    let back = Graph::parse(&printed).unwrap_or_else(|found| panic!("{found}\n{printed}"));
    assert_eq!(back, graph, "{printed}");
    assert_eq!(back.to_string(), printed);
    evaluate(&graph.bind(2));
}

/// Whether a graph with static shapes can be evaluated within the limit.
pub fn is_small(graph: &Graph) -> bool {
    let elements: u64 =
        graph.nodes.iter().fold(0, |n, node| n.saturating_add(node.ty.unit_elements() as u64));
    elements.saturating_add(graph.cost().flops) <= SMALL
}

/// Inputs for a graph with static shapes: small whole numbers that tell elements apart.
pub fn inputs(graph: &Graph) -> Vec<Tensor> {
    let input = |value: &outgrow_ir::Value| {
        let ty = graph.ty(*value);
        let shape = ty.static_shape().expect("the batch size is bound");
        Tensor::from_i64(ty.dtype, shape, |i| (i as i64 * 7 + i64::from(value.0)) % 5 - 1)
    };
    graph.inputs.iter().map(input).collect()
}

fn evaluate(graph: &Graph) {
    // Bound to a batch size, a type may have become too large.
    if graph.verify().is_err() || !is_small(graph) {
        return;
    }
    let outputs = interpret(graph, &inputs(graph)).expect("what verifies can be evaluated");
    for (Output { name, value, .. }, tensor) in graph.outputs.iter().zip(&outputs) {
        let ty = graph.ty(*value);
        assert_eq!((tensor.dtype(), Some(tensor.shape().clone())), (ty.dtype, ty.static_shape()), "{name}");
    }
    assert!(graph.inputs.iter().all(|value| matches!(graph.node(*value).op, Op::Input(_))));
}

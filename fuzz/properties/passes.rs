//! Gradient and passes on any graph: what comes out verifies, and computes the same. The bytes are a program for
//! building a graph.

use outgrow_ir::{Graph, Output, OutputRole, evaluate_all};
use outgrow_passes::{add_gradients, prepare};
use outgrow_tensor::Tensor;

#[path = "graph.rs"]
#[allow(dead_code)]
mod graph;
#[path = "program.rs"]
mod program;

pub fn check(data: &[u8]) {
    let graph = program::graph(data);
    graph.verify().unwrap_or_else(|found| panic!("what was built verifies: {found}\n{graph}"));
    graph::check(graph.to_string().as_bytes());
    agree(&graph);
    if graph.output_of(&OutputRole::Loss).is_some() {
        let gradients = add_gradients(&graph).unwrap_or_else(|found| panic!("{found}\n{graph}"));
        gradients.verify().unwrap_or_else(|found| panic!("gradients verify: {found}\n{gradients}"));
        agree(&gradients);
    }
}

/// Prepares the graph for a backend and compares what it computes before and after.
fn agree(graph: &Graph) {
    let bound = graph.bind(2);
    if bound.verify().is_err() || !graph::is_small(&bound) {
        return;
    }
    let prepared = prepare().run(&bound).unwrap_or_else(|found| panic!("{found}\n{bound}"));
    let inputs = graph::inputs(&bound);
    let run = |graph: &Graph| evaluate_all(graph, &inputs).expect("what verifies can be evaluated");
    let (before, after) = (run(&bound), run(&prepared));
    // Simplification may change the sign of a zero, which tells in what is divided by it.
    if before.iter().any(|tensor| (0..tensor.elements()).any(|i| !tensor.get_f64(i).is_finite())) {
        return;
    }
    let pairs = bound.outputs.iter().zip(&prepared.outputs);
    for (Output { name, value: x, .. }, Output { value: y, .. }) in pairs {
        let (x, y) = (before[x.index()].clone(), after[y.index()].clone());
        assert_eq!((x.dtype(), x.shape()), (y.dtype(), y.shape()), "{name}");
        if let Some(i) = (0..x.elements()).find(|i| !close(&x, &y, *i)) {
            panic!("`{name}`[{i}] is {} before, {} after\n{bound}\n{prepared}", x.get_f64(i), y.get_f64(i));
        }
    }
}

fn close(x: &Tensor, y: &Tensor, i: usize) -> bool {
    let (a, b) = (x.get_f64(i), y.get_f64(i));
    if x.dtype().is_float() { (a - b).abs() <= 1e-9 * (1.0 + a.abs()) } else { x.get_i64(i) == y.get_i64(i) }
}

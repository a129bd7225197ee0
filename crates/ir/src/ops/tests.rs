//! The table-driven test of every registered op: its derivative against central differences in f64, and its text
//! form printed and parsed back.

use super::*;
use crate::{Graph, interpret};
use outgrow_tensor::RngKey;

/// A graph of `sum(op(inputs) * weights)` and the gradients by every float input.
fn gradient_graph(sample: &Sample) -> Graph {
    let mut b = Builder::extend(Graph { outputs: Vec::new(), ..sample.graph().unwrap() });
    let inputs = b.graph().inputs.clone();
    let y = Value(b.graph().nodes.len() as u32 - 1);
    let weights = SampleInput { dtype: b.dtype(y), ..SampleInput::float(&b.ty(y).static_shape().unwrap()) };
    let weights = b.constant(weights.values(RngKey::new(99)));
    let product = b.mul(y, weights);
    let sum = b.sum_all(product);
    b.output("sum", sum);
    let op = b.graph().node(y).op.clone();
    let grads = op.rule().vjp(&mut Vjp { b: &mut b, inputs: &inputs, output: y, grad: weights });
    for (i, grad) in grads.into_iter().enumerate() {
        let Some(grad) = grad else { continue };
        assert_eq!(b.ty(grad), b.ty(inputs[i]), "{:?}: the gradient has the type of input {i}", sample.op);
        b.output(&i.to_string(), grad);
    }
    b.finish().unwrap()
}

fn check_derivative(sample: &Sample, case: u64) {
    let graph = gradient_graph(sample);
    graph.verify().unwrap();
    let inputs = sample.values(RngKey::new(1).fold_in(case));
    let outputs = interpret(&graph, &inputs).unwrap();
    let sum = |inputs: &[Tensor]| interpret(&graph, inputs).unwrap()[0].get_f64(0);
    for (i, input) in sample.inputs.iter().enumerate().filter(|(_, input)| input.dtype.is_float()) {
        let place = graph.outputs.iter().position(|o| o.name == i.to_string());
        for j in 0..inputs[i].elements().min(40) {
            let step = 1e-6;
            let moved = |by: f64| {
                let mut moved = inputs.clone();
                moved[i].as_mut_slice::<f64>().unwrap()[j] += by;
                sum(&moved)
            };
            let expected = (moved(step) - moved(-step)) / (2.0 * step);
            let got = place.map_or(0.0, |p| outputs[p].get_f64(j));
            let close = (got - expected).abs() <= 1e-6 * (1.0 + expected.abs() + got.abs()) * 10.0;
            assert!(
                close,
                "{:?} on {input:?}: d/dx{i}[{j}] is {got}, differences give {expected}",
                sample.op
            );
        }
    }
}

#[test]
fn every_derivative_agrees_with_central_differences() {
    let mut checked = std::collections::BTreeSet::new();
    let mut others = std::collections::BTreeSet::new();
    for (case, sample) in Op::all_samples().into_iter().enumerate() {
        // These have no derivative by design: the first stops gradients, the next are the end of the line, the last
        // makes random numbers of f32 alone.
        let last = matches!(sample.op, Op::MaxPool2dGrad(_) | Op::AttentionGrad(_));
        if last || matches!(sample.op, Op::StopGradient(_) | Op::RandomUniform(_)) {
            continue;
        }
        let sample = sample.with_floats(DType::F64);
        let graph = sample.graph().unwrap_or_else(|e| panic!("{:?} does not take f64: {e}", sample.op));
        let name = sample.op.rule().name();
        if graph.ty(graph.outputs[0].value).dtype == DType::F64 {
            check_derivative(&sample, case as u64);
            checked.insert(name);
        } else {
            others.insert(name);
        }
    }
    // What has no sample whose result is a float has no derivative.
    let never: Vec<_> = others.difference(&checked).copied().collect();
    assert_eq!(never, ["and", "arg_max", "compare", "iota", "not", "or"]);
    assert_eq!(checked.len() + never.len() + 5, Op::NAMES.len(), "but for `input` and the four above");
}

/// Sums of bf16 in f32 have gradients of bf16, which are those of the same sums in f64 but for the rounding of the
/// incoming gradient and of the result.
#[test]
fn wider_sums_have_the_gradients_of_their_operands() {
    let mut checked = std::collections::BTreeSet::new();
    for (case, sample) in Op::all_samples().into_iter().enumerate() {
        let graph = sample.graph().unwrap();
        let narrow = sample.inputs.iter().all(|i| i.dtype == DType::BF16) && !sample.inputs.is_empty();
        let widens = narrow && graph.ty(graph.outputs[0].value).dtype == DType::F32;
        if !widens || matches!(sample.op, Op::Cast(_)) {
            continue;
        }
        let inputs = sample.values(RngKey::new(3).fold_in(case as u64));
        let exact: Vec<_> = inputs
            .iter()
            .map(|x| Tensor::from_f64(DType::F64, x.shape().clone(), |i| x.get_f64(i)))
            .collect();
        let got = interpret(&gradient_graph(&sample), &inputs).unwrap();
        let expected = interpret(&gradient_graph(&sample.clone().with_floats(DType::F64)), &exact).unwrap();
        for (got, expected) in got.iter().zip(&expected).skip(1) {
            let largest = (0..expected.elements()).map(|i| expected.get_f64(i).abs()).fold(0.0, f64::max);
            for i in 0..expected.elements() {
                let (got, expected) = (got.get_f64(i), expected.get_f64(i));
                assert!((got - expected).abs() <= 0.01 * largest, "{:?}: {got}, not {expected}", sample.op);
            }
        }
        checked.insert(sample.op.rule().name());
    }
    assert_eq!(Vec::from_iter(checked), ["conv2d", "conv2d_grad_input", "conv2d_grad_weight", "dot"]);
}

#[test]
fn every_op_prints_and_parses_back() {
    let mut seen = std::collections::HashSet::new();
    for sample in Op::all_samples() {
        let graph = sample.graph().unwrap_or_else(|e| panic!("{:?}: {e}", sample.op));
        graph.verify().unwrap();
        let text = graph.to_string();
        let back = Graph::parse(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
        assert_eq!(graph, back, "{text}");
        assert_eq!(text, back.to_string());
        seen.insert(sample.op.rule().name());
    }
    let missing: Vec<_> = Op::NAMES.iter().filter(|n| **n != "input" && !seen.contains(*n)).collect();
    assert!(missing.is_empty(), "ops without samples: {missing:?}");
}

#[test]
fn every_reference_result_has_the_inferred_type() {
    for (case, sample) in Op::all_samples().into_iter().enumerate() {
        let graph = sample.graph().unwrap();
        let result = interpret(&graph, &sample.values(RngKey::new(case as u64))).unwrap().remove(0);
        let ty = graph.ty(graph.outputs[0].value);
        assert_eq!(
            (result.dtype(), Some(result.shape().clone())),
            (ty.dtype, ty.static_shape()),
            "{:?}",
            sample.op
        );
    }
}

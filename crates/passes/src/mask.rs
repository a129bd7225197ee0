//! Masks of maxima: which operand a maximum came from is seen by the maximum too. Where its operand is a product or a
//! convolution with a bias that nobody else needs, that is forgotten then, and the maximum is computed with it, in one kernel
//! (bias and ReLU of a layer); its gradient reads what the next layer reads anyway.

use crate::Pass;
use crate::fuse::is_map;
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Diagnostics, Graph, Op, Rewriter, Value};
use std::collections::HashMap;

/// Reads masks off maxima.
#[derive(Debug)]
pub struct Masks;

impl Pass for Masks {
    fn name(&self) -> &'static str {
        "masks"
    }

    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        let mut users = vec![0usize; graph.nodes.len()];
        let mut maxima: HashMap<&[Value], Value> = HashMap::new();
        for (value, node) in graph.iter() {
            node.inputs.iter().for_each(|input| users[input.index()] += 1);
            if matches!(node.op, Op::Max(_)) {
                maxima.entry(&node.inputs).or_insert(value);
            }
        }
        graph.outputs.iter().for_each(|output| users[output.value.index()] += 1);
        let mut rewriter = Rewriter::new(graph);
        for (old, node) in graph.iter() {
            let ge = matches!(&node.op, Op::Compare(compare) if compare.is == Comparison::Ge);
            // As large as the other operand is what is as large as the maximum of both, also for what is NaN.
            let maximum = maxima.get(&*node.inputs).filter(|max| ge && max.index() < old.index());
            match maximum.filter(|_| is_for_these(graph, &users, node.inputs[1], 2)) {
                Some(max) => {
                    let (first, max) = (rewriter.new_value(node.inputs[0]), rewriter.new_value(*max));
                    let b = &mut rewriter.b;
                    let new = b.with_origin(node.origin.clone(), |b| b.compare(Comparison::Ge, first, max));
                    rewriter.replace(old, new);
                }
                None => drop(rewriter.keep(old)),
            }
        }
        rewriter.finish()
    }
}

/// Whether a value is computed element by element from the result of one product or convolution, and all that is for
/// nobody but its `readers` readers.
fn is_for_these(graph: &Graph, users: &[usize], value: Value, readers: usize) -> bool {
    let node = graph.node(value);
    if users[value.index()] != readers {
        return false;
    }
    if matches!(node.op, Op::Dot(_) | Op::Conv2d(_)) {
        return true;
    }
    if !is_map(graph, value.index()) {
        return false;
    }
    // What else it is computed from is smaller, and given again and again.
    let repeated = |v: &Value| matches!(graph.node(*v).op, Op::Broadcast(_) | Op::Constant(_));
    let mut whole = node.inputs.iter().filter(|v| !repeated(v));
    match (whole.next(), whole.next()) {
        (Some(one), None) => is_for_these(graph, users, *one, 1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeadCode, add_gradients, prepare, units};
    use outgrow_ir::{Builder, Dim, InputRole, OutputRole, TensorType, interpret};
    use outgrow_tensor::{DType, Tensor};

    /// A layer with its gradients; with `others`, what it is before ReLU has one more reader.
    fn layer(others: bool) -> Graph {
        let mut b = Builder::new("layer");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [8, 6]));
        let (w, bias) = (b.param("w", DType::F32, &[6, 5]), b.param("bias", DType::F32, &[5]));
        let h = b.matmul(x, w);
        let bias = b.broadcast(bias, &[Dim::Fixed(8), Dim::Fixed(5)], &[1]);
        let h = b.add(h, bias);
        let y = b.relu(h);
        let square = b.mul(y, y);
        let mut loss = b.sum_all(square);
        if others {
            let more = b.sum_all(h);
            loss = b.add(loss, more);
        }
        b.output_as("loss", OutputRole::Loss, loss);
        DeadCode.run(&add_gradients(&b.finish().unwrap()).unwrap()).unwrap()
    }

    /// Whether a mask is made of a maximum.
    fn of_maximum(graph: &Graph) -> bool {
        let compares = graph.nodes.iter().filter(|node| matches!(node.op, Op::Compare(_)));
        compares.flat_map(|node| &node.inputs).any(|v| matches!(graph.node(*v).op, Op::Max(_)))
    }

    #[test]
    fn a_layer_forgets_what_relu_is_of() {
        let graph = layer(false);
        let masked = Masks.run(&graph).unwrap();
        masked.verify().unwrap();
        assert!(of_maximum(&masked) && !of_maximum(&graph));
        for odd in [f64::NAN, f64::INFINITY, -0.0, 0.0, 2.0] {
            let tensor = |i: usize| {
                let dims: Vec<usize> = graph.ty(graph.inputs[i]).dims.iter().map(|dim| dim.unit()).collect();
                Tensor::from_f64(DType::F32, dims, |at| {
                    if at == 3 { odd } else { (at * 5 % 11) as f64 / 4.0 - 1.2 }
                })
            };
            let inputs: Vec<Tensor> = (0..graph.inputs.len()).map(tensor).collect();
            let bits = |graph: &Graph| -> Vec<Vec<u8>> {
                interpret(graph, &inputs).unwrap().iter().map(|tensor| tensor.as_bytes().to_vec()).collect()
            };
            assert_eq!(bits(&masked), bits(&graph), "{odd}");
        }
    }

    #[test]
    fn what_others_read_is_read() {
        assert!(!of_maximum(&Masks.run(&layer(true)).unwrap()));
    }

    /// Nothing but the maximum is in memory between the layer and its gradient.
    #[test]
    fn the_sum_with_the_bias_is_computed_once() {
        let graph = prepare().run(&layer(false)).unwrap();
        let with_bias = |unit: &Vec<Value>| unit.iter().any(|v| matches!(graph.node(*v).op, Op::Add(_)));
        assert_eq!(units(&graph).iter().filter(|unit| with_bias(unit)).count(), 1);
    }
}

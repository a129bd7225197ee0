//! Mixed precision: the products of a graph get bf16 operands, and everything else stays as it is.
//!
//! Products (`dot` and the convolutions with their gradients) are nearly all of the arithmetic, and processors compute
//! them in bf16 at two to sixteen times the rate. Their sums are f32, as are parameters, normalisation, attention, losses
//! and the optimiser ("Mixed Precision Training", Micikevicius et al. 2018; Kalamkar et al. 2019, "A Study of BFLOAT16
//! for Deep Learning Training"). bf16 has the range of f32, so that gradients do not vanish in it and losses need not
//! be scaled.

use outgrow_ir::ops::conv2d::Conv2d;
use outgrow_ir::ops::conv2d_grad_input::Conv2dGradInput;
use outgrow_ir::ops::conv2d_grad_weight::Conv2dGradWeight;
use outgrow_ir::ops::dot::Dot;
use outgrow_ir::{Diagnostics, Graph, Op, Rewriter, Value};
use outgrow_tensor::DType;
use std::collections::HashMap;

/// The graph with the operands of its f32 products rounded to bf16 (to nearest, ties to even); sums stay f32. To be
/// applied to a graph that has its gradients: they are then products of rounded operands as well, with unrounded sums.
///
/// # Errors
/// None for a graph that verifies.
pub fn narrow_products(graph: &Graph) -> Result<Graph, Diagnostics> {
    let mut rewriter = Rewriter::new(graph);
    let mut narrowed = HashMap::new();
    for (old, node) in graph.iter() {
        let f32_operands = node.inputs.iter().all(|v| graph.ty(*v).dtype == DType::F32);
        let Some(op) = with_wide_sums(&node.op).filter(|_| f32_operands) else {
            rewriter.keep(old);
            continue;
        };
        let inputs: Vec<Value> =
            node.inputs.iter().map(|v| narrow(graph, &mut rewriter, &mut narrowed, *v)).collect();
        let new = rewriter.b.with_origin(node.origin.clone(), |b| b.push(op, &inputs));
        rewriter.replace(old, new);
    }
    rewriter.finish()
}

/// The same product with bf16 operands and f32 sums, if it is one.
fn with_wide_sums(op: &Op) -> Option<Op> {
    let result = Some(DType::F32);
    let wide = |conv: &Conv2d| Conv2d { result, ..conv.clone() };
    Some(match op {
        Op::Dot(dot) => Dot { result, ..dot.clone() }.into(),
        Op::Conv2d(conv) => wide(conv).into(),
        Op::Conv2dGradInput(op) => Conv2dGradInput { conv: wide(&op.conv), ..op.clone() }.into(),
        Op::Conv2dGradWeight(op) => Conv2dGradWeight { conv: wide(&op.conv), ..op.clone() }.into(),
        _ => return None,
    })
}

/// An old value in bf16, which all products share. What only arranges elements anew arranges rounded ones, so that the
/// products go on reading where these lie.
fn narrow(
    graph: &Graph,
    rewriter: &mut Rewriter<'_>,
    narrowed: &mut HashMap<Value, Value>,
    old: Value,
) -> Value {
    // The chain of arrangements down to what is computed, or to what was rounded before.
    let mut chain = Vec::new();
    let mut at = old;
    while !narrowed.contains_key(&at)
        && matches!(graph.node(at).op, Op::Transpose(_) | Op::Reshape(_) | Op::Broadcast(_))
    {
        chain.push(at);
        at = graph.node(at).inputs[0];
    }
    let mut new = match narrowed.get(&at) {
        Some(new) => *new,
        None => {
            let wide = rewriter.new_value(at);
            let origin = graph.node(at).origin.clone();
            let new = rewriter.b.with_origin(origin, |b| b.cast(wide, DType::BF16));
            narrowed.insert(at, new);
            new
        }
    };
    for at in chain.into_iter().rev() {
        let node = graph.node(at);
        new = rewriter.b.with_origin(node.origin.clone(), |b| b.push(node.op.clone(), &[new]));
        narrowed.insert(at, new);
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeadCode, Pass, add_gradients};
    use outgrow_ir::ops::Window;
    use outgrow_ir::{Builder, InputRole, OutputRole, TensorType, interpret};
    use outgrow_tensor::{RngKey, Tensor};

    /// A convolution and a product with a transposed operand that two products share.
    fn graph() -> Graph {
        let mut b = Builder::new("net");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [3usize, 2, 6, 6]));
        let kernel = b.param("kernel", DType::F32, &[4, 2, 3, 3]);
        let weight = b.param("weight", DType::F32, &[64, 16]);
        let y = b.conv2d(x, kernel, Window::new(1, 0), 1);
        let y = b.tanh(y);
        let y = b.reshape(y, &[3usize.into(), 64usize.into()]);
        let h = b.matmul(y, weight);
        let back = b.transpose(weight, &[1, 0]);
        let y = b.matmul(h, back);
        let square = b.mul(y, y);
        let loss = b.sum_all(square);
        b.output_as("loss", OutputRole::Loss, loss);
        add_gradients(&b.finish().unwrap()).unwrap()
    }

    fn rounded(tensor: &Tensor) -> Tensor {
        Tensor::from_f64(DType::F32, tensor.shape().clone(), |i| {
            Tensor::from_f64(DType::BF16, [1usize], |_| tensor.get_f64(i)).get_f64(0)
        })
    }

    #[test]
    fn operands_are_bf16_once_each_and_results_keep_their_types() {
        let graph = graph();
        let narrow = narrow_products(&DeadCode.run(&graph).unwrap()).unwrap();
        narrow.verify().unwrap();
        let mut products = 0;
        for (value, node) in narrow.iter() {
            if with_wide_sums(&node.op).is_some() {
                products += 1;
                assert_eq!(narrow.ty(value).dtype, DType::F32);
                assert!(node.inputs.iter().all(|v| narrow.ty(*v).dtype == DType::BF16), "{narrow}");
            }
        }
        // Each with its gradients by both operands, but for that of the convolution by the data.
        assert_eq!(products, 8);
        let casts: Vec<_> = narrow.iter().filter(|(_, n)| matches!(n.op, Op::Cast(_))).collect();
        let mut sources: Vec<_> = casts.iter().map(|(_, n)| n.inputs[0]).collect();
        let all = sources.len();
        sources.dedup();
        // x, the kernel, the weight, tanh's result, h, and the gradients of the three products' results.
        assert_eq!((all, sources.len()), (8, 8), "{narrow}");
        for (before, after) in graph.outputs.iter().zip(&narrow.outputs) {
            assert_eq!(graph.ty(before.value), narrow.ty(after.value));
        }
    }

    /// With operands that bf16 holds, the first product is the same; what follows differs by roundings of 2^-9 each.
    #[test]
    fn results_differ_by_roundings_of_the_operands() {
        let graph = graph();
        let mut random = RngKey::new(3).stream();
        let mut draw = |dims: &[usize]| {
            rounded(&Tensor::from_f64(DType::F32, dims.to_vec(), |_| random.uniform() - 0.5))
        };
        let inputs = [draw(&[3, 2, 6, 6]), draw(&[4, 2, 3, 3]), draw(&[64, 16])];
        let exact = interpret(&graph, &inputs).unwrap();
        let narrow = interpret(&narrow_products(&graph).unwrap(), &inputs).unwrap();
        let mut different = false;
        for (exact, narrow) in exact.iter().zip(&narrow) {
            let size = (0..exact.elements()).map(|i| exact.get_f64(i).abs()).fold(0.0, f64::max);
            for i in 0..exact.elements() {
                let error = (exact.get_f64(i) - narrow.get_f64(i)).abs() / size;
                assert!(error < 0.02, "{error}");
                different |= error > 0.0;
            }
        }
        assert!(different, "nothing was rounded");
    }
}

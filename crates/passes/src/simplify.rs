//! Simplification: constants are computed, identities removed, structure ops merged, and equal expressions shared.
//! Every rule keeps the value of each element (up to the sign of a zero).

use crate::Pass;
use outgrow_ir::ops::broadcast::Broadcast;
use outgrow_ir::ops::dot::Dot;
use outgrow_ir::ops::transpose::Transpose;
use outgrow_ir::{Builder, Diagnostics, Dim, Graph, Op, Rewriter, TensorType, Value};
use std::collections::HashMap;

/// Constants, identities, structure, common subexpressions.
#[derive(Debug)]
pub struct Simplify;

/// A computed constant may have at most this many elements, so that the graph does not grow.
const FOLD_ELEMENTS: usize = 1024;
/// It may take at most this many operations: a window over padding can be far larger than what lies under it.
const FOLD_FLOPS: u64 = 1 << 22;

/// The values of expressions.
type Known = HashMap<(Op, Vec<Value>), Value>;

impl Pass for Simplify {
    fn name(&self) -> &'static str {
        "simplify"
    }

    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        let mut rewriter = Rewriter::new(graph);
        let mut known = Known::new();
        for (old, node) in graph.iter() {
            let inputs = rewriter.new_inputs(node);
            let simpler = rewriter.b.with_origin(node.origin.clone(), |b| {
                let folded = fold(b, &node.op, &inputs, &node.ty);
                folded
                    .or_else(|| identity(b, &node.op, &inputs))
                    .or_else(|| structure(b, &node.op, &inputs, &node.ty))
                    .or_else(|| sign(b, &node.op, &inputs, &mut known))
                    .or_else(|| neighbours(b, &node.op, &inputs))
            });
            if let Some(new) = simpler {
                rewriter.replace(old, new);
                continue;
            }
            let key = (node.op.clone(), inputs);
            match known.get(&key) {
                Some(new) => rewriter.share(old, *new),
                None => {
                    let new = rewriter.keep(old);
                    if !matches!(node.op, Op::Input(_)) {
                        known.insert(key, new);
                    }
                }
            }
        }
        rewriter.finish()
    }
}

/// The one number that every element of a value is, if it is such a constant.
pub fn splat(graph: &Graph, value: Value) -> Option<f64> {
    match &graph.node(value).op {
        Op::Constant(c) => c.splat(),
        Op::Broadcast(_) => splat(graph, graph.node(value).inputs[0]),
        _ => None,
    }
}

/// Computes small results of constants.
fn fold(b: &mut Builder, op: &Op, inputs: &[Value], ty: &TensorType) -> Option<Value> {
    let shape = ty.static_shape().filter(|s| s.elements() <= FOLD_ELEMENTS)?;
    // A repeated constant stays a repetition: it is cheaper to read.
    let kept =
        matches!(op, Op::Constant(_) | Op::Input(_) | Op::Broadcast(_) | Op::Iota(_) | Op::RandomUniform(_));
    if kept || inputs.is_empty() {
        return None;
    }
    let constant = |v: &Value| match &b.graph().node(*v).op {
        Op::Constant(c) => Some(c.0.clone()),
        _ => None,
    };
    let constants = inputs.iter().map(constant).collect::<Option<Vec<_>>>()?;
    let types: Vec<_> = inputs.iter().map(|v| b.ty(*v)).collect();
    if op.rule().cost(&types, ty).flops > FOLD_FLOPS {
        return None;
    }
    let args: Vec<_> = constants.iter().map(|c| &**c).collect();
    Some(b.constant(op.rule().eval(&args, ty.dtype, &shape)))
}

/// `x + 0`, `x * 1` and the like.
fn identity(b: &mut Builder, op: &Op, inputs: &[Value]) -> Option<Value> {
    let is = |i: usize, n: f64| splat(b.graph(), inputs[i]) == Some(n);
    match op {
        Op::Add(_) if is(1, 0.0) => Some(inputs[0]),
        Op::Add(_) if is(0, 0.0) => Some(inputs[1]),
        Op::Sub(_) if is(1, 0.0) => Some(inputs[0]),
        Op::Mul(_) | Op::Div(_) | Op::Pow(_) if is(1, 1.0) => Some(inputs[0]),
        Op::Mul(_) if is(0, 1.0) => Some(inputs[1]),
        Op::StopGradient(_) => Some(inputs[0]),
        Op::Cast(cast) if b.dtype(inputs[0]) == cast.dtype => Some(inputs[0]),
        Op::Pow(_) if is(1, 2.0) => Some(b.mul(inputs[0], inputs[0])),
        Op::Max(_) | Op::Min(_) | Op::And(_) | Op::Or(_) if inputs[0] == inputs[1] => Some(inputs[0]),
        Op::Select(_) if inputs[1] == inputs[2] => Some(inputs[1]),
        Op::Select(_) => splat(b.graph(), inputs[0]).map(|c| inputs[if c != 0.0 { 1 } else { 2 }]),
        Op::Neg(_) | Op::Not(_) => match &b.graph().node(inputs[0]) {
            inner if inner.op == *op => Some(inner.inputs[0]),
            _ => None,
        },
        _ => None,
    }
}

/// Brings a sign out of a sum, so that the sum is shared with who needs it without the sign.
fn sign(b: &mut Builder, op: &Op, inputs: &[Value], known: &mut Known) -> Option<Value> {
    let before = b.graph().node(*inputs.first()?).clone();
    if !matches!((op, &before.op), (Op::ReduceSum(_), Op::Neg(_))) {
        return None;
    }
    let key = (op.clone(), before.inputs.clone());
    let sum = *known.entry(key).or_insert_with(|| b.push(op.clone(), &before.inputs));
    Some(b.neg(sum))
}

/// A sum of two values with zeros around them, where one begins as the other ends, is both in a row: so are the gradients
/// of a value that was cut into parts.
fn neighbours(b: &mut Builder, op: &Op, inputs: &[Value]) -> Option<Value> {
    let [x, y] = *inputs else { return None };
    if !matches!(op, Op::Add(_)) {
        return None;
    }
    let (x, y) = (Padded::of(b.graph(), x)?, Padded::of(b.graph(), y)?);
    let extent = |padded: &Padded| padded.extent.checked_sub(padded.high);
    let (first, second) = if x.low <= y.low { (x, y) } else { (y, x) };
    if first.axis != second.axis || extent(&first) != Some(second.low) {
        return None;
    }
    let parts = [first.parts, second.parts].concat();
    let both = uncut(b, &parts, first.axis).unwrap_or_else(|| b.concat(&parts, first.axis));
    let (low, high) = (first.low, second.high);
    Some(if (low, high) == (0, 0) { both } else { b.pad(both, first.axis, low, high, 0, 0.0) })
}

/// What values in a row along an axis are, if they were cut out of one value in this order: that part of it.
fn uncut(b: &mut Builder, parts: &[Value], axis: usize) -> Option<Value> {
    let cut = |part: &Value| {
        let node = b.graph().node(*part);
        match &node.op {
            Op::Slice(s) if s.axis == axis && s.stride == 1 => Some((node.inputs[0], s.start, s.end)),
            _ => None,
        }
    };
    let cuts = parts.iter().map(cut).collect::<Option<Vec<_>>>()?;
    let adjoin = cuts.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].2 == pair[1].1);
    let ((whole, start, _), (_, _, end)) = (*cuts.first()?, *cuts.last()?);
    adjoin.then(|| b.slice(whole, axis, start, end))
}

/// Values in a row along an axis, with zeros before and behind them.
struct Padded {
    axis: usize,
    low: usize,
    high: usize,
    /// With the zeros.
    extent: usize,
    parts: Vec<Value>,
}

impl Padded {
    fn of(graph: &Graph, value: Value) -> Option<Self> {
        let node = graph.node(value);
        let Op::Pad(pad) = &node.op else { return None };
        if pad.value.0 != 0.0 || pad.interior != 0 {
            return None;
        }
        let inner = graph.node(node.inputs[0]);
        let parts = match &inner.op {
            Op::Concat(concat) if concat.axis == pad.axis => inner.inputs.clone(),
            _ => vec![node.inputs[0]],
        };
        let extent = node.ty.dims[pad.axis].fixed()?;
        Some(Self { axis: pad.axis, low: pad.low, high: pad.high, extent, parts })
    }
}

/// Structure ops that change nothing, or that merge with the one before.
fn structure(b: &mut Builder, op: &Op, inputs: &[Value], ty: &TensorType) -> Option<Value> {
    let x = *inputs.first()?;
    let before = b.graph().node(x).clone();
    let unchanged = before.ty == *ty;
    match (op, &before.op) {
        (Op::Reshape(_) | Op::Broadcast(_) | Op::Slice(_), _) if unchanged => Some(x),
        (Op::Pad(pad), _) if pad.low == 0 && pad.high == 0 && (pad.interior == 0 || unchanged) => Some(x),
        (Op::Concat(_), _) if inputs.len() == 1 => Some(x),
        (Op::Concat(c), Op::Slice(_)) => uncut(b, inputs, c.axis),
        (Op::Transpose(t), _) if t.axes.iter().enumerate().all(|(i, a)| i == *a) => Some(x),
        (Op::Reshape(_), Op::Reshape(_)) => Some(b.reshape(before.inputs[0], &ty.dims)),
        (Op::Transpose(outer), Op::Transpose(inner)) => {
            let axes: Vec<usize> = outer.axes.iter().map(|a| inner.axes[*a]).collect();
            let identical = axes.iter().enumerate().all(|(i, a)| i == *a);
            Some(if identical { before.inputs[0] } else { b.push(Transpose { axes }, &[before.inputs[0]]) })
        }
        // A product whose free dimensions are swapped is the product of the swapped operands: no copy is needed.
        (Op::Transpose(t), Op::Dot(dot)) => {
            let (rank, batch) = (t.axes.len(), dot.lhs_batch.len());
            let left = b.rank(before.inputs[0]) - batch - dot.lhs_contract.len();
            let swapped: Vec<usize> =
                (0..batch).chain(batch + left..rank).chain(batch..batch + left).collect();
            (t.axes == swapped).then(|| {
                let swapped = Dot {
                    lhs_batch: dot.rhs_batch.clone(),
                    rhs_batch: dot.lhs_batch.clone(),
                    lhs_contract: dot.rhs_contract.clone(),
                    rhs_contract: dot.lhs_contract.clone(),
                    result: dot.result,
                };
                b.push(swapped, &[before.inputs[1], before.inputs[0]])
            })
        }
        (Op::Broadcast(outer), Op::Broadcast(inner)) => {
            let axes = inner.axes.iter().map(|a| outer.axes[*a]).collect();
            Some(b.push(Broadcast { dims: outer.dims.clone(), axes }, &[before.inputs[0]]))
        }
        (Op::ReduceSum(_) | Op::ReduceMax(_), _) => {
            let axes = match op {
                Op::ReduceSum(r) => &r.axes,
                Op::ReduceMax(r) => &r.axes,
                _ => return None,
            };
            let ones = axes.iter().all(|a| before.ty.dims[*a] == Dim::Fixed(1));
            ones.then(|| b.reshape(x, &ty.dims))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeadCode, PassManager};
    use outgrow_ir::ops::compare::Comparison;
    use outgrow_ir::{InputRole, Symbol, interpret};
    use outgrow_tensor::{DType, Tensor};

    /// Builds `f(x)` for x of f32[B, 4], simplifies it, and says which ops are left.
    fn check(build: impl Fn(&mut Builder, Value) -> Value, expected: &[&str]) {
        let mut b = Builder::new("test");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [Dim::B, Dim::Fixed(4)]));
        let y = build(&mut b, x);
        b.output("y", y);
        let before = b.finish().unwrap();
        let passes = PassManager::new(vec![Box::new(Simplify), Box::new(DeadCode)]);
        let after = passes.run(&before).unwrap();
        let names: Vec<_> = after.nodes.iter().map(|n| n.op.rule().name()).collect();
        assert_eq!(names, expected, "{after}");
        let input = [Tensor::from_f64(DType::F32, [3, 4], |i| i as f64 - 5.5)];
        let run = |g: &Graph| interpret(&g.bind(3), &input).unwrap();
        assert_eq!(run(&before), run(&after));
    }

    #[test]
    fn constants_identities_and_structure() {
        check(
            |b, x| {
                let y = b.add_scalar(x, 0.0);
                b.mul_scalar(y, 1.0)
            },
            &["input"],
        );
        check(
            |b, x| {
                let y = b.neg(x);
                b.neg(y)
            },
            &["input"],
        );
        check(
            |b, x| {
                let y = b.transpose(x, &[1, 0]);
                b.transpose(y, &[1, 0])
            },
            &["input"],
        );
        check(
            |b, x| {
                let y = b.reshape(x, &[Dim::multiple(4, Symbol::BATCH.into())]);
                b.reshape(y, &[Dim::B, Dim::Fixed(4)])
            },
            &["input"],
        );
        check(
            |b, x| {
                let two = b.scalar(2.0, DType::F32);
                let three = b.mul_scalar(two, 1.5);
                let three = b.exp(three);
                b.mul(x, three)
            },
            &["input", "constant", "broadcast", "mul"],
        );
    }

    #[test]
    fn a_transposed_product_swaps_its_operands() {
        check(
            |b, x| {
                let gram = b.dot(x, x, (&[], &[]), (&[0], &[0]));
                let exp = b.exp(x);
                let y = b.dot(exp, x, (&[], &[]), (&[0], &[0]));
                let y = b.transpose(y, &[1, 0]);
                b.add(gram, y)
            },
            &["input", "dot", "exp", "dot", "add"],
        );
        check(
            |b, x| {
                let table = b.constant(Tensor::from_f64(DType::F32, [5, 4, 2], |i| i as f64));
                let y = b.dot(x, table, (&[], &[]), (&[1], &[1]));
                b.transpose(y, &[1, 2, 0])
            },
            &["input", "constant", "dot"],
        );
    }

    /// Sums that were rounded to bf16 are not those that were not, and a swapped product keeps the type of its sums.
    #[test]
    fn products_keep_the_type_of_their_sums() {
        check(
            |b, x| {
                let x = b.cast(x, DType::BF16);
                let rounded = b.dot(x, x, (&[], &[]), (&[0], &[0]));
                let rounded = b.cast(rounded, DType::F32);
                let sums = b.dot_as(DType::F32, x, x, (&[], &[]), (&[0], &[0]));
                let sums = b.transpose(sums, &[1, 0]);
                b.sub(rounded, sums)
            },
            &["input", "cast", "dot", "cast", "dot", "sub"],
        );
    }

    #[test]
    fn equal_expressions_are_shared() {
        check(
            |b, x| {
                let (e, f) = (b.exp(x), b.exp(x));
                b.add(e, f)
            },
            &["input", "exp", "add"],
        );
        check(
            |b, x| {
                let yes = b.compare(Comparison::Eq, x, x);
                b.select(yes, x, x)
            },
            &["input"],
        );
    }

    #[test]
    fn gradients_of_parts_are_put_in_a_row() {
        // Added in the order in which gradients come: from the last part to the first.
        check(
            |b, x| {
                let parts = [(0, 1), (1, 2), (3, 1)].map(|(low, count)| {
                    let part = b.slice(x, 1, low, low + count);
                    let part = b.exp(part);
                    b.pad(part, 1, low, 4 - low - count, 0, 0.0)
                });
                let sum = b.add(parts[2], parts[1]);
                b.add(sum, parts[0])
            },
            &["input", "slice", "exp", "slice", "exp", "slice", "exp", "concat"],
        );
        // What was one value stays it.
        check(
            |b, x| {
                let all = b.exp(x);
                let parts = [(0, 1), (1, 2), (3, 1)].map(|(low, count)| {
                    let part = b.slice(all, 1, low, low + count);
                    b.pad(part, 1, low, 4 - low - count, 0, 0.0)
                });
                let sum = b.add(parts[2], parts[1]);
                b.add(sum, parts[0])
            },
            &["input", "exp"],
        );
        let turned = |b: &mut Builder, x| {
            let (low, high) = (b.slice(x, 1, 0, 1), b.slice(x, 1, 1, 4));
            b.concat(&[high, low], 1)
        };
        check(turned, &["input", "slice", "slice", "concat"]);
        // Gaps, and parts that overlap, stay sums.
        for low in [0, 2] {
            let build = |b: &mut Builder, x: Value| {
                let one = b.slice(x, 1, 0, 1);
                let part = b.pad(one, 1, 0, 3, 0, 0.0);
                let other = b.pad(one, 1, low, 3 - low, 0, 0.0);
                b.add(part, other)
            };
            check(
                build,
                if low == 0 {
                    &["input", "slice", "pad", "add"]
                } else {
                    &["input", "slice", "pad", "pad", "add"]
                },
            );
        }
    }

    /// In either order.
    #[test]
    fn a_sum_is_shared_with_that_of_the_negative() {
        for first in [false, true] {
            let build = |b: &mut Builder, x: Value| {
                let negative = b.neg(x);
                let [x, y] = if first { [negative, x] } else { [x, negative] };
                let (x, y) = (b.reduce_sum(x, &[1]), b.reduce_sum(y, &[1]));
                b.mul(x, y)
            };
            check(build, &["input", "reduce_sum", "neg", "mul"]);
        }
    }

    #[test]
    fn rewriting_inside_a_region_dissolves_it() {
        let mut b = Builder::new("test");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [Dim::B]));
        let y = b.composite("kept", &[x], |b| b.exp(x));
        let z = b.composite("gone", &[y], |b| {
            let y = b.add_scalar(y, 0.0);
            b.tanh(y)
        });
        b.output("z", z);
        let after = Simplify.run(&b.finish().unwrap()).unwrap();
        let region = |name: &str| after.nodes.iter().find(|n| n.op.rule().name() == name).unwrap().region;
        assert_eq!(region("exp").map(|r| after.regions[r.0 as usize].kind.as_str()), Some("kept"));
        assert_eq!(region("tanh"), None);
    }
}

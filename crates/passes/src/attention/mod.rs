//! Finds attention that is written as products and a softmax, as models of other frameworks have it, and puts the
//! primitive in its place.
//!
//! What is found is `softmax(s q kᵀ + mask) v` for any batch dimensions and any scale `s` above zero, with whatever
//! reshapes, transposes and multiplications by a number stand around the products, where the mask is none or provably
//! the causal one: a constant that leaves scores up to the query's place as they are, and takes all later ones out of
//! the sum. The primitive can say no other masks, nor keys that are not as many as queries, nor values of another width
//! than keys; such attention stays as it is. So does one whose weights something else reads, as their gradients do:
//! the pass is for graphs without gradients.

mod constants;
mod operand;

use crate::Pass;
use crate::simplify::splat;
use constants::Constants;
use operand::Operand;
use outgrow_ir::ops::dot::Dot;
use outgrow_ir::{Builder, Diagnostics, Dim, Graph, Node, Op, Rewriter, Value};
use outgrow_tensor::DType;

/// Attention in place of products and a softmax. What nothing reads any more is left to the removal of dead code.
#[derive(Debug)]
pub struct FindAttention;

impl Pass for FindAttention {
    fn name(&self) -> &'static str {
        "find_attention"
    }

    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        let mut found = Finder { graph, uses: graph.uses(), constants: Constants::of(graph) };
        let mut places: Vec<(Value, Found)> = Vec::new();
        for (value, node) in graph.iter() {
            places.extend(found.attention(node).map(|found| (value, found)));
        }
        if places.is_empty() {
            return Ok(graph.clone());
        }
        let mut places = places.into_iter().peekable();
        let mut rewriter = Rewriter::new(graph);
        for (old, node) in graph.iter() {
            match places.next_if(|(value, _)| *value == old) {
                Some((_, found)) => {
                    let base = [&found.q, &found.k, &found.v].map(|operand| rewriter.new_value(operand.base));
                    let new =
                        rewriter.b.with_origin(node.origin.clone(), |b| found.build(b, base, &node.ty.dims));
                    rewriter.replace(old, new);
                }
                None => {
                    rewriter.keep(old);
                }
            }
        }
        rewriter.finish()
    }
}

/// Scores below this have weights of zero beside any that counts, in every type: its exponential is zero, and so is
/// that of its sum with any score that is not as large itself.
const MASKED_MOST: f64 = -1e30;

/// How far the scale may be from that of the primitive, relative to it, to be the same: what rounding a square root and a
/// quotient or two in f32 makes of it.
const SCALE_ERROR: f64 = 4e-7;

/// What constants do to scores.
#[derive(Clone, Copy, PartialEq)]
enum Mask {
    None,
    Causal,
}

/// Scores before the softmax: a product with what was done to it.
struct Scores<'a> {
    dot: &'a Dot,
    inputs: &'a [Value],
    scale: f64,
    mask: Mask,
}

/// Attention as the primitive takes it, but for the order of dimensions.
struct Found {
    q: Operand,
    k: Operand,
    v: Operand,
    /// How many of the batch's extents are the primitive's batch; the rest are its heads.
    cut: usize,
    /// Whether the result's width comes before its tokens.
    turned: bool,
    /// What queries are multiplied by.
    scale: f64,
    causal: bool,
}

struct Finder<'a> {
    graph: &'a Graph,
    uses: Vec<u32>,
    constants: Constants<'a>,
}

impl<'a> Finder<'a> {
    /// What the node computes, if it is attention: the product of weights and values.
    fn attention(&mut self, node: &'a Node) -> Option<Found> {
        let Op::Dot(outer) = &node.op else { return None };
        if !matches!(node.ty.dtype, DType::F32 | DType::F64) {
            return None;
        }
        let (lhs, rhs) = (side(outer, true), side(outer, false));
        [(0, lhs, rhs), (1, rhs, lhs)].into_iter().find_map(|(at, weights_axes, value_axes)| {
            let (weights, value) = (node.inputs[at], node.inputs[1 - at]);
            let rank = self.graph.ty(weights).rank();
            let batch = rank.checked_sub(2)?;
            if !weights_axes.0.iter().copied().eq(0..batch) || *weights_axes.1 != [rank - 1] {
                return None;
            }
            let scores = self.softmax(self.alone(weights)?).and_then(|x| self.scores(x))?;
            let v = Operand::of(&mut self.constants, value, value_axes.0, *value_axes.1.first()?, false)?;
            let one_type = [scores.inputs[0], scores.inputs[1], value]
                .iter()
                .all(|x| self.graph.ty(*x).dtype == node.ty.dtype);
            one_type.then(|| self.fitted(&scores, v, at == 1)).flatten()
        })
    }

    /// Whether queries, keys and values fit each other and the primitive.
    fn fitted(&mut self, scores: &Scores<'_>, mut v: Operand, turned: bool) -> Option<Found> {
        let (lhs, rhs) = (side(scores.dot, true), side(scores.dot, false));
        let mut of = |value, (batch, inner): (&[usize], &[usize])| match *inner {
            [inner] => Operand::of(&mut self.constants, value, batch, inner, true),
            _ => None,
        };
        let mut q = of(scores.inputs[0], lhs)?;
        let mut k = of(scores.inputs[1], rhs)?;
        let (tokens, width) = (q.tokens()?, q.width()?);
        let fits = |x: &Operand| x.tokens() == Some(tokens) && x.width() == Some(width);
        let width = width.fixed().filter(|d| *d > 0 && tokens != Dim::Fixed(0))?;
        if !fits(&k) || !fits(&v) {
            return None;
        }
        // The second time for what the values have cut.
        Operand::align(&mut q, &mut k)?;
        Operand::align(&mut q, &mut v)?;
        Operand::align(&mut q, &mut k)?;
        let scale = scores.scale * q.scale * k.scale * (width as f64).sqrt();
        let scale = if (scale - 1.0).abs() <= SCALE_ERROR { 1.0 } else { scale };
        if !scale.is_finite() || scale <= 0.0 {
            return None;
        }
        let cut = q.batch_before_tokens();
        Some(Found { q, k, v, cut, turned, scale, causal: scores.mask == Mask::Causal })
    }

    /// The value that this one is, of another shape or not, whose last two dimensions are the same, if nothing else
    /// reads either.
    fn alone(&self, mut value: Value) -> Option<Value> {
        while self.uses[value.index()] == 1 {
            match self.same_matrices(value) {
                Some(before) => value = before,
                None => return Some(value),
            }
        }
        None
    }

    /// The operand of what changes nothing of a value but its leading dimensions.
    fn same_matrices(&self, value: Value) -> Option<Value> {
        let node = self.graph.node(value);
        let before = *node.inputs.first()?;
        let last = |v: Value| self.graph.ty(v).dims.iter().rev().take(2).copied().collect::<Vec<Dim>>();
        let same = match &node.op {
            Op::Reshape(_) => self.graph.ty(before).rank() > 1 && last(before) == last(value),
            Op::Cast(_) => self.graph.ty(before).dtype == node.ty.dtype,
            _ => false,
        };
        same.then_some(before)
    }

    /// The `x` of a softmax of it over its last dimension: `e / Σ e`, or `e * (1 / Σ e)`, with `e = exp(x - max x)`.
    fn softmax(&self, value: Value) -> Option<Value> {
        let node = self.graph.node(value);
        let &[a, b] = node.inputs.as_slice() else { return None };
        let sums = |exp: Value, sum: Value| self.sums_rows(sum, exp).then_some(exp);
        let inverse = |exp: Value, inverse: Value| {
            let node = self.graph.node(self.row_value(inverse, false));
            let over = matches!(node.op, Op::Div(_)) && splat(self.graph, node.inputs[0]) == Some(1.0);
            over.then(|| sums(exp, node.inputs[1])).flatten()
        };
        let exp = match &node.op {
            Op::Div(_) => sums(a, b)?,
            Op::Mul(_) => inverse(a, b).or_else(|| inverse(b, a))?,
            _ => return None,
        };
        let node = self.graph.node(exp);
        let shifted = matches!(node.op, Op::Exp(_)).then(|| self.graph.node(node.inputs[0]))?;
        if !matches!(shifted.op, Op::Sub(_)) {
            return None;
        }
        // The maximum may carry no gradient: the result does not depend on it.
        let (x, max) = (shifted.inputs[0], self.graph.node(self.row_value(shifted.inputs[1], true)));
        let last = self.graph.ty(x).rank() - 1;
        let of = |v: Value| self.without_stop(v) == self.without_stop(x);
        matches!(&max.op, Op::ReduceMax(r) if r.axes == [last] && of(max.inputs[0])).then_some(x)
    }

    /// Whether a value is the sum of the rows of `x` over their last dimension, repeated over them.
    fn sums_rows(&self, value: Value, x: Value) -> bool {
        let node = self.graph.node(self.row_value(value, false));
        let last = self.graph.ty(x).rank().checked_sub(1);
        matches!(&node.op, Op::ReduceSum(r) if r.axes.first().copied() == last && r.axes.len() == 1 && node.inputs[0] == x)
    }

    fn without_stop(&self, value: Value) -> Value {
        match &self.graph.node(value).op {
            Op::StopGradient(_) => self.without_stop(self.graph.node(value).inputs[0]),
            _ => value,
        }
    }

    /// What a value repeats for the elements of each row: no dimension moves, and the last one comes or goes. Where it may
    /// be `constant`, gradients may end on the way.
    fn row_value(&self, mut value: Value, constant: bool) -> Value {
        loop {
            let node = self.graph.node(value);
            let Some(&before) = node.inputs.first() else { return value };
            let (from, to) = (&self.graph.ty(before).dims, &node.ty.dims);
            let longer = |a: &[Dim], b: &[Dim]| {
                a.split_last().is_some_and(|(one, rest)| *one == Dim::Fixed(1) && rest == b)
            };
            let same = match &node.op {
                Op::Broadcast(repeat) => repeat.axes.iter().copied().eq(0..from.len()),
                Op::Reshape(_) => longer(from, to) || longer(to, from),
                Op::StopGradient(_) => constant,
                _ => false,
            };
            if !same {
                return value;
            }
            value = before;
        }
    }

    /// The product that scores are, with what was done to it.
    fn scores(&mut self, mut value: Value) -> Option<Scores<'a>> {
        let graph = self.graph;
        let (mut scale, mut mask) = (1.0, Mask::None);
        loop {
            if let Some(before) = self.same_matrices(value) {
                value = before;
                continue;
            }
            let node = graph.node(value);
            let masked = match (&node.op, node.inputs.as_slice()) {
                (Op::Dot(dot), inputs) => return Some(Scores { dot, inputs, scale, mask }),
                (Op::Add(_), &[a, b]) => [(a, b), (b, a)].into_iter().find_map(|(scores, added)| {
                    let leaves =
                        |x: f64| if x == 0.0 { Some(true) } else { (x <= MASKED_MOST).then_some(false) };
                    Some((scores, self.constants.mask(added, &leaves)?))
                }),
                (Op::Select(_), &[condition, a, b]) => {
                    [(a, b, true), (b, a, false)].into_iter().find_map(|(scores, fill, when)| {
                        let fills = self.constants.number(fill).is_some_and(|x| x <= MASKED_MOST);
                        let mask = self.constants.mask(condition, &|x| Some((x != 0.0) == when));
                        mask.filter(|mask| fills || *mask == Mask::None).map(|mask| (scores, mask))
                    })
                }
                _ => None,
            };
            if let Some((scores, found)) = masked {
                // Numbers that were scaled after they were masked may be masked no more.
                if found == Mask::Causal && scale != 1.0 {
                    return None;
                }
                value = scores;
                mask = if found == Mask::Causal { found } else { mask };
                continue;
            }
            let (scores, by) = self.constants.scaled(value)?;
            (value, scale) = (scores, scale * by);
        }
    }
}

/// The batch and the contracted dimensions of a side of a product.
fn side(dot: &Dot, left: bool) -> (&[usize], &[usize]) {
    if left { (&dot.lhs_batch, &dot.lhs_contract) } else { (&dot.rhs_batch, &dot.rhs_contract) }
}

impl Found {
    /// The primitive on new values of the bases, as a value of these dimensions: those of the batch, tokens, width.
    fn build(&self, b: &mut Builder, [q, k, v]: [Value; 3], dims: &[Dim]) -> Value {
        let [q, k, v] = [(&self.q, q), (&self.k, k), (&self.v, v)]
            .map(|(operand, base)| operand.build(b, base, self.cut));
        let q = if self.scale == 1.0 { q } else { b.mul_scalar(q, self.scale) };
        let y = b.attention(q, k, v, self.causal);
        let all = b.dims(y);
        let batch = self.q.batch_extents();
        let mut split = batch[..self.cut].to_vec();
        split.push(all[1]);
        split.extend(&batch[self.cut..]);
        split.push(all[3]);
        let y = b.reshape(y, &split);
        let (tokens, width) = (self.cut, batch.len() + 1);
        let mut order: Vec<usize> = (0..self.cut).chain(self.cut + 1..width).collect();
        order.extend(if self.turned { [width, tokens] } else { [tokens, width] });
        let y = if order.is_sorted() { y } else { b.transpose(y, &order) };
        b.reshape(y, dims)
    }
}

#[cfg(test)]
mod tests;

//! Softmax and its relatives.

use super::reduce::keep_axes;
use super::{Rule, op};
use crate::cx::{Cx, Lowered, axis, fixed_dim, unsupported};
use crate::{Elem, elem};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    op("Hardmax", |cx| over_axis(cx, hardmax)),
    op("LogSoftmax", |cx| over_axis(cx, Builder::log_softmax)),
    op("Softmax", softmax),
];

fn softmax(cx: &mut Cx<'_>) -> Lowered {
    match cx.elem(0)? {
        Elem::F16 => over_axis(cx, |b, x| rounded_softmax(b, x, Elem::F16)),
        Elem::BF16 => over_axis(cx, |b, x| rounded_softmax(b, x, Elem::BF16)),
        _ => over_axis(cx, Builder::softmax),
    }
}

/// The softmax over the last dimension of values of this type.
pub(super) fn softmax_of(b: &mut Builder, x: Value, elem: Elem) -> Value {
    if matches!(elem, Elem::F16 | Elem::BF16) { rounded_softmax(b, x, elem) } else { b.softmax(x) }
}

/// The softmax of a narrow type, each of its steps rounded as the standard's own definition does.
fn rounded_softmax(b: &mut Builder, x: Value, elem: Elem) -> Value {
    let (dims, last) = (b.dims(x), b.rank(x).saturating_sub(1));
    let constant = b.stop_gradient(x);
    let max = b.reduce_max(constant, &[last]);
    let max = keep_axes(b, max, &dims, &[last]);
    let shifted = b.sub(x, max);
    let shifted = elem::wrapped(b, shifted, elem);
    let exp = b.exp(shifted);
    let exp = elem::wrapped(b, exp, elem);
    let sum = b.reduce_sum(exp, &[last]);
    let sum = elem::wrapped(b, sum, elem);
    let sum = keep_axes(b, sum, &dims, &[last]);
    b.div(exp, sum)
}

/// Applies what works on the last dimension to the axis of the node. Before version 13 all dimensions from the axis on
/// count as one.
fn over_axis(cx: &mut Cx<'_>, f: fn(&mut Builder, Value) -> Value) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.float(0)?, cx.dims(0)?);
    let old = cx.opset < 13;
    let at = axis(cx.int("axis", if old { 1 } else { -1 })?, dims.len())?;
    let y = if old {
        let inner = crate::cx::fixed(&dims[at..])?;
        let Some(inner) = inner.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) else {
            return unsupported("the dimensions after the axis overflow", "smaller ones");
        };
        let mut flat = dims[..at].to_vec();
        flat.push(Dim::Fixed(inner));
        let flat = cx.b.reshape(x, &flat);
        let y = f(cx.b, flat);
        cx.b.reshape(y, &dims)
    } else {
        along(cx.b, x, at, f)
    };
    cx.wrapped(elem, y)
}

/// Applies what works on the last dimension to another one.
pub(super) fn along(
    b: &mut Builder,
    x: Value,
    at: usize,
    f: impl FnOnce(&mut Builder, Value) -> Value,
) -> Value {
    let rank = b.rank(x);
    if at + 1 == rank {
        return f(b, x);
    }
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(at, rank - 1);
    let moved = b.transpose(x, &order);
    let y = f(b, moved);
    b.transpose(y, &order)
}

/// 1 at the first maximum, else 0.
fn hardmax(b: &mut Builder, x: Value) -> Value {
    let dims = b.dims(x);
    let last = dims.len() - 1;
    if fixed_dim(&dims, last).is_err() {
        return b.error("the last dimension depends on the batch size");
    }
    let best = b.arg_max(x, last);
    let best = keep_axes(b, best, &dims, &[last]);
    let place = b.iota(DType::I32, &dims, last);
    let hit = b.compare(Comparison::Eq, place, best);
    b.cast(hit, b.dtype(x))
}

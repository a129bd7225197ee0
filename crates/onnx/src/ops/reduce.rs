//! Reductions over axes.

use super::{Rule, op};
use crate::Elem;
use crate::cx::{Cx, Lowered, Refusal, axes, axis, fixed_dim, unsupported};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    op("ArgMax", |cx| arg(cx, false)),
    op("ArgMin", |cx| arg(cx, true)),
    op("ReduceL1", |cx| reduce(cx, l1)),
    op("ReduceL2", |cx| reduce(cx, l2)),
    op("ReduceLogSum", |cx| reduce(cx, log_sum)),
    op("ReduceLogSumExp", |cx| reduce(cx, log_sum_exp)),
    op("ReduceMax", |cx| reduce(cx, |b, x, axes| Ok(max(b, x, axes)))),
    op("ReduceMean", |cx| reduce(cx, mean)),
    op("ReduceMin", |cx| reduce(cx, |b, x, axes| Ok(min(b, x, axes)))),
    op("ReduceProd", |cx| reduce(cx, product)),
    op("ReduceSum", |cx| reduce(cx, |b, x, axes| Ok(b.reduce_sum(x, axes)))),
    op("ReduceSumSquare", |cx| reduce(cx, sum_square)),
];

/// A reduction of `x` over ascending axes, which vanish.
type Reduction = fn(&mut Builder, Value, &[usize]) -> Result<Value, Refusal>;

fn reduce(cx: &mut Cx<'_>, f: Reduction) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let keep = cx.flag("keepdims", true)?;
    let noop = cx.flag("noop_with_empty_axes", false)?;
    let given = cx.ints_or_attr(1, "axes")?.unwrap_or_default();
    if given.is_empty() && noop {
        // Nothing vanishes, but what is done to each element is done.
        let y = f(cx.b, x, &[])?;
        return cx.wrapped(elem, y);
    }
    let gone = if given.is_empty() { (0..dims.len()).collect() } else { axes(&given, dims.len())? };
    let y = if elem == Elem::Bool {
        let wide = cx.b.cast(x, DType::I32);
        let y = f(cx.b, wide, &gone)?;
        // The maximum of nothing is the least number, which stands for false.
        let zero = cx.b.scalar(0.0, DType::I32);
        let y = cx.b.max(y, zero);
        cx.b.cast(y, DType::Bool)
    } else {
        f(cx.b, x, &gone)?
    };
    let y = if keep { keep_axes(cx.b, y, &dims, &gone) } else { y };
    cx.wrapped(elem, y)
}

/// Puts axes of extent 1 where `gone` vanished from `dims`.
pub(super) fn keep_axes(b: &mut Builder, y: Value, dims: &[Dim], gone: &[usize]) -> Value {
    let kept: Vec<Dim> =
        dims.iter().enumerate().map(|(i, d)| if gone.contains(&i) { Dim::Fixed(1) } else { *d }).collect();
    b.reshape(y, &kept)
}

pub(super) fn max(b: &mut Builder, x: Value, axes: &[usize]) -> Value {
    if axes.is_empty() { x } else { b.reduce_max(x, axes) }
}

/// The greatest of the opposites; u8 has none and is widened.
fn min(b: &mut Builder, x: Value, axes: &[usize]) -> Value {
    let dtype = b.dtype(x);
    let wide = if dtype == DType::U8 { b.cast(x, DType::I32) } else { x };
    let negative = b.neg(wide);
    let greatest = max(b, negative, axes);
    let least = b.neg(greatest);
    b.cast(least, dtype)
}

/// How many elements are reduced to one.
fn count(b: &Builder, x: Value, axes: &[usize]) -> Result<usize, Refusal> {
    let dims = b.dims(x);
    axes.iter().try_fold(1usize, |n, a| Ok(n.saturating_mul(fixed_dim(&dims, *a)?)))
}

/// The mean over ascending axes, which vanish.
pub(super) fn mean(b: &mut Builder, x: Value, axes: &[usize]) -> Result<Value, Refusal> {
    if !b.dtype(x).is_float() {
        return unsupported("takes the mean of integers", "a float type");
    }
    let n = count(b, x, axes)?;
    let sum = b.reduce_sum(x, axes);
    Ok(b.mul_scalar(sum, 1.0 / n as f64))
}

fn l1(b: &mut Builder, x: Value, axes: &[usize]) -> Result<Value, Refusal> {
    let magnitude = if b.dtype(x) == DType::U8 { x } else { b.abs(x) };
    Ok(b.reduce_sum(magnitude, axes))
}

fn sum_square(b: &mut Builder, x: Value, axes: &[usize]) -> Result<Value, Refusal> {
    let square = b.mul(x, x);
    Ok(b.reduce_sum(square, axes))
}

fn l2(b: &mut Builder, x: Value, axes: &[usize]) -> Result<Value, Refusal> {
    let dtype = b.dtype(x);
    let wide = if dtype.is_float() { x } else { b.cast(x, DType::F64) };
    let squares = sum_square(b, wide, axes)?;
    let root = b.sqrt(squares);
    Ok(b.cast(root, dtype))
}

fn log_sum(b: &mut Builder, x: Value, axes: &[usize]) -> Result<Value, Refusal> {
    if !b.dtype(x).is_float() {
        return unsupported("takes the logarithm of integers", "a float type");
    }
    let sum = b.reduce_sum(x, axes);
    Ok(b.log(sum))
}

/// `m + ln Σ eˣ⁻ᵐ` with `m` the maximum, or 0 where that is infinite.
fn log_sum_exp(b: &mut Builder, x: Value, axes: &[usize]) -> Result<Value, Refusal> {
    if !b.dtype(x).is_float() {
        return unsupported("takes the logarithm of integers", "a float type");
    }
    let dims = b.dims(x);
    let constant = b.stop_gradient(x);
    let greatest = max(b, constant, axes);
    let magnitude = b.abs(greatest);
    let infinity = b.scalar(f64::INFINITY, b.dtype(x));
    let finite = b.compare(Comparison::Lt, magnitude, infinity);
    let zero = b.scalar(0.0, b.dtype(x));
    let greatest = b.select(finite, greatest, zero);
    let spread = keep_axes(b, greatest, &dims, axes);
    let shifted = b.sub(x, spread);
    let exp = b.exp(shifted);
    let sum = b.reduce_sum(exp, axes);
    let log = b.log(sum);
    Ok(b.add(log, greatest))
}

/// The product by halving: the first half times the second until one element is left.
fn product(b: &mut Builder, x: Value, axes: &[usize]) -> Result<Value, Refusal> {
    let mut n = count(b, x, axes)?;
    let rank = b.rank(x);
    let kept: Vec<usize> = (0..rank).filter(|i| !axes.contains(i)).collect();
    let order: Vec<usize> = axes.iter().chain(&kept).copied().collect();
    let dims: Vec<Dim> = kept.iter().map(|i| b.dim(x, *i)).collect();
    let moved = b.transpose(x, &order);
    let flat: Vec<Dim> = [Dim::Fixed(n)].into_iter().chain(dims.iter().copied()).collect();
    let mut x = b.reshape(moved, &flat);
    if n == 0 {
        return Ok(b.full(1.0, b.dtype(x), &dims));
    }
    while n > 1 {
        let half = n / 2;
        let (first, second) = (b.slice(x, 0, 0, half), b.slice(x, 0, half, 2 * half));
        let halved = b.mul(first, second);
        x = if n % 2 == 1 {
            let last = b.slice(x, 0, n - 1, n);
            b.concat(&[halved, last], 0)
        } else {
            halved
        };
        n = half + n % 2;
    }
    Ok(b.reshape(x, &dims))
}

fn arg(cx: &mut Cx<'_>, least: bool) -> Lowered {
    let (mut x, dims) = (cx.number(0)?, cx.dims(0)?);
    let at = axis(cx.int("axis", 0)?, dims.len())?;
    let keep = cx.flag("keepdims", true)?;
    let last = cx.flag("select_last_index", false)?;
    let b = &mut *cx.b;
    if least {
        x = if b.dtype(x) == DType::U8 { b.cast(x, DType::I32) } else { x };
        x = b.neg(x);
    }
    let n = fixed_dim(&dims, at)?;
    let found = if last {
        let reversed = b.reverse(x, at);
        let index = b.arg_max(reversed, at);
        let top = b.scalar(n as f64 - 1.0, DType::I32);
        b.sub(top, index)
    } else {
        b.arg_max(x, at)
    };
    let found = b.cast(found, DType::I64);
    let found = if keep { keep_axes(b, found, &dims, &[at]) } else { found };
    cx.one(Elem::I64, found)
}

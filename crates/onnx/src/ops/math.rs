//! Elementwise functions of one value.

use super::{Rule, op};
use crate::Elem;
use crate::cx::{Cx, Lowered};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Value};
use outgrow_tensor::DType;
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

pub(super) const RULES: &[Rule] = &[
    op("Abs", abs),
    op("Acos", |cx| float(cx, acos)),
    op("Acosh", |cx| float(cx, acosh)),
    op("Asin", |cx| float(cx, asin)),
    op("Asinh", |cx| float(cx, asinh)),
    op("Atan", |cx| float(cx, atan)),
    op("Atanh", |cx| float(cx, atanh)),
    op("Ceil", |cx| float(cx, ceil)),
    op("Cos", |cx| float(cx, Builder::cos)),
    op("Cosh", |cx| float(cx, cosh)),
    op("Erf", |cx| float(cx, Builder::erf)),
    op("Exp", |cx| float(cx, Builder::exp)),
    op("Floor", |cx| float(cx, Builder::floor)),
    op("IsInf", is_inf),
    op("IsNaN", is_nan),
    op("Log", |cx| float(cx, Builder::log)),
    op("Neg", |cx| number(cx, Builder::neg)),
    op("Not", not),
    op("Reciprocal", |cx| float(cx, reciprocal)),
    op("Round", |cx| float(cx, round)),
    op("Sign", |cx| number(cx, Builder::sign)),
    op("Sin", |cx| float(cx, Builder::sin)),
    op("Sinh", |cx| float(cx, sinh)),
    op("Sqrt", |cx| float(cx, Builder::sqrt)),
    op("Tan", |cx| float(cx, tan)),
    op("Tanh", |cx| float(cx, Builder::tanh)),
];

/// A function of floats.
pub(super) fn float(cx: &mut Cx<'_>, f: impl FnOnce(&mut Builder, Value) -> Value) -> Lowered {
    cx.ignore(&["consumed_inputs"]);
    let (elem, x) = (cx.elem(0)?, cx.float(0)?);
    let y = f(cx.b, x);
    cx.wrapped(elem, y)
}

/// A function of numbers.
fn number(cx: &mut Cx<'_>, f: impl FnOnce(&mut Builder, Value) -> Value) -> Lowered {
    cx.ignore(&["consumed_inputs"]);
    let (elem, x) = (cx.elem(0)?, cx.number(0)?);
    let y = f(cx.b, x);
    cx.wrapped(elem, y)
}

fn abs(cx: &mut Cx<'_>) -> Lowered {
    let unsigned = cx.elem(0)?.is_unsigned();
    number(cx, |b, x| if unsigned { x } else { b.abs(x) })
}

fn not(cx: &mut Cx<'_>) -> Lowered {
    let x = cx.x(0)?;
    let y = cx.b.not(x);
    cx.one(Elem::Bool, y)
}

fn reciprocal(b: &mut Builder, x: Value) -> Value {
    let one = b.scalar(1.0, b.dtype(x));
    b.div(one, x)
}

fn ceil(b: &mut Builder, x: Value) -> Value {
    let negative = b.neg(x);
    let floor = b.floor(negative);
    b.neg(floor)
}

/// To the nearest integer, ties to even: the fraction above the floor is exact.
pub(crate) fn round(b: &mut Builder, x: Value) -> Value {
    let dtype = b.dtype(x);
    let floor = b.floor(x);
    let fraction = b.sub(x, floor);
    let half = b.scalar(0.5, dtype);
    let above = b.compare(Comparison::Gt, fraction, half);
    let tie = b.compare(Comparison::Eq, fraction, half);
    let halved = b.mul_scalar(floor, 0.5);
    let floor_of_half = b.floor(halved);
    let odd = b.compare(Comparison::Ne, halved, floor_of_half);
    let tie_up = b.and(tie, odd);
    let up = b.or(above, tie_up);
    let next = b.add_scalar(floor, 1.0);
    let rounded = b.select(up, next, floor);
    // Infinities have no fraction: theirs is NaN, and the floor is taken.
    b.select(up, rounded, floor)
}

fn tan(b: &mut Builder, x: Value) -> Value {
    let (sin, cos) = (b.sin(x), b.cos(x));
    b.div(sin, cos)
}

/// `ln(1 + x)` without loss where x is small (Kahan): the rounding of 1 + x is divided out again.
pub(super) fn log1p(b: &mut Builder, x: Value) -> Value {
    let one = b.scalar(1.0, b.dtype(x));
    let shifted = b.add(x, one);
    let log = b.log(shifted);
    let back = b.sub(shifted, one);
    let scaled = b.mul(x, log);
    let quotient = b.div(scaled, back);
    let tiny = b.compare(Comparison::Eq, shifted, one);
    b.select(tiny, x, quotient)
}

fn cosh(b: &mut Builder, x: Value) -> Value {
    let negative = b.neg(x);
    let (up, down) = (b.exp(x), b.exp(negative));
    let sum = b.add(up, down);
    b.mul_scalar(sum, 0.5)
}

/// `(eˣ - e⁻ˣ) / 2`; near 0, where that cancels, the first terms of the series.
fn sinh(b: &mut Builder, x: Value) -> Value {
    let negative = b.neg(x);
    let (up, down) = (b.exp(x), b.exp(negative));
    let difference = b.sub(up, down);
    let far = b.mul_scalar(difference, 0.5);
    let square = b.mul(x, x);
    let mut series = b.full(1.0, b.dtype(x), &b.dims(x));
    for k in [9.0, 7.0, 5.0, 3.0] {
        let term = b.mul(series, square);
        let scaled = b.mul_scalar(term, 1.0 / (k * (k - 1.0)));
        series = b.add_scalar(scaled, 1.0);
    }
    let near = b.mul(series, x);
    let magnitude = b.abs(x);
    let limit = b.scalar(0.5, b.dtype(x));
    let is_near = b.compare(Comparison::Lt, magnitude, limit);
    b.select(is_near, near, far)
}

/// `sign(x) ln(|x| + √(x² + 1))`.
fn asinh(b: &mut Builder, x: Value) -> Value {
    let magnitude = b.abs(x);
    let square = b.mul(x, x);
    let shifted = b.add_scalar(square, 1.0);
    let root = b.sqrt(shifted);
    let above_one = b.add_scalar(root, 1.0);
    let rest = b.div(square, above_one);
    let sum = b.add(magnitude, rest);
    let log = log1p(b, sum);
    let sign = b.sign(x);
    b.mul(sign, log)
}

fn acosh(b: &mut Builder, x: Value) -> Value {
    let (below, above) = (b.add_scalar(x, -1.0), b.add_scalar(x, 1.0));
    let product = b.mul(below, above);
    let root = b.sqrt(product);
    let sum = b.add(x, root);
    b.log(sum)
}

/// `ln(1 + 2x / (1 - x)) / 2`.
fn atanh(b: &mut Builder, x: Value) -> Value {
    let rest = b.one_minus(x);
    let twice = b.mul_scalar(x, 2.0);
    let ratio = b.div(twice, rest);
    let log = log1p(b, ratio);
    b.mul_scalar(log, 0.5)
}

/// Twice reduced to `|x| ≤ tan(π/8)`, where the Taylor series gains three bits with each term.
pub(crate) fn atan(b: &mut Builder, x: Value) -> Value {
    let dtype = b.dtype(x);
    let magnitude = b.abs(x);
    let one = b.full(1.0, dtype, &b.dims(x));
    let large = b.compare(Comparison::Gt, magnitude, one);
    let inverse = b.div(one, magnitude);
    let u = b.select(large, inverse, magnitude);
    let limit = b.scalar((PI / 8.0).tan(), dtype);
    let middle = b.compare(Comparison::Gt, u, limit);
    let (below, above) = (b.sub(u, one), b.add(u, one));
    let ratio = b.div(below, above);
    let v = b.select(middle, ratio, u);
    let square = b.mul(v, v);
    let terms = if dtype == DType::F64 { 22 } else { 11 };
    let mut series = b.full(0.0, dtype, &b.dims(x));
    for k in (0..terms).rev() {
        let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
        let product = b.mul(series, square);
        series = b.add_scalar(product, sign / f64::from(2 * k + 1));
    }
    let near = b.mul(series, v);
    let shifted = b.add_scalar(near, FRAC_PI_4);
    let of_u = b.select(middle, shifted, near);
    let negative = b.neg(of_u);
    let complement = b.add_scalar(negative, FRAC_PI_2);
    let result = b.select(large, complement, of_u);
    let sign = b.sign(x);
    b.mul(sign, result)
}

/// `atan(x / √((1 - x)(1 + x)))`.
fn asin(b: &mut Builder, x: Value) -> Value {
    let (rest, above) = (b.one_minus(x), b.add_scalar(x, 1.0));
    let product = b.mul(rest, above);
    let root = b.sqrt(product);
    let ratio = b.div(x, root);
    atan(b, ratio)
}

/// `2 atan √((1 - x) / (1 + x))`.
fn acos(b: &mut Builder, x: Value) -> Value {
    let (rest, above) = (b.one_minus(x), b.add_scalar(x, 1.0));
    let ratio = b.div(rest, above);
    let root = b.sqrt(ratio);
    let half = atan(b, root);
    b.mul_scalar(half, 2.0)
}

fn is_nan(cx: &mut Cx<'_>) -> Lowered {
    let x = cx.float(0)?;
    let y = cx.b.compare(Comparison::Ne, x, x);
    cx.one(Elem::Bool, y)
}

fn is_inf(cx: &mut Cx<'_>) -> Lowered {
    let x = cx.float(0)?;
    let (negative, positive) = (cx.flag("detect_negative", true)?, cx.flag("detect_positive", true)?);
    let dtype = cx.b.dtype(x);
    let mut equals = |number: f64| {
        let number = cx.b.scalar(number, dtype);
        cx.b.compare(Comparison::Eq, x, number)
    };
    let (up, down) = (equals(f64::INFINITY), equals(f64::NEG_INFINITY));
    let y = match (negative, positive) {
        (true, true) => cx.b.or(up, down),
        (false, true) => up,
        (true, false) => down,
        (false, false) => {
            let dims = cx.b.dims(x);
            cx.b.full(0.0, DType::Bool, &dims)
        }
    };
    cx.one(Elem::Bool, y)
}

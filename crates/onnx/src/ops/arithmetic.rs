//! Arithmetic of two and more values, with NumPy's broadcasting.

use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, axis, invalid};
use crate::datum::Kind;
use crate::{Elem, elem};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    op("Add", |cx| numbers(cx, Builder::add)),
    op("Clip", clip),
    op("Div", |cx| numbers(cx, Builder::div)),
    op("Max", |cx| fold(cx, Builder::max)),
    op("Mean", mean),
    op("Min", |cx| fold(cx, Builder::min)),
    op("Mod", modulo),
    op("Mul", |cx| numbers(cx, Builder::mul)),
    op("Pow", pow),
    op("Sub", |cx| numbers(cx, Builder::sub)),
    op("Sum", |cx| fold(cx, Builder::add)),
];

/// Both operands, of one element type. Before version 7 the second is repeated only when asked, from `axis` on.
pub(super) fn pair(cx: &mut Cx<'_>) -> Result<(Elem, Value, Value), Refusal> {
    let (elem, x, y) = (cx.elem(0)?, cx.x(0)?, cx.x(1)?);
    if elem != cx.elem(1)? {
        return invalid("takes two values of one element type");
    }
    if cx.opset >= 7 {
        return Ok((elem, x, y));
    }
    cx.ignore(&["consumed_inputs"]);
    let (rank_x, rank_y) = (cx.b.rank(x), cx.b.rank(y));
    let broadcast = cx.flag("broadcast", false)?;
    if !cx.has_attr("axis") || !broadcast {
        return Ok((elem, x, y));
    }
    let first = axis(cx.int("axis", 0)?, rank_x)?;
    let mut dims = cx.b.dims(y);
    dims.extend(std::iter::repeat_n(Dim::Fixed(1), rank_x.saturating_sub(first + rank_y)));
    let y = cx.b.reshape(y, &dims);
    Ok((elem, x, y))
}

fn numbers(cx: &mut Cx<'_>, f: fn(&mut Builder, Value, Value) -> Value) -> Lowered {
    cx.number(0)?;
    let (elem, x, y) = pair(cx)?;
    let z = f(cx.b, x, y);
    cx.wrapped(elem, z)
}

fn fold(cx: &mut Cx<'_>, f: fn(&mut Builder, Value, Value) -> Value) -> Lowered {
    cx.ignore(&["consumed_inputs"]);
    let elem = cx.elem(0)?;
    let mut all = cx.number(0)?;
    for i in 1..cx.count() {
        if cx.elem(i)? != elem {
            return invalid("takes values of one element type");
        }
        let next = cx.x(i)?;
        all = f(cx.b, all, next);
    }
    cx.wrapped(elem, all)
}

fn mean(cx: &mut Cx<'_>) -> Lowered {
    let count = cx.count();
    cx.float(0)?;
    let elem = cx.elem(0)?;
    let mut sum = cx.x(0)?;
    for i in 1..count {
        let next = cx.x(i)?;
        sum = cx.b.add(sum, next);
    }
    let mean = cx.b.mul_scalar(sum, 1.0 / count as f64);
    cx.wrapped(elem, mean)
}

fn modulo(cx: &mut Cx<'_>) -> Lowered {
    let c_style = cx.flag("fmod", false)?;
    let (elem, x, y) = pair(cx)?;
    cx.number(0)?;
    if elem.is_int() && !c_style {
        let rest = elem::floor_mod(cx.b, x, y);
        return cx.one(elem, rest);
    }
    let b = &mut *cx.b;
    let ratio = b.div(x, y);
    let quotient = match (elem.is_int(), c_style) {
        (true, _) => ratio,
        (false, false) => b.floor(ratio),
        (false, true) => {
            let magnitude = b.abs(ratio);
            let floor = b.floor(magnitude);
            let sign = b.sign(ratio);
            b.mul(floor, sign)
        }
    };
    let product = b.mul(quotient, y);
    let mut rest = b.sub(x, product);
    if elem.is_float() {
        rest = modulo_infinity(b, x, y, rest, c_style);
    }
    cx.wrapped(elem, rest)
}

/// Of an infinite divisor the remainder is the dividend, or the divisor where it takes the divisor's sign.
fn modulo_infinity(b: &mut Builder, x: Value, y: Value, rest: Value, c_style: bool) -> Value {
    let infinity = b.scalar(f64::INFINITY, b.dtype(x));
    let (size_x, size_y) = (b.abs(x), b.abs(y));
    let infinite = b.compare(Comparison::Eq, size_y, infinity);
    let finite = b.compare(Comparison::Lt, size_x, infinity);
    let (finite, infinite) = b.broadcast_together(finite, infinite);
    let applies = b.and(finite, infinite);
    let result = if c_style {
        x
    } else {
        let (sign_x, sign_y) = (b.sign(x), b.sign(y));
        let product = b.mul(sign_x, sign_y);
        let opposite = is_negative(b, product);
        b.select(opposite, y, x)
    };
    b.select(applies, result, rest)
}

/// The exponent, when it is one known number.
fn known_exponent(cx: &Cx<'_>) -> Option<f64> {
    match &cx.datum(1).ok()?.kind {
        Kind::Known(tensor) if tensor.elements() == 1 => Some(tensor.get_f64(0)),
        _ => None,
    }
}

fn pow(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x) = (cx.elem(0)?, cx.number(0)?);
    cx.number(1)?;
    let one_number = cx.dims(1)?.len() <= cx.dims(0)?.len();
    if elem.is_float() && cx.opset >= 7 && one_number {
        let small = match known_exponent(cx) {
            Some(2.0) => Some(cx.b.mul(x, x)),
            Some(3.0) => {
                let square = cx.b.mul(x, x);
                Some(cx.b.mul(square, x))
            }
            Some(0.5) => Some(cx.b.sqrt(x)),
            Some(1.0) => Some(x),
            _ => None,
        };
        if let Some(y) = small {
            return cx.wrapped(elem, y);
        }
    }
    let exponent = if cx.opset < 7 { pair(cx)?.2 } else { cx.x(1)? };
    // Integers up to 2^53 are exact in f64.
    let wide = if elem.is_float() { cx.b.dtype(x) } else { DType::F64 };
    let (base, exponent) = (cx.b.cast(x, wide), cx.b.cast(exponent, wide));
    let power = cx.b.pow(base, exponent);
    let back = cx.b.cast(power, elem.dtype());
    cx.wrapped(elem, back)
}

fn clip(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["consumed_inputs"]);
    let (elem, mut x) = (cx.elem(0)?, cx.number(0)?);
    let dtype = cx.b.dtype(x);
    let mut bounds = [None, None];
    if cx.opset < 11 {
        for (bound, name) in bounds.iter_mut().zip(["min", "max"]) {
            if cx.has_attr(name) {
                let number = cx.real(name, 0.0)?;
                *bound = Some(cx.b.scalar(number, dtype));
            }
        }
    } else {
        bounds = [cx.opt(1)?, cx.opt(2)?];
    }
    if let Some(low) = bounds[0] {
        x = cx.b.max(x, low);
    }
    if let Some(high) = bounds[1] {
        x = cx.b.min(x, high);
    }
    cx.one(elem, x)
}

/// The greater of `x` and 0.
pub(super) fn positive_part(b: &mut Builder, x: Value) -> Value {
    let zero = b.scalar(0.0, b.dtype(x));
    b.max(x, zero)
}

/// The smaller of `x` and 0.
pub(super) fn negative_part(b: &mut Builder, x: Value) -> Value {
    let zero = b.scalar(0.0, b.dtype(x));
    b.min(x, zero)
}

/// Whether `x` is below 0.
pub(super) fn is_negative(b: &mut Builder, x: Value) -> Value {
    let zero = b.scalar(0.0, b.dtype(x));
    b.compare(Comparison::Lt, x, zero)
}

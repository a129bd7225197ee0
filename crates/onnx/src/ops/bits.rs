//! Operations on the bits of integers, composed from arithmetic: a bit is what halving leaves over.

use super::arithmetic::pair;
use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, unsupported};
use crate::{Elem, elem};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Value};
use outgrow_tensor::{DType, Tensor};

pub(super) const RULES: &[Rule] = &[
    op("BitShift", shift),
    // Of two bits a and b: both, either, just one, as a polynomial in a + b and a·b.
    op("BitwiseAnd", |cx| combine(cx, |b, x, y| b.mul(x, y))),
    op("BitwiseNot", not),
    op("BitwiseOr", |cx| combine(cx, |b, x, y| b.max(x, y))),
    op("BitwiseXor", |cx| {
        combine(cx, |b, x, y| {
            let (high, low) = (b.max(x, y), b.min(x, y));
            b.sub(high, low)
        })
    }),
];

fn integer(cx: &Cx<'_>) -> Result<Elem, Refusal> {
    let elem = cx.elem(0)?;
    if elem.is_int() {
        Ok(elem)
    } else {
        unsupported(format!("input 0 is of {}", elem.name()), "an integer type")
    }
}

fn bits(elem: Elem) -> u32 {
    8 * elem.bytes() as u32
}

/// `2^y` for `0 ≤ y < 64`, where 2^63 is i64's least number; clamped.
fn power_of_two(b: &mut Builder, y: Value) -> Value {
    let table = b.constant(Tensor::vector((0..64).map(|k| 1i64 << k).collect()));
    let (first, last) = (b.scalar(0.0, DType::I64), b.scalar(63.0, DType::I64));
    let index = b.max(y, first);
    let index = b.min(index, last);
    b.gather(table, index)
}

/// Shifts by a negative number, or by all bits, leave nothing but the sign to the right.
fn shift(cx: &mut Cx<'_>) -> Lowered {
    let elem = integer(cx)?;
    let right = cx.text("direction", "")? == "RIGHT";
    if elem == Elem::U64 && !right {
        return unsupported("shifts UINT64 to the left", "smaller integers");
    }
    let (_, x, y) = pair(cx)?;
    let b = &mut *cx.b;
    let (x, y) = (b.cast(x, DType::I64), b.cast(y, DType::I64));
    let zero = b.scalar(0.0, DType::I64);
    // To the right, 2^63 cannot be divided by; such a shift leaves the sign alone as well.
    let limit = b.scalar(f64::from(bits(elem).min(if right { 63 } else { 64 })), DType::I64);
    let (negative, far) = (b.compare(Comparison::Lt, y, zero), b.compare(Comparison::Ge, y, limit));
    let outside = b.or(negative, far);
    let power = power_of_two(b, y);
    let (inside, rest) = if right {
        let below = elem::floor_mod(b, x, power);
        let even = b.sub(x, below);
        let minus_one = b.scalar(-1.0, DType::I64);
        let is_negative = b.compare(Comparison::Lt, x, zero);
        (b.div(even, power), b.select(is_negative, minus_one, zero))
    } else {
        (b.mul(x, power), zero)
    };
    let result = b.select(outside, rest, inside);
    let fits = narrowed(b, result, elem);
    cx.one(elem, fits)
}

/// The low bits of an i64, as `elem`.
fn narrowed(b: &mut Builder, x: Value, elem: Elem) -> Value {
    match elem {
        Elem::I32 | Elem::U8 => b.cast(x, elem.dtype()),
        _ => elem::cast(b, x, Elem::I64, elem),
    }
}

fn not(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x) = (integer(cx)?, cx.x(0)?);
    if elem == Elem::U64 {
        return unsupported("inverts UINT64", "smaller integers");
    }
    // The complement is the largest value less x, or for signed numbers -1 less x.
    let top = if elem.is_unsigned() { elem.range().1 as f64 } else { -1.0 };
    let top = cx.b.scalar(top, cx.b.dtype(x));
    let y = cx.b.sub(top, x);
    cx.one(elem, y)
}

fn combine(cx: &mut Cx<'_>, f: fn(&mut Builder, Value, Value) -> Value) -> Lowered {
    let elem = integer(cx)?;
    let (_, x, y) = pair(cx)?;
    let b = &mut *cx.b;
    let two = b.scalar(2.0, DType::I64);
    let (mut x, mut y) = (b.cast(x, DType::I64), b.cast(y, DType::I64));
    let mut sum: Option<Value> = None;
    for k in 0..bits(elem) {
        let (bit_x, bit_y) = (elem::floor_mod(b, x, two), elem::floor_mod(b, y, two));
        let bit = f(b, bit_x, bit_y);
        // The highest bit of a signed number counts negative; 2^63 is i64's own least value.
        let weight = b.constant(Tensor::scalar(1i64 << k));
        let term = b.mul(bit, weight);
        sum = Some(sum.map_or(term, |s| b.add(s, term)));
        let (rest_x, rest_y) = (b.sub(x, bit_x), b.sub(y, bit_y));
        (x, y) = (b.div(rest_x, two), b.div(rest_y, two));
    }
    let sum = sum.unwrap_or(x);
    let fits = narrowed(b, sum, elem);
    cx.one(elem, fits)
}

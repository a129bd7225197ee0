//! ONNX's element types and the types of the graph that carry them. A type that the graph lacks is carried in a wider
//! one and brought back into its range after each operation that can leave it.

use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Value};
use outgrow_tensor::{DType, to_odd};

/// An element type of ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Elem {
    F32,
    U8,
    I8,
    U16,
    I16,
    I32,
    I64,
    Bool,
    F16,
    F64,
    U32,
    U64,
    BF16,
}

impl Elem {
    /// Every type with its number and name in `onnx.proto`.
    pub const ALL: [(Self, i32, &'static str); 13] = [
        (Self::F32, 1, "FLOAT"),
        (Self::U8, 2, "UINT8"),
        (Self::I8, 3, "INT8"),
        (Self::U16, 4, "UINT16"),
        (Self::I16, 5, "INT16"),
        (Self::I32, 6, "INT32"),
        (Self::I64, 7, "INT64"),
        (Self::Bool, 9, "BOOL"),
        (Self::F16, 10, "FLOAT16"),
        (Self::F64, 11, "DOUBLE"),
        (Self::U32, 12, "UINT32"),
        (Self::U64, 13, "UINT64"),
        (Self::BF16, 16, "BFLOAT16"),
    ];

    /// The type of this number in `onnx.proto`, if it is one that is supported.
    pub fn of(code: i32) -> Option<Self> {
        Self::ALL.iter().find(|(_, c, _)| *c == code).map(|(elem, _, _)| *elem)
    }

    /// The number in `onnx.proto`.
    pub fn code(self) -> i32 {
        Self::ALL.iter().find(|(elem, _, _)| *elem == self).map_or(0, |(_, code, _)| *code)
    }

    /// The name in `onnx.proto`.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(elem, _, _)| *elem == self).map_or("", |(_, _, name)| *name)
    }

    /// The names of all types, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.iter().map(|(_, _, name)| *name).collect::<Vec<_>>().join(", ")
    }

    /// The element type of the graph that carries it: f16 and bf16 as f32 (rounded after each operation), small integers as i32, u32 and u64 as i64.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => DType::F32,
            Self::F64 => DType::F64,
            Self::Bool => DType::Bool,
            Self::U8 => DType::U8,
            Self::I8 | Self::U16 | Self::I16 | Self::I32 => DType::I32,
            Self::I64 | Self::U32 | Self::U64 => DType::I64,
        }
    }

    /// A number as this type holds it, where it is a float type narrower than f32.
    pub(crate) fn rounded(self, number: f64) -> f64 {
        match self {
            Self::F16 => half::f16::from_f32(to_odd(number)).to_f64(),
            Self::BF16 => half::bf16::from_f32(to_odd(number)).to_f64(),
            _ => number,
        }
    }

    /// Whether it is a float type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }

    /// Whether it is an integer type.
    pub fn is_int(self) -> bool {
        !self.is_float() && self != Self::Bool
    }

    /// Whether it is an integer type without negative numbers.
    pub fn is_unsigned(self) -> bool {
        matches!(self, Self::U8 | Self::U16 | Self::U32 | Self::U64)
    }

    /// Bytes of one element in a file.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// The smallest and the largest number of an integer type (of u64: the largest that i64 carries).
    pub fn range(self) -> (i64, i64) {
        match self {
            Self::U64 => (0, i64::MAX),
            Self::I64 => (i64::MIN, i64::MAX),
            Self::Bool => (0, 1),
            unsigned if unsigned.is_unsigned() => (0, (1 << (8 * unsigned.bytes())) - 1),
            signed => {
                let half = 1 << (8 * signed.bytes().min(4) - 1);
                (-half, half - 1)
            }
        }
    }
}

/// Brings a result of integer arithmetic back into the range of its type, modulo a power of two, and rounds f16.
pub(crate) fn wrapped(b: &mut Builder, x: Value, elem: Elem) -> Value {
    match elem {
        Elem::F16 => round_f16(b, x),
        Elem::BF16 => {
            let narrow = b.cast(x, DType::BF16);
            b.cast(narrow, DType::F32)
        }
        Elem::I8 | Elem::I16 | Elem::U16 | Elem::U32 => {
            let (low, high) = elem.range();
            let dtype = elem.dtype();
            let size = b.scalar((high - low + 1) as f64, dtype);
            let low = b.scalar(low as f64, dtype);
            let shifted = b.sub(x, low);
            let inside = floor_mod(b, shifted, size);
            b.add(inside, low)
        }
        _ => x,
    }
}

/// The remainder of integers with the sign of the divisor.
pub(crate) fn floor_mod(b: &mut Builder, x: Value, y: Value) -> Value {
    let quotient = b.div(x, y);
    let product = b.mul(quotient, y);
    let rest = b.sub(x, product);
    let zero = b.scalar(0.0, b.dtype(x));
    let off = b.compare(Comparison::Ne, rest, zero);
    let rest_negative = b.compare(Comparison::Lt, rest, zero);
    let y_negative = b.compare(Comparison::Lt, y, zero);
    let differ = {
        let (p, q) = b.broadcast_together(rest_negative, y_negative);
        b.compare(Comparison::Ne, p, q)
    };
    let (off, differ) = b.broadcast_together(off, differ);
    let wrong = b.and(off, differ);
    let mended = b.add(rest, y);
    let (wrong, mended) = b.broadcast_together(wrong, mended);
    let (_, rest) = b.broadcast_together(wrong, rest);
    b.select(wrong, mended, rest)
}

/// An f32 rounded to the nearest value that f16 has, ties to even.
///
/// Veltkamp's splitting keeps the upper 11 bits of a product's rounding; below f16's smallest normal number the last
/// place is 2^-24, which adding and subtracting 0.75 rounds to.
fn round_f16(b: &mut Builder, x: Value) -> Value {
    let scaled = b.mul_scalar(x, 8193.0);
    let rest = b.sub(scaled, x);
    let normal = b.sub(scaled, rest);
    let shifted = b.add_scalar(x, 0.75);
    let small = b.add_scalar(shifted, -0.75);
    let magnitude = b.abs(x);
    let limit = b.scalar(6.103_515_625e-5, DType::F32);
    let is_small = b.compare(Comparison::Lt, magnitude, limit);
    let rounded = b.select(is_small, small, normal);
    let largest = b.scalar(65_520.0, DType::F32);
    let too_large = b.compare(Comparison::Ge, magnitude, largest);
    let infinite = b.mul_scalar(x, f64::INFINITY);
    let bounded = b.select(too_large, infinite, rounded);
    let is_number = b.compare(Comparison::Eq, x, x);
    b.select(is_number, bounded, x)
}

/// Converts between element types as ONNX's `Cast` does.
pub(crate) fn cast(b: &mut Builder, x: Value, from: Elem, to: Elem) -> Value {
    if from == to {
        return x;
    }
    let cast = b.cast(x, to.dtype());
    match to {
        Elem::F16 | Elem::BF16 if !matches!(from, Elem::U8 | Elem::I8 | Elem::Bool) => {
            // A double rounds twice on its way to f16; a value on a tie of both is too rare to pay for.
            wrapped(b, cast, to)
        }
        Elem::I8 | Elem::I16 | Elem::U16 | Elem::U32 if from.is_float() || from.is_int() => {
            let (low, high) = to.range();
            let fits = from.is_int() && from.range().0 >= low && from.range().1 <= high;
            if fits { cast } else { wrapped(b, cast, to) }
        }
        _ => cast,
    }
}

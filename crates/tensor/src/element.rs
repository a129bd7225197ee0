//! The Rust types that are element types of tensors.

use crate::{DType, bf16};
use bytemuck::{CheckedBitPattern, NoUninit};
use std::fmt::Debug;

/// A Rust type that is an element type of tensors. Its bytes in memory are those of the tensor's elements on this
/// machine.
pub trait Element:
    Copy + Default + PartialEq + Debug + Send + Sync + NoUninit + CheckedBitPattern + 'static
{
    /// The matching element type.
    const DTYPE: DType;
    /// The nearest value: floats round to nearest even, integers truncate and saturate, `bool` is whether `value` is
    /// not zero.
    fn from_f64(value: f64) -> Self;
    /// The same value; narrower integers wrap, floats round (by way of f64), `bool` is whether `value` is not zero.
    fn from_i64(value: i64) -> Self;
    /// The same value, `bool` as 0 or 1; large `i64` rounds.
    fn to_f64(self) -> f64;
    /// The same value, `bool` as 0 or 1; floats truncate towards zero and saturate.
    fn to_i64(self) -> i64;
    /// Bytes as elements of this machine, where they are aligned and stand for such, whatever the bits: none for `bool`,
    /// whose bytes would have to be looked at one by one.
    fn cast(bytes: &[u8]) -> Option<&[Self]>;
    /// The element of these little-endian bytes, as many as it has. Any non-zero byte is `true`.
    fn read_le(bytes: &[u8]) -> Self;
    /// Appends its little-endian bytes.
    fn push_le(self, out: &mut Vec<u8>);
}

/// The f32 on the way to a narrower float: `value` itself, or else of its two neighbours the one whose lowest bit is set,
/// so that rounding once more, to nearest even, gives what rounding `value` at once would (S. Boldo and G. Melquiond,
/// "When double rounding is odd"). The conversions from f64 of `half` leave out the lower 32 bits, which tell a number
/// just beside the middle of two from the middle.
#[inline]
pub fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    let back = f64::from(near);
    if back == value || value.is_nan() || near.to_bits() & 1 == 1 {
        near
    } else if back.abs() < value.abs() {
        f32::from_bits(near.to_bits() + 1)
    } else {
        f32::from_bits(near.to_bits() - 1)
    }
}

/// The methods about bytes, for types of which all bits are values.
macro_rules! any_bits {
    () => {
        fn cast(bytes: &[u8]) -> Option<&[Self]> {
            bytemuck::try_cast_slice(bytes).ok()
        }
        fn read_le(bytes: &[u8]) -> Self {
            bytes.try_into().map_or_else(|_| Self::default(), Self::from_le_bytes)
        }
        fn push_le(self, out: &mut Vec<u8>) {
            out.extend(self.to_le_bytes());
        }
    };
}

macro_rules! numbers {
    ($($ty:ty => $variant:ident through $wide:ty,)*) => {$(
        impl Element for $ty {
            const DTYPE: DType = DType::$variant;
            fn from_f64(value: f64) -> Self {
                value as Self
            }
            fn from_i64(value: i64) -> Self {
                value as $wide as Self
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn to_i64(self) -> i64 {
                self as i64
            }
            any_bits!();
        }
    )*};
}
numbers! {
    u8 => U8 through i64,
    i32 => I32 through i64,
    i64 => I64 through i64,
    // By way of f64, as every other number becomes one.
    f32 => F32 through f64,
    f64 => F64 through f64,
}

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn from_f64(value: f64) -> Self {
        value != 0.0
    }
    fn from_i64(value: i64) -> Self {
        value != 0
    }
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn to_i64(self) -> i64 {
        i64::from(self)
    }
    fn cast(_: &[u8]) -> Option<&[Self]> {
        None
    }
    fn read_le(bytes: &[u8]) -> Self {
        bytes != [0]
    }
    fn push_le(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::BF16;
    fn from_f64(value: f64) -> Self {
        Self::from_f32(to_odd(value))
    }
    fn from_i64(value: i64) -> Self {
        Element::from_f64(value as f64)
    }
    fn to_f64(self) -> f64 {
        self.to_f64()
    }
    fn to_i64(self) -> i64 {
        self.to_f64() as i64
    }
    any_bits!();
}

/// Runs `$body` with `$T` standing for the Rust type of the element type `$dtype`.
macro_rules! each_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::Bool => {
                type $T = bool;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                $body
            }
            $crate::DType::I32 => {
                type $T = i32;
                $body
            }
            $crate::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::DType::BF16 => {
                type $T = $crate::bf16;
                $body
            }
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
        }
    };
}
pub(crate) use each_type;

#[cfg(test)]
mod tests {
    use super::*;

    /// The nearest bf16 by search among its neighbours, halves to even.
    fn nearest(value: f64) -> bf16 {
        let (mut best, mut distance) = (bf16::ZERO, f64::INFINITY);
        let about = (value as f32).to_bits() >> 16;
        for bits in [about - 1, about, about + 1, about + 2] {
            let number = bf16::from_bits(bits as u16);
            let far = (number.to_f64() - value).abs();
            if far < distance || far == distance && bits & 1 == 0 {
                (best, distance) = (number, far);
            }
        }
        best
    }

    #[test]
    fn bf16_is_the_nearest_beside_the_middle_of_two_too() {
        for bits in [0x3f80_u16, 0x3f81, 0x4049, 0xc2fe, 0x0001, 0x0080, 0x7f00] {
            let (low, high) = (bf16::from_bits(bits).to_f64(), bf16::from_bits(bits + 1).to_f64());
            let middle = (low + high) / 2.0;
            for value in [middle.next_down(), middle, middle.next_up(), low.next_up(), high.next_down()] {
                assert_eq!(<bf16 as Element>::from_f64(value), nearest(value), "{value:e}");
            }
            // An f32 just above the middle, which `half` takes for the middle.
            let above = f64::from(f32::from_bits(u32::from(bits) << 16 | 0x8001));
            assert_eq!(<bf16 as Element>::from_f64(above), nearest(above), "{above:e}");
        }
        assert_eq!(<bf16 as Element>::from_f64(f64::MAX), bf16::INFINITY);
        assert_eq!(<bf16 as Element>::from_f64(-1e-300).to_bits(), bf16::NEG_ZERO.to_bits());
        assert_eq!(<bf16 as Element>::from_f64(f64::NEG_INFINITY), bf16::NEG_INFINITY);
        assert!(<bf16 as Element>::from_f64(f64::NAN).is_nan());
        // One above the middle of 2^24 and the next bf16; of i64, the same.
        assert_eq!(
            <bf16 as Element>::from_i64((1 << 40) + (1 << 32) + 1).to_f64(),
            (1_i64 << 40) as f64 + (1_i64 << 33) as f64
        );
    }
}

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
        Self::from_f64(value)
    }
    fn from_i64(value: i64) -> Self {
        Self::from_f64(value as f64)
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

//! Dense host tensors in row-major order, with typed access and conversion to and from little-endian bytes.

use crate::{DType, Shape, bf16};
use bytemuck::Pod;
use thiserror::Error;

/// What can be wrong with the parts a tensor is made of.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of elements differs from what the shape asks for.
    #[error("shape {shape} needs {expected} elements, got {got}")]
    Count {
        /// The shape asked for.
        shape: Shape,
        /// Elements (or bytes) the shape needs.
        expected: usize,
        /// Elements (or bytes) given.
        got: usize,
    },
    /// The elements are of another type than asked for.
    #[error("expected elements of type {expected}, got {got}")]
    Type {
        /// The type asked for.
        expected: DType,
        /// The type there is.
        got: DType,
    },
}

/// The elements of a tensor, one vector per element type. `Bool` holds bytes that are 0 or 1.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum TensorData {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    BF16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// Runs `$body` with `$v` bound to the typed vector inside `$data`.
macro_rules! each_data {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            TensorData::Bool($v) => $body,
            TensorData::U8($v) => $body,
            TensorData::I32($v) => $body,
            TensorData::I64($v) => $body,
            TensorData::BF16($v) => $body,
            TensorData::F32($v) => $body,
            TensorData::F64($v) => $body,
        }
    };
}

/// A Rust type that is an element type of tensors.
pub trait Element: Copy + Send + Sync + 'static {
    /// The matching element type.
    const DTYPE: DType;
    /// Wraps a vector.
    fn wrap(data: Vec<Self>) -> TensorData;
    /// The elements, when `data` is of this type.
    fn slice(data: &TensorData) -> Option<&[Self]>;
    /// The elements for writing, when `data` is of this type.
    fn slice_mut(data: &mut TensorData) -> Option<&mut [Self]>;
}

macro_rules! elements {
    ($($ty:ty => $variant:ident),*) => {$(
        impl Element for $ty {
            const DTYPE: DType = DType::$variant;
            fn wrap(data: Vec<Self>) -> TensorData { TensorData::$variant(data) }
            fn slice(data: &TensorData) -> Option<&[Self]> {
                match data { TensorData::$variant(v) => Some(v), _ => None }
            }
            fn slice_mut(data: &mut TensorData) -> Option<&mut [Self]> {
                match data { TensorData::$variant(v) => Some(v), _ => None }
            }
        }
    )*};
}
elements!(bool => Bool, u8 => U8, i32 => I32, i64 => I64, bf16 => BF16, f32 => F32, f64 => F64);

/// A dense tensor in host memory, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: TensorData,
}

impl Tensor {
    /// A tensor of `shape` from its elements in row-major order.
    pub fn new<T: Element>(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self, TensorError> {
        let shape = shape.into();
        if shape.elements() != data.len() {
            return Err(TensorError::Count { expected: shape.elements(), got: data.len(), shape });
        }
        Ok(Self { shape, data: T::wrap(data) })
    }

    /// A tensor of rank zero.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Shape::scalar(), data: T::wrap(vec![value]) }
    }

    /// A tensor of rank one.
    pub fn vector<T: Element>(data: Vec<T>) -> Self {
        Self { shape: Shape::new([data.len()]), data: T::wrap(data) }
    }

    /// A tensor of zeros (`false` for `bool`).
    pub fn zeros(dtype: DType, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let n = shape.elements();
        let data = match dtype {
            DType::Bool => TensorData::Bool(vec![false; n]),
            DType::U8 => TensorData::U8(vec![0; n]),
            DType::I32 => TensorData::I32(vec![0; n]),
            DType::I64 => TensorData::I64(vec![0; n]),
            DType::BF16 => TensorData::BF16(vec![bf16::ZERO; n]),
            DType::F32 => TensorData::F32(vec![0.0; n]),
            DType::F64 => TensorData::F64(vec![0.0; n]),
        };
        Self { shape, data }
    }

    /// A tensor from little-endian bytes in row-major order. Any non-zero byte of a `bool` tensor is `true`.
    pub fn from_le_bytes(dtype: DType, shape: impl Into<Shape>, bytes: &[u8]) -> Result<Self, TensorError> {
        let shape = shape.into();
        let expected = shape.elements().saturating_mul(dtype.bytes());
        if expected != bytes.len() {
            return Err(TensorError::Count { shape, expected, got: bytes.len() });
        }
        let data = match dtype {
            DType::Bool => TensorData::Bool(bytes.iter().map(|b| *b != 0).collect()),
            DType::U8 => TensorData::U8(bytes.to_vec()),
            DType::I32 => TensorData::I32(from_le(bytes, i32::from_le)),
            DType::I64 => TensorData::I64(from_le(bytes, i64::from_le)),
            DType::BF16 => {
                TensorData::BF16(from_le(bytes, |b: bf16| bf16::from_bits(u16::from_le(b.to_bits()))))
            }
            DType::F32 => TensorData::F32(from_le(bytes, |v: f32| f32::from_bits(u32::from_le(v.to_bits())))),
            DType::F64 => TensorData::F64(from_le(bytes, |v: f64| f64::from_bits(u64::from_le(v.to_bits())))),
        };
        Ok(Self { shape, data })
    }

    /// The elements as little-endian bytes in row-major order.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match &self.data {
            TensorData::Bool(v) => v.iter().map(|b| u8::from(*b)).collect(),
            TensorData::U8(v) => v.clone(),
            TensorData::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            TensorData::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            TensorData::BF16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            TensorData::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            TensorData::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        match &self.data {
            TensorData::Bool(_) => DType::Bool,
            TensorData::U8(_) => DType::U8,
            TensorData::I32(_) => DType::I32,
            TensorData::I64(_) => DType::I64,
            TensorData::BF16(_) => DType::BF16,
            TensorData::F32(_) => DType::F32,
            TensorData::F64(_) => DType::F64,
        }
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The typed elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The typed elements, for writing.
    pub fn data_mut(&mut self) -> &mut TensorData {
        &mut self.data
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// The elements as `T`, or an error naming both types.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        T::slice(&self.data).ok_or(TensorError::Type { expected: T::DTYPE, got: self.dtype() })
    }

    /// The elements as `T` for writing, or an error naming both types.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        let got = self.dtype();
        T::slice_mut(&mut self.data).ok_or(TensorError::Type { expected: T::DTYPE, got })
    }

    /// The same elements under another shape of as many elements.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Result<Self, TensorError> {
        let shape = shape.into();
        if shape.elements() != self.elements() {
            return Err(TensorError::Count { expected: shape.elements(), got: self.elements(), shape });
        }
        Ok(Self { shape, data: self.data })
    }

    /// Element `i` in row-major order as `f64` (`bool` as 0 or 1; large `i64` rounds).
    pub fn get_f64(&self, i: usize) -> f64 {
        match &self.data {
            TensorData::Bool(v) => f64::from(u8::from(v[i])),
            TensorData::U8(v) => f64::from(v[i]),
            TensorData::I32(v) => f64::from(v[i]),
            TensorData::I64(v) => v[i] as f64,
            TensorData::BF16(v) => v[i].to_f64(),
            TensorData::F32(v) => f64::from(v[i]),
            TensorData::F64(v) => v[i],
        }
    }

    /// Element `i` in row-major order as `i64` (floats truncate towards zero and saturate).
    pub fn get_i64(&self, i: usize) -> i64 {
        match &self.data {
            TensorData::Bool(v) => i64::from(v[i]),
            TensorData::U8(v) => i64::from(v[i]),
            TensorData::I32(v) => i64::from(v[i]),
            TensorData::I64(v) => v[i],
            TensorData::BF16(v) => v[i].to_f64() as i64,
            TensorData::F32(v) => v[i] as i64,
            TensorData::F64(v) => v[i] as i64,
        }
    }

    /// Builds a tensor of `dtype` element by element from `f64` values: floats round to nearest even, integers
    /// truncate and saturate, `bool` is whether the value is not zero.
    pub fn from_f64(dtype: DType, shape: impl Into<Shape>, mut value: impl FnMut(usize) -> f64) -> Self {
        let shape = shape.into();
        let n = 0..shape.elements();
        let data = match dtype {
            DType::Bool => TensorData::Bool(n.map(|i| value(i) != 0.0).collect()),
            DType::U8 => TensorData::U8(n.map(|i| value(i) as u8).collect()),
            DType::I32 => TensorData::I32(n.map(|i| value(i) as i32).collect()),
            DType::I64 => TensorData::I64(n.map(|i| value(i) as i64).collect()),
            DType::BF16 => TensorData::BF16(n.map(|i| bf16::from_f64(value(i))).collect()),
            DType::F32 => TensorData::F32(n.map(|i| value(i) as f32).collect()),
            DType::F64 => TensorData::F64(n.map(value).collect()),
        };
        Self { shape, data }
    }

    /// Builds a tensor of `dtype` element by element from `i64` values; narrower integers wrap.
    pub fn from_i64(dtype: DType, shape: impl Into<Shape>, mut value: impl FnMut(usize) -> i64) -> Self {
        let shape = shape.into();
        let n = 0..shape.elements();
        match dtype {
            DType::Bool => Self { data: TensorData::Bool(n.map(|i| value(i) != 0).collect()), shape },
            DType::U8 => Self { data: TensorData::U8(n.map(|i| value(i) as u8).collect()), shape },
            DType::I32 => Self { data: TensorData::I32(n.map(|i| value(i) as i32).collect()), shape },
            DType::I64 => Self { data: TensorData::I64(n.map(value).collect()), shape },
            float => Self::from_f64(float, shape, |i| value(i) as f64),
        }
    }

    /// Whether both hold the same type, shape and bits; unlike `==`, NaN equals NaN and 0.0 differs from -0.0.
    pub fn same_bits(&self, other: &Self) -> bool {
        self.shape == other.shape
            && self.dtype() == other.dtype()
            && self.to_le_bytes() == other.to_le_bytes()
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        each_data!(&self.data, v => size_of_val(v.as_slice()))
    }
}

fn from_le<T: Pod>(bytes: &[u8], convert: impl Fn(T) -> T) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(|c| convert(bytemuck::pod_read_unaligned(c))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_for_every_type() {
        for dtype in DType::ALL {
            let t = Tensor::from_f64(dtype, [2, 3], |i| i as f64);
            let back = Tensor::from_le_bytes(dtype, [2, 3], &t.to_le_bytes()).unwrap();
            assert_eq!(t, back, "{dtype}");
            assert_eq!(t.bytes(), 6 * dtype.bytes());
            assert!(Tensor::from_le_bytes(dtype, [7], &t.to_le_bytes()).is_err());
        }
    }

    #[test]
    fn wrong_type_names_both() {
        let error = Tensor::scalar(1.0f32).as_slice::<i64>().unwrap_err();
        assert_eq!(error.to_string(), "expected elements of type i64, got f32");
    }
}

//! Dense host tensors in row-major order: a type, a shape, and bytes that clones share. The bytes are a vector of
//! elements, or lie in something that others hold as well, such as a mapped file.

use crate::element::each_type;
use crate::{DType, Element, Shape};
use bytes::Bytes;
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
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

/// Most elements that are shown of a tensor.
const SHOWN: usize = 100;

/// A dense tensor in host memory, row-major. Clones share the elements; who writes to shared ones gets a copy first.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    elements: Elements,
}

/// Where the elements are. They are always aligned for their type, and every `bool` is 0 or 1.
#[derive(Clone)]
enum Elements {
    /// A `Vec<T>` of the tensor's own type and length.
    Own(Arc<dyn Vector>),
    /// Little-endian bytes that others may hold too, on a little-endian machine.
    Shared(Bytes),
}

/// A vector of elements of some type.
trait Vector: Any + Send + Sync {
    fn bytes(&self) -> &[u8];
}

impl<T: Element> Vector for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

impl Tensor {
    /// A tensor of `shape` from its elements in row-major order.
    pub fn new<T: Element>(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self, TensorError> {
        let shape = shape.into();
        if shape.elements() != data.len() {
            return Err(TensorError::Count { expected: shape.elements(), got: data.len(), shape });
        }
        Ok(Self::own(shape, data))
    }

    /// A tensor of as many elements as `shape` has.
    fn own<T: Element>(shape: Shape, data: Vec<T>) -> Self {
        Self { dtype: T::DTYPE, shape, elements: Elements::Own(Arc::new(data)) }
    }

    /// A tensor of rank zero.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self::own(Shape::scalar(), vec![value])
    }

    /// A tensor of rank one.
    pub fn vector<T: Element>(data: Vec<T>) -> Self {
        Self::own(Shape::new([data.len()]), data)
    }

    /// A tensor of zeros (`false` for `bool`).
    pub fn zeros(dtype: DType, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let n = shape.elements();
        each_type!(dtype, T => Self::own(shape, vec![T::default(); n]))
    }

    /// A tensor from little-endian bytes in row-major order. Any non-zero byte of a `bool` tensor is `true`.
    pub fn from_le_bytes(dtype: DType, shape: impl Into<Shape>, bytes: &[u8]) -> Result<Self, TensorError> {
        let shape = fitting(dtype, shape.into(), bytes.len())?;
        Ok(each_type!(dtype, T => {
            Self::own(shape, bytes.chunks_exact(dtype.bytes()).map(T::read_le).collect::<Vec<T>>())
        }))
    }

    /// As [`Tensor::from_le_bytes`], without a copy of the bytes: they are shared with whoever else holds them. They
    /// are copied all the same where they cannot stand for elements as they are: when they are not aligned for
    /// `dtype`, for `bool` (any byte but 0 is true), and on a big-endian machine.
    pub fn from_shared(dtype: DType, shape: impl Into<Shape>, bytes: Bytes) -> Result<Self, TensorError> {
        let shape = fitting(dtype, shape.into(), bytes.len())?;
        let fits = each_type!(dtype, T => <T as Element>::cast(&bytes).is_some());
        if cfg!(target_endian = "little") && fits {
            return Ok(Self { dtype, shape, elements: Elements::Shared(bytes) });
        }
        Self::from_le_bytes(dtype, shape, &bytes)
    }

    /// The elements in row-major order as this machine holds them, aligned for their type.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.elements {
            Elements::Own(vector) => vector.bytes(),
            Elements::Shared(bytes) => bytes,
        }
    }

    /// The elements as little-endian bytes in row-major order, without a copy where the machine is little-endian.
    pub fn le_bytes(&self) -> Cow<'_, [u8]> {
        if cfg!(target_endian = "little") {
            return Cow::Borrowed(self.as_bytes());
        }
        let mut out = Vec::with_capacity(self.bytes());
        each_type!(self.dtype, T => self.typed::<T>().iter().for_each(|x| x.push_le(&mut out)));
        Cow::Owned(out)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.as_bytes().len()
    }

    /// The elements as `T`, or an error naming both types.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        self.expect::<T>()?;
        Ok(self.typed())
    }

    /// The elements as `T` for writing, or an error naming both types. What is shared is copied first.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        self.expect::<T>()?;
        let alone = match &mut self.elements {
            Elements::Own(vector) => Arc::get_mut(vector).is_some(),
            Elements::Shared(_) => false,
        };
        if !alone {
            self.elements = Elements::Own(Arc::new(self.typed::<T>().to_vec()));
        }
        let own = match &mut self.elements {
            Elements::Own(vector) => Arc::get_mut(vector).map(|vector| vector as &mut dyn Any),
            Elements::Shared(_) => None,
        };
        let vector = own.and_then(|vector| vector.downcast_mut::<Vec<T>>());
        Ok(vector.expect("invariant: the vector is of the tensor's type and nobody else's"))
    }

    /// The elements as a vector: the tensor's own where nobody shares it, else a copy; or an error naming both types.
    pub fn into_vec<T: Element>(self) -> Result<Vec<T>, TensorError> {
        self.expect::<T>()?;
        match self.elements {
            Elements::Shared(_) => Ok(self.typed().to_vec()),
            Elements::Own(vector) => {
                let vector: Arc<dyn Any + Send + Sync> = vector;
                let vector = vector.downcast().expect("invariant: the vector is of the tensor's type");
                Ok(Arc::unwrap_or_clone(vector))
            }
        }
    }

    fn expect<T: Element>(&self) -> Result<(), TensorError> {
        if self.dtype == T::DTYPE {
            Ok(())
        } else {
            Err(TensorError::Type { expected: T::DTYPE, got: self.dtype })
        }
    }

    /// The elements, which are of this type.
    fn typed<T: Element>(&self) -> &[T] {
        let found = match &self.elements {
            Elements::Own(vector) => (&**vector as &dyn Any).downcast_ref::<Vec<T>>().map(Vec::as_slice),
            Elements::Shared(bytes) => T::cast(bytes),
        };
        found.expect("invariant: the elements are of the tensor's type and aligned for it")
    }

    /// Element `i`, which is of this type, in row-major order.
    fn at<T: Element>(&self, i: usize) -> T {
        let bytes = &self.as_bytes()[i * size_of::<T>()..(i + 1) * size_of::<T>()];
        bytemuck::checked::pod_read_unaligned(bytes)
    }

    /// The same elements under another shape of as many elements.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Result<Self, TensorError> {
        let shape = shape.into();
        if shape.elements() != self.elements() {
            return Err(TensorError::Count { expected: shape.elements(), got: self.elements(), shape });
        }
        Ok(Self { shape, ..self })
    }

    /// Element `i` in row-major order as `f64` (`bool` as 0 or 1; large `i64` rounds).
    pub fn get_f64(&self, i: usize) -> f64 {
        each_type!(self.dtype, T => self.at::<T>(i).to_f64())
    }

    /// Element `i` in row-major order as `i64` (floats truncate towards zero and saturate).
    pub fn get_i64(&self, i: usize) -> i64 {
        each_type!(self.dtype, T => self.at::<T>(i).to_i64())
    }

    /// Builds a tensor of `dtype` element by element from `f64` values: floats round to nearest even, integers
    /// truncate and saturate, `bool` is whether the value is not zero.
    pub fn from_f64(dtype: DType, shape: impl Into<Shape>, mut value: impl FnMut(usize) -> f64) -> Self {
        let shape = shape.into();
        let n = 0..shape.elements();
        each_type!(dtype, T => Self::own(shape, n.map(|i| <T as Element>::from_f64(value(i))).collect::<Vec<T>>()))
    }

    /// Builds a tensor of `dtype` element by element from `i64` values; narrower integers wrap.
    pub fn from_i64(dtype: DType, shape: impl Into<Shape>, mut value: impl FnMut(usize) -> i64) -> Self {
        let shape = shape.into();
        let n = 0..shape.elements();
        each_type!(dtype, T => Self::own(shape, n.map(|i| <T as Element>::from_i64(value(i))).collect::<Vec<T>>()))
    }

    /// Whether both hold the same type, shape and bits; unlike `==`, NaN equals NaN and 0.0 differs from -0.0.
    pub fn same_bits(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.as_bytes() == other.as_bytes()
    }
}

/// The shape, when `bytes` bytes are as many as its elements have.
fn fitting(dtype: DType, shape: Shape, bytes: usize) -> Result<Shape, TensorError> {
    let expected = shape.elements().saturating_mul(dtype.bytes());
    if expected == bytes { Ok(shape) } else { Err(TensorError::Count { shape, expected, got: bytes }) }
}

/// Equal types, shapes and elements: as among numbers, NaN equals nothing.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && each_type!(self.dtype, T => self.typed::<T>() == other.typed::<T>())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} ", self.dtype, self.shape)?;
        each_type!(self.dtype, T => {
            let shown = &self.typed::<T>()[..self.elements().min(SHOWN)];
            f.debug_list().entries(shown).finish()
        })?;
        if self.elements() > SHOWN { write!(f, " and {} more", self.elements() - SHOWN) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_for_every_type() {
        for dtype in DType::ALL {
            let t = Tensor::from_f64(dtype, [2, 3], |i| i as f64);
            let back = Tensor::from_le_bytes(dtype, [2, 3], &t.le_bytes()).unwrap();
            assert_eq!(t, back, "{dtype}");
            assert_eq!(t.bytes(), 6 * dtype.bytes());
            assert!(Tensor::from_le_bytes(dtype, [7], &t.le_bytes()).is_err());
            assert!(Tensor::from_shared(dtype, [7], Bytes::copy_from_slice(&t.le_bytes())).is_err());
        }
    }

    #[test]
    fn wrong_type_names_both() {
        let mut tensor = Tensor::scalar(1.0f32);
        let text = "expected elements of type i64, got f32";
        assert_eq!(tensor.as_slice::<i64>().unwrap_err().to_string(), text);
        assert_eq!(tensor.as_mut_slice::<i64>().unwrap_err().to_string(), text);
        assert_eq!(tensor.into_vec::<i64>().unwrap_err().to_string(), text);
    }

    /// Bytes of two tensors' elements, which begin at a place that is aligned for both.
    fn aligned(dtype: DType, values: &[f64]) -> Bytes {
        struct Held(Tensor);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }
        Bytes::from_owner(Held(Tensor::from_f64(dtype, [values.len()], |i| values[i])))
    }

    #[test]
    fn shared_bytes_are_not_copied_until_somebody_writes() {
        for dtype in DType::ALL {
            let bytes = aligned(dtype, &[1.0, 0.0, 1.0, 1.0]);
            let part = bytes.slice(2 * dtype.bytes()..);
            let mut tensor = Tensor::from_shared(dtype, [2], part.clone()).unwrap();
            let clone = tensor.clone();
            let place = tensor.as_bytes().as_ptr();
            assert_eq!(place, clone.as_bytes().as_ptr(), "{dtype}");
            assert_eq!(place == part.as_ptr(), dtype != DType::Bool, "{dtype}");
            assert_eq!(tensor, Tensor::from_f64(dtype, [2], |_| 1.0));
            each_type!(dtype, T => tensor.as_mut_slice::<T>().unwrap()[0] = T::default());
            assert_eq!([tensor.get_f64(0), clone.get_f64(0)], [0.0, 1.0], "{dtype}");
            assert_eq!(each_type!(dtype, T => tensor.into_vec::<T>().unwrap()[1].to_f64()), 1.0);
        }
    }

    #[test]
    fn clones_share_until_one_is_written() {
        let mut tensor = Tensor::vector(vec![1.0f32, 2.0]);
        let place = tensor.as_bytes().as_ptr();
        let clone = tensor.clone();
        assert_eq!(clone.as_bytes().as_ptr(), place);
        tensor.as_mut_slice::<f32>().unwrap()[0] = 7.0;
        assert_eq!((tensor.get_f64(0), clone.get_f64(0)), (7.0, 1.0));
        // Alone again, the other one is written and taken apart where it is.
        let mut clone = clone;
        clone.as_mut_slice::<f32>().unwrap()[1] = 8.0;
        assert_eq!(clone.as_bytes().as_ptr(), place);
        let vector = clone.into_vec::<f32>().unwrap();
        assert_eq!((vector.as_ptr().cast(), vector.as_slice()), (place, &[1.0, 8.0][..]));
    }

    #[test]
    fn bytes_that_are_no_elements_as_they_are_get_copied() {
        let bytes = aligned(DType::F64, &[0.0, 1.0, 2.0]);
        for at in 1..8 {
            let part = bytes.slice(at..at + 16);
            let tensor = Tensor::from_shared(DType::F64, [2], part.clone()).unwrap();
            assert_ne!(tensor.as_bytes().as_ptr(), part.as_ptr(), "{at} bytes beside a place of f64");
            assert_eq!(tensor.as_bytes(), &part[..]);
        }
        let odd = Tensor::from_shared(DType::Bool, [3], Bytes::from_static(&[0, 1, 7])).unwrap();
        assert_eq!(odd.as_slice::<bool>().unwrap(), [false, true, true]);
        assert_eq!(odd.as_bytes(), [0, 1, 1]);
        // Nothing may stand at any place.
        let nothing = Tensor::from_shared(DType::I64, [0, 3], bytes.slice(1..1)).unwrap();
        assert_eq!(nothing.as_slice::<i64>().unwrap(), [0i64; 0]);
    }

    #[test]
    fn few_elements_are_shown() {
        assert_eq!(format!("{:?}", Tensor::vector(vec![1i32, -2])), "i32[2] [1, -2]");
        let shown = format!("{:?}", Tensor::zeros(DType::U8, [101]));
        assert!(shown.ends_with("0, 0] and 1 more"), "{shown}");
    }
}

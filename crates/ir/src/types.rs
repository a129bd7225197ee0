//! Types of values: an element type and dimensions.

use crate::{Dim, Sizes};
use outgrow_tensor::{DType, Shape};
use std::fmt;

/// The type of a value in a graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; none for a scalar.
    pub dims: Vec<Dim>,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, dims: impl IntoIterator<Item = impl Into<Dim>>) -> Self {
        Self { dtype, dims: dims.into_iter().map(Into::into).collect() }
    }

    /// The type of a scalar.
    pub fn scalar(dtype: DType) -> Self {
        Self { dtype, dims: Vec::new() }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The same dimensions with another element type.
    #[must_use]
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, dims: self.dims.clone() }
    }

    /// The same with these symbols bound.
    #[must_use]
    pub fn bind(&self, sizes: &Sizes) -> Self {
        Self { dtype: self.dtype, dims: self.dims.iter().map(|d| d.bind(sizes)).collect() }
    }

    /// The shape of a type without symbolic dimensions (as after [`crate::Graph::bind`]).
    pub fn static_shape(&self) -> Option<Shape> {
        self.dims.iter().map(|d| d.fixed()).collect::<Option<Vec<_>>>().map(Shape::new)
    }

    /// Elements where every symbol is 1 (a static type's true number), saturating.
    pub fn unit_elements(&self) -> usize {
        self.dims.iter().fold(1usize, |n, d| n.saturating_mul(d.unit()))
    }

    /// Bytes of these elements, saturating.
    pub fn unit_bytes(&self) -> usize {
        self.unit_elements().saturating_mul(self.dtype.bytes())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.dims.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

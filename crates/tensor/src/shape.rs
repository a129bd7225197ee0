//! Shapes of tensors in row-major order.

use std::fmt;
use std::ops::Deref;

/// The extents of a tensor's dimensions, outermost first. A scalar has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// A shape with these extents.
    pub fn new(dims: impl Into<Vec<usize>>) -> Self {
        Self(dims.into())
    }

    /// A shape with these extents; `None` if its elements, of so many `bytes` each, take more than can be counted. An empty
    /// dimension does not hide absurd ones from code that multiplies some of them.
    pub fn checked(dims: impl Into<Vec<usize>>, bytes: usize) -> Option<Self> {
        let dims = dims.into();
        dims.iter().try_fold(bytes, |n, d| n.checked_mul((*d).max(1)))?;
        Some(Self(dims))
    }

    /// The shape of a scalar.
    pub fn scalar() -> Self {
        Self(Vec::new())
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements: the product of the extents, 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.rank()];
        for i in (1..self.rank()).rev() {
            strides[i - 1] = strides[i] * self.0[i];
        }
        strides
    }

    /// The multi-index of flat position `flat`.
    pub fn unravel(&self, mut flat: usize) -> Vec<usize> {
        let mut index = vec![0; self.rank()];
        for i in (0..self.rank()).rev() {
            index[i] = flat % self.0[i];
            flat /= self.0[i];
        }
        index
    }

    /// The flat position of multi-index `index`.
    pub fn ravel(&self, index: &[usize]) -> usize {
        debug_assert_eq!(index.len(), self.rank());
        index.iter().zip(&self.0).fold(0, |flat, (i, d)| flat * d + i)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl<T: Into<Vec<usize>>> From<T> for Shape {
    fn from(dims: T) -> Self {
        Self(dims.into())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, "]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ravel_inverts_unravel() {
        let shape = Shape::new([2, 3, 4]);
        assert_eq!(shape.strides(), [12, 4, 1]);
        for flat in 0..shape.elements() {
            assert_eq!(shape.ravel(&shape.unravel(flat)), flat);
        }
        assert_eq!(Shape::scalar().elements(), 1);
        assert_eq!(Shape::new([3, 0]).elements(), 0);
    }

    #[test]
    fn a_shape_is_refused_whose_parts_cannot_be_counted() {
        let most = usize::MAX / 8;
        for (dims, fits) in [
            (vec![], true),
            (vec![most], true),
            (vec![most + 1], false),
            (vec![0, 3, most / 3], true),
            (vec![0, most, 2], false),
            (vec![most, 2, 0], false),
        ] {
            let shape = Shape::checked(dims.clone(), 8);
            assert_eq!(shape, fits.then(|| Shape::new(dims)));
        }
    }
}

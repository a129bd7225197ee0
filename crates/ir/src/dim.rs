//! Dimensions: an integer, or an integer multiple of the one symbolic batch size B.

use std::fmt;

/// The extent of one dimension of a value in a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A known extent.
    Fixed(usize),
    /// This many times the batch size; never zero times.
    Batch(usize),
}

impl Dim {
    /// The symbolic batch size itself.
    pub const B: Self = Self::Batch(1);

    /// The extent once the batch size is known.
    pub fn bind(self, batch: usize) -> usize {
        match self {
            Self::Fixed(n) => n,
            Self::Batch(k) => k.saturating_mul(batch),
        }
    }

    /// The extent, when it does not depend on the batch size.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(n),
            Self::Batch(_) => None,
        }
    }

    /// The product of two dimensions, unless it would be quadratic in the batch size or overflow.
    pub fn times(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Fixed(a), Self::Fixed(b)) => a.checked_mul(b).map(Self::Fixed),
            (Self::Fixed(0), _) | (_, Self::Fixed(0)) => Some(Self::Fixed(0)),
            (Self::Batch(a), Self::Fixed(b)) | (Self::Fixed(a), Self::Batch(b)) => {
                a.checked_mul(b).map(Self::Batch)
            }
            (Self::Batch(_), Self::Batch(_)) => None,
        }
    }

    /// The product of dimensions as `(coefficient, power of B)`, or nothing on overflow.
    pub fn product(dims: &[Self]) -> Option<(usize, u32)> {
        dims.iter().try_fold((1usize, 0u32), |(coefficient, power), dim| match *dim {
            Self::Fixed(n) => Some((coefficient.checked_mul(n)?, power)),
            Self::Batch(k) => Some((coefficient.checked_mul(k)?, power + 1)),
        })
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Batch(1) => f.write_str("B"),
            Self::Batch(k) => write!(f, "{k}B"),
        }
    }
}

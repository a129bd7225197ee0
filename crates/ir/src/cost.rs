//! What an operation costs on any machine: arithmetic and memory traffic.

use crate::TensorType;
use std::iter::Sum;
use std::ops::Add;

/// Arithmetic and memory traffic of an operation whose types are static.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point (or integer) operations; a fused multiply-add counts as two.
    pub flops: u64,
    /// Bytes read, each input once.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

impl Cost {
    /// The cost of an operation that reads its inputs once, writes its output once and does `flops` operations.
    pub fn streaming(flops: u64, inputs: &[&TensorType], output: &TensorType) -> Self {
        let bytes = |ty: &TensorType| ty.unit_bytes() as u64;
        Self {
            flops,
            bytes_read: saturating_sum(inputs.iter().map(|ty| bytes(ty))),
            bytes_written: bytes(output),
        }
    }

    /// The product of these numbers, or the largest number when it is larger.
    pub fn product(numbers: impl IntoIterator<Item = usize>) -> u64 {
        numbers.into_iter().fold(1u64, |product, n| product.saturating_mul(n as u64))
    }
}

fn saturating_sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops.saturating_add(other.flops),
            bytes_read: self.bytes_read.saturating_add(other.bytes_read),
            bytes_written: self.bytes_written.saturating_add(other.bytes_written),
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

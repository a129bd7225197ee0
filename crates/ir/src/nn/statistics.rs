//! Helpers of composites that sum: the type to sum in, and means over axes.

use crate::{Builder, Dim, Value};
use outgrow_tensor::DType;

impl Builder {
    /// `x` in the type that sums over it are taken in: f32 for bf16, else its own.
    pub(crate) fn widened(&mut self, x: Value) -> Value {
        if self.dtype(x) == DType::BF16 { self.cast(x, DType::F32) } else { x }
    }

    /// The mean over the last dimension, which stays with an extent of 1; that extent must be fixed.
    pub(crate) fn mean_last(&mut self, x: Value) -> Value {
        let last = self.rank(x).saturating_sub(1);
        let n = self.fixed_dim(x, last);
        let sum = self.sum_last(x);
        self.mul_scalar(sum, 1.0 / n as f64)
    }

    /// The mean over the last dimension, which is gone then; its extent must be fixed.
    pub(crate) fn mean_of_last(&mut self, x: Value) -> Value {
        let mean = self.mean_last(x);
        let mut dims = self.dims(mean);
        dims.pop();
        self.reshape(mean, &dims)
    }

    /// The sum over the last dimension, which stays with an extent of 1.
    pub(crate) fn sum_last(&mut self, x: Value) -> Value {
        let (axis, dims) = self.last_as_one(x);
        let sum = self.reduce_sum(x, &[axis]);
        self.reshape(sum, &dims)
    }

    /// The maximum over the last dimension, which stays with an extent of 1.
    pub(crate) fn max_last(&mut self, x: Value) -> Value {
        let (axis, dims) = self.last_as_one(x);
        let max = self.reduce_max(x, &[axis]);
        self.reshape(max, &dims)
    }

    fn last_as_one(&self, x: Value) -> (usize, Vec<Dim>) {
        let mut dims = self.dims(x);
        if let Some(last) = dims.last_mut() {
            *last = Dim::Fixed(1);
        }
        (dims.len().saturating_sub(1), dims)
    }
}

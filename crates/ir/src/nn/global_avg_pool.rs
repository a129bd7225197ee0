//! `global_avg_pool`: the mean over height and width.

use crate::{Builder, Value};

impl Builder {
    /// The mean of each channel of `x [batch, channels, height, width]`: `[batch, channels]`.
    pub fn global_avg_pool(&mut self, x: Value) -> Value {
        self.composite("global_avg_pool", &[x], |b| {
            if !b.expect_rank(x, 4, "[batch, channels, height, width]") {
                return b.error("a mean over height and width needs images");
            }
            let dtype = b.dtype(x);
            let places = b.fixed_dim(x, 2) * b.fixed_dim(x, 3);
            let x = b.widened(x);
            let sum = b.reduce_sum(x, &[2, 3]);
            let mean = b.mul_scalar(sum, 1.0 / places as f64);
            b.cast(mean, dtype)
        })
    }
}

//! `avg_pool`: the mean over windows.

use crate::ops::Window;
use crate::{Builder, Value};

impl Builder {
    /// The mean of each window of `size` (height, width) over `x [batch, channels, height, width]`; padding counts as
    /// zeros, as in PyTorch.
    pub fn avg_pool(&mut self, x: Value, size: [usize; 2], window: Window) -> Value {
        self.composite("avg_pool", |b| {
            let sum = b.sum_pool2d(x, size, window);
            b.mul_scalar(sum, 1.0 / (size[0] * size[1]) as f64)
        })
    }
}

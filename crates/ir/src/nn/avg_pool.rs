//! `avg_pool`: the mean over windows.

use crate::ops::Window;
use crate::region::composite;
use crate::{Builder, Value};

composite! {
    /// The mean of each window over x.
    AvgPool = "avg_pool" {
        /// Its height and width.
        size: [usize; 2],
        /// How it slides.
        window: Window,
    }
}

impl Builder {
    /// The mean of each window of `size` (height, width) over `x [batch, channels, height, width]`; padding counts as
    /// zeros, as in PyTorch.
    pub fn avg_pool(&mut self, x: Value, size: [usize; 2], window: Window) -> Value {
        let kind = AvgPool { size, window: window.clone() };
        self.composite_of(&kind, &[x], |b| {
            let sum = b.sum_pool2d(x, size, window);
            b.mul_scalar(sum, 1.0 / (size[0] * size[1]) as f64)
        })
    }
}

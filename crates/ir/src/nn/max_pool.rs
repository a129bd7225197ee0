//! `max_pool`: the maximum over windows.

use crate::ops::Window;
use crate::{Builder, Value};

impl Builder {
    /// The maximum of each window of `size` (height, width) over `x [batch, channels, height, width]`; padding never
    /// wins.
    pub fn max_pool(&mut self, x: Value, size: [usize; 2], window: Window) -> Value {
        self.composite("max_pool", |b| b.max_pool2d(x, size, window))
    }
}

//! `max_pool`: the maximum over windows.

use crate::ops::Window;
use crate::region::composite;
use crate::{Builder, Value};

composite! {
    /// The maximum of each window over x.
    MaxPool = "max_pool" {
        /// Its height and width.
        size: [usize; 2],
        /// How it slides.
        window: Window,
    }
}

impl Builder {
    /// The maximum of each window of `size` (height, width) over `x [batch, channels, height, width]`; padding never
    /// wins.
    pub fn max_pool(&mut self, x: Value, size: [usize; 2], window: Window) -> Value {
        let kind = MaxPool { size, window: window.clone() };
        self.composite_of(&kind, &[x], |b| b.max_pool2d(x, size, window))
    }
}

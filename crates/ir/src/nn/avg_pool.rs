//! `avg_pool`: the mean over windows.

use crate::ops::Window;
use crate::{Attr, AttrReader, Builder, Composite, Value};

/// The mean of each window over x.
#[derive(Clone, Debug, PartialEq)]
pub struct AvgPool {
    /// Its height and width.
    pub size: [usize; 2],
    /// How it slides.
    pub window: Window,
}

impl Composite for AvgPool {
    const KIND: &'static str = "avg_pool";
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        let mut attrs = vec![("size", Attr::list(&self.size))];
        attrs.extend(self.window.attrs());
        attrs
    }
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { size: attrs.array("size")?, window: Window::parse(attrs)? })
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

//! `max_pool`: the maximum over windows.

use crate::ops::Window;
use crate::{Attr, AttrReader, Builder, Composite, Value};

/// The maximum of each window over x.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool {
    /// Its height and width.
    pub size: [usize; 2],
    /// How it slides.
    pub window: Window,
}

impl Composite for MaxPool {
    const KIND: &'static str = "max_pool";
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
    /// The maximum of each window of `size` (height, width) over `x [batch, channels, height, width]`; padding never
    /// wins.
    pub fn max_pool(&mut self, x: Value, size: [usize; 2], window: Window) -> Value {
        let kind = MaxPool { size, window: window.clone() };
        self.composite_of(&kind, &[x], |b| b.max_pool2d(x, size, window))
    }
}

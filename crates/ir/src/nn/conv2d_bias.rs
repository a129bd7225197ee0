//! `conv2d_bias`: a convolution with a bias for each output channel.

use crate::ops::Window;
use crate::{Builder, Value};

impl Builder {
    /// Correlates `x [batch, in, height, width]` with `weight [out, in / groups, kernel height, kernel width]` and adds
    /// `bias [out]` to each channel of the result `[batch, out, out height, out width]`.
    pub fn conv2d_bias(
        &mut self,
        x: Value,
        weight: Value,
        bias: Value,
        window: Window,
        groups: usize,
    ) -> Value {
        self.composite("conv2d_bias", |b| {
            let y = b.conv2d(x, weight, window, groups);
            let dims = b.dims(y);
            let bias = b.broadcast_axis(bias, &dims, 1);
            b.add(y, bias)
        })
    }
}

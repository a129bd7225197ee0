//! `conv2d_bias`: a convolution with a bias for each output channel.

use crate::ops::Window;
use crate::region::composite;
use crate::{Builder, Value};

composite! {
    /// A convolution with bias; its operands are x, weight and bias.
    Conv2dBias = "conv2d_bias" {
        /// How many groups of channels are apart.
        groups: usize,
        /// How it slides.
        window: Window,
    }
}

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
        let kind = Conv2dBias { groups, window: window.clone() };
        self.composite_of(&kind, &[x, weight, bias], |b| {
            let y = b.conv2d(x, weight, window, groups);
            let dims = b.dims(y);
            let bias = b.broadcast_axis(bias, &dims, 1);
            b.add(y, bias)
        })
    }
}

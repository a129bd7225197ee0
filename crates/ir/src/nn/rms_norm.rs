//! `rms_norm`: each row brought to a mean square of 1.

use crate::region::composite;
use crate::{Builder, Value};

composite! {
    /// Normalisation by the root of the mean square; its operands are x and weight.
    RmsNorm = "rms_norm" {
        /// What is added to the mean square.
        eps: f64,
    }
}

impl Builder {
    /// `x / √(mean(x²) + eps) * weight` over the last dimension of `x [.., width]` (Zhang and Sennrich 2019);
    /// `weight [width]`.
    pub fn rms_norm(&mut self, x: Value, weight: Value, eps: f64) -> Value {
        self.composite_of(&RmsNorm { eps }, &[x, weight], |b| {
            let dtype = b.dtype(x);
            let x = b.widened(x);
            let scale = b.inverse_root_mean_square(x, eps);
            let y = b.mul(x, scale);
            let y = b.cast(y, dtype);
            b.mul(y, weight)
        })
    }
}

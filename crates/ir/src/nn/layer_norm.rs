//! `layer_norm`: each row brought to mean 0 and variance 1.

use crate::region::composite;
use crate::{Builder, Value};

composite! {
    /// Layer normalisation; its operands are x, weight and bias.
    LayerNorm = "layer_norm" {
        /// What is added to the variance.
        eps: f64,
    }
}

impl Builder {
    /// `(x - mean) / √(variance + eps) * weight + bias` over the last dimension of `x [.., width]`, with the biased
    /// variance (Ba et al. 2016); `weight [width]`, `bias [width]`.
    pub fn layer_norm(&mut self, x: Value, weight: Value, bias: Value, eps: f64) -> Value {
        self.composite_of(&LayerNorm { eps }, &[x, weight, bias], |b| {
            let dtype = b.dtype(x);
            let x = b.widened(x);
            let mean = b.mean_last(x);
            let centred = b.sub(x, mean);
            // The variance does not change with the mean to first order, so its gradient need not flow through it.
            let constant = b.stop_gradient(mean);
            let deviation = b.sub(x, constant);
            let scale = b.inverse_root_mean_square(deviation, eps);
            let y = b.mul(centred, scale);
            let y = b.cast(y, dtype);
            let y = b.mul(y, weight);
            b.add(y, bias)
        })
    }

    /// `1 / √(mean(x²) + eps)` over the last dimension, which stays with an extent of 1.
    pub(crate) fn inverse_root_mean_square(&mut self, x: Value, eps: f64) -> Value {
        let square = self.mul(x, x);
        let mean = self.mean_last(square);
        self.inverse_root(mean, eps)
    }

    /// `1 / √(x + eps)`.
    pub(crate) fn inverse_root(&mut self, x: Value, eps: f64) -> Value {
        let shifted = self.add_scalar(x, eps);
        let root = self.sqrt(shifted);
        let one = self.scalar(1.0, self.dtype(x));
        self.div(one, root)
    }
}

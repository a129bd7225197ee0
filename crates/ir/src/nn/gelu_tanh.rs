//! `gelu_tanh`: the Gaussian error linear unit by its tanh approximation.

use crate::{Builder, Value};

/// √(2 / π).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

impl Builder {
    /// `x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2` (Hendrycks and Gimpel 2016), as GPT-2 uses it.
    pub fn gelu_tanh(&mut self, x: Value) -> Value {
        self.composite("gelu_tanh", &[x], |b| {
            let square = b.mul(x, x);
            let slope = b.mul_scalar(square, 0.044715 * SQRT_2_OVER_PI);
            let slope = b.add_scalar(slope, SQRT_2_OVER_PI);
            let inner = b.mul(x, slope);
            let tanh = b.tanh(inner);
            let one_plus = b.add_scalar(tanh, 1.0);
            let half = b.mul_scalar(x, 0.5);
            b.mul(half, one_plus)
        })
    }
}

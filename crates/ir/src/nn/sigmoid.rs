//! `sigmoid`: the logistic function.

use crate::{Builder, Value};

impl Builder {
    /// `1 / (1 + e⁻ˣ)`, computed as `(1 + tanh(x / 2)) / 2`, which overflows nowhere.
    pub fn sigmoid(&mut self, x: Value) -> Value {
        self.composite("sigmoid", &[x], |b| {
            let half = b.mul_scalar(x, 0.5);
            let tanh = b.tanh(half);
            let scaled = b.mul_scalar(tanh, 0.5);
            b.add_scalar(scaled, 0.5)
        })
    }
}

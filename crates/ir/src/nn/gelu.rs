//! `gelu`: the Gaussian error linear unit, exact.

use crate::{Builder, Value};

impl Builder {
    /// `x Φ(x) = x (1 + erf(x / √2)) / 2` (Hendrycks and Gimpel 2016).
    pub fn gelu(&mut self, x: Value) -> Value {
        self.composite("gelu", &[x], |b| {
            let scaled = b.mul_scalar(x, std::f64::consts::FRAC_1_SQRT_2);
            let erf = b.erf(scaled);
            let one_plus = b.add_scalar(erf, 1.0);
            let half = b.mul_scalar(x, 0.5);
            b.mul(half, one_plus)
        })
    }
}

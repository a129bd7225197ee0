//! `softplus`: a smooth rectified linear unit.

use crate::{Builder, Value};

impl Builder {
    /// `log(1 + eˣ)`, computed as `m + log(e⁻ᵐ + eˣ⁻ᵐ)` with `m = max(x, 0)`, which overflows nowhere.
    pub fn softplus(&mut self, x: Value) -> Value {
        self.composite("softplus", &[x], |b| {
            let (m, log) = b.softplus_parts(x);
            b.add(m, log)
        })
    }

    /// `m = max(x, 0)` without gradient, and `log(e⁻ᵐ + eˣ⁻ᵐ)`; their sum is the softplus of `x`. As `m` carries no
    /// gradient, the derivative is the sigmoid everywhere, 0 included.
    pub(crate) fn softplus_parts(&mut self, x: Value) -> (Value, Value) {
        let zero = self.scalar(0.0, self.dtype(x));
        let m = self.max(zero, x);
        let m = self.stop_gradient(m);
        let minus_m = self.neg(m);
        let low = self.exp(minus_m);
        let shifted = self.sub(x, m);
        let high = self.exp(shifted);
        let sum = self.add(low, high);
        (m, self.log(sum))
    }
}

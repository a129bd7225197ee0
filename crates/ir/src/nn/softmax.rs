//! `softmax`: positive numbers that sum to one.

use crate::{Builder, Value};

impl Builder {
    /// `eˣ / Σ eˣ` over the last dimension. The maximum is subtracted first and carries no gradient, as the result
    /// does not depend on it.
    pub fn softmax(&mut self, x: Value) -> Value {
        self.composite("softmax", &[x], |b| {
            let dtype = b.dtype(x);
            let (exp, sum) = b.exp_and_sum(x);
            let one = b.scalar(1.0, b.dtype(sum));
            let inverse = b.div(one, sum);
            let y = b.mul(exp, inverse);
            b.cast(y, dtype)
        })
    }

    /// `eˣ⁻ᵐ` with `m` the maximum over the last dimension, and its sum over that dimension, which stays with an extent
    /// of 1.
    fn exp_and_sum(&mut self, x: Value) -> (Value, Value) {
        let shifted = self.minus_max(x);
        let exp = self.exp(shifted);
        let sum = self.sum_last(exp);
        (exp, sum)
    }

    /// `x`, widened, minus its maximum over the last dimension, which carries no gradient.
    pub(crate) fn minus_max(&mut self, x: Value) -> Value {
        if self.rank(x) == 0 {
            return self.error("needs an input of at least one dimension");
        }
        let x = self.widened(x);
        let constant = self.stop_gradient(x);
        let max = self.max_last(constant);
        self.sub(x, max)
    }
}

//! `mish`: a smooth unit that is not monotonic.

use crate::{Builder, Value};

/// From here on `tanh(softplus(x))` rounds to 1, and e²ˣ is far from overflowing.
const ONE_FROM: f64 = 20.0;

impl Builder {
    /// `x tanh(softplus(x))` (Misra 2019), computed as `x n / (n + 2)` with `n = eˣ (eˣ + 2)`, which takes one
    /// exponential.
    pub fn mish(&mut self, x: Value) -> Value {
        self.composite("mish", &[x], |b| {
            let bound = b.scalar(ONE_FROM, b.dtype(x));
            let bounded = b.min(x, bound);
            let exp = b.exp(bounded);
            let exp_plus_two = b.add_scalar(exp, 2.0);
            let n = b.mul(exp, exp_plus_two);
            let n_plus_two = b.add_scalar(n, 2.0);
            let gate = b.div(n, n_plus_two);
            b.mul(x, gate)
        })
    }
}

//! `binary_cross_entropy`: the loss of a classifier of two classes, from one logit.

use crate::{Builder, Value};

impl Builder {
    /// `log(1 + eᶻ) - y z` for `logits` z and `targets` y of the same shape and type, y from 0 to 1: a loss for each
    /// element. Computed as `(m - y z) + log(e⁻ᵐ + eᶻ⁻ᵐ)` with `m = max(z, 0)`, which neither overflows nor cancels.
    pub fn binary_cross_entropy(&mut self, logits: Value, targets: Value) -> Value {
        self.composite("binary_cross_entropy", &[logits, targets], |b| {
            let (z, y) = (b.widened(logits), b.widened(targets));
            let (m, log) = b.softplus_parts(z);
            let product = b.mul(y, z);
            let linear = b.sub(m, product);
            b.add(linear, log)
        })
    }
}

//! `log_softmax`: the logarithm of softmax.

use crate::{Builder, Value};

impl Builder {
    /// `x - log Σ eˣ` over the last dimension, with the maximum subtracted first.
    pub fn log_softmax(&mut self, x: Value) -> Value {
        self.composite("log_softmax", &[x], |b| {
            let dtype = b.dtype(x);
            let shifted = b.minus_max(x);
            let exp = b.exp(shifted);
            let sum = b.sum_last(exp);
            let log = b.log(sum);
            let y = b.sub(shifted, log);
            b.cast(y, dtype)
        })
    }
}

//! `relu`: the rectified linear unit.

use crate::{Builder, Value};

impl Builder {
    /// `max(x, 0)`; its derivative at 0 is 0, as in PyTorch. NaN stays NaN.
    pub fn relu(&mut self, x: Value) -> Value {
        self.composite("relu", &[x], |b| {
            let zero = b.scalar(0.0, b.dtype(x));
            // The gradient of a tie goes to the first operand, which is the constant.
            b.max(zero, x)
        })
    }
}

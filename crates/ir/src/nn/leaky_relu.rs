//! `leaky_relu`: a rectified linear unit that lets a little through.

use crate::ops::compare::Comparison;
use crate::{Builder, Value};

impl Builder {
    /// `x` where it is positive, else `slope * x`; the derivative at 0 is `slope`, as in PyTorch.
    pub fn leaky_relu(&mut self, x: Value, slope: f64) -> Value {
        self.composite("leaky_relu", |b| {
            let zero = b.scalar(0.0, b.dtype(x));
            let positive = b.compare(Comparison::Gt, x, zero);
            let small = b.mul_scalar(x, slope);
            b.select(positive, x, small)
        })
    }
}

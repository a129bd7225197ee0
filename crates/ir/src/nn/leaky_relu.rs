//! `leaky_relu`: a rectified linear unit that lets a little through.

use crate::ops::compare::Comparison;
use crate::region::composite;
use crate::{Builder, Value};

composite! {
    /// The leaky rectified linear unit of x.
    LeakyRelu = "leaky_relu" {
        /// The slope where x is not positive.
        slope: f64,
    }
}

impl Builder {
    /// `x` where it is positive, else `slope * x`; the derivative at 0 is `slope`, as in PyTorch.
    pub fn leaky_relu(&mut self, x: Value, slope: f64) -> Value {
        self.composite_of(&LeakyRelu { slope }, &[x], |b| {
            let zero = b.scalar(0.0, b.dtype(x));
            let positive = b.compare(Comparison::Gt, x, zero);
            let small = b.mul_scalar(x, slope);
            b.select(positive, x, small)
        })
    }
}

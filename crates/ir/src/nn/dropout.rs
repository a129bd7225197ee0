//! `dropout`: random zeros while training.

use crate::ops::compare::Comparison;
use crate::region::composite;
use crate::{Builder, Value};
use outgrow_tensor::DType;

composite! {
    /// Dropout; its operands are x and the key.
    Dropout = "dropout" {
        /// The probability of a zero.
        p: f64,
        /// The stream of random numbers below the key.
        stream: usize,
    }
}

impl Builder {
    /// Each element of `x` is 0 with probability `p`, else `x / (1 - p)` (Srivastava et al. 2014). The choice is
    /// element by element from stream `stream` below `key` (an i64 scalar); give every use in a graph its own stream.
    /// `p` is from 0 to below 1.
    pub fn dropout(&mut self, x: Value, p: f64, key: Value, stream: usize) -> Value {
        self.composite_of(&Dropout { p, stream }, &[x, key], |b| {
            if !(0.0..1.0).contains(&p) {
                return b.error(format!("a probability of {p} to drop elements is not from 0 to below 1"));
            }
            let dims = b.dims(x);
            let uniform = b.random_uniform(key, &dims, stream);
            let p_scalar = b.scalar(p, DType::F32);
            let keep = b.compare(Comparison::Ge, uniform, p_scalar);
            let scaled = b.mul_scalar(x, 1.0 / (1.0 - p));
            let zero = b.scalar(0.0, b.dtype(x));
            b.select(keep, scaled, zero)
        })
    }
}

//! `selu`: the scaled exponential linear unit.

use crate::ops::compare::Comparison;
use crate::{Builder, Value};

/// λ and α of the paper: with them, activations of mean 0 and variance 1 keep both.
const SCALE: f64 = 1.050_700_987_355_480_5;
const ALPHA: f64 = 1.673_263_242_354_377_2;

impl Builder {
    /// `λ x` where x is positive, else `λ α (eˣ − 1)` (Klambauer et al. 2017).
    pub fn selu(&mut self, x: Value) -> Value {
        self.composite("selu", &[x], |b| {
            let zero = b.scalar(0.0, b.dtype(x));
            let positive = b.compare(Comparison::Gt, x, zero);
            let line = b.mul_scalar(x, SCALE);
            // The exponential of what is positive could overflow, and its derivative then is no number.
            let low = b.select(positive, zero, x);
            let exp = b.exp(low);
            let curve = b.add_scalar(exp, -1.0);
            let curve = b.mul_scalar(curve, SCALE * ALPHA);
            b.select(positive, line, curve)
        })
    }
}

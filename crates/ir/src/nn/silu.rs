//! `silu`: the sigmoid linear unit, also called swish.

use crate::{Builder, Value};

impl Builder {
    /// `x sigmoid(x)` (Elfwing et al. 2017).
    pub fn silu(&mut self, x: Value) -> Value {
        self.composite("silu", &[x], |b| {
            let gate = b.sigmoid(x);
            b.mul(x, gate)
        })
    }
}

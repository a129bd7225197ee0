//! `residual`: a block beside a shortcut.

use crate::{Builder, Value};

impl Builder {
    /// `x + block(x)` (He et al. 2015).
    pub fn residual(&mut self, x: Value, block: impl FnOnce(&mut Self, Value) -> Value) -> Value {
        self.composite("residual", |b| {
            let y = block(b, x);
            b.add(x, y)
        })
    }
}

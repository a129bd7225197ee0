//! `residual`: a block beside a shortcut.

use crate::{Builder, Value};

impl Builder {
    /// `x + y`, where `y` is what a block makes of `x` (He et al. 2015).
    pub fn residual(&mut self, x: Value, y: Value) -> Value {
        self.composite("residual", &[x, y], |b| b.add(x, y))
    }
}

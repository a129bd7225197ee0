//! `rms_norm`: each row brought to a mean square of 1.

use crate::{Attr, AttrReader, Builder, Composite, Value};

/// Normalisation by the root of the mean square; its operands are x and weight.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNorm {
    /// What is added to the mean square.
    pub eps: f64,
}

impl Composite for RmsNorm {
    const KIND: &'static str = "rms_norm";
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("eps", Attr::Float(self.eps))]
    }
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { eps: attrs.number("eps")? })
    }
}

impl Builder {
    /// `x / √(mean(x²) + eps) * weight` over the last dimension of `x [.., width]` (Zhang and Sennrich 2019);
    /// `weight [width]`.
    pub fn rms_norm(&mut self, x: Value, weight: Value, eps: f64) -> Value {
        self.composite_of(&RmsNorm { eps }, &[x, weight], |b| {
            let dtype = b.dtype(x);
            let x = b.widened(x);
            let scale = b.inverse_root_mean_square(x, eps);
            let y = b.mul(x, scale);
            let y = b.cast(y, dtype);
            b.mul(y, weight)
        })
    }
}

//! `leaky_relu`: a rectified linear unit that lets a little through.

use crate::ops::compare::Comparison;
use crate::{Attr, AttrReader, Builder, Composite, Value};

/// The leaky rectified linear unit of x.
#[derive(Clone, Debug, PartialEq)]
pub struct LeakyRelu {
    /// The slope where x is not positive.
    pub slope: f64,
}

impl Composite for LeakyRelu {
    const KIND: &'static str = "leaky_relu";
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("slope", Attr::Float(self.slope))]
    }
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { slope: attrs.number("slope")? })
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

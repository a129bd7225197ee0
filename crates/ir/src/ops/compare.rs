//! `compare`: elementwise comparison.

use crate::ops::elementwise::{Takes, same_types};
use crate::ops::{OpEntry, OpRule, Sample, SampleInput, reference};
use crate::{Attr, AttrReader, Builder, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// A relation of two numbers; every relation with NaN but `Ne` is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Comparison {
    /// Every relation with its name in text forms.
    pub const ALL: [(Self, &'static str); 6] =
        [(Self::Eq, "eq"), (Self::Ne, "ne"), (Self::Lt, "lt"), (Self::Le, "le"), (Self::Gt, "gt"), (Self::Ge, "ge")];

    /// Whether the relation holds.
    pub fn holds<T: PartialOrd>(self, x: T, y: T) -> bool {
        match self {
            Self::Eq => x == y,
            Self::Ne => x != y,
            Self::Lt => x < y,
            Self::Le => x <= y,
            Self::Gt => x > y,
            Self::Ge => x >= y,
        }
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(c, _)| *c == self).map_or("", |(_, name)| name)
    }
}

/// Whether a relation holds, element by element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compare {
    /// Which relation.
    pub is: Comparison,
}

impl OpRule for Compare {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("is", Attr::Name(self.is.name().into()))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        Ok(same_types(inputs, 2, Takes::Anything)?.with_dtype(DType::Bool))
    }
    fn eval(&self, inputs: &[&Tensor], _: DType, _: &Shape) -> Tensor {
        let is = |holds| if holds { 1.0 } else { 0.0 };
        reference::zip(
            inputs[0],
            inputs[1],
            DType::Bool,
            |x, y| is(self.is.holds(x, y)),
            |x, y| i64::from(self.is.holds(x, y)),
        )
    }
    fn elementwise(&self) -> bool {
        true
    }
}

impl OpEntry for Compare {
    const NAME: &'static str = "compare";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        let name = attrs.name("is")?;
        let found = Comparison::ALL.iter().find(|(_, n)| *n == name);
        Ok(Self { is: found.ok_or_else(|| format!("`{name}` is not a relation"))?.0 })
    }
    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (is, _) in Comparison::ALL {
            for dtype in DType::ALL {
                let input = SampleInput::new(dtype, &[4, 9], 0.0, 2.0);
                samples.push(Sample::new(Self { is }, &[input.clone(), input]));
            }
        }
        samples
    }
}

impl Builder {
    /// Whether `x is y`, element by element; the operands are broadcast to a common shape.
    pub fn compare(&mut self, is: Comparison, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(Compare { is }, &[x, y])
    }
}

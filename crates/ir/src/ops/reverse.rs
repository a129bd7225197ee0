//! `reverse`: the opposite order along one axis.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// The elements along `axis` in the opposite order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reverse {
    /// The axis.
    pub axis: usize,
}

impl OpRule for Reverse {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("axis", Attr::int(self.axis))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        match inputs {
            [x] if self.axis < x.rank() => Ok((*x).clone()),
            _ => Err(format!("takes one input that has axis {}", self.axis)),
        }
    }
    fn eval(&self, inputs: &[&Tensor], _: DType, shape: &Shape) -> Tensor {
        reference::pick(inputs[0], shape, 0.0, |index| {
            let mut source = index.to_vec();
            source[self.axis] = shape.dims()[self.axis] - 1 - index[self.axis];
            Some(shape.ravel(&source))
        })
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        vec![Some(cx.b.reverse(cx.grad, self.axis))]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(0, inputs, output)
    }
}

impl OpEntry for Reverse {
    const NAME: &'static str = "reverse";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { axis: attrs.int("axis")? })
    }
    fn samples() -> Vec<Sample> {
        [(&[5][..], 0), (&[3, 4], 1), (&[3, 4], 0), (&[0, 2], 0), (&[1, 1], 1)]
            .iter()
            .map(|(dims, axis)| Sample::new(Self { axis: *axis }, &[SampleInput::float(dims)]))
            .collect()
    }
}

impl Builder {
    /// The elements along `axis` in the opposite order.
    pub fn reverse(&mut self, x: Value, axis: usize) -> Value {
        self.push(Reverse { axis }, &[x])
    }
}

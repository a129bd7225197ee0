//! `cast`: conversion to another element type.

use crate::ops::elementwise::{Takes, same_types};
use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp};
use crate::{Attr, AttrReader, Builder, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// Conversion to `dtype`: floats round to nearest even; from float to integer truncates towards zero and
/// saturates; to bool is whether it is not zero; wider to narrower integers wrap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cast {
    /// The element type of the result.
    pub dtype: DType,
}

impl OpRule for Cast {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("dtype", Attr::Name(self.dtype.name().into()))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        Ok(same_types(inputs, 1, Takes::Anything)?.with_dtype(self.dtype))
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let x = inputs[0];
        if x.dtype().is_float() {
            Tensor::from_f64(dtype, shape.clone(), |i| x.get_f64(i))
        } else {
            Tensor::from_i64(dtype, shape.clone(), |i| x.get_i64(i))
        }
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let from = cx.b.dtype(cx.inputs[0]);
        vec![(from.is_float() && self.dtype.is_float()).then(|| cx.b.cast(cx.grad, from))]
    }
    fn elementwise(&self) -> bool {
        true
    }
}

impl OpEntry for Cast {
    const NAME: &'static str = "cast";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { dtype: attrs.dtype("dtype")? })
    }
    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for from in DType::ALL {
            for to in DType::ALL {
                let low = if from == DType::U8 || from == DType::Bool { 0.0 } else { -3.0 };
                let high = if from == DType::Bool { 2.0 } else { 4.0 };
                samples.push(Sample::new(Self { dtype: to }, &[SampleInput::new(from, &[3, 7], low, high)]));
            }
        }
        samples
    }
}

impl Builder {
    /// `x` converted to `dtype`; itself when it is of that type already.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Value {
        if self.dtype(x) == dtype { x } else { self.push(Cast { dtype }, &[x]) }
    }
}

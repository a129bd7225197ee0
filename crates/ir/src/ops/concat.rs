//! `concat`: values one after the other along one axis.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// The inputs one after the other along `axis`; all other dimensions are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

impl OpRule for Concat {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("axis", Attr::int(self.axis))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let Some(first) = inputs.first() else { return Err("takes at least one input".into()) };
        let mut ty = (*first).clone();
        let mut total = 0usize;
        for x in inputs {
            let fits = x.rank() == ty.rank()
                && x.dtype == ty.dtype
                && (0..x.rank()).all(|i| i == self.axis || x.dims[i] == ty.dims[i]);
            match x.dims.get(self.axis) {
                Some(Dim::Fixed(n)) if fits => total = total.checked_add(*n).ok_or("the extent overflows")?,
                _ => return Err(format!("inputs must agree but along axis {}, which must be fixed", self.axis)),
            }
        }
        ty.dims[self.axis] = Dim::Fixed(total);
        Ok(ty)
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let source = |i: usize| {
            let mut index = shape.unravel(i);
            for x in inputs {
                let n = x.shape().dims()[self.axis];
                if index[self.axis] < n {
                    return (*x, x.shape().ravel(&index));
                }
                index[self.axis] -= n;
            }
            unreachable!("the extents of the inputs add up to the result's")
        };
        if dtype.is_float() {
            Tensor::from_f64(dtype, shape.clone(), |i| source(i).0.get_f64(source(i).1))
        } else {
            Tensor::from_i64(dtype, shape.clone(), |i| source(i).0.get_i64(source(i).1))
        }
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let mut start = 0;
        let mut grads = Vec::new();
        for x in cx.inputs {
            let n = cx.b.fixed_dim(*x, self.axis);
            grads.push(Some(cx.b.slice(cx.grad, self.axis, start, start + n)));
            start += n;
        }
        grads
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(0, inputs, output)
    }
}

impl OpEntry for Concat {
    const NAME: &'static str = "concat";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { axis: attrs.int("axis")? })
    }
    fn samples() -> Vec<Sample> {
        let case = |axis, shapes: &[&[usize]]| {
            Sample::new(Self { axis }, &shapes.iter().map(|d| SampleInput::float(d)).collect::<Vec<_>>())
        };
        vec![
            case(0, &[&[2], &[3]]),
            case(1, &[&[2, 1], &[2, 4], &[2, 0]]),
            case(0, &[&[1, 3]]),
            case(1, &[&[2, 2, 3], &[2, 1, 3]]),
        ]
    }
}

impl Builder {
    /// The values one after the other along `axis`.
    pub fn concat(&mut self, values: &[Value], axis: usize) -> Value {
        self.push(Concat { axis }, values)
    }
}

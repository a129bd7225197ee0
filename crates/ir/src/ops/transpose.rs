//! `transpose`: dimensions in another order.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// Dimension `i` of the result is dimension `axes[i]` of the input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transpose {
    /// For each dimension of the result, which of the input it is.
    pub axes: Vec<usize>,
}

impl OpRule for Transpose {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("axes", Attr::list(&self.axes))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = inputs else { return Err("takes one input".into()) };
        if self.axes.len() != x.rank() || !(0..x.rank()).all(|i| self.axes.contains(&i)) {
            return Err(format!("axes {:?} are no order of {} dimensions", self.axes, x.rank()));
        }
        Ok(TensorType { dtype: x.dtype, dims: self.axes.iter().map(|a| x.dims[*a]).collect() })
    }
    fn eval(&self, inputs: &[&Tensor], _: DType, shape: &Shape) -> Tensor {
        let from = inputs[0].shape();
        reference::pick(inputs[0], shape, 0.0, |index| {
            let mut source = vec![0; from.rank()];
            self.axes.iter().zip(index).for_each(|(a, i)| source[*a] = *i);
            Some(from.ravel(&source))
        })
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let mut inverse = vec![0; self.axes.len()];
        self.axes.iter().enumerate().for_each(|(i, a)| inverse[*a] = i);
        vec![Some(cx.b.transpose(cx.grad, &inverse))]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(0, inputs, output)
    }
}

impl OpEntry for Transpose {
    const NAME: &'static str = "transpose";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { axes: attrs.ints("axes")? })
    }
    fn samples() -> Vec<Sample> {
        let case = |dims: &[usize], axes: &[usize]| {
            Sample::new(Self { axes: axes.to_vec() }, &[SampleInput::float(dims)])
        };
        vec![
            case(&[3, 4], &[1, 0]),
            case(&[2, 3, 4], &[2, 0, 1]),
            case(&[2, 3, 4, 5], &[0, 2, 1, 3]),
            case(&[], &[]),
            case(&[0, 3], &[1, 0]),
            case(&[33, 17], &[1, 0]),
        ]
    }
}

impl Builder {
    /// Dimensions in another order: dimension `i` of the result is dimension `axes[i]` of `x`.
    pub fn transpose(&mut self, x: Value, axes: &[usize]) -> Value {
        self.push(Transpose { axes: axes.to_vec() }, &[x])
    }
}

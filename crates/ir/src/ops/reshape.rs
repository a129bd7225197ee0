//! `reshape`: the same elements in row-major order under other dimensions.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// The same elements in row-major order under dimensions `dims`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// Dimensions of the result.
    pub dims: Vec<Dim>,
}

impl OpRule for Reshape {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("dims", Attr::Dims(self.dims.clone()))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = inputs else { return Err("takes one input".into()) };
        let (from, to) = (Dim::product(&x.dims), Dim::product(&self.dims));
        if from.is_none() || from != to {
            let ty = TensorType { dtype: x.dtype, dims: self.dims.clone() };
            return Err(format!("{ty} has another number of elements"));
        }
        Ok(TensorType { dtype: x.dtype, dims: self.dims.clone() })
    }
    fn eval(&self, inputs: &[&Tensor], _: DType, shape: &Shape) -> Tensor {
        reference::pick(inputs[0], shape, 0.0, |index| Some(shape.ravel(index)))
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let dims = cx.b.dims(cx.inputs[0]);
        vec![Some(cx.b.reshape(cx.grad, &dims))]
    }
    fn cost(&self, _: &[&TensorType], _: &TensorType) -> Cost {
        Cost::default()
    }
    fn map_dims(&mut self, change: &mut dyn FnMut(Dim) -> Dim) {
        self.dims.iter_mut().for_each(|d| *d = change(*d));
    }
}

impl OpEntry for Reshape {
    const NAME: &'static str = "reshape";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { dims: attrs.dims("dims")? })
    }
    fn samples() -> Vec<Sample> {
        let case = |from: &[usize], to: &[usize]| {
            Sample::new(Self { dims: to.iter().copied().map(Dim::Fixed).collect() }, &[SampleInput::float(from)])
        };
        vec![case(&[6], &[2, 3]), case(&[2, 3, 4], &[4, 6]), case(&[], &[1, 1]), case(&[0, 3], &[7, 0]), case(&[1], &[])]
    }
}

impl Builder {
    /// The same elements under dimensions `dims`; itself when nothing changes.
    pub fn reshape(&mut self, x: Value, dims: &[Dim]) -> Value {
        if !self.is_poisoned(x) && self.ty(x).dims == dims {
            return x;
        }
        self.push(Reshape { dims: dims.to_vec() }, &[x])
    }
}

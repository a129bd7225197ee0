//! `iota`: the index along one axis.

use crate::ops::{OpEntry, OpRule, Sample};
use crate::{Attr, AttrReader, Builder, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// The index along `axis` at every place of a tensor of type `dtype` and dimensions `dims`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Iota {
    /// Element type, a number type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<Dim>,
    /// The axis that is counted.
    pub axis: usize,
}

impl OpRule for Iota {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![
            ("dtype", Attr::Name(self.dtype.name().into())),
            ("dims", Attr::Dims(self.dims.clone())),
            ("axis", Attr::int(self.axis)),
        ]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if !inputs.is_empty() || self.axis >= self.dims.len() || self.dtype == DType::Bool {
            return Err("takes no inputs, an axis below the rank and a number type".into());
        }
        Ok(TensorType { dtype: self.dtype, dims: self.dims.clone() })
    }
    fn eval(&self, _: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        Tensor::from_i64(dtype, shape.clone(), |i| shape.unravel(i)[self.axis] as i64)
    }
    fn map_dims(&mut self, change: &mut dyn FnMut(Dim) -> Dim) {
        self.dims.iter_mut().for_each(|d| *d = change(*d));
    }
}

impl OpEntry for Iota {
    const NAME: &'static str = "iota";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { dtype: attrs.dtype("dtype")?, dims: attrs.dims("dims")?, axis: attrs.int("axis")? })
    }
    fn samples() -> Vec<Sample> {
        let case = |dtype, dims: &[usize], axis| {
            Sample::new(Self { dtype, dims: dims.iter().copied().map(Dim::Fixed).collect(), axis }, &[])
        };
        vec![case(DType::I32, &[5], 0), case(DType::F32, &[3, 4], 0), case(DType::I64, &[2, 3, 4], 1), case(DType::I32, &[0, 4], 1)]
    }
}

impl Builder {
    /// The index along `axis` at every place.
    pub fn iota(&mut self, dtype: DType, dims: &[Dim], axis: usize) -> Value {
        self.push(Iota { dtype, dims: dims.to_vec(), axis }, &[])
    }
}

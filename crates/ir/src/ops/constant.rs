//! `constant`: a value written into the graph.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use crate::ops::{OpEntry, OpRule, Sample};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// A value written into the graph. Two constants are equal when their types, shapes and bits are.
#[derive(Clone, Debug)]
pub struct Constant(pub Arc<Tensor>);

impl Constant {
    /// A scalar of this type.
    pub fn scalar(value: f64, dtype: DType) -> Self {
        Self(Arc::new(Tensor::from_f64(dtype, Shape::scalar(), |_| value)))
    }

    /// The value, when every element is the same.
    pub fn splat(&self) -> Option<f64> {
        let first = (self.0.elements() > 0).then(|| self.0.get_f64(0))?;
        (1..self.0.elements()).all(|i| self.0.get_f64(i).to_bits() == first.to_bits()).then_some(first)
    }
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.same_bits(&other.0)
    }
}
impl Eq for Constant {}
impl Hash for Constant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.shape().hash(state);
        self.0.as_bytes().hash(state);
    }
}

impl OpRule for Constant {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("value", Attr::Tensor(self.0.clone()))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if !inputs.is_empty() {
            return Err("takes no inputs".into());
        }
        Ok(TensorType::new(self.0.dtype(), self.0.shape().dims().iter().copied()))
    }
    fn eval(&self, _: &[&Tensor], _: DType, _: &Shape) -> Tensor {
        (*self.0).clone()
    }
    fn cost(&self, _: &[&TensorType], _: &TensorType) -> Cost {
        Cost::default()
    }
}

impl OpEntry for Constant {
    const NAME: &'static str = "constant";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self(attrs.tensor("value")?))
    }
    fn samples() -> Vec<Sample> {
        let mut samples: Vec<_> = [-1.5, 0.0, -0.0, 1e-40, f64::INFINITY, f64::NAN]
            .into_iter()
            .map(|x| Sample::new(Self::scalar(x, DType::F32), &[]))
            .collect();
        for dtype in DType::ALL {
            let tensor = Tensor::from_f64(dtype, [2, 3], |i| i as f64);
            samples.push(Sample::new(Self(Arc::new(tensor)), &[]));
            samples.push(Sample::new(Self(Arc::new(Tensor::zeros(dtype, [0, 2]))), &[]));
        }
        samples
    }
}

impl Builder {
    /// A constant tensor.
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        self.push(Constant(Arc::new(tensor)), &[])
    }

    /// A constant scalar.
    pub fn scalar(&mut self, value: f64, dtype: DType) -> Value {
        self.push(Constant::scalar(value, dtype), &[])
    }

    /// A constant of these dimensions, every element the same.
    pub fn full(&mut self, value: f64, dtype: DType, dims: &[Dim]) -> Value {
        let scalar = self.scalar(value, dtype);
        self.broadcast(scalar, dims, &[])
    }

    /// Zeros of the type of `x`.
    pub fn zeros_like(&mut self, x: Value) -> Value {
        let ty = self.ty(x).clone();
        self.full(0.0, ty.dtype, &ty.dims)
    }

    /// `x + value` for a number.
    pub fn add_scalar(&mut self, x: Value, value: f64) -> Value {
        let c = self.scalar(value, self.dtype(x));
        self.add(x, c)
    }

    /// `x * value` for a number.
    pub fn mul_scalar(&mut self, x: Value, value: f64) -> Value {
        let c = self.scalar(value, self.dtype(x));
        self.mul(x, c)
    }

    /// `1 - x`.
    pub fn one_minus(&mut self, x: Value) -> Value {
        let one = self.scalar(1.0, self.dtype(x));
        self.sub(one, x)
    }
}

//! `broadcast`: repetition along new or one-sized dimensions.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// Repeats a value to dimensions `dims`: dimension `i` of the input becomes dimension `axes[i]` of the result
/// (ascending) and is of the same extent or 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broadcast {
    /// Dimensions of the result.
    pub dims: Vec<Dim>,
    /// For each dimension of the input, its place in the result.
    pub axes: Vec<usize>,
}

impl OpRule for Broadcast {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("dims", Attr::Dims(self.dims.clone())), ("axes", Attr::list(&self.axes))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = inputs else { return Err("takes one input".into()) };
        let ascending = self.axes.windows(2).all(|w| w[0] < w[1]) && self.axes.iter().all(|a| *a < self.dims.len());
        if self.axes.len() != x.rank() || !ascending {
            return Err(format!("axes {:?} must place each input dimension, ascending", self.axes));
        }
        for (d, axis) in x.dims.iter().zip(&self.axes) {
            if *d != self.dims[*axis] && *d != Dim::Fixed(1) {
                return Err(format!("dimension {d} cannot be repeated to {}", self.dims[*axis]));
            }
        }
        Ok(TensorType { dtype: x.dtype, dims: self.dims.clone() })
    }
    fn eval(&self, inputs: &[&Tensor], _: DType, shape: &Shape) -> Tensor {
        let from = inputs[0].shape();
        reference::pick(inputs[0], shape, 0.0, |index| {
            let source: Vec<_> =
                self.axes.iter().zip(from.dims()).map(|(a, d)| if *d == 1 { 0 } else { index[*a] }).collect();
            Some(from.ravel(&source))
        })
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let dims = cx.b.dims(cx.inputs[0]);
        let kept = |axis: usize| {
            self.axes.iter().position(|a| *a == axis).is_some_and(|i| dims[i] == self.dims[axis])
        };
        let summed: Vec<usize> = (0..self.dims.len()).filter(|axis| !kept(*axis)).collect();
        let sum = cx.b.reduce_sum(cx.grad, &summed);
        vec![Some(cx.b.reshape(sum, &dims))]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(0, inputs, output)
    }
    fn map_dims(&mut self, change: &mut dyn FnMut(Dim) -> Dim) {
        self.dims.iter_mut().for_each(|d| *d = change(*d));
    }
}

impl OpEntry for Broadcast {
    const NAME: &'static str = "broadcast";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { dims: attrs.dims("dims")?, axes: attrs.ints("axes")? })
    }
    fn samples() -> Vec<Sample> {
        let case = |from: &[usize], to: &[usize], axes: &[usize]| {
            let dims = to.iter().copied().map(Dim::Fixed).collect();
            Sample::new(Self { dims, axes: axes.to_vec() }, &[SampleInput::float(from)])
        };
        vec![
            case(&[], &[3, 4], &[]),
            case(&[4], &[3, 4], &[1]),
            case(&[3], &[3, 4], &[0]),
            case(&[3, 1], &[3, 4], &[0, 1]),
            case(&[2, 4], &[2, 3, 4], &[0, 2]),
            case(&[5], &[0, 5], &[1]),
            case(&[1, 1], &[2, 2], &[0, 1]),
            case(&[3], &[3], &[0]),
        ]
    }
}

impl Builder {
    /// Repeats `x` to `dims`; dimension `i` of `x` becomes dimension `axes[i]`. Itself when nothing changes.
    pub fn broadcast(&mut self, x: Value, dims: &[Dim], axes: &[usize]) -> Value {
        if !self.is_poisoned(x) && self.ty(x).dims == dims {
            return x;
        }
        self.push(Broadcast { dims: dims.to_vec(), axes: axes.to_vec() }, &[x])
    }

    /// Repeats `x` to `dims` with its dimensions aligned to the last ones, as NumPy does.
    pub fn broadcast_to(&mut self, x: Value, dims: &[Dim]) -> Value {
        if self.rank(x) > dims.len() {
            return self.error(format!("{} cannot be repeated to fewer dimensions", self.ty(x)));
        }
        let axes: Vec<usize> = (dims.len() - self.rank(x)..dims.len()).collect();
        self.broadcast(x, dims, &axes)
    }

    /// Repeats both to their common shape, as NumPy does.
    pub fn broadcast_together(&mut self, x: Value, y: Value) -> (Value, Value) {
        if self.is_poisoned(x) || self.is_poisoned(y) {
            return (x, y);
        }
        let (dx, dy) = (self.dims(x), self.dims(y));
        let rank = dx.len().max(dy.len());
        let at = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(Dim::Fixed(1), |j| dims[j]);
        let dims: Vec<Dim> =
            (0..rank).map(|i| if at(&dx, i) == Dim::Fixed(1) { at(&dy, i) } else { at(&dx, i) }).collect();
        (self.broadcast_to(x, &dims), self.broadcast_to(y, &dims))
    }

    /// Repeats a vector of one element per channel over axis `axis` of dimensions `dims`.
    pub fn broadcast_axis(&mut self, x: Value, dims: &[Dim], axis: usize) -> Value {
        self.broadcast(x, dims, &[axis])
    }
}

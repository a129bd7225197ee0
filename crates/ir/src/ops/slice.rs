//! `slice`: a regular part along one axis.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// The elements `start, start + stride, …` below `end` along `axis`, whose extent must be fixed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// First index.
    pub start: usize,
    /// One past the last possible index.
    pub end: usize,
    /// Distance of indices, at least 1.
    pub stride: usize,
}

impl OpRule for Slice {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![
            ("axis", Attr::int(self.axis)),
            ("start", Attr::int(self.start)),
            ("end", Attr::int(self.end)),
            ("stride", Attr::int(self.stride)),
        ]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = inputs else { return Err("takes one input".into()) };
        match x.dims.get(self.axis) {
            Some(Dim::Fixed(n)) if self.start <= self.end && self.end <= *n && self.stride > 0 => {
                let mut ty = (*x).clone();
                ty.dims[self.axis] = Dim::Fixed((self.end - self.start).div_ceil(self.stride));
                Ok(ty)
            }
            Some(Dim::Fixed(n)) => Err(format!("{}..{} is outside 0..{n}", self.start, self.end)),
            Some(d) => Err(format!("dimension {d} cannot be cut")),
            None => Err(format!("there is no axis {}", self.axis)),
        }
    }
    fn eval(&self, inputs: &[&Tensor], _: DType, shape: &Shape) -> Tensor {
        reference::pick(inputs[0], shape, 0.0, |index| {
            let mut source = index.to_vec();
            source[self.axis] = self.start + index[self.axis] * self.stride;
            Some(inputs[0].shape().ravel(&source))
        })
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let extent = cx.b.fixed_dim(cx.inputs[0], self.axis);
        let count = cx.b.fixed_dim(cx.output, self.axis);
        if count == 0 {
            return vec![Some(cx.b.zeros_like(cx.inputs[0]))];
        }
        let covered = self.start + (count - 1) * self.stride + 1;
        vec![Some(cx.b.pad(cx.grad, self.axis, self.start, extent - covered, self.stride - 1, 0.0))]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost { bytes_read: Cost::streaming(0, inputs, output).bytes_written, ..Cost::streaming(0, inputs, output) }
    }
}

impl OpEntry for Slice {
    const NAME: &'static str = "slice";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self {
            axis: attrs.int("axis")?,
            start: attrs.int("start")?,
            end: attrs.int("end")?,
            stride: attrs.int("stride")?,
        })
    }
    fn samples() -> Vec<Sample> {
        let case = |dims: &[usize], axis, start, end, stride| {
            Sample::new(Self { axis, start, end, stride }, &[SampleInput::float(dims)])
        };
        vec![case(&[7], 0, 2, 5, 1), case(&[3, 8], 1, 1, 8, 3), case(&[4, 2], 0, 0, 4, 2), case(&[4, 2], 0, 2, 2, 1), case(&[2, 5, 3], 1, 4, 5, 1)]
    }
}

impl Builder {
    /// The elements `start..end` along `axis`; itself when that is everything.
    pub fn slice(&mut self, x: Value, axis: usize, start: usize, end: usize) -> Value {
        if start == 0 && !self.is_poisoned(x) && self.ty(x).dims.get(axis) == Some(&Dim::Fixed(end)) {
            return x;
        }
        self.push(Slice { axis, start, end, stride: 1 }, &[x])
    }
}

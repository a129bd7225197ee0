//! `reduce_max`: the maximum over axes.

use crate::ops::compare::Comparison;
use crate::ops::reduce_sum::{CASES, kept_axes, without_axes};
use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// The maximum over `axes` (ascending), which vanish; NaN if any is. Of nothing it is the least value of the type.
/// Tied maxima share the gradient equally.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReduceMax {
    /// The axes, ascending.
    pub axes: Vec<usize>,
}

impl OpRule for ReduceMax {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("axes", Attr::list(&self.axes))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        without_axes(inputs, &self.axes)
    }
    fn eval(&self, inputs: &[&Tensor], _: DType, shape: &Shape) -> Tensor {
        let greater = |m: f64, x: f64| if x.is_nan() || x > m { x } else { m };
        let least = match inputs[0].dtype() {
            DType::U8 => 0,
            DType::I32 => i64::from(i32::MIN),
            _ => i64::MIN,
        };
        reference::reduce(inputs[0], shape, &self.axes, f64::NEG_INFINITY, greater, least, std::cmp::max)
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let x = cx.inputs[0];
        let ty = cx.b.ty(x).clone();
        let kept = kept_axes(ty.rank(), &self.axes);
        let max = cx.b.broadcast(cx.output, &ty.dims, &kept);
        let at_max = cx.b.compare(Comparison::Eq, x, max);
        let ones = cx.b.cast(at_max, ty.dtype);
        let ties = cx.b.reduce_sum(ones, &self.axes);
        let share = cx.b.div(cx.grad, ties);
        let share = cx.b.broadcast(share, &ty.dims, &kept);
        vec![Some(cx.b.mul(ones, share))]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(inputs[0].unit_elements() as u64, inputs, output)
    }
}

impl OpEntry for ReduceMax {
    const NAME: &'static str = "reduce_max";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { axes: attrs.ints("axes")? })
    }
    fn samples() -> Vec<Sample> {
        let mut samples: Vec<_> = CASES
            .iter()
            .map(|(dims, axes)| Sample::new(Self { axes: axes.to_vec() }, &[SampleInput::float(dims)]))
            .collect();
        samples.push(Sample::new(Self { axes: vec![0] }, &[SampleInput::new(DType::I32, &[9, 4], -9.0, 9.0)]));
        for dtype in [DType::F32, DType::I32, DType::U8] {
            samples.push(Sample::new(Self { axes: vec![0] }, &[SampleInput::new(dtype, &[0, 3], 0.0, 9.0)]));
        }
        samples
    }
}

impl Builder {
    /// The maximum over `axes` (ascending), which vanish.
    pub fn reduce_max(&mut self, x: Value, axes: &[usize]) -> Value {
        self.push(ReduceMax { axes: axes.to_vec() }, &[x])
    }
}

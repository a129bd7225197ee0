//! `reduce_sum`: the sum over axes.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// The sum over `axes` (ascending), which vanish. The sum over nothing is 0; integers wrap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReduceSum {
    /// The axes, ascending.
    pub axes: Vec<usize>,
}

/// The type left when `axes` (ascending) vanish.
pub(super) fn without_axes(inputs: &[&TensorType], axes: &[usize]) -> Result<TensorType, String> {
    let [x] = inputs else { return Err("takes one input".into()) };
    if axes.windows(2).any(|w| w[0] >= w[1]) || axes.iter().any(|a| *a >= x.rank()) {
        return Err(format!("axes {axes:?} must be ascending and below {}", x.rank()));
    }
    if x.dtype == DType::Bool {
        return Err("takes a number type, got bool".into());
    }
    let dims = x.dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| *d).collect();
    Ok(TensorType { dtype: x.dtype, dims })
}

/// The axes that stay, of `rank`, when `axes` vanish.
pub(super) fn kept_axes(rank: usize, axes: &[usize]) -> Vec<usize> {
    (0..rank).filter(|i| !axes.contains(i)).collect()
}

impl OpRule for ReduceSum {
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
        reference::reduce(inputs[0], shape, &self.axes, 0.0, |s, x| s + x, 0, i64::wrapping_add)
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let dims = cx.b.dims(cx.inputs[0]);
        let kept = kept_axes(dims.len(), &self.axes);
        vec![Some(cx.b.broadcast(cx.grad, &dims, &kept))]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(inputs[0].unit_elements() as u64, inputs, output)
    }
}

/// Shapes and axes that every reduction is tested on.
pub(super) const CASES: &[(&[usize], &[usize])] = &[
    (&[7], &[0]),
    (&[3, 5], &[0]),
    (&[3, 5], &[1]),
    (&[3, 5], &[0, 1]),
    (&[2, 3, 4], &[0, 2]),
    (&[2, 3, 4, 5], &[0, 2, 3]),
    (&[2, 3, 4], &[]),
    (&[1, 1], &[0]),
    (&[4, 300], &[1]),
    (&[300, 4], &[0]),
];

impl OpEntry for ReduceSum {
    const NAME: &'static str = "reduce_sum";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { axes: attrs.ints("axes")? })
    }
    fn samples() -> Vec<Sample> {
        let extra: &[(&[usize], &[usize])] = &[(&[0, 3], &[0]), (&[3, 0], &[0]), (&[20_000], &[0])];
        let case =
            |(dims, axes): &(&[usize], &[usize])| Sample::new(Self { axes: axes.to_vec() }, &[SampleInput::float(dims)]);
        let mut samples: Vec<_> = CASES.iter().chain(extra).map(case).collect();
        let ints = SampleInput::new(DType::I64, &[4, 6], -9.0, 9.0);
        samples.push(Sample::new(Self { axes: vec![1] }, &[ints]));
        samples
    }
}

impl Builder {
    /// The sum over `axes` (ascending), which vanish; itself when there are none.
    pub fn reduce_sum(&mut self, x: Value, axes: &[usize]) -> Value {
        if axes.is_empty() { x } else { self.push(ReduceSum { axes: axes.to_vec() }, &[x]) }
    }

    /// The sum over all axes.
    pub fn sum_all(&mut self, x: Value) -> Value {
        let axes: Vec<usize> = (0..self.rank(x)).collect();
        self.reduce_sum(x, &axes)
    }
}

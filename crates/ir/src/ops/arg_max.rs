//! `arg_max`: the index of the maximum along one axis.

use crate::ops::reduce_sum::without_axes;
use crate::ops::{OpEntry, OpRule, Sample, SampleInput};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// The index (i32) of the maximum along `axis`, which vanishes: of the first among equals; of the first NaN if
/// there is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArgMax {
    /// The axis.
    pub axis: usize,
}

impl OpRule for ArgMax {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("axis", Attr::int(self.axis))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        Ok(without_axes(inputs, &[self.axis])?.with_dtype(DType::I32))
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (x, n) = (inputs[0], inputs[0].shape().dims()[self.axis]);
        Tensor::from_i64(dtype, shape.clone(), |i| {
            let mut index = shape.unravel(i);
            index.insert(self.axis, 0);
            let mut best = (0, f64::NEG_INFINITY);
            for k in 0..n {
                index[self.axis] = k;
                let value = x.get_f64(x.shape().ravel(&index));
                if k == 0 || (value > best.1 && !best.1.is_nan()) || (value.is_nan() && !best.1.is_nan()) {
                    best = (k, value);
                }
            }
            best.0 as i64
        })
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(inputs[0].unit_elements() as u64, inputs, output)
    }
}

impl OpEntry for ArgMax {
    const NAME: &'static str = "arg_max";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { axis: attrs.int("axis")? })
    }
    fn samples() -> Vec<Sample> {
        let mut samples: Vec<_> = [(&[5][..], 0), (&[4, 7], 1), (&[4, 7], 0), (&[2, 3, 5], 1), (&[3, 1], 1), (&[3, 0], 1), (&[0, 4], 1), (&[0, 2, 0], 2)]
            .iter()
            .map(|(dims, axis)| Sample::new(Self { axis: *axis }, &[SampleInput::float(dims)]))
            .collect();
        // Few distinct values make ties.
        samples.push(Sample::new(Self { axis: 1 }, &[SampleInput::index(&[6, 9], 3)]));
        samples
    }
}

impl Builder {
    /// The index (i32) of the first maximum along `axis`, which vanishes.
    pub fn arg_max(&mut self, x: Value, axis: usize) -> Value {
        self.push(ArgMax { axis }, &[x])
    }
}

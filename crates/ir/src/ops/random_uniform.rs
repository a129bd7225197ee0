//! `random_uniform`: uniform random numbers from a counter-based stream.

use outgrow_tensor::RngKey;
use crate::ops::{OpEntry, OpRule, Sample, SampleInput};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// f32 numbers in `[0, 1)`: element `i` is the number at position `i` of the stream whose key is the input (an
/// i64 scalar) with `stream` folded in. Give every use in a graph a stream of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RandomUniform {
    /// Dimensions.
    pub dims: Vec<Dim>,
    /// Which of the streams below the key.
    pub stream: usize,
}

impl OpRule for RandomUniform {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("dims", Attr::Dims(self.dims.clone())), ("stream", Attr::int(self.stream))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        match inputs {
            [key] if **key == TensorType::scalar(DType::I64) => {
                Ok(TensorType { dtype: DType::F32, dims: self.dims.clone() })
            }
            _ => Err("takes one key, an i64 scalar".into()),
        }
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let key = RngKey::new(inputs[0].get_i64(0) as u64).fold_in(self.stream as u64);
        Tensor::from_f64(dtype, shape.clone(), |i| f64::from(key.uniform_at(i as u64)))
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        // Ten rounds of Philox make four numbers.
        Cost::streaming(Cost::product([output.unit_elements(), 15]), inputs, output)
    }
    fn map_dims(&mut self, change: &mut dyn FnMut(Dim) -> Dim) {
        self.dims.iter_mut().for_each(|d| *d = change(*d));
    }
}

impl OpEntry for RandomUniform {
    const NAME: &'static str = "random_uniform";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { dims: attrs.dims("dims")?, stream: attrs.int("stream")? })
    }
    fn samples() -> Vec<Sample> {
        [&[][..], &[3], &[0], &[33, 5], &[1, 1027]]
            .iter()
            .map(|dims| {
                let op = Self { dims: dims.iter().copied().map(Dim::Fixed).collect(), stream: 9 };
                Sample::new(op, &[SampleInput::new(DType::I64, &[], -1e9, 1e9)])
            })
            .collect()
    }
}

impl Builder {
    /// f32 numbers in `[0, 1)` from stream number `stream` below `key`.
    pub fn random_uniform(&mut self, key: Value, dims: &[Dim], stream: usize) -> Value {
        self.push(RandomUniform { dims: dims.to_vec(), stream }, &[key])
    }
}

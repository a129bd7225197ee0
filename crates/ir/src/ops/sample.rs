//! Cases for the tests that run over every op: the op, the types of its inputs and the values they may take.

use crate::{Builder, Dim, Graph, InputRole, Op, TensorType};
use outgrow_tensor::{DType, RngKey, Tensor};

/// One case: an op and its inputs.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The op.
    pub op: Op,
    /// Its inputs.
    pub inputs: Vec<SampleInput>,
}

/// One input of a case.
#[derive(Clone, Debug)]
pub struct SampleInput {
    /// Element type; a derivative is checked with f64 in place of any float.
    pub dtype: DType,
    /// Static extents.
    pub dims: Vec<usize>,
    /// Values lie in `[low, high)`.
    pub low: f64,
    /// Values lie in `[low, high)`.
    pub high: f64,
}

impl SampleInput {
    /// Values in `[low, high)` of this type.
    pub fn new(dtype: DType, dims: &[usize], low: f64, high: f64) -> Self {
        Self { dtype, dims: dims.to_vec(), low, high }
    }

    /// f32 values in `[-2, 2)`.
    pub fn float(dims: &[usize]) -> Self {
        Self::new(DType::F32, dims, -2.0, 2.0)
    }

    /// f32 values in `[0.3, 2.3)`: away from zero.
    pub fn positive(dims: &[usize]) -> Self {
        Self::new(DType::F32, dims, 0.3, 2.3)
    }

    /// i32 values in `[0, n)`.
    pub fn index(dims: &[usize], n: usize) -> Self {
        Self::new(DType::I32, dims, 0.0, n as f64)
    }

    /// Truth values.
    pub fn boolean(dims: &[usize]) -> Self {
        Self::new(DType::Bool, dims, 0.0, 2.0)
    }

    /// Values for this input, reproducible from the key.
    pub fn values(&self, key: RngKey) -> Tensor {
        let mut stream = key.stream();
        Tensor::from_f64(self.dtype, self.dims.clone(), |_| {
            let x = stream.uniform_in(self.low, self.high);
            if self.dtype.is_float() { x } else { x.floor() }
        })
    }
}

impl Sample {
    /// A case of `op` on these inputs.
    pub fn new(op: impl Into<Op>, inputs: &[SampleInput]) -> Self {
        Self { op: op.into(), inputs: inputs.to_vec() }
    }

    /// The same case with every float input of type `dtype`. Products of what gives no other type give its own.
    #[must_use]
    pub fn with_floats(mut self, dtype: DType) -> Self {
        for input in self.inputs.iter_mut().filter(|i| i.dtype.is_float()) {
            input.dtype = dtype;
        }
        let result = match &mut self.op {
            Op::Dot(op) => Some(&mut op.result),
            Op::Conv2d(op) => Some(&mut op.result),
            Op::Conv2dGradInput(op) => Some(&mut op.conv.result),
            Op::Conv2dGradWeight(op) => Some(&mut op.conv.result),
            _ => None,
        };
        if let Some(result) = result.filter(|_| dtype != DType::BF16) {
            *result = None;
        }
        self
    }

    /// A graph of this op alone, with one output `y`.
    pub fn graph(&self) -> Result<Graph, crate::Diagnostics> {
        let mut b = Builder::new(self.op.rule().name());
        let inputs: Vec<_> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let dims = input.dims.iter().copied().map(Dim::Fixed).collect();
                b.input(&format!("x{i}"), InputRole::Data, TensorType { dtype: input.dtype, dims })
            })
            .collect();
        let y = b.push(self.op.clone(), &inputs);
        b.output("y", y);
        b.finish()
    }

    /// Values for the inputs, reproducible from the key.
    pub fn values(&self, key: RngKey) -> Vec<Tensor> {
        self.inputs.iter().enumerate().map(|(i, input)| input.values(key.fold_in(i as u64))).collect()
    }
}

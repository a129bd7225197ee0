//! `scatter_add`: sums of rows by index.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// From integer `indices` of any shape and `updates [indices…, rest…]`, a table `[rows, rest…]` in which each row is
/// the sum of the updates with its index, in their order. An index outside the table is an error when executed; the
/// reference leaves it out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScatterAdd {
    /// Rows of the table.
    pub rows: Dim,
}

impl OpRule for ScatterAdd {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![("rows", Attr::Dims(vec![self.rows]))]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        match inputs {
            [indices, updates]
                if matches!(indices.dtype, DType::I32 | DType::I64)
                    && updates.dims.starts_with(&indices.dims)
                    && updates.dtype.is_float() =>
            {
                let rest = updates.dims[indices.rank()..].iter();
                Ok(TensorType { dtype: updates.dtype, dims: [&self.rows].into_iter().chain(rest).copied().collect() })
            }
            _ => Err("takes i32 or i64 indices and float updates that start with their dimensions".into()),
        }
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (indices, updates) = (inputs[0], inputs[1]);
        let rows = shape.dims()[0];
        let width = shape.dims()[1..].iter().product::<usize>();
        let mut sums = vec![0.0; shape.elements()];
        for i in 0..updates.elements() {
            if let Some(row) = usize::try_from(indices.get_i64(i / width)).ok().filter(|r| *r < rows) {
                sums[row * width + i % width] += updates.get_f64(i);
            }
        }
        Tensor::from_f64(dtype, shape.clone(), |i| sums[i])
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        vec![None, Some(cx.b.gather(cx.grad, cx.inputs[0]))]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(inputs[1].unit_elements() as u64, inputs, output)
    }
    fn map_dims(&mut self, change: &mut dyn FnMut(Dim) -> Dim) {
        self.rows = change(self.rows);
    }
}

impl OpEntry for ScatterAdd {
    const NAME: &'static str = "scatter_add";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        match attrs.dims("rows")?.as_slice() {
            [rows] => Ok(Self { rows: *rows }),
            _ => Err("attribute `rows` must hold one dimension".into()),
        }
    }
    fn samples() -> Vec<Sample> {
        let case = |rows: usize, indices: &[usize], rest: &[usize]| {
            let updates = [indices, rest].concat();
            let inputs = [SampleInput::index(indices, rows), SampleInput::float(&updates)];
            Sample::new(Self { rows: Dim::Fixed(rows) }, &inputs)
        };
        vec![case(5, &[4], &[3]), case(5, &[2, 6], &[3]), case(4, &[9], &[]), case(3, &[], &[2, 2]), case(2, &[0], &[3]), case(1, &[1], &[1])]
    }
}

impl Builder {
    /// A table of `rows` rows, each the sum of the `updates` with its index.
    pub fn scatter_add(&mut self, indices: Value, updates: Value, rows: Dim) -> Value {
        self.push(ScatterAdd { rows }, &[indices, updates])
    }
}

//! `gather`: rows of a table by index.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp};
use crate::{AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// From `table [rows, rest…]` and integer `indices` of any shape, the rows: `[indices…, rest…]`. An index outside
/// the table is an error when executed; the reference gives zeros for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gather;

impl OpRule for Gather {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        match inputs {
            [table, indices] if table.rank() > 0 && matches!(indices.dtype, DType::I32 | DType::I64) => {
                let dims = indices.dims.iter().chain(&table.dims[1..]).copied().collect();
                Ok(TensorType { dtype: table.dtype, dims })
            }
            _ => Err("takes a table of at least one dimension and i32 or i64 indices".into()),
        }
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (table, indices) = (inputs[0], inputs[1]);
        let rows = table.shape().dims()[0];
        let width = table.shape().dims()[1..].iter().product::<usize>();
        let source = |i: usize| {
            let row = usize::try_from(indices.get_i64(i / width)).ok().filter(|r| *r < rows)?;
            Some(row * width + i % width)
        };
        if dtype.is_float() {
            Tensor::from_f64(dtype, shape.clone(), |i| source(i).map_or(0.0, |j| table.get_f64(j)))
        } else {
            Tensor::from_i64(dtype, shape.clone(), |i| source(i).map_or(0, |j| table.get_i64(j)))
        }
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let rows = cx.b.dim(cx.inputs[0], 0);
        vec![Some(cx.b.scatter_add(cx.inputs[1], cx.grad, rows)), None]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        let written = Cost::streaming(0, &[], output).bytes_written;
        Cost { bytes_read: written.saturating_add(Cost::streaming(0, &inputs[1..], output).bytes_read), bytes_written: written, flops: 0 }
    }
}

impl OpEntry for Gather {
    const NAME: &'static str = "gather";
    fn parse(_: &mut AttrReader) -> Result<Self, String> {
        Ok(Self)
    }
    fn samples() -> Vec<Sample> {
        let case = |table: &[usize], indices: &[usize]| {
            Sample::new(Self, &[SampleInput::float(table), SampleInput::index(indices, table[0])])
        };
        vec![case(&[5, 3], &[4]), case(&[5, 3], &[2, 6]), case(&[4], &[7]), case(&[3, 2, 2], &[]), case(&[2, 3], &[0]), case(&[1, 1], &[1])]
    }
}

impl Builder {
    /// Rows of `table [rows, rest…]` by integer `indices`: `[indices…, rest…]`.
    pub fn gather(&mut self, table: Value, indices: Value) -> Value {
        self.push(Gather, &[table, indices])
    }
}

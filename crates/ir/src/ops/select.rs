//! `select`: one of two values, element by element.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp};
use crate::{AttrReader, Builder, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// `condition ? x : y`, element by element; all of one shape, the condition of bool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Select;

impl OpRule for Select {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        match inputs {
            [c, x, y] if c.dtype == DType::Bool && x == y && c.dims == x.dims => Ok((*x).clone()),
            _ => Err("takes a bool and two values of one type, all of one shape".into()),
        }
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let from = |i| if inputs[0].get_i64(i) != 0 { inputs[1] } else { inputs[2] };
        if dtype.is_float() {
            Tensor::from_f64(dtype, shape.clone(), |i| from(i).get_f64(i))
        } else {
            Tensor::from_i64(dtype, shape.clone(), |i| from(i).get_i64(i))
        }
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let zero = cx.b.zeros_like(cx.grad);
        let dx = cx.b.select(cx.inputs[0], cx.grad, zero);
        let dy = cx.b.select(cx.inputs[0], zero, cx.grad);
        vec![None, Some(dx), Some(dy)]
    }
    fn elementwise(&self) -> bool {
        true
    }
}

impl OpEntry for Select {
    const NAME: &'static str = "select";
    fn parse(_: &mut AttrReader) -> Result<Self, String> {
        Ok(Self)
    }
    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for dims in [&[][..], &[0], &[5], &[3, 17]] {
            for dtype in DType::ALL {
                let input = SampleInput::new(dtype, dims, 0.0, 2.0);
                samples.push(Sample::new(Self, &[SampleInput::boolean(dims), input.clone(), input]));
            }
        }
        samples
    }
}

impl Builder {
    /// `condition ? x : y`, element by element; the operands are broadcast to a common shape.
    pub fn select(&mut self, condition: Value, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        let (condition, x) = self.broadcast_together(condition, x);
        let (x, y) = self.broadcast_together(x, y);
        self.push(Select, &[condition, x, y])
    }
}

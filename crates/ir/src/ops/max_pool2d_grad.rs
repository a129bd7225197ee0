//! `max_pool2d_grad`: the gradient of the maximum over windows.

use crate::ops::Window;
use crate::ops::pool2d::{Pool2d, PoolKind};
use crate::ops::{OpEntry, OpRule, Sample, SampleInput};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// From the input `x` of a maximum over windows and the gradient of its result, the gradient by `x`: each window
/// gives its share to its first maximum in row-major order. It has no derivative of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool2dGrad {
    /// Height and width of the window.
    pub size: [usize; 2],
    /// How it slides.
    pub window: Window,
}

impl MaxPool2dGrad {
    fn pool(&self) -> Pool2d {
        Pool2d { kind: PoolKind::Max, size: self.size, window: self.window.clone() }
    }
}

impl OpRule for MaxPool2dGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        self.pool().pool_attrs()
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x, grad] = inputs else { return Err("takes an input and a gradient".into()) };
        let expected = self.pool().result(x)?;
        if expected == **grad { Ok((*x).clone()) } else { Err(format!("the gradient must be {expected}")) }
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (x, grad) = (inputs[0], inputs[1]);
        let mut sums = vec![0.0; shape.elements()];
        for i in 0..grad.elements() {
            let sources = self.pool().sources(x.shape(), &grad.shape().unravel(i));
            let mut best: Option<usize> = None;
            for j in sources {
                let better = best.is_none_or(|b| {
                    x.get_f64(j) > x.get_f64(b) || (x.get_f64(j).is_nan() && !x.get_f64(b).is_nan())
                });
                best = if better { Some(j) } else { best };
            }
            if let Some(best) = best {
                sums[best] += grad.get_f64(i);
            }
        }
        Tensor::from_f64(dtype, shape.clone(), |i| sums[i])
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(Cost::product([self.size[0], self.size[1], inputs[1].unit_elements()]), inputs, output)
    }
}

impl OpEntry for MaxPool2dGrad {
    const NAME: &'static str = "max_pool2d_grad";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { size: attrs.array("size")?, window: Window::parse(attrs)? })
    }
    fn samples() -> Vec<Sample> {
        let case = |(pool, dims): (Pool2d, [usize; 4])| {
            let y = pool.result(&TensorType::new(DType::F32, dims)).ok()?.static_shape()?;
            let op = Self { size: pool.size, window: pool.window };
            Some(Sample::new(op, &[SampleInput::float(&dims), SampleInput::float(&y)]))
        };
        Pool2d::cases(PoolKind::Max).into_iter().filter_map(case).collect()
    }
}

impl Builder {
    /// The gradient by `x` of the maximum over windows, from the gradient of its result.
    pub fn max_pool2d_grad(&mut self, x: Value, grad: Value, size: [usize; 2], window: Window) -> Value {
        self.push(MaxPool2dGrad { size, window }, &[x, grad])
    }
}

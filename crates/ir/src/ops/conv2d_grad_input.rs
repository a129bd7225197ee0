//! `conv2d_grad_input`: the gradient of a convolution by its input, which is also the transposed convolution.

use crate::ops::conv2d::{Conv2d, ConvCase, Places};
use crate::ops::{OpEntry, OpRule, Sample, Vjp};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// From `grad [batch, out, out height, out width]` and `weight [out, in / groups, …]` of a convolution, its
/// gradient by the input `[batch, in, height, width]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dGradInput {
    /// The convolution.
    pub conv: Conv2d,
    /// Height and width of the convolution's input.
    pub image: [usize; 2],
}

impl OpRule for Conv2dGradInput {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        let mut attrs = self.conv.conv_attrs();
        attrs.push(("image", Attr::list(&self.image)));
        attrs
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [grad, weight] = inputs else { return Err("takes a gradient and weights".into()) };
        let channels = weight.dims.get(1).and_then(|d| d.fixed()?.checked_mul(self.conv.groups));
        let (Some(batch), Some(channels)) = (grad.dims.first(), channels) else {
            return Err("takes a gradient and weights of four dimensions".into());
        };
        let [h, w] = self.image;
        let dims = vec![*batch, Dim::Fixed(channels), Dim::Fixed(h), Dim::Fixed(w)];
        let x = TensorType { dtype: grad.dtype, dims };
        let expected = self.conv.output(&x, weight)?;
        if expected.dims == grad.dims {
            Ok(x.with_dtype(expected.dtype))
        } else {
            Err(format!("the gradient must be {}", expected.with_dtype(grad.dtype)))
        }
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (grad, weight) = (inputs[0], inputs[1]);
        let mut sums = vec![0.0; shape.elements()];
        let places = Places { x: shape, weight: weight.shape(), y: grad.shape() };
        self.conv.products(&places, |i, j, k| sums[i] += grad.get_f64(k) * weight.get_f64(j));
        Tensor::from_f64(dtype, shape.clone(), |i| sums[i])
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let (grad, weight) = (cx.inputs[0], cx.inputs[1]);
        let kernel = [cx.b.fixed_dim(weight, 2), cx.b.fixed_dim(weight, 3)];
        let back = cx.b.cast(cx.grad, cx.b.dtype(grad));
        let d_grad = cx.b.push(self.conv.narrow(), &[back, weight]);
        let d_weight = cx.b.conv2d_grad_weight(back, grad, self.conv.narrow(), kernel);
        vec![Some(d_grad), Some(d_weight)]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        let products = inputs[1].dims[1..].iter().map(|d| d.unit());
        Cost::streaming(Cost::product(products.chain([2, inputs[0].unit_elements()])), inputs, output)
    }
}

impl OpEntry for Conv2dGradInput {
    const NAME: &'static str = "conv2d_grad_input";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { conv: Conv2d::parse_attrs(attrs)?, image: attrs.array("image")? })
    }
    fn samples() -> Vec<Sample> {
        let case = |(conv, x, w, y): ConvCase| {
            let operands = [conv.operand(&y), conv.operand(&w)];
            Sample::new(Self { conv, image: [x[2], x[3]] }, &operands)
        };
        Conv2d::cases().into_iter().map(case).collect()
    }
}

impl Builder {
    /// The gradient of the convolution `conv` by its input, whose height and width are `image`.
    pub fn conv2d_grad_input(&mut self, grad: Value, weight: Value, conv: Conv2d, image: [usize; 2]) -> Value {
        self.push(Conv2dGradInput { conv, image }, &[grad, weight])
    }
}

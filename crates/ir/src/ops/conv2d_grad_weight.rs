//! `conv2d_grad_weight`: the gradient of a convolution by its weights.

use crate::ops::conv2d::{Conv2d, ConvCase, Places};
use crate::ops::{OpEntry, OpRule, Sample, Vjp};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// From the input `x [batch, in, height, width]` and `grad [batch, out, out height, out width]` of a convolution,
/// its gradient by the weights `[out, in / groups, kernel height, kernel width]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dGradWeight {
    /// The convolution.
    pub conv: Conv2d,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
}

impl OpRule for Conv2dGradWeight {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        let mut attrs = self.conv.conv_attrs();
        attrs.push(("kernel", Attr::list(&self.kernel)));
        attrs
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x, grad] = inputs else { return Err("takes an input and a gradient".into()) };
        let channels = |ty: &TensorType| ty.dims.get(1).and_then(|d| d.fixed());
        let (Some(from), Some(to)) = (channels(x), channels(grad)) else {
            return Err("takes an input and a gradient of four dimensions".into());
        };
        let [h, w] = self.kernel;
        let weight = TensorType::new(x.dtype, [to, from / self.conv.groups.max(1), h, w]);
        let expected = self.conv.output(x, &weight)?;
        if (grad.dtype, &grad.dims) == (x.dtype, &expected.dims) {
            Ok(weight.with_dtype(expected.dtype))
        } else {
            Err(format!("the gradient must be {}", expected.with_dtype(x.dtype)))
        }
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (x, grad) = (inputs[0], inputs[1]);
        let mut sums = vec![0.0; shape.elements()];
        let places = Places { x: x.shape(), weight: shape, y: grad.shape() };
        self.conv.products(&places, |i, j, k| sums[j] += grad.get_f64(k) * x.get_f64(i));
        Tensor::from_f64(dtype, shape.clone(), |i| sums[i])
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let (x, grad) = (cx.inputs[0], cx.inputs[1]);
        let image = [cx.b.fixed_dim(x, 2), cx.b.fixed_dim(x, 3)];
        let back = cx.b.cast(cx.grad, cx.b.dtype(x));
        let dx = cx.b.conv2d_grad_input(grad, back, self.conv.narrow(), image);
        let d_grad = cx.b.push(self.conv.narrow(), &[x, back]);
        vec![Some(dx), Some(d_grad)]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        let products = output.dims[1..].iter().map(|d| d.unit());
        Cost::streaming(Cost::product(products.chain([2, inputs[1].unit_elements()])), inputs, output)
    }
}

impl OpEntry for Conv2dGradWeight {
    const NAME: &'static str = "conv2d_grad_weight";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { conv: Conv2d::parse_attrs(attrs)?, kernel: attrs.array("kernel")? })
    }
    fn samples() -> Vec<Sample> {
        let case = |(conv, x, w, y): ConvCase| {
            let operands = [conv.operand(&x), conv.operand(&y)];
            Sample::new(Self { conv, kernel: [w[2], w[3]] }, &operands)
        };
        Conv2d::cases().into_iter().map(case).collect()
    }
}

impl Builder {
    /// The gradient of the convolution `conv` by its weights, whose height and width are `kernel`.
    pub fn conv2d_grad_weight(&mut self, x: Value, grad: Value, conv: Conv2d, kernel: [usize; 2]) -> Value {
        self.push(Conv2dGradWeight { conv, kernel }, &[x, grad])
    }
}

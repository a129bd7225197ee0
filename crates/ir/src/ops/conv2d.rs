//! `conv2d`: two-dimensional convolution (cross-correlation, as in every framework).

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, Window, sums};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// Correlates `x [batch, in, height, width]` with `weight [out, in / groups, kernel height, kernel width]`; the
/// result is `[batch, out, out height, out width]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// How the kernel slides.
    pub window: Window,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Element type of the sums, where it is not that of the operands: bf16 may give f32.
    pub result: Option<DType>,
}

/// The static places of one image and one kernel, for reference evaluation of all three convolution ops.
pub(super) struct Places<'a> {
    pub x: &'a [usize],
    pub weight: &'a [usize],
    pub y: &'a [usize],
}

/// A convolution to test with: the op, dimensions of x, of the weights, and of y.
pub(super) type ConvCase = (Conv2d, Vec<usize>, Vec<usize>, Vec<usize>);

impl Conv2d {
    /// Calls `visit(x, weight, y)` with the flat positions of every product of the convolution, in order of y.
    pub(super) fn products(&self, at: &Places<'_>, mut visit: impl FnMut(usize, usize, usize)) {
        let [x, weight, y] = [at.x, at.weight, at.y].map(|d| Shape::new(d.to_vec()));
        let per_group = at.weight[0] / self.groups;
        for i in 0..y.elements() {
            let out = y.unravel(i);
            for k in 0..at.weight[1] * at.weight[2] * at.weight[3] {
                let kernel = Shape::new(at.weight[1..].to_vec()).unravel(k);
                let channel = out[1] / per_group * at.weight[1] + kernel[0];
                let h = self.window.source(0, at.x[2], out[2], kernel[1]);
                let w = self.window.source(1, at.x[3], out[3], kernel[2]);
                if let (Some(h), Some(w)) = (h, w) {
                    let from_weight = weight.ravel(&[out[1], kernel[0], kernel[1], kernel[2]]);
                    visit(x.ravel(&[out[0], channel, h, w]), from_weight, i);
                }
            }
        }
    }

    /// The type of the result of a convolution of these types.
    pub fn output(&self, x: &TensorType, weight: &TensorType) -> Result<TensorType, String> {
        if x.rank() != 4 || weight.rank() != 4 || x.dtype != weight.dtype || !x.dtype.is_float() {
            return Err("takes [batch, in, height, width] and [out, in / groups, height, width] of one float type".into());
        }
        let fixed = |d: Dim| d.fixed().ok_or("only the first dimension may be a symbol");
        let (channels, out, per_group) = (fixed(x.dims[1])?, fixed(weight.dims[0])?, fixed(weight.dims[1])?);
        if self.groups == 0 || per_group.checked_mul(self.groups) != Some(channels) || out % self.groups != 0 {
            return Err(format!("{channels} channels do not fit the weights in {} groups", self.groups));
        }
        let height = self.window.places(0, fixed(x.dims[2])?, fixed(weight.dims[2])?)?;
        let width = self.window.places(1, fixed(x.dims[3])?, fixed(weight.dims[3])?)?;
        let dtype = sums::sum_type(x.dtype, self.result)?;
        Ok(TensorType { dtype, dims: vec![x.dims[0], Dim::Fixed(out), Dim::Fixed(height), Dim::Fixed(width)] })
    }

    /// The same convolution with a result of the operands' type.
    pub(super) fn narrow(&self) -> Self {
        Self { result: None, ..self.clone() }
    }

    pub(super) fn conv_attrs(&self) -> Vec<(&'static str, Attr)> {
        let mut attrs = self.window.attrs();
        attrs.push(("groups", Attr::int(self.groups)));
        sums::push_attr(&mut attrs, self.result);
        attrs
    }

    pub(super) fn parse_attrs(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self { window: Window::parse(attrs)?, groups: attrs.int("groups")?, result: sums::parse_attr(attrs)? })
    }

    /// Convolutions that all three ops are tested with.
    pub(super) fn cases() -> Vec<ConvCase> {
        let mut cases = Vec::new();
        for window in Window::samples() {
            for (channels, out, groups, kernel) in [(2, 3, 1, [3, 3]), (4, 4, 2, [1, 2]), (3, 3, 3, [3, 1])] {
                cases.push((Self { window: window.clone(), groups, result: None }, vec![2, channels, 6, 7], vec![out, channels / groups, kernel[0], kernel[1]]));
            }
        }
        cases.push((Self { window: Window::default(), groups: 1, result: None }, vec![1, 1, 1, 1], vec![1, 1, 1, 1]));
        cases.push((Self { window: Window::new(2, 0), groups: 1, result: None }, vec![3, 2, 4, 4], vec![5, 2, 1, 1]));
        cases.push((Self { window: Window::new(1, 0), groups: 1, result: None }, vec![2, 3, 5, 5], vec![2, 3, 5, 5]));
        let wide = |window, groups| Self { window, groups, result: Some(DType::F32) };
        cases.push((wide(Window::new(1, 1), 1), vec![2, 3, 9, 8], vec![16, 3, 3, 3]));
        cases.push((wide(Window::new(2, 1), 2), vec![2, 4, 6, 7], vec![4, 2, 3, 3]));
        let with_result = cases.into_iter().filter_map(|(op, x, w)| {
            let ty = |dims: &[usize]| TensorType::new(op.operand(dims).dtype, dims.iter().copied());
            let y = op.output(&ty(&x), &ty(&w)).ok()?.static_shape()?.dims().to_vec();
            Some((op, x, w, y))
        });
        with_result.collect()
    }

    /// An operand of these dimensions for one of the cases.
    pub(super) fn operand(&self, dims: &[usize]) -> SampleInput {
        let float = SampleInput::float(dims);
        SampleInput { dtype: if self.result.is_some() { DType::BF16 } else { float.dtype }, ..float }
    }
}

impl OpRule for Conv2d {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        self.conv_attrs()
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x, weight] = inputs else { return Err("takes an input and weights".into()) };
        self.output(x, weight)
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (x, weight) = (inputs[0], inputs[1]);
        let mut sums = vec![0.0; shape.elements()];
        let places = Places { x: x.shape(), weight: weight.shape(), y: shape };
        self.products(&places, |i, j, k| sums[k] += x.get_f64(i) * weight.get_f64(j));
        Tensor::from_f64(dtype, shape.clone(), |i| sums[i])
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let (x, weight) = (cx.inputs[0], cx.inputs[1]);
        let image = [cx.b.fixed_dim(x, 2), cx.b.fixed_dim(x, 3)];
        let kernel = [cx.b.fixed_dim(weight, 2), cx.b.fixed_dim(weight, 3)];
        // The gradient of a wider result is rounded to the operands' type, as that of `dot` is.
        let grad = cx.b.cast(cx.grad, cx.b.dtype(x));
        let dx = cx.b.conv2d_grad_input(grad, weight, self.narrow(), image);
        let dw = cx.b.conv2d_grad_weight(x, grad, self.narrow(), kernel);
        vec![Some(dx), Some(dw)]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        let products = inputs[1].dims[1..].iter().map(|d| d.unit());
        Cost::streaming(Cost::product(products.chain([2, output.unit_elements()])), inputs, output)
    }
}

impl OpEntry for Conv2d {
    const NAME: &'static str = "conv2d";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Self::parse_attrs(attrs)
    }
    fn samples() -> Vec<Sample> {
        let case = |(op, x, w, _): ConvCase| {
            let operands = [op.operand(&x), op.operand(&w)];
            Sample::new(op, &operands)
        };
        Self::cases().into_iter().map(case).collect()
    }
}

impl Builder {
    /// Correlates `x [batch, in, height, width]` with `weight [out, in / groups, kernel height, kernel width]`.
    pub fn conv2d(&mut self, x: Value, weight: Value, window: Window, groups: usize) -> Value {
        self.conv2d_as(self.dtype(x), x, weight, window, groups)
    }

    /// As [`Builder::conv2d`], with sums of `dtype`: the operands' own type, or f32 of bf16, which are then not rounded.
    pub fn conv2d_as(&mut self, dtype: DType, x: Value, weight: Value, window: Window, groups: usize) -> Value {
        let result = (dtype != self.dtype(x)).then_some(dtype);
        self.push(Conv2d { window, groups, result }, &[x, weight])
    }
}

//! `pool2d`: the maximum or the sum of a window that slides over height and width.

use crate::ops::Window;
use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// What is taken of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The maximum; padding counts as minus infinity.
    Max,
    /// The sum; padding counts as zero.
    Sum,
}

/// Takes the maximum or the sum of each window of `x [batch, channels, height, width]`. Padding must be smaller
/// than the window; dilation is 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool2d {
    /// What is taken.
    pub kind: PoolKind,
    /// Height and width of the window.
    pub size: [usize; 2],
    /// How it slides.
    pub window: Window,
}

impl Pool2d {
    /// The type of the result for an input of type `x`.
    pub fn result(&self, x: &TensorType) -> Result<TensorType, String> {
        if x.rank() != 4 || !x.dtype.is_float() {
            return Err("takes [batch, channels, height, width] of a float type".into());
        }
        let [top, bottom, left, right] = self.window.padding;
        if self.window.dilation != [1, 1] || top.max(bottom) >= self.size[0] || left.max(right) >= self.size[1] {
            return Err("padding must be smaller than the window, and dilation 1".into());
        }
        let mut ty = x.clone();
        for axis in 0..2 {
            let n = x.dims[2 + axis].fixed().ok_or("only the first dimension may be a symbol")?;
            ty.dims[2 + axis] = Dim::Fixed(self.window.places(axis, n, self.size[axis])?);
        }
        Ok(ty)
    }

    /// The flat positions in `x` under the window at `place` of the result, in row-major order.
    pub(super) fn sources(&self, x: &Shape, place: &[usize]) -> Vec<usize> {
        let mut sources = Vec::new();
        for k in 0..self.size[0] * self.size[1] {
            let h = self.window.source(0, x.dims()[2], place[2], k / self.size[1]);
            let w = self.window.source(1, x.dims()[3], place[3], k % self.size[1]);
            if let (Some(h), Some(w)) = (h, w) {
                sources.push(x.ravel(&[place[0], place[1], h, w]));
            }
        }
        sources
    }

    pub(super) fn pool_attrs(&self) -> Vec<(&'static str, Attr)> {
        let mut attrs = vec![("size", Attr::list(&self.size))];
        attrs.extend(self.window.attrs());
        attrs
    }

    /// Windows that both pooling ops are tested with, and dimensions of x.
    pub(super) fn cases(kind: PoolKind) -> Vec<(Self, [usize; 4])> {
        let case = |size, stride, padding, dims| (Self { kind, size, window: Window::new(stride, padding) }, dims);
        vec![
            case([2, 2], 2, 0, [2, 3, 6, 6]),
            case([3, 3], 2, 1, [1, 2, 7, 5]),
            case([2, 3], 1, 1, [2, 1, 4, 4]),
            case([2, 2], 3, 0, [1, 1, 8, 7]),
            case([1, 1], 1, 0, [1, 1, 1, 1]),
            case([4, 4], 4, 0, [2, 5, 4, 4]),
            case([2, 2], 1, 1, [1, 2, 0, 3]),
        ]
    }

    /// The sum of everything in `grad` that a place of `x` contributed to: the gradient of the sum over windows.
    fn spread(&self, b: &mut Builder, x: Value, grad: Value) -> Value {
        let mut g = grad;
        // Nothing but padding under the windows: no element to give a gradient to, and no window would fit.
        if (0..2).any(|axis| b.fixed_dim(x, 2 + axis) == 0) {
            return b.zeros_like(x);
        }
        for axis in 0..2 {
            let (n, places) = (b.fixed_dim(x, 2 + axis), b.fixed_dim(grad, 2 + axis));
            let (size, stride, low) = (self.size[axis], self.window.strides[axis], self.window.padding[2 * axis]);
            // Dilated by the stride, place p stands at p * stride; the window of size `size` that ends at the
            // (padded) position of x covers just the places that read it.
            let before = size - 1;
            let covered = (places - 1) * stride + 1 + before;
            let wanted = low + n + size - 1;
            g = b.pad(g, 2 + axis, before, wanted.saturating_sub(covered), stride - 1, 0.0);
            g = b.slice(g, 2 + axis, low, low + n + size - 1);
        }
        let sum = Self { kind: PoolKind::Sum, size: self.size, window: Window::default() };
        b.push(sum, &[g])
    }
}

impl OpRule for Pool2d {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        let kind = if self.kind == PoolKind::Max { "max" } else { "sum" };
        let mut attrs = vec![("kind", Attr::Name(kind.into()))];
        attrs.extend(self.pool_attrs());
        attrs
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = inputs else { return Err("takes one input".into()) };
        self.result(x)
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let x = inputs[0];
        Tensor::from_f64(dtype, shape.clone(), |i| {
            let values = self.sources(x.shape(), &shape.unravel(i)).into_iter().map(|j| x.get_f64(j));
            match self.kind {
                PoolKind::Sum => values.sum(),
                PoolKind::Max => {
                    values.fold(f64::NEG_INFINITY, |m, v| if v.is_nan() || v > m { v } else { m })
                }
            }
        })
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let x = cx.inputs[0];
        let grad = match self.kind {
            PoolKind::Max => cx.b.max_pool2d_grad(x, cx.grad, self.size, self.window.clone()),
            PoolKind::Sum => self.spread(cx.b, x, cx.grad),
        };
        vec![Some(grad)]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(Cost::product([self.size[0], self.size[1], output.unit_elements()]), inputs, output)
    }
}

impl OpEntry for Pool2d {
    const NAME: &'static str = "pool2d";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        let kind = match attrs.name("kind")?.as_str() {
            "max" => PoolKind::Max,
            "sum" => PoolKind::Sum,
            other => return Err(format!("`{other}` is not max or sum")),
        };
        Ok(Self { kind, size: attrs.array("size")?, window: Window::parse(attrs)? })
    }
    fn samples() -> Vec<Sample> {
        [PoolKind::Max, PoolKind::Sum]
            .into_iter()
            .flat_map(Self::cases)
            .map(|(op, dims)| Sample::new(op, &[SampleInput::float(&dims)]))
            .collect()
    }
}

impl Builder {
    /// The maximum of each window of `x [batch, channels, height, width]`.
    pub fn max_pool2d(&mut self, x: Value, size: [usize; 2], window: Window) -> Value {
        self.push(Pool2d { kind: PoolKind::Max, size, window }, &[x])
    }

    /// The sum of each window of `x [batch, channels, height, width]`.
    pub fn sum_pool2d(&mut self, x: Value, size: [usize; 2], window: Window) -> Value {
        self.push(Pool2d { kind: PoolKind::Sum, size, window }, &[x])
    }
}

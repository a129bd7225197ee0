//! `pad`: a constant before, after and between the elements along one axis.

use crate::Scalar;
use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, reference};
use crate::{Attr, AttrReader, Builder, Cost, Dim, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// Puts `low` constants before, `high` after, and `interior` between the elements along `axis`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pad {
    /// The axis.
    pub axis: usize,
    /// How many before the first.
    pub low: usize,
    /// How many after the last.
    pub high: usize,
    /// How many between two neighbours.
    pub interior: usize,
    /// The constant, converted to the element type as `cast` does.
    pub value: Scalar,
}

impl OpRule for Pad {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![
            ("axis", Attr::int(self.axis)),
            ("low", Attr::int(self.low)),
            ("high", Attr::int(self.high)),
            ("interior", Attr::int(self.interior)),
            ("value", Attr::Float(self.value.0)),
        ]
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x] = inputs else { return Err("takes one input".into()) };
        let Some(Dim::Fixed(n)) = x.dims.get(self.axis).copied() else {
            return Err(format!("axis {} must exist and be fixed", self.axis));
        };
        let gaps = n.saturating_sub(1).checked_mul(self.interior);
        let extent = gaps.and_then(|g| n.checked_add(g)?.checked_add(self.low)?.checked_add(self.high));
        let mut ty = (*x).clone();
        ty.dims[self.axis] = Dim::Fixed(extent.ok_or("the padded extent overflows")?);
        Ok(ty)
    }
    fn eval(&self, inputs: &[&Tensor], _: DType, shape: &Shape) -> Tensor {
        let n = inputs[0].shape().dims()[self.axis];
        reference::pick(inputs[0], shape, self.value.0, |index| {
            let offset = index[self.axis].checked_sub(self.low)?;
            let inside = offset % (self.interior + 1) == 0 && offset / (self.interior + 1) < n;
            let mut source = index.to_vec();
            source[self.axis] = offset / (self.interior + 1);
            inside.then(|| inputs[0].shape().ravel(&source))
        })
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let count = cx.b.fixed_dim(cx.inputs[0], self.axis);
        let covered = if count == 0 { 0 } else { (count - 1) * (self.interior + 1) + 1 };
        let slice = crate::ops::slice::Slice {
            axis: self.axis,
            start: self.low,
            end: self.low + covered,
            stride: self.interior + 1,
        };
        vec![Some(cx.b.push(slice, &[cx.grad]))]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        Cost::streaming(0, inputs, output)
    }
}

impl OpEntry for Pad {
    const NAME: &'static str = "pad";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self {
            axis: attrs.int("axis")?,
            low: attrs.int("low")?,
            high: attrs.int("high")?,
            interior: attrs.int("interior")?,
            value: Scalar(attrs.number("value")?),
        })
    }
    fn samples() -> Vec<Sample> {
        let case = |dims: &[usize], axis, low, high, interior, value| {
            Sample::new(Self { axis, low, high, interior, value: Scalar(value) }, &[SampleInput::float(dims)])
        };
        // A constant that the type cannot hold becomes the nearest that it can.
        let below = Self { axis: 0, low: 1, high: 0, interior: 1, value: Scalar(-1.0) };
        let bytes = SampleInput::new(DType::U8, &[3, 2], 0.0, 9.0);
        vec![
            Sample::new(below, &[bytes]),
            case(&[5], 0, 1, 2, 0, 0.0),
            case(&[3, 4], 1, 0, 0, 2, -1.5),
            case(&[3, 4], 0, 2, 1, 1, 7.0),
            case(&[0, 2], 0, 2, 1, 1, 3.0),
            case(&[2, 3, 4], 1, 1, 1, 0, -9.0),
        ]
    }
}

impl Builder {
    /// Puts `low` constants before, `high` after, and `interior` between the elements along `axis`.
    pub fn pad(&mut self, x: Value, axis: usize, low: usize, high: usize, interior: usize, value: f64) -> Value {
        self.push(Pad { axis, low, high, interior, value: Scalar(value) }, &[x])
    }
}

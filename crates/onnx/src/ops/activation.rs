//! Activations.

use super::arithmetic::{is_negative, negative_part, positive_part};
use super::math::float;
use super::{Rule, op};
use crate::cx::{Cx, Lowered, unsupported};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Value};

pub(super) const RULES: &[Rule] = &[
    op("Celu", celu),
    op("Elu", elu),
    op("Gelu", gelu),
    op("HardSigmoid", hard_sigmoid),
    op("HardSwish", |cx| float(cx, hard_swish)),
    op("LeakyRelu", leaky_relu),
    op("Mish", |cx| float(cx, mish)),
    op("PRelu", p_relu),
    op("Relu", relu),
    op("Selu", selu),
    op("Shrink", shrink),
    op("Sigmoid", |cx| float(cx, Builder::sigmoid)),
    op("Softplus", |cx| float(cx, Builder::softplus)),
    op("Softsign", |cx| float(cx, softsign)),
    op("SwiGLU", swiglu),
    op("Swish", swish),
    op("ThresholdedRelu", thresholded_relu),
];

fn relu(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["consumed_inputs"]);
    let (elem, x) = (cx.elem(0)?, cx.number(0)?);
    let y = if elem.is_float() { cx.b.relu(x) } else { positive_part(cx.b, x) };
    cx.one(elem, y)
}

fn leaky_relu(cx: &mut Cx<'_>) -> Lowered {
    let slope = cx.real("alpha", f64::from(0.01f32))?;
    float(cx, |b, x| leaky(b, x, slope))
}

/// `x`, times `slope` where it is negative.
pub(super) fn leaky(b: &mut Builder, x: Value, slope: f64) -> Value {
    let negative = is_negative(b, x);
    let scaled = b.mul_scalar(x, slope);
    b.select(negative, scaled, x)
}

fn p_relu(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x) = (cx.elem(0)?, cx.number(0)?);
    let mut slope = cx.x(1)?;
    let (dims, own) = (cx.b.dims(x), cx.b.dims(slope));
    if cx.opset < 7 && own.len() == 1 && dims.len() > 1 && own[0] == dims[1] {
        slope = cx.b.broadcast_axis(slope, &dims, 1);
    }
    let b = &mut *cx.b;
    let negative = is_negative(b, x);
    let scaled = b.mul(x, slope);
    let y = b.select(negative, scaled, x);
    cx.wrapped(elem, y)
}

/// `scale (eˣᐟᵃ - 1)` where x is negative; the exponential only of what is.
pub(super) fn elu_like(b: &mut Builder, x: Value, scale: f64, inside: f64) -> Value {
    let below = negative_part(b, x);
    let scaled = b.mul_scalar(below, inside);
    let exp = b.exp(scaled);
    let shifted = b.add_scalar(exp, -1.0);
    let curve = b.mul_scalar(shifted, scale);
    let above = positive_part(b, x);
    b.add(above, curve)
}

fn elu(cx: &mut Cx<'_>) -> Lowered {
    let alpha = cx.real("alpha", 1.0)?;
    float(cx, |b, x| elu_like(b, x, alpha, 1.0))
}

fn celu(cx: &mut Cx<'_>) -> Lowered {
    let alpha = cx.real("alpha", 1.0)?;
    float(cx, |b, x| elu_like(b, x, alpha, 1.0 / alpha))
}

fn selu(cx: &mut Cx<'_>) -> Lowered {
    let v1 = cx.opset < 6;
    let alpha = cx.real("alpha", if v1 { 1.6732 } else { f64::from(1.673_263_2f32) })?;
    let gamma = cx.real("gamma", if v1 { 1.0507 } else { f64::from(1.050_701f32) })?;
    float(cx, |b, x| {
        let y = elu_like(b, x, alpha, 1.0);
        b.mul_scalar(y, gamma)
    })
}

fn gelu(cx: &mut Cx<'_>) -> Lowered {
    match cx.text("approximate", "none")?.as_str() {
        "none" => float(cx, Builder::gelu),
        "tanh" => float(cx, Builder::gelu_tanh),
        other => unsupported(format!("approximation `{other}`"), "none or tanh"),
    }
}

fn hard(b: &mut Builder, x: Value, alpha: f64, beta: f64) -> Value {
    let scaled = b.mul_scalar(x, alpha);
    let shifted = b.add_scalar(scaled, beta);
    let above = positive_part(b, shifted);
    let one = b.scalar(1.0, b.dtype(x));
    b.min(above, one)
}

fn hard_sigmoid(cx: &mut Cx<'_>) -> Lowered {
    let (alpha, beta) = (cx.real("alpha", f64::from(0.2f32))?, cx.real("beta", 0.5)?);
    float(cx, |b, x| hard(b, x, alpha, beta))
}

/// The piecewise linear function that some recurrent networks use.
pub(super) fn hard_sigmoid_of(b: &mut Builder, x: Value, alpha: f64, beta: f64) -> Value {
    hard(b, x, alpha, beta)
}

fn hard_swish(b: &mut Builder, x: Value) -> Value {
    let gate = hard(b, x, 1.0 / 6.0, 0.5);
    b.mul(x, gate)
}

fn mish(b: &mut Builder, x: Value) -> Value {
    let soft = b.softplus(x);
    let gate = b.tanh(soft);
    b.mul(x, gate)
}

/// `x / (1 + |x|)`.
pub(super) fn softsign(b: &mut Builder, x: Value) -> Value {
    let magnitude = b.abs(x);
    let above = b.add_scalar(magnitude, 1.0);
    b.div(x, above)
}

fn gated(b: &mut Builder, x: Value, alpha: f64) -> Value {
    let scaled = b.mul_scalar(x, alpha);
    let gate = b.sigmoid(scaled);
    b.mul(x, gate)
}

fn swish(cx: &mut Cx<'_>) -> Lowered {
    let alpha = cx.real("alpha", 1.0)?;
    float(cx, |b, x| gated(b, x, alpha))
}

/// `swish(gate) · x`.
fn swiglu(cx: &mut Cx<'_>) -> Lowered {
    let alpha = cx.real("alpha", 1.0)?;
    let (elem, gate, x) = (cx.elem(0)?, cx.float(0)?, cx.float(1)?);
    let gate = gated(cx.b, gate, alpha);
    let y = cx.b.mul(gate, x);
    cx.wrapped(elem, y)
}

fn shrink(cx: &mut Cx<'_>) -> Lowered {
    let (bias, limit) = (cx.real("bias", 0.0)?, cx.real("lambd", 0.5)?);
    let (elem, x) = (cx.elem(0)?, cx.number(0)?);
    let b = &mut *cx.b;
    let wide = if elem.is_float() { x } else { b.cast(x, outgrow_tensor::DType::F64) };
    let dtype = b.dtype(wide);
    let (low, high) = (b.scalar(-limit, dtype), b.scalar(limit, dtype));
    let below = b.compare(Comparison::Lt, wide, low);
    let above = b.compare(Comparison::Gt, wide, high);
    let (up, down) = (b.add_scalar(wide, bias), b.add_scalar(wide, -bias));
    let zero = b.scalar(0.0, dtype);
    let outer = b.select(above, down, zero);
    let y = b.select(below, up, outer);
    let y = b.cast(y, elem.dtype());
    cx.wrapped(elem, y)
}

/// `x` where it is above `alpha`, else 0.
pub(super) fn thresholded(b: &mut Builder, x: Value, alpha: f64) -> Value {
    let limit = b.scalar(alpha, b.dtype(x));
    let above = b.compare(Comparison::Gt, x, limit);
    let zero = b.scalar(0.0, b.dtype(x));
    b.select(above, x, zero)
}

fn thresholded_relu(cx: &mut Cx<'_>) -> Lowered {
    let alpha = cx.real("alpha", 1.0)?;
    float(cx, |b, x| thresholded(b, x, alpha))
}

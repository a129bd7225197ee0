//! Pieces that several updates share.

use outgrow_ir::{Builder, Value};

use super::UpdateInputs;

/// The gradient with weight decay as the derivative of an L2 penalty: `g + weight_decay · w`.
pub(super) fn decayed_gradient(b: &mut Builder, cx: &UpdateInputs<'_>, weight_decay: f64) -> Value {
    if weight_decay == 0.0 {
        return cx.grad;
    }
    let decay = b.mul_scalar(cx.param, weight_decay);
    b.add(cx.grad, decay)
}

/// `keep · mean + (1 − keep) · x`, written so that only one of the two factors is rounded to f32: with both, they would
/// no longer add up to 1, and a mean over a thousand steps would be off by a thousand roundings.
pub(super) fn running_mean(b: &mut Builder, mean: Value, x: Value, keep: f64) -> Value {
    let (start, end, weight) = if keep >= 0.5 { (mean, x, 1.0 - keep) } else { (x, mean, keep) };
    let difference = b.sub(end, start);
    let change = b.mul_scalar(difference, weight);
    b.add(start, change)
}

/// `w − rate · step`, with a rate of rank zero.
pub(super) fn descend(b: &mut Builder, param: Value, rate: Value, step: Value) -> Value {
    let change = b.mul(rate, step);
    b.sub(param, change)
}

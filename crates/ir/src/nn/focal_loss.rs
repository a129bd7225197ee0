//! `focal_loss`: the loss of a classifier in which samples that are right already count little (Lin et al. 2017).

use super::cross_entropy::Surprise;
use crate::region::composite;
use crate::{Builder, Value};

composite! {
    /// The focal loss.
    FocalLoss = "focal_loss" {
        /// How little they count: at 0 as much as all others.
        gamma: f64,
    }
}

/// The least that the other classes are taken to have together, relative to the likeliest class: e^-69. It keeps the
/// logarithm finite in f32, and what is below weighs nothing.
const OTHERS_MIN: f64 = 1e-30;

impl Builder {
    /// `-(1 - p)^gamma log p` with `p = softmax(logits)[target]`, of `logits [.., classes]` and i32 `targets [..]`: a
    /// loss for each target, of dimensions `[..]` (Lin et al. 2017, equation 4). `1 - p` is the sum of the others'
    /// probabilities, which does not cancel. With one class there is no other, and the loss is 0.
    pub fn focal_loss(&mut self, logits: Value, targets: Value, gamma: f64) -> Value {
        self.composite_of(&FocalLoss { gamma }, &[logits, targets], |b| {
            let Surprise { exp, log, loss } = b.surprise(logits, targets);
            let last = b.rank(exp).saturating_sub(1);
            let is_target = b.is_target(exp, targets);
            let zero = b.scalar(0.0, b.dtype(exp));
            let others = b.select(is_target, zero, exp);
            let others = b.reduce_sum(others, &[last]);
            let least = b.full(OTHERS_MIN, b.dtype(others), &b.dims(others));
            let others = b.max(others, least);
            let others = b.log(others);
            let others = b.sub(others, log);
            let power = b.mul_scalar(others, gamma);
            let factor = b.exp(power);
            b.mul(factor, loss)
        })
    }
}

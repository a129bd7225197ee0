//! `huber`: a loss of regression that is a square near zero and a line away from it (Huber 1964).

use crate::region::composite;
use crate::{Builder, Value};

composite! {
    /// Huber's loss.
    Huber = "huber" {
        /// Up to which difference it is a square, above 0.
        delta: f64,
    }
}

impl Builder {
    /// The mean over the last dimension of `d²/2` where `d = |prediction - target|` is at most `delta`, else of
    /// `delta (d - delta/2)`, both `[.., width]`: a loss for each sample, of dimensions `[..]`, as PyTorch's `HuberLoss`.
    /// Computed as `c (d - c/2)` with `c = min(d, delta)`, whose derivative is the same from both sides.
    pub fn huber(&mut self, prediction: Value, target: Value, delta: f64) -> Value {
        self.composite_of(&Huber { delta }, &[prediction, target], |b| {
            let (prediction, target) = (b.widened(prediction), b.widened(target));
            let difference = b.sub(prediction, target);
            let size = b.abs(difference);
            let bound = b.full(delta, b.dtype(size), &b.dims(size));
            let cut = b.min(size, bound);
            let half = b.mul_scalar(cut, 0.5);
            let rest = b.sub(size, half);
            let loss = b.mul(cut, rest);
            b.mean_of_last(loss)
        })
    }
}

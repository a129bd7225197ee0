//! `soft_cross_entropy`: the loss of a classifier whose targets are shares of several classes.

use crate::{Builder, Value};

impl Builder {
    /// `-Σ share · log softmax(logits)` over the classes of `logits [.., classes]` and `shares` of the same shape and
    /// type: a loss for each row, of dimensions `[..]`. With a share of 1 for one class and 0 for the others it is
    /// [`Builder::cross_entropy`].
    pub fn soft_cross_entropy(&mut self, logits: Value, shares: Value) -> Value {
        self.composite("soft_cross_entropy", &[logits, shares], |b| {
            let shifted = b.minus_max(logits);
            let shares = b.widened(shares);
            let last = b.rank(shifted).saturating_sub(1);
            let exp = b.exp(shifted);
            let sum = b.reduce_sum(exp, &[last]);
            let log = b.log(sum);
            let weighed = b.mul(shares, shifted);
            let picked = b.reduce_sum(weighed, &[last]);
            let whole = b.reduce_sum(shares, &[last]);
            let log = b.mul(log, whole);
            b.sub(log, picked)
        })
    }
}

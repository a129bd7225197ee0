//! `cross_entropy`: the loss of a classifier, from logits.

use crate::ops::compare::Comparison;
use crate::{Builder, Value};

impl Builder {
    /// `-log softmax(logits)[target]` of `logits [.., classes]` and i32 `targets [..]`: a loss for each target, of
    /// dimensions `[..]`. A target outside the classes costs `log Σ e^(logits - max)`, as if its logit were the
    /// greatest; whoever feeds targets checks them.
    ///
    /// The target's logit is picked by comparison with the index of each class and not by a gather, so that loss and
    /// gradient are passes over the logits that fuse with the softmax.
    pub fn cross_entropy(&mut self, logits: Value, targets: Value) -> Value {
        self.composite("cross_entropy", &[logits, targets], |b| {
            let shifted = b.minus_max(logits);
            let last = b.rank(shifted).saturating_sub(1);
            let exp = b.exp(shifted);
            let sum = b.reduce_sum(exp, &[last]);
            let log = b.log(sum);
            let picked = b.pick(shifted, targets);
            b.sub(log, picked)
        })
    }

    /// Whether each place of `like [.., classes]` is the one of the class that i32 `targets [..]` names.
    pub fn is_target(&mut self, like: Value, targets: Value) -> Value {
        let dims = self.dims(like);
        let axes: Vec<usize> = (0..dims.len().saturating_sub(1)).collect();
        let targets = self.broadcast(targets, &dims, &axes);
        let classes = self.iota(self.dtype(targets), &dims, axes.len());
        self.compare(Comparison::Eq, classes, targets)
    }

    /// The element of each row of `x [.., classes]` that i32 `targets [..]` names; 0 for a target outside.
    pub fn pick(&mut self, x: Value, targets: Value) -> Value {
        let is_target = self.is_target(x, targets);
        let zero = self.scalar(0.0, self.dtype(x));
        let only = self.select(is_target, x, zero);
        let last = self.rank(x).saturating_sub(1);
        self.reduce_sum(only, &[last])
    }
}

//! `cross_entropy`: the loss of a classifier, from logits.

use crate::ops::compare::Comparison;
use crate::{Builder, Value};

/// How much a target surprises who has these logits.
pub(crate) struct Surprise {
    /// `e^(logits - max)`, of the logits' dimensions.
    pub exp: Value,
    /// The logarithm of its sum for each target.
    pub log: Value,
    /// Minus the logarithm of each target's probability.
    pub loss: Value,
}

impl Builder {
    /// `-log softmax(logits)[target]` of `logits [.., classes]` and i32 `targets [..]`: a loss for each target, of
    /// dimensions `[..]`. A target outside the classes costs `log Σ e^(logits - max)`, as if its logit were the
    /// greatest; whoever feeds targets checks them.
    ///
    /// The target's logit is picked by comparison with the index of each class and not by a gather, so that loss and
    /// gradient are passes over the logits that fuse with the softmax.
    pub fn cross_entropy(&mut self, logits: Value, targets: Value) -> Value {
        self.composite("cross_entropy", &[logits, targets], |b| b.surprise(logits, targets).loss)
    }

    /// The cross-entropy, with what it is made of.
    pub(crate) fn surprise(&mut self, logits: Value, targets: Value) -> Surprise {
        let shifted = self.minus_max(logits);
        let last = self.rank(shifted).saturating_sub(1);
        let exp = self.exp(shifted);
        let sum = self.reduce_sum(exp, &[last]);
        let log = self.log(sum);
        let picked = self.pick(shifted, targets);
        Surprise { exp, log, loss: self.sub(log, picked) }
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

//! `mean_absolute_error`: a loss of regression that outliers move no more than others.

use crate::{Builder, Value};

impl Builder {
    /// The mean over the last dimension of `|prediction - target|`, both `[.., width]`: a loss for each sample, of
    /// dimensions `[..]`. The derivative is 0 where they are equal, as in PyTorch.
    pub fn mean_absolute_error(&mut self, prediction: Value, target: Value) -> Value {
        self.composite("mean_absolute_error", &[prediction, target], |b| {
            let (prediction, target) = (b.widened(prediction), b.widened(target));
            let difference = b.sub(prediction, target);
            let size = b.abs(difference);
            b.mean_of_last(size)
        })
    }
}

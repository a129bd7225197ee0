//! `mean_squared_error`: the loss of regression.

use crate::{Builder, Value};

impl Builder {
    /// The mean over the last dimension of `(prediction - target)²`, both `[.., width]`: a loss for each sample, of
    /// dimensions `[..]`.
    pub fn mean_squared_error(&mut self, prediction: Value, target: Value) -> Value {
        self.composite("mean_squared_error", &[prediction, target], |b| {
            let (prediction, target) = (b.widened(prediction), b.widened(target));
            let difference = b.sub(prediction, target);
            let square = b.mul(difference, difference);
            b.mean_of_last(square)
        })
    }
}

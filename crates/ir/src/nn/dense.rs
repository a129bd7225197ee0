//! `dense`: a fully connected layer.

use crate::{Builder, Value};

impl Builder {
    /// `x Wᵀ + b` over the last dimension: `x [.., in]`, `weight [out, in]` as PyTorch keeps it and `bias [out]` give
    /// `[.., out]`.
    pub fn dense(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Value {
        let operands: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
        self.composite("dense", &operands, |b| {
            let Some(last) = b.rank(x).checked_sub(1) else {
                return b.error("a dense layer needs an input of at least one dimension");
            };
            let y = b.dot(x, weight, (&[], &[]), (&[last], &[1]));
            match bias {
                Some(bias) => b.add(y, bias),
                None => y,
            }
        })
    }
}

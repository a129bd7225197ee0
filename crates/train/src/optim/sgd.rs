//! Stochastic gradient descent: `w ← w − lr · g`, with weight decay in the gradient.

use outgrow_ir::Builder;

use smallvec::smallvec;

use super::common::{decayed_gradient, descend};
use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// Stochastic gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Its options: none.
    pub options: spec::Sgd,
    /// L2 weight decay.
    pub weight_decay: f64,
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn slots(&self) -> Vec<Slot> {
        Vec::new()
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["lr"]
    }
    fn scalars(&self, lr: f64, _: u64) -> Scalars {
        smallvec![lr]
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let grad = decayed_gradient(b, cx, self.weight_decay);
        Updated { param: descend(b, cx.param, cx.scalars[0], grad), state: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};

    #[test]
    fn agrees_with_its_formula_and_pytorch() {
        for (golden, weight_decay) in [("sgd", 0.0), ("sgd-decay", 0.1)] {
            check(&Case { golden, options: r#"{"name": "sgd"}"#, lr: 0.05, weight_decay }, |w, g, _, at| {
                for (w, g) in w.iter_mut().zip(g) {
                    *w -= at.lr * (g + weight_decay * *w);
                }
            });
        }
    }
}

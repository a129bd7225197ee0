//! Gradient descent with Nesterov's momentum, as PyTorch defines it: `v ← momentum · v + g`;
//! `w ← w − lr · (g + momentum · v)`.

use outgrow_ir::Builder;

use smallvec::smallvec;

use super::common::{decayed_gradient, descend};
use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// Gradient descent with Nesterov's momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nesterov {
    /// Momentum.
    pub options: spec::Nesterov,
    /// L2 weight decay.
    pub weight_decay: f64,
}

impl Optimizer for Nesterov {
    fn name(&self) -> &'static str {
        "nesterov"
    }
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("momentum")]
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["lr"]
    }
    fn scalars(&self, lr: f64, _: u64) -> Scalars {
        smallvec![lr]
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let grad = decayed_gradient(b, cx, self.weight_decay);
        let momentum = self.options.momentum.get();
        let kept = b.mul_scalar(cx.state[0], momentum);
        let velocity = b.add(kept, grad);
        let ahead = b.mul_scalar(velocity, momentum);
        let step = b.add(grad, ahead);
        Updated { param: descend(b, cx.param, cx.scalars[0], step), state: vec![velocity] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};

    #[test]
    fn agrees_with_its_formula_and_pytorch() {
        for (golden, options, weight_decay, momentum) in [
            ("nesterov", r#"{"name": "nesterov"}"#, 0.0, 0.9),
            ("nesterov-decay", r#"{"name": "nesterov", "momentum": 0.5}"#, 0.1, 0.5),
        ] {
            check(&Case { golden, options, lr: 0.02, weight_decay }, |w, g, state, at| {
                for i in 0..w.len() {
                    let g = g[i] + weight_decay * w[i];
                    state[0][i] = momentum * state[0][i] + g;
                    w[i] -= at.lr * (g + momentum * state[0][i]);
                }
            });
        }
    }
}

//! Gradient descent with momentum, as PyTorch defines it: `v ← momentum · v + (1 − dampening) · g`, but `v = g` at the
//! first step; `w ← w − lr · v`. (Sutskever et al. 2013 put the learning rate inside v instead.)

use outgrow_ir::Builder;

use smallvec::smallvec;

use super::common::{decayed_gradient, descend};
use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// Gradient descent with momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// Momentum and dampening.
    pub options: spec::Momentum,
    /// L2 weight decay.
    pub weight_decay: f64,
}

impl Optimizer for Momentum {
    fn name(&self) -> &'static str {
        "momentum"
    }
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("momentum")]
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["lr", "grad_factor"]
    }
    fn scalars(&self, lr: f64, step: u64) -> Scalars {
        smallvec![lr, if step <= 1 { 1.0 } else { 1.0 - self.options.dampening.get() }]
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let grad = decayed_gradient(b, cx, self.weight_decay);
        let kept = b.mul_scalar(cx.state[0], self.options.momentum.get());
        let grad = b.mul(grad, cx.scalars[1]);
        let velocity = b.add(kept, grad);
        Updated { param: descend(b, cx.param, cx.scalars[0], velocity), state: vec![velocity] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};

    #[test]
    fn agrees_with_its_formula_and_pytorch() {
        for (golden, options, weight_decay, momentum, dampening) in [
            ("momentum", r#"{"name": "momentum"}"#, 0.0, 0.9, 0.0),
            (
                "momentum-dampening",
                r#"{"name": "momentum", "momentum": 0.8, "dampening": 0.3}"#,
                0.1,
                0.8,
                0.3,
            ),
        ] {
            check(&Case { golden, options, lr: 0.02, weight_decay }, |w, g, state, at| {
                for i in 0..w.len() {
                    let g = g[i] + weight_decay * w[i];
                    let v = &mut state[0][i];
                    *v = if at.step == 1 { g } else { momentum * *v + (1.0 - dampening) * g };
                    w[i] -= at.lr * *v;
                }
            });
        }
    }
}

//! Adagrad (Duchi et al. 2011), as PyTorch defines it: `s ← s + g²`;
//! `w ← w − lr / (1 + (step − 1) · lr_decay) · g / (√s + eps)`.

use outgrow_ir::Builder;

use smallvec::smallvec;

use super::common::{decayed_gradient, descend};
use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// Adagrad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adagrad {
    /// Decay of the learning rate, start of the sum, and eps.
    pub options: spec::Adagrad,
    /// L2 weight decay.
    pub weight_decay: f64,
}

impl Optimizer for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }
    fn slots(&self) -> Vec<Slot> {
        vec![Slot { name: "sum_of_squares", init: self.options.initial_accumulator.get() }]
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["step_size"]
    }
    fn scalars(&self, lr: f64, step: u64) -> Scalars {
        smallvec![lr / (1.0 + step.saturating_sub(1) as f64 * self.options.lr_decay.get())]
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let grad = decayed_gradient(b, cx, self.weight_decay);
        let square = b.mul(grad, grad);
        let sum = b.add(cx.state[0], square);
        let root = b.sqrt(sum);
        let divisor = b.add_scalar(root, self.options.eps.get());
        let direction = b.div(grad, divisor);
        Updated { param: descend(b, cx.param, cx.scalars[0], direction), state: vec![sum] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};

    #[test]
    fn agrees_with_its_formula_and_pytorch() {
        let options = r#"{"name": "adagrad", "lr_decay": 0.1, "initial_accumulator": 0.5, "eps": 0.001}"#;
        for (golden, options, weight_decay, [lr_decay, eps]) in [
            ("adagrad", r#"{"name": "adagrad"}"#, 0.0, [0.0, 1e-10]),
            ("adagrad-options", options, 0.1, [0.1, 1e-3]),
        ] {
            check(&Case { golden, options, lr: 0.05, weight_decay }, |w, g, state, at| {
                for i in 0..w.len() {
                    let g = g[i] + weight_decay * w[i];
                    state[0][i] += g * g;
                    let lr = at.lr / (1.0 + (at.step - 1) as f64 * lr_decay);
                    w[i] -= lr * g / (state[0][i].sqrt() + eps);
                }
            });
        }
    }
}

//! RMSprop (Hinton 2012, lecture 6e), as PyTorch defines it: v is a running mean of the squared gradient; with
//! `centered`, the square of a running mean of the gradient is taken off it (Graves 2013, equations 38 to 45);
//! `w ← w − lr · g / (√v + eps)`, where `momentum` keeps a part of the last step.

use outgrow_ir::Builder;

use smallvec::smallvec;

use super::common::{decayed_gradient, descend, running_mean};
use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// RMSprop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rmsprop {
    /// Decay of the means, eps, momentum and centring.
    pub options: spec::RmsProp,
    /// L2 weight decay.
    pub weight_decay: f64,
}

impl Rmsprop {
    fn has_momentum(&self) -> bool {
        self.options.momentum.get() > 0.0
    }
}

impl Optimizer for Rmsprop {
    fn name(&self) -> &'static str {
        "rmsprop"
    }
    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::zeros("mean_square")];
        slots.extend(self.options.centered.then_some(Slot::zeros("mean")));
        slots.extend(self.has_momentum().then_some(Slot::zeros("momentum")));
        slots
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["lr"]
    }
    fn scalars(&self, lr: f64, _: u64) -> Scalars {
        smallvec![lr]
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let grad = decayed_gradient(b, cx, self.weight_decay);
        let keep = self.options.alpha.get();
        let square = b.mul(grad, grad);
        let mean_square = running_mean(b, cx.state[0], square, keep);
        let mut state = vec![mean_square];
        let mut variance = mean_square;
        if self.options.centered {
            let mean = running_mean(b, cx.state[1], grad, keep);
            let squared_mean = b.mul(mean, mean);
            let difference = b.sub(mean_square, squared_mean);
            // For a gradient that hardly changes, rounding can take the difference below zero.
            let zero = b.scalar(0.0, b.dtype(difference));
            variance = b.max(difference, zero);
            state.push(mean);
        }
        let root = b.sqrt(variance);
        let divisor = b.add_scalar(root, self.options.eps.get());
        let mut direction = b.div(grad, divisor);
        if self.has_momentum() {
            let kept = b.mul_scalar(cx.state[state.len()], self.options.momentum.get());
            direction = b.add(kept, direction);
            state.push(direction);
        }
        Updated { param: descend(b, cx.param, cx.scalars[0], direction), state }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};

    #[test]
    fn agrees_with_its_formula_and_pytorch() {
        for (golden, options, weight_decay, [alpha, eps]) in [
            ("rmsprop", r#"{"name": "rmsprop"}"#, 0.0, [0.99, 1e-8]),
            ("rmsprop-options", r#"{"name": "rmsprop", "alpha": 0.9, "eps": 0.01}"#, 0.1, [0.9, 1e-2]),
        ] {
            check(&Case { golden, options, lr: 0.01, weight_decay }, |w, g, state, at| {
                for i in 0..w.len() {
                    let g = g[i] + weight_decay * w[i];
                    state[0][i] = alpha * state[0][i] + (1.0 - alpha) * g * g;
                    w[i] -= at.lr * g / (state[0][i].sqrt() + eps);
                }
            });
        }
    }

    #[test]
    fn agrees_when_centered_and_with_momentum() {
        let options = r#"{"name": "rmsprop", "alpha": 0.9, "momentum": 0.7, "centered": true}"#;
        let case = Case { golden: "rmsprop-centered-momentum", options, lr: 0.01, weight_decay: 0.0 };
        check(&case, |w, g, state, at| {
            for i in 0..w.len() {
                state[0][i] = 0.9 * state[0][i] + 0.1 * g[i] * g[i];
                state[1][i] = 0.9 * state[1][i] + 0.1 * g[i];
                let root = (state[0][i] - state[1][i] * state[1][i]).sqrt();
                state[2][i] = 0.7 * state[2][i] + g[i] / (root + 1e-8);
                w[i] -= at.lr * state[2][i];
            }
        });
    }
}

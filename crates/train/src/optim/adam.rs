//! Adam (Kingma and Ba 2015, algorithm 1): running means m of the gradient and v of its square, both corrected for their
//! start from zero; `w ← w − lr · m̂ / (√v̂ + eps)`, with weight decay in the gradient.

use outgrow_ir::{Builder, Value};

use smallvec::smallvec;

use super::common::{decayed_gradient, descend, running_mean};
use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay rates of the means, and eps.
    pub options: spec::Adam,
    /// L2 weight decay.
    pub weight_decay: f64,
}

/// The two running means of Adam, AdamW and LAMB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    /// How much of the mean of the gradient is kept.
    pub beta1: f64,
    /// How much of the mean of its square is kept.
    pub beta2: f64,
    /// Added to the divisor.
    pub eps: f64,
}

impl Moments {
    /// The state of all three optimisers.
    pub fn slots() -> Vec<Slot> {
        vec![Slot::zeros("first_moment"), Slot::zeros("second_moment")]
    }

    /// `1 / (1 − beta1^step)` and `1 / √(1 − beta2^step)`, which make up for the means' start from zero.
    pub fn corrections(&self, step: u64) -> [f64; 2] {
        let missing = |beta: f64| 1.0 - libm::pow(beta, step as f64);
        [1.0 / missing(self.beta1), 1.0 / libm::sqrt(missing(self.beta2))]
    }

    /// The new means, and `m / (√v · root_scale + eps)`, where `root_scale` is the second of the corrections.
    pub fn direction(
        &self,
        b: &mut Builder,
        state: &[Value],
        grad: Value,
        root_scale: Value,
    ) -> (Value, [Value; 2]) {
        let first = running_mean(b, state[0], grad, self.beta1);
        let square = b.mul(grad, grad);
        let second = running_mean(b, state[1], square, self.beta2);
        let root = b.sqrt(second);
        let root = b.mul(root, root_scale);
        let divisor = b.add_scalar(root, self.eps);
        (b.div(first, divisor), [first, second])
    }
}

impl Adam {
    fn moments(&self) -> Moments {
        let o = &self.options;
        Moments { beta1: o.beta1.get(), beta2: o.beta2.get(), eps: o.eps.get() }
    }
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }
    fn slots(&self) -> Vec<Slot> {
        Moments::slots()
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["step_size", "second_moment_scale"]
    }
    fn scalars(&self, lr: f64, step: u64) -> Scalars {
        let [first, second] = self.moments().corrections(step);
        smallvec![lr * first, second]
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let grad = decayed_gradient(b, cx, self.weight_decay);
        let (direction, state) = self.moments().direction(b, cx.state, grad, cx.scalars[1]);
        Updated { param: descend(b, cx.param, cx.scalars[0], direction), state: state.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};

    #[test]
    fn agrees_with_its_formula_and_pytorch() {
        for (golden, options, weight_decay, [beta1, beta2, eps]) in [
            ("adam", r#"{"name": "adam"}"#, 0.0, [0.9, 0.999, 1e-8]),
            (
                "adam-options",
                r#"{"name": "adam", "beta1": 0.3, "beta2": 0.9, "eps": 0.001}"#,
                0.1,
                [0.3, 0.9, 1e-3],
            ),
        ] {
            check(&Case { golden, options, lr: 0.01, weight_decay }, |w, g, state, at| {
                for i in 0..w.len() {
                    let g = g[i] + weight_decay * w[i];
                    state[0][i] = beta1 * state[0][i] + (1.0 - beta1) * g;
                    state[1][i] = beta2 * state[1][i] + (1.0 - beta2) * g * g;
                    let m = state[0][i] / (1.0 - beta1.powi(at.step as i32));
                    let v = state[1][i] / (1.0 - beta2.powi(at.step as i32));
                    w[i] -= at.lr * m / (v.sqrt() + eps);
                }
            });
        }
    }
}

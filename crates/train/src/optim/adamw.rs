//! AdamW (Loshchilov and Hutter 2019, algorithm 2, with PyTorch's scaling of the decay by the learning rate): Adam's
//! step, and beside it `w ← w − lr · weight_decay · w`, so that the decay does not pass through the running means.

use outgrow_ir::Builder;

use smallvec::smallvec;

use super::adam::Moments;
use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// Adam with decoupled weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adamw {
    /// Decay rates of the means, and eps.
    pub options: spec::AdamW,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Adamw {
    fn moments(&self) -> Moments {
        let o = &self.options;
        Moments { beta1: o.beta1.get(), beta2: o.beta2.get(), eps: o.eps.get() }
    }
}

impl Optimizer for Adamw {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn slots(&self) -> Vec<Slot> {
        Moments::slots()
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["step_size", "second_moment_scale", "decay"]
    }
    fn scalars(&self, lr: f64, step: u64) -> Scalars {
        let [first, second] = self.moments().corrections(step);
        smallvec![lr * first, second, lr * self.weight_decay]
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let (direction, state) = self.moments().direction(b, cx.state, cx.grad, cx.scalars[1]);
        // Step and decay are added up before they are taken off the parameter: the factor 1 − lr · weight_decay would
        // lose a small decay when rounded to f32.
        let step = b.mul(cx.scalars[0], direction);
        let decay = b.mul(cx.scalars[2], cx.param);
        let change = b.add(step, decay);
        Updated { param: b.sub(cx.param, change), state: state.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};

    #[test]
    fn agrees_with_its_formula_and_pytorch() {
        for (golden, options, weight_decay, [beta1, beta2, eps]) in [
            ("adamw", r#"{"name": "adamw"}"#, 0.01, [0.9, 0.999, 1e-8]),
            (
                "adamw-options",
                r#"{"name": "adamw", "beta1": 0.8, "beta2": 0.95, "eps": 0.001}"#,
                0.3,
                [0.8, 0.95, 1e-3],
            ),
        ] {
            check(&Case { golden, options, lr: 0.01, weight_decay }, |w, g, state, at| {
                for i in 0..w.len() {
                    w[i] *= 1.0 - at.lr * weight_decay;
                    state[0][i] = beta1 * state[0][i] + (1.0 - beta1) * g[i];
                    state[1][i] = beta2 * state[1][i] + (1.0 - beta2) * g[i] * g[i];
                    let m = state[0][i] / (1.0 - beta1.powi(at.step as i32));
                    let v = state[1][i] / (1.0 - beta2.powi(at.step as i32));
                    w[i] -= at.lr * m / (v.sqrt() + eps);
                }
            });
        }
    }
}

//! FTRL-proximal (McMahan et al. 2013, "Ad click prediction: a view from the trenches", algorithm 1), per coordinate:
//! n is the sum of squared gradients, z the sum of gradients less `σ · w` with `σ = (√(n + g²) − √n) / alpha`; then
//! `w = 0` where `|z| ≤ l1`, else `w = −(z − sign(z) · l1) / ((beta + √n) / alpha + l2)`.
//!
//! Weights follow from z and n alone, which start as zeros: what a model was initialised with counts only for the
//! gradient of the first step, and a weight whose gradient was always zero is exactly zero.

use outgrow_ir::{Builder, ops::compare::Comparison};

use smallvec::smallvec;

use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// A divisor of zero is replaced by this: far below the root of the smallest f32, so that it never counts otherwise.
const TINY: f64 = 1e-30;

/// FTRL-proximal; the learning rate is the paper's alpha.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ftrl {
    /// Beta, L1 and L2 (alpha comes as the learning rate).
    pub options: spec::Ftrl,
    /// Not used: the validated manifest has none beside FTRL's own `l2`.
    pub weight_decay: f64,
}

impl Optimizer for Ftrl {
    fn name(&self) -> &'static str {
        "ftrl"
    }
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("z"), Slot::zeros("n")]
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["inverse_alpha"]
    }
    fn scalars(&self, lr: f64, _: u64) -> Scalars {
        smallvec![1.0 / lr]
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let dtype = b.dtype(cx.param);
        let (z, n, inverse_alpha) = (cx.state[0], cx.state[1], cx.scalars[0]);
        let square = b.mul(cx.grad, cx.grad);
        let new_n = b.add(n, square);
        let (old_root, root) = (b.sqrt(n), b.sqrt(new_n));
        // √(n + g²) − √n as g² / (√(n + g²) + √n), which does not cancel.
        let roots = b.add(root, old_root);
        let tiny = b.scalar(TINY, dtype);
        let roots = b.max(roots, tiny);
        let growth = b.div(square, roots);
        let sigma = b.mul(growth, inverse_alpha);
        let pull = b.mul(sigma, cx.param);
        let push = b.sub(cx.grad, pull);
        let new_z = b.add(z, push);
        // The closed form.
        let (size, sign, l1) = (b.abs(new_z), b.sign(new_z), b.scalar(self.options.l1.get(), dtype));
        let within = b.compare(Comparison::Le, size, l1);
        let shrinkage = b.mul(sign, l1);
        let excess = b.sub(shrinkage, new_z);
        let rate = b.add_scalar(root, self.options.beta.get());
        let rate = b.mul(rate, inverse_alpha);
        let strength = b.add_scalar(rate, self.options.l2.get());
        let weight = b.div(excess, strength);
        let zero = b.scalar(0.0, dtype);
        Updated { param: b.select(within, zero, weight), state: vec![new_z, new_n] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check, run};
    use super::super::from_spec;
    use outgrow_tensor::DType;

    #[test]
    fn agrees_with_its_formula_and_the_paper() {
        for (golden, options, [beta, l1, l2]) in [
            ("ftrl", r#"{"name": "ftrl"}"#, [1.0, 0.0, 0.0]),
            ("ftrl-options", r#"{"name": "ftrl", "beta": 0.5, "l1": 0.5, "l2": 0.2}"#, [0.5, 0.5, 0.2]),
            ("ftrl-no-beta", r#"{"name": "ftrl", "beta": 0.0}"#, [0.0, 0.0, 0.0]),
        ] {
            check(&Case { golden, options, lr: 0.1, weight_decay: 0.0 }, |w, g, state, at| {
                for i in 0..w.len() {
                    let (z, n) = (state[0][i], state[1][i]);
                    let sigma = ((n + g[i] * g[i]).sqrt() - n.sqrt()) / at.lr;
                    let (z, n) = (z + g[i] - sigma * w[i], n + g[i] * g[i]);
                    w[i] = if z.abs() <= l1 {
                        0.0
                    } else {
                        -(z - z.signum() * l1) / ((beta + n.sqrt()) / at.lr + l2)
                    };
                    (state[0][i], state[1][i]) = (z, n);
                }
            });
        }
    }

    #[test]
    fn strong_l1_makes_weights_exactly_zero() {
        let optimizer = from_spec(&serde_json::from_str(r#"{"name": "ftrl", "l1": 1000}"#).unwrap(), 0.0);
        for w in run(&*optimizer, 0.1, DType::F32, true)[..2].iter().flatten() {
            assert_eq!(w.to_bits(), 0.0f64.to_bits());
        }
    }
}

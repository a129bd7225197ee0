//! LAMB (You et al. 2020, "Large batch optimization for deep learning", algorithm 2): Adam's direction r plus
//! `weight_decay · w`, scaled for each tensor by the trust ratio `‖w‖ / ‖r + weight_decay · w‖`, which is 1 where either
//! norm is zero. The paper's φ is the identity.

use outgrow_ir::{Builder, Value, ops::compare::Comparison};

use super::adam::Moments;
use smallvec::smallvec;

use super::common::descend;
use super::{Optimizer, Scalars, Slot, UpdateInputs, Updated};
use crate::spec;

/// LAMB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lamb {
    /// Decay rates of the means, and eps.
    pub options: spec::Lamb,
    /// Weight decay, inside the trust ratio.
    pub weight_decay: f64,
}

impl Lamb {
    fn moments(&self) -> Moments {
        let o = &self.options;
        Moments { beta1: o.beta1.get(), beta2: o.beta2.get(), eps: o.eps.get() }
    }
}

fn norm(b: &mut Builder, x: Value) -> Value {
    let square = b.mul(x, x);
    let sum = b.sum_all(square);
    b.sqrt(sum)
}

/// `‖w‖ / ‖step‖`, of rank zero; 1 where either is zero.
fn trust_ratio(b: &mut Builder, param: Value, step: Value) -> Value {
    let (param_norm, step_norm) = (norm(b, param), norm(b, step));
    let product = b.mul(param_norm, step_norm);
    let (zero, one) = (b.scalar(0.0, b.dtype(param)), b.scalar(1.0, b.dtype(param)));
    let ratio = b.div(param_norm, step_norm);
    let degenerate = b.compare(Comparison::Eq, product, zero);
    b.select(degenerate, one, ratio)
}

impl Optimizer for Lamb {
    fn name(&self) -> &'static str {
        "lamb"
    }
    fn slots(&self) -> Vec<Slot> {
        Moments::slots()
    }
    fn scalar_names(&self) -> Vec<&'static str> {
        vec!["lr", "first_moment_scale", "second_moment_scale"]
    }
    fn scalars(&self, lr: f64, step: u64) -> Scalars {
        let [first, second] = self.moments().corrections(step);
        smallvec![lr, first, second]
    }
    fn elementwise(&self) -> bool {
        false
    }
    fn update(&self, b: &mut Builder, cx: &UpdateInputs<'_>) -> Updated {
        let (direction, state) = self.moments().direction(b, cx.state, cx.grad, cx.scalars[2]);
        let mut step = b.mul(direction, cx.scalars[1]);
        if self.weight_decay != 0.0 {
            let decay = b.mul_scalar(cx.param, self.weight_decay);
            step = b.add(step, decay);
        }
        let ratio = trust_ratio(b, cx.param, step);
        let rate = b.mul(cx.scalars[0], ratio);
        Updated { param: descend(b, cx.param, rate, step), state: state.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, check};
    use super::super::{Clipping, from_spec, update_graph};
    use outgrow_ir::interpret;
    use outgrow_tensor::Tensor;

    fn norm(x: &[f64]) -> f64 {
        x.iter().map(|x| x * x).sum::<f64>().sqrt()
    }

    #[test]
    fn agrees_with_its_formula_and_the_paper() {
        for (golden, options, weight_decay, [beta1, beta2, eps]) in [
            ("lamb", r#"{"name": "lamb"}"#, 0.01, [0.9, 0.999, 1e-6]),
            ("lamb-options", r#"{"name": "lamb", "beta1": 0.7, "beta2": 0.9, "eps": 0.01}"#, 0.0, [0.7, 0.9, 0.01]),
        ] {
            check(&Case { golden, options, lr: 0.02, weight_decay }, |w, g, state, at| {
                let mut step = vec![0.0; w.len()];
                for i in 0..w.len() {
                    state[0][i] = beta1 * state[0][i] + (1.0 - beta1) * g[i];
                    state[1][i] = beta2 * state[1][i] + (1.0 - beta2) * g[i] * g[i];
                    let m = state[0][i] / (1.0 - beta1.powi(at.step as i32));
                    let v = state[1][i] / (1.0 - beta2.powi(at.step as i32));
                    step[i] = m / (v.sqrt() + eps) + weight_decay * w[i];
                }
                let ratio = norm(w) / norm(&step);
                for (w, step) in w.iter_mut().zip(step) {
                    *w -= at.lr * ratio * step;
                }
            });
        }
    }

    /// A tensor of zeros would never leave zero if its trust ratio were zero, and no gradient would divide by zero.
    #[test]
    fn the_trust_ratio_of_zeros_is_one() {
        let optimizer = from_spec(&serde_json::from_str(r#"{"name": "lamb"}"#).unwrap(), 0.0);
        let graph = update_graph(&*optimizer, &[("w".into(), vec![2])], false, Clipping::default()).unwrap();
        for (param, grad, expected) in
            [([0.0, 0.0], [3.0, -3.0], [-0.5, 0.5]), ([1.0, 2.0], [0.0, 0.0], [1.0, 2.0])]
        {
            let vector = |x: [f32; 2]| Tensor::vector(x.to_vec());
            let mut inputs = vec![vector(param), vector(grad), vector([0.0; 2]), vector([0.0; 2])];
            inputs.extend(optimizer.scalars(0.5, 1).iter().map(|x| Tensor::scalar(*x as f32)));
            let got = interpret(&graph, &inputs).unwrap().remove(0);
            for (got, expected) in got.as_slice::<f32>().unwrap().iter().zip(expected) {
                assert!((got - expected).abs() < 1e-5, "{param:?}, {grad:?}: got {got}, expected {expected}");
            }
        }
    }
}

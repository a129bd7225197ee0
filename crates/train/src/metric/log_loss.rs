//! The negative logarithm of the probability that a model gives a sample's class, in nats. The mean over samples is
//! scikit-learn's `log_loss`, but that a probability of 0 is infinitely bad here.

/// Of one sample's logits: of all classes, or the one logit of the second of two.
pub fn log_loss(logits: &[f32], class: usize) -> f64 {
    if let [logit] = logits {
        let z = f64::from(*logit) * if class == 1 { -1.0 } else { 1.0 };
        // log(1 + e^z), without overflow.
        return z.max(0.0) + libm::log1p(libm::exp(-z.abs()));
    }
    let Some(own) = logits.get(class) else { return f64::NAN };
    let largest = logits.iter().fold(f64::NEG_INFINITY, |largest, x| largest.max(f64::from(*x)));
    let sum: f64 = logits.iter().map(|x| libm::exp(f64::from(*x) - largest)).sum();
    libm::log(sum) + largest - f64::from(*own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_certain_and_uncertain_answers() {
        let ln2 = std::f64::consts::LN_2;
        for (logits, class, expect) in [
            (&[0.0, 0.0][..], 0, ln2),
            (&[0.0], 1, ln2),
            (&[2.0], 1, libm::log1p(libm::exp(-2.0))),
            (&[2.0], 0, 2.0 + libm::log1p(libm::exp(-2.0))),
            (&[500.0], 0, 500.0),
            (&[1000.0, 0.0, 0.0], 0, 0.0),
            (&[1000.0, 0.0, 0.0], 2, 1000.0),
        ] {
            assert!((log_loss(logits, class) - expect).abs() < 1e-12, "{class} of {logits:?}");
        }
        assert!(log_loss(&[f32::NAN, 1.0], 1).is_nan());
        assert!(log_loss(&[1.0, 1.0], 2).is_nan(), "no class");
    }
}

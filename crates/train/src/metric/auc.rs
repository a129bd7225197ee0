//! The area under the ROC curve, exactly: the probability that a positive sample scores higher than a negative one, ties
//! counting half (the statistic of Mann and Whitney 1947, over the product of the sample sizes).

/// The area under the ROC curve of `(score, positive)` samples. Nothing when there is only one class, or a score is NaN.
pub fn auc(samples: &[(f64, bool)]) -> Option<f64> {
    let weighted: Vec<_> = samples.iter().map(|(score, positive)| (*score, *positive, 1.0)).collect();
    weighted_auc(&weighted)
}

/// The area under the ROC curve of `(score, positive, weight)` samples; exact as long as the sums of weights are.
/// Nothing when one class has no weight, or a score of a sample with weight is NaN.
pub fn weighted_auc(samples: &[(f64, bool, f64)]) -> Option<f64> {
    let mut sorted: Vec<_> = samples.iter().filter(|s| s.2 != 0.0).copied().collect();
    if sorted.iter().any(|(score, _, _)| score.is_nan()) {
        return None;
    }
    // Not by total order, in which -0 and 0 are no tie.
    sorted.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
    let (mut positives, mut negatives, mut ordered_pairs) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let weight = |class: bool| tied.iter().filter(|s| s.1 == class).map(|s| s.2).sum::<f64>();
        let (tied_positives, tied_negatives) = (weight(true), weight(false));
        ordered_pairs += tied_positives * (negatives + tied_negatives / 2.0);
        positives += tied_positives;
        negatives += tied_negatives;
    }
    (positives > 0.0 && negatives > 0.0).then(|| ordered_pairs / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;

    /// The definition, pair by pair.
    fn by_pairs(samples: &[(f64, bool, f64)]) -> f64 {
        let (mut won, mut all) = (0.0, 0.0);
        for positive in samples.iter().filter(|s| s.1) {
            for negative in samples.iter().filter(|s| !s.1) {
                let pair = positive.2 * negative.2;
                all += pair;
                won += pair
                    * if positive.0 > negative.0 {
                        1.0
                    } else if positive.0 == negative.0 {
                        0.5
                    } else {
                        0.0
                    };
            }
        }
        won / all
    }

    #[test]
    fn agrees_with_the_definition() {
        let mut rng = RngKey::new(5).stream();
        for (samples, scores) in [(2, 2), (10, 4), (200, 7), (200, 1_000_000)] {
            for _ in 0..20 {
                let mut sample = |i: u64| {
                    (
                        rng.below(scores) as f64 - 2.0,
                        i == 0 || (i > 1 && rng.below(3) == 0),
                        rng.below(3) as f64,
                    )
                };
                let mut samples: Vec<_> = (0..samples).map(&mut sample).collect();
                (samples[0].2, samples[1].2) = (1.0, 2.0);
                let (got, expected) = (weighted_auc(&samples).unwrap(), by_pairs(&samples));
                assert!((got - expected).abs() < 1e-12, "got {got}, expected {expected} of {samples:?}");
                samples.iter_mut().for_each(|s| s.2 = 1.0);
                let plain: Vec<_> = samples.iter().map(|s| (s.0, s.1)).collect();
                assert!((auc(&plain).unwrap() - by_pairs(&samples)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn edges() {
        for (samples, expected) in [
            (&[][..], None),
            (&[(1.0, true), (2.0, true)], None),
            (&[(1.0, true), (f64::NAN, false)], None),
            (&[(1.0, true), (0.0, false)], Some(1.0)),
            (&[(0.0, true), (1.0, false)], Some(0.0)),
            (&[(-0.0, true), (0.0, false)], Some(0.5)),
            (&[(f64::INFINITY, true), (f64::NEG_INFINITY, false)], Some(1.0)),
        ] {
            assert_eq!(auc(samples), expected, "{samples:?}");
        }
        assert_eq!(weighted_auc(&[(1.0, true, 1.0), (0.0, false, 1.0), (f64::NAN, false, 0.0)]), Some(1.0));
    }
}

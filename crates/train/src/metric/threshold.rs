//! Where to divide two classes by a score: the threshold that is best by a metric of samples whose class is known.

use super::ClassCounts;

/// By what a threshold is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThresholdRule {
    /// The mean of both classes' F1.
    F1,
    /// Youden's index, the sum of both classes' recalls less 1 (Youden 1950, Cancer 3:1); the highest balanced accuracy too.
    Youden,
}

/// Values that are no further apart are the same, rounded in different ways.
const SAME: f64 = 1e-12;

/// The log-odds of a probability above 0 and below 1.
pub fn log_odds(probability: f64) -> f64 {
    libm::log(probability) - libm::log1p(-probability)
}

/// The probability of these log-odds.
pub fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-log_odds))
}

/// The log-odds above which a sample of `(log-odds of the second class, whether it is of that)` is best taken for one of the
/// second class: between two scores that differ, in the middle; of equally good places the one nearest to 0, and 0 itself
/// where that is between the two. Nothing when all samples are of one class, or a score is NaN.
pub fn best_threshold(samples: &[(f64, bool)], rule: ThresholdRule) -> Option<f64> {
    let positives = samples.iter().filter(|(_, own)| *own).count() as u64;
    let negatives = samples.len() as u64 - positives;
    if positives == 0 || negatives == 0 || samples.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let value = |right: u64, wrong: u64| {
        let mut counts = ClassCounts::new(2);
        counts.add_many(1, Some(1), right);
        counts.add_many(1, Some(0), positives - right);
        counts.add_many(0, Some(1), wrong);
        counts.add_many(0, Some(0), negatives - wrong);
        let value = match rule {
            ThresholdRule::F1 => counts.f1(),
            ThresholdRule::Youden => counts.recall(),
        };
        value.unwrap_or(0.0)
    };
    // How many of each class are above the place; at first none are, which is a place only if 0 is.
    let (mut right, mut wrong) = (0, 0);
    let mut best: Option<(f64, f64)> = None;
    let mut take = |place: f64, value: f64| {
        let is_better = best.is_none_or(|(best_value, best_place)| {
            value > best_value + SAME || (value >= best_value - SAME && place.abs() < best_place.abs())
        });
        if is_better {
            best = Some((value, place));
        }
    };
    let groups: Vec<&[(f64, bool)]> = sorted.chunk_by(|a, b| a.0 == b.0).collect();
    if groups[0][0].0 <= 0.0 {
        take(0.0, value(0, 0));
    }
    for (i, group) in groups.iter().enumerate() {
        let own = group.iter().filter(|(_, own)| *own).count() as u64;
        right += own;
        wrong += group.len() as u64 - own;
        let above = group[0].0;
        match groups.get(i + 1).map(|next| next[0].0) {
            Some(below) => take(between(below, above), value(right, wrong)),
            None if above > 0.0 => take(0.0, value(right, wrong)),
            None => {}
        }
    }
    best.map(|(_, place)| place)
}

/// A threshold that `above` is above and `below` is not.
fn between(below: f64, above: f64) -> f64 {
    if below <= 0.0 && above > 0.0 {
        return 0.0;
    }
    let middle = below / 2.0 + above / 2.0;
    if below <= middle && middle < above && middle.is_finite() { middle } else { below }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;

    /// The value of a threshold by counting, and by the formulas of both rules.
    fn value(samples: &[(f64, bool)], threshold: f64, rule: ThresholdRule) -> f64 {
        let count = |own: bool, taken: bool| {
            samples.iter().filter(|(score, is)| *is == own && (*score > threshold) == taken).count() as f64
        };
        let [tp, fp, fneg, tn] =
            [count(true, true), count(false, true), count(true, false), count(false, false)];
        match rule {
            ThresholdRule::F1 => {
                (2.0 * tp / (2.0 * tp + fp + fneg) + 2.0 * tn / (2.0 * tn + fp + fneg)) / 2.0
            }
            ThresholdRule::Youden => (tp / (tp + fneg) + tn / (tn + fp)) / 2.0,
        }
    }

    /// No score, and no place beside one, is a better threshold than the one that is found.
    #[test]
    fn no_other_threshold_is_better() {
        for seed in 0..200 {
            let mut random = RngKey::new(seed).stream();
            let size = 2 + random.below(40) as usize;
            let shift = random.normal() * 3.0;
            // Few distinct scores, so that there are ties.
            let mut samples: Vec<_> = (0..size)
                .map(|_| {
                    let own = random.below(3) == 0;
                    let score = (random.normal() * 4.0 + shift + if own { 2.0 } else { 0.0 }).round() / 2.0;
                    (score, own)
                })
                .collect();
            samples.extend([(0.5, true), (-0.5, false)]);
            for rule in [ThresholdRule::F1, ThresholdRule::Youden] {
                let found = best_threshold(&samples, rule).unwrap();
                let best = value(&samples, found, rule);
                // But for places below all scores, or above all, that are not 0.
                let lowest = samples.iter().map(|(score, _)| *score).fold(f64::INFINITY, f64::min);
                let others = samples.iter().flat_map(|(score, _)| [score - 0.1, *score]).chain([0.0]);
                let highest = samples.iter().map(|(score, _)| *score).fold(f64::NEG_INFINITY, f64::max);
                for other in others.filter(|other| (lowest..highest).contains(other) || *other == 0.0) {
                    let of_other = value(&samples, other, rule);
                    assert!(of_other <= best + 1e-12, "seed {seed}, {rule:?}: {other} beats {found}");
                    let equal = (of_other - best).abs() < 1e-12;
                    assert!(
                        !equal || other != 0.0 || found == 0.0,
                        "seed {seed}, {rule:?}: 0 is as good as {found}"
                    );
                }
            }
        }
    }

    #[test]
    fn places_are_in_the_middle_and_the_usual_one_stays_where_it_is_as_good() {
        let samples = |scores: &[(f64, bool)]| best_threshold(scores, ThresholdRule::Youden);
        assert_eq!(samples(&[(-3.0, false), (-1.0, true), (2.0, true)]), Some(-2.0));
        assert_eq!(samples(&[(-3.0, false), (1.0, true)]), Some(0.0));
        assert_eq!(samples(&[(0.0, false), (1.0, true)]), Some(0.0));
        assert_eq!(samples(&[(1.0, false), (1.0, true)]), Some(0.0));
        assert_eq!(samples(&[(1.0, true)]), None);
        assert_eq!(samples(&[(f64::NAN, true), (1.0, false)]), None);
        assert_eq!(between(1.0, 1.0 + f64::EPSILON), 1.0);
        for p in [0.01, 0.3, 0.5, 0.99] {
            assert!((probability(log_odds(p)) - p).abs() < 1e-15);
        }
        assert_eq!(log_odds(0.5), 0.0);
    }
}

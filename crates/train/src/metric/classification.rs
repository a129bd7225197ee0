//! Accuracy and top-5 accuracy from logits.

use serde::{Deserialize, Serialize};

use super::Mean;

/// How often the right class is the likeliest, and how often it is among the five likeliest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    top1: Mean,
    top5: Mean,
}

impl Classification {
    /// Adds samples: `logits` is `[samples, classes]` in row-major order, `targets` and `weights` are `[samples]`. A
    /// target that is no class counts as wrong.
    pub fn add(&mut self, logits: &[f32], classes: usize, targets: &[i64], weights: &[f32]) {
        for ((row, target), weight) in logits.chunks_exact(classes.max(1)).zip(targets).zip(weights) {
            let rank = usize::try_from(*target).ok().and_then(|target| rank(row, target));
            let within = |k: usize| if rank.is_some_and(|rank| rank < k) { 1.0 } else { 0.0 };
            self.top1.add(within(1), f64::from(*weight));
            self.top5.add(within(5), f64::from(*weight));
        }
    }

    /// Adds what another has seen after this one.
    pub fn merge(&mut self, other: &Self) {
        self.top1.merge(&other.top1);
        self.top5.merge(&other.top5);
    }

    /// The fraction of samples whose class is the likeliest.
    pub fn accuracy(&self) -> Option<f64> {
        self.top1.value()
    }

    /// The fraction of samples whose class is among the five likeliest.
    pub fn top5(&self) -> Option<f64> {
        self.top5.value()
    }
}

/// How many classes are likelier than `target`; of equal ones the first is the likelier, and NaN is likelier than any
/// number. Nothing when the target is no class or its own logit is NaN.
fn rank(logits: &[f32], target: usize) -> Option<usize> {
    let of_target = *logits.get(target).filter(|x| !x.is_nan())?;
    let likelier =
        |(class, x): &(usize, &f32)| x.is_nan() || **x > of_target || (**x == of_target && *class < target);
    Some(logits.iter().enumerate().filter(likelier).count())
}

/// The likeliest class of one sample: the first of the greatest logits. Nothing when there are none or one is NaN.
pub fn predicted_class(logits: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (class, x) in logits.iter().enumerate() {
        if x.is_nan() {
            return None;
        }
        if best.is_none_or(|best| *x > logits[best]) {
            best = Some(class);
        }
    }
    best
}

/// The class that a model takes one sample for: the likeliest of all, or by the one logit of the second of two; with a
/// threshold, the second of two where its log-odds are above that. Nothing when a logit is NaN.
pub fn answered_class(logits: &[f32], threshold: Option<f64>) -> Option<usize> {
    if let (Some(threshold), Some(odds)) = (threshold, log_odds_of_two(logits)) {
        return (!odds.is_nan()).then(|| usize::from(odds > threshold));
    }
    match logits {
        [logit] => (!logit.is_nan()).then(|| usize::from(*logit > 0.0)),
        logits => predicted_class(logits),
    }
}

/// The log-odds of the second of two classes, from its one logit or from those of both.
pub fn log_odds_of_two(logits: &[f32]) -> Option<f64> {
    match logits {
        [logit] => Some(f64::from(*logit)),
        [first, second] => Some(f64::from(*second) - f64::from(*first)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;

    #[test]
    fn hits() {
        // Logits, target, whether it is the likeliest and whether among five.
        for (logits, target, top1, top5) in [
            ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 5, true, true),
            ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 1, false, true),
            ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 0, false, false),
            ([1.0; 6], 0, true, true),
            ([1.0; 6], 4, false, true),
            ([1.0; 6], 5, false, false),
            ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 6, false, false),
            ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], -1, false, false),
            ([NAN, 1.0, 0.0, 0.0, 0.0, 0.0], 0, false, false),
            ([NAN, 1.0, 0.0, 0.0, 0.0, 0.0], 1, false, true),
        ] {
            let mut metric = Classification::default();
            metric.add(&logits, 6, &[target], &[1.0]);
            let expected = (Some(f64::from(u8::from(top1))), Some(f64::from(u8::from(top5))));
            assert_eq!((metric.accuracy(), metric.top5()), expected, "{target} of {logits:?}");
        }
    }

    #[test]
    fn padding_does_not_count_and_parts_merge() {
        let mut metric = Classification::default();
        assert_eq!(metric.accuracy(), None);
        metric.add(&[0.0, 1.0, 1.0, 0.0, 7.0, 0.0], 2, &[1, 1, 0], &[1.0, 1.0, 0.0]);
        assert_eq!(metric.accuracy(), Some(0.5));
        let mut more = Classification::default();
        more.add(&[0.0, 1.0, 0.0, 1.0], 2, &[1, 1], &[1.0, 1.0]);
        metric.merge(&more);
        assert_eq!((metric.accuracy(), metric.top5()), (Some(0.75), Some(1.0)));
    }

    #[test]
    fn one_logit_stands_for_two_classes() {
        for (logits, threshold, expected) in [
            (&[0.5][..], None, Some(1)),
            (&[0.0], None, Some(0)),
            (&[-1.0], None, Some(0)),
            (&[NAN], None, None),
            (&[0.0, 1.0], None, Some(1)),
            (&[0.5], Some(0.5), Some(0)),
            (&[0.5], Some(0.25), Some(1)),
            (&[-1.0], Some(-2.0), Some(1)),
            (&[2.0, 1.0], Some(-1.5), Some(1)),
            (&[2.0, 1.0], Some(-1.0), Some(0)),
            (&[NAN], Some(0.0), None),
            (&[0.0, 1.0, 2.0], Some(9.0), Some(2)),
        ] {
            assert_eq!(answered_class(logits, threshold), expected, "{logits:?} {threshold:?}");
        }
    }

    #[test]
    fn predictions() {
        for (logits, expected) in [
            (&[][..], None),
            (&[1.0], Some(0)),
            (&[1.0, 3.0, 3.0], Some(1)),
            (&[f32::NEG_INFINITY, f32::NEG_INFINITY], Some(0)),
            (&[1.0, NAN], None),
        ] {
            assert_eq!(predicted_class(logits), expected, "{logits:?}");
        }
    }
}

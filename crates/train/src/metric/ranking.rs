//! How well scores rank the samples of a class before all others: the ROC curve, the precision-recall curve, and what each
//! comes to.

use super::auc;

/// What scores of a class are worth at every threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The part of the others and the part of the class's own samples that score at least a threshold, from the highest
    /// one to the lowest, after `(0, 0)`.
    pub roc: Vec<(f64, f64)>,
    /// The part of the class's own samples that score at least a threshold, and their part of all that do, after `(0, 1)`.
    pub precision_recall: Vec<(f64, f64)>,
    /// The area under the ROC curve.
    pub auc: f64,
    /// The mean precision over the class's own samples, `Σ (R_n − R_{n−1}) P_n` over the thresholds: the area under the
    /// precision-recall curve by steps (scikit-learn's `average_precision_score`).
    pub average_precision: f64,
}

/// The curves of `(score, whether it is of the class)` samples. Nothing when all are of the class or none is, or a score is
/// NaN.
pub fn ranking(samples: &[(f64, bool)]) -> Option<Ranking> {
    let auc = auc(samples)?;
    let mut sorted = samples.to_vec();
    // No score is NaN here.
    sorted.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal));
    let own = sorted.iter().filter(|(_, own)| *own).count() as f64;
    let others = sorted.len() as f64 - own;
    let (mut roc, mut precision_recall) = (vec![(0.0, 0.0)], vec![(0.0, 1.0)]);
    let (mut right, mut wrong, mut average_precision) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let among = tied.iter().filter(|(_, own)| *own).count() as f64;
        right += among;
        wrong += tied.len() as f64 - among;
        let precision = right / (right + wrong);
        average_precision += among / own * precision;
        roc.push((wrong / others, right / own));
        precision_recall.push((right / own, precision));
    }
    Some(Ranking { roc, precision_recall, auc, average_precision })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;

    /// Both areas beside scikit-learn's, of the scores of two classes: `benchmarks/metric_golden.py` writes them.
    #[test]
    fn areas_are_those_of_scikit_learn() {
        let cases: Vec<Json> = serde_json::from_str(include_str!("golden.json")).unwrap();
        let mut checked = 0;
        for case in cases.iter().filter(|case| case["task"] == "binary") {
            let numbers = |key: &str| -> Vec<f64> {
                case[key].as_array().unwrap().iter().map(|x| f64::from(x.as_f64().unwrap() as f32)).collect()
            };
            let targets = numbers("targets").into_iter().map(|target| target == 1.0);
            let samples: Vec<_> = numbers("answers").into_iter().zip(targets).collect();
            let found = ranking(&samples);
            let expect = |name: &str| case["ranking"][name].as_f64();
            assert_eq!(found.is_some(), expect("auc").is_some(), "{}", case["name"]);
            let Some(found) = found else { continue };
            checked += 1;
            for (name, got) in [("auc", found.auc), ("average_precision", found.average_precision)] {
                let expect = expect(name).unwrap();
                assert!((got - expect).abs() <= 1e-9, "{name} of {}: {got}, {expect}", case["name"]);
            }
            let last = |curve: &[(f64, f64)]| *curve.last().unwrap();
            assert_eq!((last(&found.roc), last(&found.precision_recall).0), ((1.0, 1.0), 1.0));
            assert!(found.roc.is_sorted() && found.precision_recall.is_sorted_by(|a, b| a.0 <= b.0));
        }
        assert!(checked > 5);
    }

    #[test]
    fn curves_have_a_point_for_each_threshold() {
        let found = ranking(&[(0.9, true), (0.8, false), (0.8, true), (0.1, false)]).unwrap();
        assert_eq!(found.roc, [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]);
        assert_eq!(found.precision_recall, [(0.0, 1.0), (0.5, 1.0), (1.0, 2.0 / 3.0), (1.0, 0.5)]);
        assert_eq!((found.auc, found.average_precision), (0.875, 0.5 + 1.0 / 3.0));
        assert_eq!(ranking(&[(f64::NAN, true), (0.0, false)]), None);
        assert_eq!(ranking(&[(0.0, true)]), None);
    }
}

//! What a pass over data adds to the metrics. Workers may share the pass: all is taken down for each batch and put together
//! in the order of the batches, or counted in whole numbers, so the bits are the same.

use crate::metric::{
    ClassCounts, NumberErrors, NumberMetrics, Tally, answered_class, auc, log_loss, log_odds_of_two,
};
use crate::metrics::Metrics;
use crate::program::Outputs;
use crate::spec::MetricName;
use outgrow_ir::{Diagnostic, Metric, OutputRole};
use outgrow_models::TargetSpec;
use outgrow_runtime::collective::Communicator;
use outgrow_tensor::Tensor;
use outgrow_transform::Batch;

/// What has been seen so far.
#[derive(Debug)]
pub(crate) struct Pass {
    target: TargetSpec,
    /// Of two classes: the log-odds above which the second one is answered, where that is not simply the likelier one.
    threshold: Option<f64>,
    /// Which sums the model's program gives.
    has: Vec<Metric>,
    /// Of each batch the numbers of [`Place`].
    batches: Tally,
    /// For two classes: of each sample the score of the second one, and 1 if that is the right one, else 0.
    scores: Vec<f64>,
    /// For classes.
    counts: ClassCounts,
    /// For numbers.
    errors: NumberErrors,
}

/// Where the numbers of a batch are.
#[derive(Clone, Copy, Debug)]
enum Place {
    Samples,
    Weight,
    Loss,
    Correct,
    Correct5,
    LogLoss,
}

/// How many they are.
const PLACES: usize = 6;

/// Sums of the model's program, and where they stand.
const SUMS: [(Place, Metric); 4] = [
    (Place::Weight, Metric::Weight),
    (Place::Loss, Metric::Loss),
    (Place::Correct, Metric::Correct),
    (Place::Correct5, Metric::Correct5),
];

const SHARE: &str = "telling what an evaluation gave";

impl Pass {
    /// Nothing yet, of a model that predicts this with these outputs, and with a threshold between two classes if there is one.
    pub fn new(target: &TargetSpec, outputs: &Outputs, threshold: Option<f64>) -> Self {
        let has = SUMS.into_iter().map(|(_, metric)| metric);
        let has = has.filter(|metric| outputs.find(&OutputRole::Metric(*metric)).is_some()).collect();
        Self { threshold, ..Self::with(target, has) }
    }

    fn with(target: &TargetSpec, has: Vec<Metric>) -> Self {
        let (classes, width) = match target {
            TargetSpec::Binary => (2, 0),
            TargetSpec::Class { classes } => (*classes, 0),
            TargetSpec::Regression { width } => (0, *width),
            TargetSpec::Tokens { .. } => (0, 0),
        };
        Self {
            target: target.clone(),
            threshold: None,
            has,
            batches: Tally::new(PLACES),
            scores: Vec::new(),
            counts: ClassCounts::new(classes),
            errors: NumberErrors::new(width),
        }
    }

    /// Adds a batch with all outputs of the program, and the result among them.
    pub fn add(&mut self, outputs: &Outputs, batch: &Batch, out: &[f32], result: &[f32]) {
        let numbers = self.batches.batch();
        numbers[Place::Samples as usize] = batch.real as f64;
        for (place, metric) in SUMS {
            if let Some(at) = outputs.offset(&OutputRole::Metric(metric)) {
                numbers[place as usize] = f64::from(out[at]);
            }
        }
        let Some(targets) = &batch.target else { return };
        self.answers(result, targets, batch.real);
    }

    /// Adds what the model says to so many samples of the newest batch.
    fn answers(&mut self, result: &[f32], targets: &Tensor, samples: usize) {
        let logits = match self.target {
            TargetSpec::Binary => result.chunks_exact(1),
            TargetSpec::Class { classes } => result.chunks_exact(classes.max(1)),
            TargetSpec::Regression { .. } => {
                return self.errors.add(samples, |i| f64::from(result[i]), |i| targets.get_f64(i));
            }
            TargetSpec::Tokens { .. } => return,
        };
        let mut loss = 0.0;
        for (i, logits) in logits.take(samples).enumerate() {
            let actual = targets.get_f64(i) as usize;
            let score = log_odds_of_two(logits);
            self.counts.add(actual, answered_class(logits, self.threshold));
            loss += log_loss(logits, actual);
            self.scores.extend(score.iter().flat_map(|score| [*score, f64::from(u8::from(actual == 1))]));
        }
        self.batches.last()[Place::LogLoss as usize] = loss;
    }

    /// Becomes what all workers have seen, each of its portion of the batches.
    ///
    /// # Errors
    /// When a worker is lost.
    pub fn share(&mut self, group: &mut Communicator) -> Result<(), Diagnostic> {
        let problem = "invariant: a worker has evaluated another model";
        let odd = || Diagnostic::fault("train.evaluation", problem);
        let all = group.exchange_numbers(self.batches.numbers(), SHARE)?;
        self.batches.merge(&all).ok_or_else(odd)?;
        let all = group.exchange_numbers(self.counts.numbers(), SHARE)?;
        self.counts.merge(&all).ok_or_else(odd)?;
        let all = group.exchange_numbers(self.errors.numbers(), SHARE)?;
        self.errors.merge(&all).ok_or_else(odd)?;
        self.scores = group.exchange_numbers(&self.scores, SHARE)?.concat();
        Ok(())
    }

    /// The metrics of all that has been seen.
    pub fn metrics(&self) -> Metrics {
        let sums = self.batches.sums();
        let of = |place: Place| sums[place as usize];
        let mean =
            |place: Place| if of(Place::Weight) > 0.0 { of(place) / of(Place::Weight) } else { f64::NAN };
        let applies = |name: MetricName| name.applies_to(&self.target);
        let given = |metric, place| self.has.contains(&metric).then(|| mean(place));
        let (samples, loss) = (of(Place::Samples), mean(Place::Loss));
        let scores: Vec<_> = self.scores.chunks_exact(2).map(|pair| (pair[0], pair[1] > 0.5)).collect();
        let each = self.errors.each();
        let all = NumberMetrics::of_all(&each);
        Metrics {
            samples: samples as u64,
            loss,
            accuracy: match self.threshold {
                // The model's own sums take the likelier class.
                Some(_) => self.counts.accuracy(),
                None => given(Metric::Correct, Place::Correct),
            },
            top5: given(Metric::Correct5, Place::Correct5).filter(|_| applies(MetricName::Top5)),
            auc: if scores.is_empty() { None } else { auc(&scores) },
            f1: self.counts.f1(),
            f1_weighted: self.counts.f1_weighted(),
            precision: self.counts.precision(),
            recall: self.counts.recall(),
            log_loss: (applies(MetricName::LogLoss) && samples > 0.0).then(|| of(Place::LogLoss) / samples),
            rmse: all.map(|all| all.rmse),
            mae: all.map(|all| all.mae),
            r2: all.and_then(|all| all.r2),
            each: if each.len() > 1 { each } else { Vec::new() },
            perplexity: applies(MetricName::Perplexity).then(|| libm::exp(loss)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;

    /// What scikit-learn makes of the same targets and answers: `benchmarks/metric_golden.py` writes it.
    #[test]
    fn metrics_are_those_of_scikit_learn() {
        let cases: Vec<Json> = serde_json::from_str(include_str!("metric/golden.json")).unwrap();
        assert!(cases.len() > 20);
        for case in &cases {
            let numbers = |key: &str| -> Vec<f32> {
                case[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
            };
            let width = case["width"].as_u64().unwrap() as usize;
            let (target, each) = match case["task"].as_str().unwrap() {
                "binary" => (TargetSpec::Binary, 1),
                "class" => (TargetSpec::Class { classes: width }, 1),
                _ => (TargetSpec::Regression { width }, width),
            };
            let (answers, targets) = (numbers("answers"), numbers("targets"));
            let mut pass = Pass::with(&target, Vec::new());
            let samples = targets.len() / each;
            let outputs = answers.len() / samples;
            // In batches of another size each, so that sums are put together.
            let (mut start, mut size) = (0, 1);
            while start < samples {
                let end = (start + size).min(samples);
                pass.batches.batch()[Place::Samples as usize] = (end - start) as f64;
                let targets = Tensor::vector(targets[start * each..end * each].to_vec());
                pass.answers(&answers[start * outputs..end * outputs], &targets, end - start);
                (start, size) = (end, size + 1);
            }
            let found = serde_json::to_value(pass.metrics()).unwrap();
            for (name, expect) in case["metrics"].as_object().unwrap() {
                let (got, expect) = (found[name].as_f64(), expect.as_f64());
                let close = match (got, expect) {
                    (Some(got), Some(expect)) => (got - expect).abs() <= 1e-9 * expect.abs().max(1.0),
                    (got, expect) => got == expect,
                };
                assert!(close, "{name} of {}: {got:?}, and scikit-learn has {expect:?}", case["name"]);
            }
        }
    }
}

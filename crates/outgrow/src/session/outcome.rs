//! The end of a run: the final weights' metrics, the result for machines, and what the report shows.

use outgrow_data::{Dataset, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::softmax;
use outgrow_store::sha256::weights_sha256;
use outgrow_train::metric::{Confusion, predicted_class};
use outgrow_train::{Metrics, Trainer};
use outgrow_transform::{Batch, Target};
use serde_json::{Value as Json, json};

use super::baseline::{Baseline, Deviations, beats};
use super::process::peak_memory_bytes;
use super::record::values;
use super::{DatasetBatches, Session};

/// What came out of a run.
#[derive(Debug, Default)]
pub struct RunResult {
    /// Metrics of each part of the data that has samples.
    pub metrics: Vec<(Split, Metrics)>,
    /// The names of the classes, where there are not too many.
    pub class_names: Vec<String>,
    /// For classes: which were taken for which in the test data.
    pub confusion: Option<Confusion>,
    /// For classes: of some test samples, their number, class, answer and the answer's probability.
    pub answers: Vec<TestAnswer>,
    /// For each number that is predicted: some targets and predictions of the test data.
    pub pairs: Vec<Vec<(f64, f64)>>,
    /// The names of the numbers that are predicted.
    pub targets: Vec<String>,
    /// What the model has to beat.
    pub baseline: Option<Baseline>,
}

/// What the model said to one sample.
#[derive(Clone, Copy, Debug)]
pub struct TestAnswer {
    /// Number of the sample in its split.
    pub sample: u64,
    /// Its class.
    pub actual: usize,
    /// The class that was predicted.
    pub predicted: usize,
    /// The probability of that class.
    pub probability: f64,
}

/// Most pairs of numbers that are kept for the plot of each target.
const PAIRS: usize = 2000;
/// Most answers that are kept for each pair of classes.
const ANSWERS: usize = 3;

/// Evaluates the final weights on all parts of the data (at most 10,000 training samples).
pub fn evaluate_run(
    trainer: &mut Trainer,
    data: &Dataset,
    batches: &DatasetBatches,
) -> Result<RunResult, Diagnostics> {
    let (moments, scales) = (data.transform().target_moments(), trainer.model().scales.clone());
    let targets = data.transform().target_names();
    let mut result = RunResult { baseline: Baseline::of_classes(data), targets, ..RunResult::default() };
    let mut seen = Vec::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        let Some(stream) = batches.evaluation(split)? else { continue };
        let mut deviations = Deviations::new(moments, &scales);
        let metrics = if split == Split::Test {
            let mut watch = Watch::new(&data.schema().target);
            let metrics = trainer.evaluate_with(stream, &mut |batch, output| {
                watch.add(batch, output);
                deviations.add(batch);
            })?;
            (result.confusion, result.answers, result.pairs) = (watch.confusion, watch.answers, watch.pairs);
            if let (Some(_), Target::Class { names }) = (&result.confusion, data.schema().target) {
                result.class_names = names;
            }
            metrics
        } else {
            trainer.evaluate_with(stream, &mut |batch, _| deviations.add(batch))?
        };
        result.metrics.push((split, metrics));
        seen.push((split, deviations));
    }
    if !moments.is_empty() {
        result.baseline = Some(Baseline::of_numbers(moments, seen));
    }
    Ok(result)
}

/// Looks at every answer to the test data.
struct Watch {
    classes: usize,
    confusion: Option<Confusion>,
    answers: Vec<TestAnswer>,
    kept: Vec<usize>,
    pairs: Vec<Vec<(f64, f64)>>,
    seen: u64,
}

impl Watch {
    fn new(target: &Target) -> Self {
        let classes = if let Target::Class { names } = target { names.len() } else { 0 };
        let confusion = if (1..=100).contains(&classes) { Confusion::new(classes) } else { None };
        let kept = if confusion.is_some() { vec![0; classes * classes] } else { Vec::new() };
        Self { classes, confusion, answers: Vec::new(), kept, pairs: Vec::new(), seen: 0 }
    }

    fn add(&mut self, batch: &Batch, output: &[f32]) {
        let Some(target) = &batch.target else { return };
        if let Some(confusion) = &mut self.confusion {
            for i in 0..batch.real {
                let (predicted, probability) = answer(
                    &output
                        [i * output.len() / batch.weight.len()..(i + 1) * output.len() / batch.weight.len()],
                );
                let actual = target.get_i64(i).max(0) as usize;
                confusion.add(actual, predicted);
                let kept =
                    &mut self.kept[(actual * self.classes + predicted).min(self.classes * self.classes - 1)];
                if *kept < ANSWERS {
                    *kept += 1;
                    self.answers.push(TestAnswer {
                        sample: self.seen + i as u64,
                        actual,
                        predicted,
                        probability,
                    });
                }
            }
        } else if self.classes == 0
            && target.shape().rank() == 2
            && target.dtype() == outgrow_tensor::DType::F32
        {
            let width = target.shape().dims()[1];
            self.pairs.resize(width, Vec::new());
            for (of, pairs) in self.pairs.iter_mut().enumerate() {
                let room = PAIRS.saturating_sub(pairs.len());
                let pair = |i: usize| (target.get_f64(i * width + of), f64::from(output[i * width + of]));
                pairs.extend((0..batch.real).take(room).map(pair));
            }
        }
        self.seen += batch.real as u64;
    }
}

/// The likeliest class and its probability, from the logits of all classes or from the one logit of two.
pub fn answer(logits: &[f32]) -> (usize, f64) {
    if let [logit] = logits {
        let p = 1.0 / (1.0 + libm::exp(-f64::from(*logit)));
        return if *logit > 0.0 { (1, p) } else { (0, 1.0 - p) };
    }
    let class = predicted_class(logits).unwrap_or(0);
    (class, softmax(logits, 1.0).get(class).copied().unwrap_or(f64::NAN))
}

/// How the processor was used by this process.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The part of the threads' time that was spent computing, from 0 to 1.
    pub utilisation: f64,
    /// The same over the course of training: seconds since its start, and the part up to there since the point before.
    pub over_time: Vec<(f64, f64)>,
    /// The most memory the process held, in bytes.
    pub peak_memory_bytes: u64,
}

impl Usage {
    /// With the most memory that this process has held so far.
    pub fn new(utilisation: f64, over_time: Vec<(f64, f64)>) -> Self {
        Self { utilisation, over_time, peak_memory_bytes: peak_memory_bytes() }
    }
}

impl RunResult {
    /// The metrics of a split.
    pub fn of(&self, split: Split) -> Option<&Metrics> {
        self.metrics.iter().find(|(s, _)| *s == split).map(|(_, m)| m)
    }

    /// The one object for machines.
    pub fn to_json(
        &self,
        session: &Session<'_>,
        folder: &std::path::Path,
        trainer: &Trainer,
        usage: &Usage,
    ) -> Result<Json, Diagnostic> {
        let outcome = trainer.outcome();
        let memory = &trainer.program().compiled.memory;
        let mut json = json!({
            "run": folder,
            "name": session.manifest.name,
            "steps": outcome.steps,
            "samples": outcome.samples,
            "train_seconds": outcome.train_seconds,
            "samples_per_s": if outcome.train_seconds > 0.0 { outcome.samples as f64 / outcome.train_seconds } else { 0.0 },
            "stopped_early": outcome.stopped_early,
            "parameters": trainer.model().params.iter().map(|p| p.dims.iter().product::<usize>()).sum::<usize>(),
        });
        for (split, metrics) in &self.metrics {
            json[split.name()] = self.metrics_json(metrics);
        }
        if let Some(baseline) = &self.baseline {
            json["baseline"] = json!({ "answer": baseline.answer });
            for (split, metrics) in &baseline.metrics {
                json["baseline"][split.name()] = self.metrics_json(metrics);
            }
        }
        if let Some(confusion) = &self.confusion {
            json["test_classes"] = self.classes(confusion);
        }
        json["weights_sha256"] = json!(weights_sha256(&trainer.state.weights()?));
        json["cpu_utilisation"] = json!(usage.utilisation);
        json["peak_memory_bytes"] = json!(usage.peak_memory_bytes);
        json["planned_memory_bytes"] = json!(memory.planned_bytes);
        json["naive_memory_bytes"] = json!(memory.naive_bytes);
        json["threads"] = json!(session.cpu.pool.threads());
        json["kernel_path"] = json!(session.cpu.path.name());
        Ok(json)
    }

    /// The metrics that apply, by name, as a page shows them: where several numbers are predicted, those of each too.
    pub fn values(&self, metrics: &Metrics) -> Vec<(String, f64)> {
        let each = self.targets.iter().zip(&metrics.rmse_each);
        let each = each.map(|(name, rmse)| (format!("RMSE of {name}"), *rmse));
        values(metrics).into_iter().chain(each).collect()
    }

    /// Metrics, and where several numbers are predicted those of each by its name.
    fn metrics_json(&self, metrics: &Metrics) -> Json {
        let mut json = serde_json::to_value(metrics).unwrap_or_default();
        if !metrics.rmse_each.is_empty() {
            let each = self.targets.iter().zip(&metrics.rmse_each);
            json["targets"] =
                Json::Object(each.map(|(name, rmse)| (name.clone(), json!({ "rmse": rmse }))).collect());
        }
        json
    }

    /// The part of the data that a model is judged by: the test data, or else what there is.
    pub fn judged(&self) -> Option<(Split, &Metrics)> {
        let of = |split| Some((split, self.of(split)?));
        [Split::Test, Split::Validation, Split::Train].into_iter().find_map(of)
    }

    /// What to say where the model is no better than an answer that does not look at the sample.
    pub fn warning(&self) -> Option<String> {
        let baseline = self.baseline.as_ref()?;
        let (split, metrics) = self.judged()?;
        if beats(metrics, baseline.of(split)?) {
            return None;
        }
        Some(format!(
            "warning: on the {split} data the model does no better than answering {}: it has learned nothing of use \
             yet",
            baseline.answer
        ))
    }

    /// Precision and recall of each class in the test data.
    fn classes(&self, confusion: &Confusion) -> Json {
        let class = |(i, name): (usize, &String)| {
            let samples: u64 = (0..confusion.classes()).map(|predicted| confusion.count(i, predicted)).sum();
            let json = json!({ "samples": samples, "precision": confusion.precision(i), "recall": confusion.recall(i) });
            (name.clone(), json)
        };
        Json::Object(self.class_names.iter().enumerate().map(class).collect())
    }
}

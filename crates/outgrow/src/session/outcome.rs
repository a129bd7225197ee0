//! The end of a run: the final weights' metrics, the result for machines, and what the report shows.

use outgrow_data::{Dataset, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::LossKind;
use outgrow_predict::Decision;
use outgrow_store::sha256::weights_sha256;
use outgrow_train::metric::{Confusion, Ranking};
use outgrow_train::{Metrics, Trainer};
use outgrow_transform::Target;
use serde_json::{Value as Json, json};

use super::answers::{TestAnswer, Watch};
use super::baseline::{Baseline, Deviations, beats};
use super::best::Best;
use super::process::peak_memory_bytes;
use super::record::values;
use super::weights::elements;
use super::{DatasetBatches, Session, decision};

/// What came out of a run.
#[derive(Debug, Default)]
pub struct RunResult {
    /// Metrics of each part of the data that has samples.
    pub metrics: Vec<(Split, Metrics)>,
    /// The names of the classes, where there are not too many.
    pub class_names: Vec<String>,
    /// For classes: which were taken for which in the test data.
    pub confusion: Option<Confusion>,
    /// For few classes: how the scores of each rank its test samples before all others.
    pub rankings: Vec<Option<Ranking>>,
    /// For classes: of some test samples, their number, class, answer and the answer's probability.
    pub answers: Vec<TestAnswer>,
    /// For each number that is predicted: some targets and predictions of the test data.
    pub pairs: Vec<Vec<(f64, f64)>>,
    /// The names of the numbers that are predicted.
    pub targets: Vec<String>,
    /// The loss that was minimised, and that the metrics tell.
    pub loss: Option<LossKind>,
    /// Where two classes are divided, if not in the middle.
    pub decision: Option<Decision>,
    /// What the model has to beat.
    pub baseline: Option<Baseline>,
}

/// Evaluates the final weights on all parts of the data (at most 10,000 training samples). All workers of a group do so at
/// the same time, each on its portion, and get the same.
///
/// # Errors
/// When a batch cannot be made, the device fails, or a worker is lost.
pub fn evaluate_run(
    trainer: &mut Trainer,
    data: &Dataset,
    batches: &DatasetBatches,
) -> Result<RunResult, Diagnostics> {
    let (moments, scales) = (data.transform().target_moments(), trainer.model().scales.clone());
    let threshold = trainer.threshold();
    let (portion, target) = (trainer.portion(), data.schema().target);
    let (targets, loss) = (data.transform().target_names(), trainer.model().loss);
    let mut result = RunResult {
        baseline: Baseline::of_classes(data, loss),
        targets,
        loss: Some(loss),
        ..RunResult::default()
    };
    let mut seen = Vec::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        let Some(stream) = batches.evaluation(split, portion)? else { continue };
        let mut deviations = Deviations::new(moments, &scales, loss);
        let mut watch = (split == Split::Test).then(|| Watch::new(&target, threshold));
        let metrics = trainer.evaluate_with(stream, &mut |batch, output| {
            if let Some(watch) = &mut watch {
                watch.add(batch, output);
            }
            deviations.add(batch);
        })?;
        result.metrics.push((split, metrics));
        if let Some(group) = trainer.group() {
            let mut group = group.lock();
            let all = group.exchange_numbers(deviations.numbers(), EVALUATED)?;
            deviations.merge(&all).ok_or_else(odd)?;
            if let Some(watch) = &mut watch {
                let all = group.exchange(&watch.to_bytes(), EVALUATED)?;
                watch.merge(&all).ok_or_else(odd)?;
            }
        }
        if let Some(watch) = watch {
            result.rankings = watch.rankings();
            (result.confusion, result.answers, result.pairs) = (watch.confusion, watch.answers, watch.pairs);
            if let (Some(_), Target::Class { names }) = (&result.confusion, &target) {
                result.class_names = names.clone();
            }
        }
        seen.push((split, deviations));
    }
    if !moments.is_empty() {
        result.baseline = Some(Baseline::of_numbers(moments, seen));
    }
    Ok(result)
}

const EVALUATED: &str = "telling what was seen in an evaluation";

fn odd() -> Diagnostic {
    Diagnostic::fault("workers.evaluation", "invariant: a worker tells of another evaluation")
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
        best: Option<&Best>,
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
        if let Some(best) = best {
            json["best"] = best.to_json();
        }
        if let Some(decision) = &self.decision {
            json["decision_threshold"] = decision::to_json(decision);
        }
        if !trainer.model().frozen.is_empty() {
            json["frozen_parameters"] = json!(elements(&trainer.model().frozen));
        }
        let loss = trainer.model().loss;
        json["loss"] = json!({ "name": loss.name() });
        if let Some((option, value)) = loss.option() {
            json["loss"][option] = json!(value);
        }
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
            let classes = 0..confusion.classes();
            let row = |actual| classes.clone().map(|predicted| confusion.count(actual, predicted)).collect();
            json["test_confusion"] = json!(classes.clone().map(row).collect::<Vec<Vec<u64>>>());
        }
        json["weights_sha256"] = json!(weights_sha256(&trainer.state.weights()?));
        json["cpu_utilisation"] = json!(usage.utilisation);
        json["peak_memory_bytes"] = json!(usage.peak_memory_bytes);
        json["planned_memory_bytes"] = json!(memory.planned_bytes);
        json["naive_memory_bytes"] = json!(memory.naive_bytes);
        json["threads"] = json!(session.cpu.pool.threads());
        json["kernel_path"] = json!(session.step_path().name());
        json["precision"] = json!(trainer.config().precision);
        Ok(json)
    }

    /// The metrics that apply, by name, as a page shows them: where several numbers are predicted, those of each too.
    pub fn values(&self, metrics: &Metrics) -> Vec<(String, f64)> {
        let each = self.targets.iter().zip(&metrics.each);
        let each = each.map(|(name, one)| (format!("RMSE of {name}"), one.rmse));
        values(metrics).into_iter().chain(each).collect()
    }

    /// Metrics, and where several numbers are predicted those of each by its name.
    fn metrics_json(&self, metrics: &Metrics) -> Json {
        let mut json = serde_json::to_value(metrics).unwrap_or_default();
        if !metrics.each.is_empty() {
            let each = self.targets.iter().zip(&metrics.each);
            json["targets"] = Json::Object(each.map(|(name, one)| (name.clone(), json!(one))).collect());
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
        if beats(metrics, baseline.of(split)?, self.loss) {
            return None;
        }
        Some(format!(
            "warning: on the {split} data the model does no better than answering {}: it has learned nothing of use \
             yet",
            baseline.answer
        ))
    }

    /// Precision and recall of each class, and the areas under its curves, in the test data.
    fn classes(&self, confusion: &Confusion) -> Json {
        let class = |(i, name): (usize, &String)| {
            let samples: u64 = (0..confusion.classes()).map(|predicted| confusion.count(i, predicted)).sum();
            let mut json = json!({
                "samples": samples,
                "precision": confusion.precision(i),
                "recall": confusion.recall(i),
                "f1": confusion.f1(i),
            });
            if let Some(Some(ranking)) = self.rankings.get(i) {
                json["auc"] = json!(ranking.auc);
                json["average_precision"] = json!(ranking.average_precision);
            }
            (name.clone(), json)
        };
        Json::Object(self.class_names.iter().enumerate().map(class).collect())
    }
}

//! Evaluation: the metrics of a model on a pass over data, in evaluation mode. Workers may share the pass: sums are of
//! batches, and are put together in the order of these, so the bits are the same.

use crate::memory::in_evaluation;
use crate::metric::{Tally, auc};
use crate::program::{ModelProgram, Outputs, Sample};
use crate::spec::MetricName;
use crate::vector::{DeviceVector, floats};
use outgrow_ir::{Diagnostic, Diagnostics, Metric, OutputRole};
use outgrow_models::{BuiltModel, TargetSpec};
use outgrow_runtime::collective::{Communicator, lost};
use outgrow_runtime::{Backend, Buffer, CompileOptions};
use outgrow_tensor::Tensor;
use outgrow_transform::{Batch, Batches};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What an evaluation gives; metrics that do not apply are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Samples.
    pub samples: u64,
    /// The mean loss of a sample (of a token, for tokens); for regression the mean squared error, of scaled numbers where
    /// the model works on those.
    pub loss: f64,
    /// The fraction of right answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The fraction of samples whose class is among the five likeliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// The area under the ROC curve, for two classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// The root of the mean squared error, in the targets' own units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
    /// The same of each number that is predicted, in their order, where there are several.
    #[serde(skip)]
    pub rmse_each: Vec<f64>,
    /// e to the loss, for tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
}

impl Metrics {
    /// The metric of this name, if it applies.
    pub fn get(&self, name: MetricName) -> Option<f64> {
        match name {
            MetricName::Loss => Some(self.loss),
            MetricName::Accuracy => self.accuracy,
            MetricName::Top5 => self.top5,
            MetricName::Auc => self.auc,
            MetricName::Rmse => self.rmse,
            MetricName::Perplexity => self.perplexity,
        }
    }
}

/// Runs a model in evaluation mode.
#[derive(Debug)]
pub struct Evaluator {
    program: ModelProgram,
    target: TargetSpec,
    batch: usize,
    backend: Arc<dyn Backend>,
    out: Box<dyn Buffer>,
    /// The outputs on the host, where the device's memory is not.
    host: Vec<f32>,
}

/// What the batches seen so far add to the metrics.
#[derive(Debug)]
struct Sums {
    /// Of each batch the numbers of [`Place`], and the sum of the squared errors of each number that is predicted.
    batches: Tally,
    /// For two classes: of each sample the score of the second one, and 1 if that is the right one, else 0.
    scores: Vec<f64>,
}

/// Where the numbers of a batch are.
#[derive(Clone, Copy, Debug)]
enum Place {
    Samples,
    Weight,
    Loss,
    Correct,
    Correct5,
    /// The first of the squared errors.
    Errors,
}

impl Sums {
    fn new(target: &TargetSpec) -> Self {
        let errors = if let TargetSpec::Regression { width } = target { *width } else { 0 };
        Self { batches: Tally::new(Place::Errors as usize + errors), scores: Vec::new() }
    }

    /// Adds a batch with the program's outputs.
    fn add(&mut self, outputs: &Outputs, target: &TargetSpec, batch: &Batch, out: &[f32]) {
        let numbers = self.batches.batch();
        numbers[Place::Samples as usize] = batch.real as f64;
        let sums = [
            (Place::Weight, Metric::Weight),
            (Place::Loss, Metric::Loss),
            (Place::Correct, Metric::Correct),
            (Place::Correct5, Metric::Correct5),
        ];
        for (place, metric) in sums {
            if let Some(at) = outputs.offset(&OutputRole::Metric(metric)) {
                numbers[place as usize] = f64::from(out[at]);
            }
        }
        let (output, errors) = (result(outputs, out), &mut numbers[Place::Errors as usize..]);
        let label = |i: usize| batch.target.as_ref().is_some_and(|t: &Tensor| t.get_f64(i) > 0.5).into();
        match target {
            TargetSpec::Binary => {
                self.scores.extend((0..batch.real).flat_map(|i| [f64::from(output[i]), label(i)]));
            }
            TargetSpec::Class { classes: 2 } => {
                let score = |i: usize| f64::from(output[2 * i + 1]) - f64::from(output[2 * i]);
                self.scores.extend((0..batch.real).flat_map(|i| [score(i), label(i)]));
            }
            TargetSpec::Regression { width } => {
                let Some(targets) = &batch.target else { return };
                for (i, predicted) in output.iter().take(batch.real * width).enumerate() {
                    let error = f64::from(*predicted) - targets.get_f64(i);
                    errors[i % width] += error * error;
                }
            }
            _ => {}
        }
    }

    /// Becomes what all workers have seen, each of its portion of the batches.
    fn share(&mut self, group: &mut Communicator) -> Result<(), Diagnostic> {
        let all = group.exchange_numbers(self.batches.numbers(), SHARE)?;
        self.batches.clear();
        for (worker, numbers) in all.iter().enumerate() {
            let taken = self.batches.extend(numbers);
            taken
                .ok_or_else(|| lost(worker, format!("worker {worker} tells no whole batches in {SHARE}")))?;
        }
        self.scores = group.exchange_numbers(&self.scores, SHARE)?.concat();
        Ok(())
    }
}

const SHARE: &str = "telling what an evaluation gave";

/// What the model says, of all outputs.
fn result<'a>(outputs: &Outputs, out: &'a [f32]) -> &'a [f32] {
    outputs.find(&OutputRole::Result).map_or(&[], |i| outputs.layout.slice(i, out))
}

impl Evaluator {
    /// Compiles the evaluation program for batches of this size.
    pub fn new(
        model: &BuiltModel,
        batch: usize,
        backend: &Arc<dyn Backend>,
        options: &CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let program = ModelProgram::new(model, &model.eval, in_evaluation, batch, &**backend, options)?;
        let out = backend.allocate(program.outputs.bytes())?;
        let target = model.target.clone();
        Ok(Self { program, target, batch, backend: backend.clone(), out, host: Vec::new() })
    }

    /// Bytes of the memory that it owns.
    pub fn bytes(&self) -> u64 {
        self.program.compiled.memory.bytes().saturating_add(self.out.bytes() as u64)
    }

    /// Evaluates weights on batches, in their order, and shows each with the model's outputs to `observe`. Workers of a
    /// group each evaluate their portion of the batches, and get the metrics of all.
    ///
    /// # Errors
    /// When a batch cannot be made, the device fails, or a worker is lost.
    pub fn run(
        &mut self,
        params: &DeviceVector,
        buffers: &DeviceVector,
        mut batches: Batches,
        observe: &mut dyn FnMut(&Batch, &[f32]),
        mut group: Option<&mut Communicator>,
    ) -> Result<Metrics, Diagnostics> {
        let mut sums = Sums::new(&self.target);
        while let Some(batch) = batches.next() {
            let batch = batch?;
            let sample = Sample { batch: &batch, rows: (0, self.batch), scale: 1.0, key: 0 };
            self.program.run(params, buffers, sample, &mut *self.out, None)?;
            let out = floats(&*self.backend, &*self.out, &mut self.host)?;
            sums.add(&self.program.outputs, &self.target, &batch, out);
            observe(&batch, result(&self.program.outputs, out));
            batches.recycle(batch);
            if let Some(group) = &mut group {
                group.look("an evaluation")?;
            }
        }
        if let Some(group) = group {
            sums.share(group)?;
        }
        Ok(self.metrics(&sums))
    }

    fn metrics(&self, seen: &Sums) -> Metrics {
        let sums = seen.batches.sums();
        let of = |place: Place| sums[place as usize];
        let mean =
            |place: Place| if of(Place::Weight) > 0.0 { of(place) / of(Place::Weight) } else { f64::NAN };
        let has = |metric: MetricName| metric.applies_to(&self.target);
        let counted = |metric| self.program.outputs.offset(&OutputRole::Metric(metric)).is_some();
        let (samples, errors) = (of(Place::Samples), &sums[Place::Errors as usize..]);
        let root = |sum: f64, numbers: f64| libm::sqrt(sum / numbers);
        let all = || root(errors.iter().sum(), samples * errors.len() as f64);
        let scores: Vec<_> = seen.scores.chunks_exact(2).map(|pair| (pair[0], pair[1] > 0.5)).collect();
        Metrics {
            samples: samples as u64,
            loss: mean(Place::Loss),
            accuracy: counted(Metric::Correct).then(|| mean(Place::Correct)),
            top5: (counted(Metric::Correct5) && has(MetricName::Top5)).then(|| mean(Place::Correct5)),
            auc: if scores.is_empty() { None } else { auc(&scores) },
            rmse: (!errors.is_empty() && has(MetricName::Rmse)).then(all),
            rmse_each: match errors {
                [_, _, ..] => errors.iter().map(|sum| root(*sum, samples)).collect(),
                _ => Vec::new(),
            },
            perplexity: has(MetricName::Perplexity).then(|| libm::exp(mean(Place::Loss))),
        }
    }
}

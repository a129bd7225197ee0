//! Evaluation: the metrics of a model on a pass over data, in evaluation mode.

use crate::memory::in_evaluation;
use crate::metric::{Mean, auc};
use crate::program::{ModelProgram, Outputs, Sample};
use crate::spec::MetricName;
use crate::vector::{DeviceVector, floats};
use outgrow_ir::{Diagnostics, Metric, OutputRole};
use outgrow_models::{BuiltModel, TargetSpec};
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

/// Sums over the batches seen so far, in f64.
#[derive(Debug, Default)]
struct Sums {
    samples: u64,
    weight: f64,
    loss: f64,
    correct: Option<f64>,
    correct5: Option<f64>,
    /// Scores of the second class and whether it is the right one.
    scores: Vec<(f64, bool)>,
    /// The squared errors of each number that is predicted.
    errors: Vec<Mean>,
}

impl Sums {
    /// Adds a batch with the program's outputs.
    fn add(&mut self, outputs: &Outputs, target: &TargetSpec, batch: &Batch, out: &[f32]) {
        let sum = |metric| outputs.offset(&OutputRole::Metric(metric)).map(|at| f64::from(out[at]));
        self.samples += batch.real as u64;
        self.weight += sum(Metric::Weight).unwrap_or_default();
        self.loss += sum(Metric::Loss).unwrap_or(f64::NAN);
        let more = |all: &mut Option<f64>, metric| {
            if let Some(value) = sum(metric) {
                *all = Some(all.unwrap_or_default() + value);
            }
        };
        more(&mut self.correct, Metric::Correct);
        more(&mut self.correct5, Metric::Correct5);
        let output = result(outputs, out);
        let label = |i: usize| batch.target.as_ref().is_some_and(|t: &Tensor| t.get_f64(i) > 0.5);
        match target {
            TargetSpec::Binary => {
                self.scores.extend((0..batch.real).map(|i| (f64::from(output[i]), label(i))))
            }
            TargetSpec::Class { classes: 2 } => {
                let score = |i: usize| f64::from(output[2 * i + 1]) - f64::from(output[2 * i]);
                self.scores.extend((0..batch.real).map(|i| (score(i), label(i))));
            }
            TargetSpec::Regression { width } => {
                self.errors.resize(*width, Mean::default());
                let Some(targets) = &batch.target else { return };
                for (i, predicted) in output.iter().take(batch.real * width).enumerate() {
                    let error = f64::from(*predicted) - targets.get_f64(i);
                    self.errors[i % width].add(error * error, 1.0);
                }
            }
            _ => {}
        }
    }
}

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

    /// Evaluates weights on batches, in their order, and shows each with the model's outputs to `observe`.
    pub fn run(
        &mut self,
        params: &DeviceVector,
        buffers: &DeviceVector,
        mut batches: Batches,
        observe: &mut dyn FnMut(&Batch, &[f32]),
    ) -> Result<Metrics, Diagnostics> {
        let mut sums = Sums::default();
        while let Some(batch) = batches.next() {
            let batch = batch?;
            let sample = Sample { batch: &batch, rows: (0, self.batch), scale: 1.0, key: 0 };
            self.program.run(params, buffers, sample, &mut *self.out, None)?;
            let out = floats(&*self.backend, &*self.out, &mut self.host)?;
            sums.add(&self.program.outputs, &self.target, &batch, out);
            observe(&batch, result(&self.program.outputs, out));
            batches.recycle(batch);
        }
        Ok(self.metrics(sums))
    }

    fn metrics(&self, sums: Sums) -> Metrics {
        let mean = |sum: f64| if sums.weight > 0.0 { sum / sums.weight } else { f64::NAN };
        let loss = mean(sums.loss);
        let mut all = Mean::default();
        sums.errors.iter().for_each(|errors| all.merge(errors));
        let each = sums.errors.iter().map(|errors| errors.root().unwrap_or(f64::NAN));
        let has = |metric: MetricName| metric.applies_to(&self.target);
        Metrics {
            samples: sums.samples,
            loss,
            accuracy: sums.correct.map(mean),
            top5: sums.correct5.filter(|_| has(MetricName::Top5)).map(mean),
            auc: if sums.scores.is_empty() { None } else { auc(&sums.scores) },
            rmse: all.root().filter(|_| has(MetricName::Rmse)),
            rmse_each: if sums.errors.len() > 1 { each.collect() } else { Vec::new() },
            perplexity: has(MetricName::Perplexity).then(|| libm::exp(loss)),
        }
    }
}

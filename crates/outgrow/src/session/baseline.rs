//! What a model has to beat: answering the same to every sample, the most frequent class of the training data or the mean
//! of its numbers.

use outgrow_data::{Dataset, Split};
use outgrow_models::TargetScale;
use outgrow_train::Metrics;
use outgrow_train::metric::{ClassCounts, NumberErrors, NumberMetrics};
use outgrow_transform::{Batch, Target, TargetMoments};

use crate::report::format::number;

/// The metrics of answers that do not look at the sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// What is answered, for people.
    pub answer: String,
    /// Its metrics on each part of the data that has samples.
    pub metrics: Vec<(Split, Metrics)>,
}

impl Baseline {
    /// For classes; nothing where something else is predicted, or there is no training data.
    pub fn of_classes(data: &Dataset) -> Option<Self> {
        let Target::Class { names } = data.schema().target else { return None };
        let trained = data.class_counts(Split::Train);
        if trained.iter().sum::<u64>() == 0 {
            return None;
        }
        // Of equally frequent ones the first.
        let most = (0..trained.len()).rev().max_by_key(|class| trained[*class])?;
        let all = trained.iter().sum::<u64>() as f64;
        let metrics = |split| {
            let counts = data.class_counts(split);
            let samples = counts.iter().sum::<u64>();
            let part = |count: u64| count as f64 / samples as f64;
            // Cross-entropy of the training data's frequencies.
            let seen = counts.iter().zip(&trained).filter(|(count, _)| **count > 0);
            let loss = seen.map(|(count, before)| -part(*count) * libm::log(*before as f64 / all)).sum();
            let accuracy = counts.get(most).map(|count| part(*count));
            let mut all = ClassCounts::new(counts.len());
            counts.iter().enumerate().for_each(|(class, count)| all.add_many(class, Some(most), *count));
            let metrics = Metrics {
                samples,
                loss,
                accuracy,
                f1: all.f1(),
                f1_weighted: all.f1_weighted(),
                precision: all.precision(),
                recall: all.recall(),
                log_loss: Some(loss),
                ..Metrics::default()
            };
            (samples > 0).then_some((split, metrics))
        };
        Some(Self {
            answer: format!("always `{}`", names.get(most)?),
            metrics: Split::ALL.into_iter().filter_map(metrics).collect(),
        })
    }

    /// For numbers, once all of them have been seen.
    pub fn of_numbers(moments: &[TargetMoments], seen: Vec<(Split, Deviations)>) -> Self {
        let means: Vec<String> = moments.iter().map(|m| number(m.mean)).collect();
        let metrics = |(split, seen): (Split, Deviations)| (split, seen.metrics());
        let answer = format!("always the mean, {}", means.join(", "));
        Self { answer, metrics: seen.into_iter().map(metrics).collect() }
    }

    /// The metrics on a part of the data.
    pub fn of(&self, split: Split) -> Option<&Metrics> {
        self.metrics.iter().find(|(s, _)| *s == split).map(|(_, metrics)| metrics)
    }
}

/// Whether a model does better than its baseline: by what people look at first, and where that is equal by the loss.
pub fn beats(model: &Metrics, baseline: &Metrics) -> bool {
    let by_loss = model.loss < baseline.loss;
    match (model.accuracy, baseline.accuracy, model.rmse, baseline.rmse) {
        (Some(model), Some(baseline), ..) if model != baseline => model > baseline,
        (_, _, Some(model), Some(baseline)) => model < baseline,
        _ => by_loss,
    }
}

/// How far the targets of a part of the data are from the means of the training data.
#[derive(Clone, Debug)]
pub struct Deviations {
    means: Vec<f64>,
    /// By how much each number is divided in the loss.
    scales: Vec<f64>,
    errors: NumberErrors,
}

impl Deviations {
    /// None seen yet; scales are none where the loss is of the numbers as they are.
    pub fn new(moments: &[TargetMoments], scales: &[TargetScale]) -> Self {
        let scale = |number: usize| scales.get(number).map_or(1.0, |scale| scale.deviation);
        Self {
            means: moments.iter().map(|moments| moments.mean).collect(),
            scales: (0..moments.len()).map(scale).collect(),
            errors: NumberErrors::new(moments.len()),
        }
    }

    /// Sees the targets of a batch.
    pub fn add(&mut self, batch: &Batch) {
        let Some(targets) = &batch.target else { return };
        let means = &self.means;
        if !means.is_empty() {
            self.errors.add(batch.real, |i| means[i % means.len()], |i| targets.get_f64(i));
        }
    }

    /// What has been seen, for [`Deviations::merge`].
    pub fn numbers(&self) -> &[f64] {
        self.errors.numbers()
    }

    /// Becomes what several have seen, one after the other; nothing if they tell of something else.
    pub fn merge(&mut self, all: &[Vec<f64>]) -> Option<()> {
        self.errors.merge(all)
    }

    fn metrics(&self) -> Metrics {
        let each = self.errors.each();
        let scaled = each.iter().zip(&self.scales).map(|(one, scale)| (one.rmse / scale).powi(2));
        let loss = scaled.sum::<f64>() / each.len() as f64;
        let all = NumberMetrics::of_all(&each);
        Metrics {
            samples: self.errors.samples() as u64,
            loss,
            rmse: all.map(|all| all.rmse),
            mae: all.map(|all| all.mae),
            r2: all.and_then(|all| all.r2),
            each: if each.len() > 1 { each } else { Vec::new() },
            ..Metrics::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_beats_its_baseline_by_what_people_look_at_or_by_its_loss() {
        let classes = |accuracy, loss| Metrics { accuracy: Some(accuracy), loss, ..Metrics::default() };
        let numbers = |rmse, loss| Metrics { rmse: Some(rmse), loss, ..Metrics::default() };
        for (model, baseline, expected) in [
            (classes(0.9, 1.0), classes(0.5, 0.7), true),
            (classes(0.4, 0.1), classes(0.5, 0.7), false),
            (classes(0.5, 0.6), classes(0.5, 0.7), true),
            (classes(0.5, 0.7), classes(0.5, 0.7), false),
            (numbers(1.0, 0.5), numbers(2.0, 1.0), true),
            (numbers(2.0, 1.0), numbers(2.0, 1.0), false),
            (numbers(f64::NAN, f64::NAN), numbers(2.0, 1.0), false),
        ] {
            assert_eq!(beats(&model, &baseline), expected, "{model:?} {baseline:?}");
        }
    }
}

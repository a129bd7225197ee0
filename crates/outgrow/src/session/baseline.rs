//! What a model has to beat: answering the same to every sample, the most frequent class of the training data or the mean
//! of its numbers.

use outgrow_data::{Dataset, Split};
use outgrow_models::{LossKind, TargetScale};
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
    pub fn of_classes(data: &Dataset, loss: LossKind) -> Option<Self> {
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
            // Of the training data's frequencies.
            let mean = |loss: LossKind| -> f64 {
                let seen = counts.iter().zip(&trained).filter(|(count, _)| **count > 0);
                seen.map(|(count, before)| part(*count) * loss.of_probability(*before as f64 / all)).sum()
            };
            let accuracy = counts.get(most).map(|count| part(*count));
            let mut all = ClassCounts::new(counts.len());
            counts.iter().enumerate().for_each(|(class, count)| all.add_many(class, Some(most), *count));
            let metrics = Metrics {
                samples,
                loss: mean(loss),
                accuracy,
                f1: all.f1(),
                f1_weighted: all.f1_weighted(),
                precision: all.precision(),
                recall: all.recall(),
                log_loss: Some(mean(LossKind::CrossEntropy)),
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

/// Whether a model does better than its baseline: by what people look at first, and where that is equal, or is not what
/// was minimised, by the loss.
pub fn beats(model: &Metrics, baseline: &Metrics, loss: Option<LossKind>) -> bool {
    let by_loss = model.loss < baseline.loss;
    let outliers_count_less = matches!(loss, Some(LossKind::MeanAbsoluteError | LossKind::Huber { .. }));
    match (model.accuracy, baseline.accuracy, model.rmse, baseline.rmse) {
        (Some(model), Some(baseline), ..) if model != baseline => model > baseline,
        (_, _, Some(model), Some(baseline)) if !outliers_count_less => model < baseline,
        _ => by_loss,
    }
}

/// How far the targets of a part of the data are from the means of the training data.
#[derive(Clone, Debug)]
pub struct Deviations {
    means: Vec<f64>,
    /// By how much each number is divided in the loss.
    scales: Vec<f64>,
    loss: LossKind,
    /// Of the means; and behind each number's own, as absolute errors, its losses.
    errors: NumberErrors,
}

impl Deviations {
    /// None seen yet; scales are none where the loss is of the numbers as they are.
    pub fn new(moments: &[TargetMoments], scales: &[TargetScale], loss: LossKind) -> Self {
        let scale = |number: usize| scales.get(number).map_or(1.0, |scale| scale.deviation);
        Self {
            means: moments.iter().map(|moments| moments.mean).collect(),
            scales: (0..moments.len()).map(scale).collect(),
            loss,
            errors: NumberErrors::new(2 * moments.len()),
        }
    }

    /// Sees the targets of a batch.
    pub fn add(&mut self, batch: &Batch) {
        let Some(targets) = &batch.target else { return };
        let (means, scales, width) = (&self.means, &self.scales, self.means.len());
        if width == 0 {
            return;
        }
        // The first numbers of a row are those themselves, the others the losses, which would best be 0.
        let place = |i: usize| (i / (2 * width), i % (2 * width));
        let predicted = |i: usize| match place(i) {
            (_, number) if number < width => means[number],
            (row, number) => {
                let number = number - width;
                let error = means[number] - targets.get_f64(row * width + number);
                self.loss.of_error(error / scales[number])
            }
        };
        let target = |i: usize| match place(i) {
            (row, number) if number < width => targets.get_f64(row * width + number),
            _ => 0.0,
        };
        self.errors.add(batch.real, predicted, target);
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
        let mut each = self.errors.each();
        let losses = each.split_off(self.means.len());
        let loss = losses.iter().map(|one| one.mae).sum::<f64>() / losses.len() as f64;
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
    use outgrow_tensor::Tensor;

    /// Against the formulas, of two numbers in different units.
    #[test]
    fn the_means_have_the_loss_of_the_model() {
        let targets = [1.0, 10.0, 2.0, 50.0, 6.0, 30.0];
        let moments = [(3.0, 2.0), (30.0, 16.0)].map(|(mean, deviation)| TargetMoments { mean, deviation });
        let scales = moments.map(|m| TargetScale { mean: m.mean, deviation: m.deviation });
        let tensor = Tensor::new([3, 2], targets.map(|t| t as f32).to_vec()).unwrap();
        let batch = Batch::of_samples(Vec::new(), Some(tensor), 3);
        for (loss, of) in [
            (LossKind::MeanSquaredError, (|d| d * d) as fn(f64) -> f64),
            (LossKind::MeanAbsoluteError, f64::abs),
            (LossKind::Huber { delta: 0.75 }, |d| {
                if d.abs() <= 0.75 { d * d / 2.0 } else { 0.75 * (d.abs() - 0.375) }
            }),
        ] {
            for scales in [&scales[..], &[]] {
                let by = |number: usize| scales.get(number).map_or(1.0, |scale| scale.deviation);
                let each = (0..6).map(|i| of((targets[i] - moments[i % 2].mean) / by(i % 2)));
                let expected = each.sum::<f64>() / 6.0;
                let mut seen = Deviations::new(&moments, scales, loss);
                seen.add(&batch);
                let got = seen.metrics();
                assert!((got.loss - expected).abs() < 1e-12 * expected, "{loss:?}: {} {expected}", got.loss);
                assert_eq!((got.samples, got.each.len()), (3, 2));
                let rmse = |number: usize| {
                    let square = |i: usize| (targets[2 * i + number] - moments[number].mean).powi(2);
                    ((0..3).map(square).sum::<f64>() / 3.0).sqrt()
                };
                assert!((got.each[1].rmse - rmse(1)).abs() < 1e-9, "{got:?}");
            }
        }
    }

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
            assert_eq!(beats(&model, &baseline, None), expected, "{model:?} {baseline:?}");
        }
    }
}

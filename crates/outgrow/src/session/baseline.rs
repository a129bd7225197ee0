//! What a model has to beat: answering the same to every sample, the most frequent class of the training data or the mean
//! of its numbers.

use outgrow_data::{Dataset, Split};
use outgrow_models::TargetScale;
use outgrow_train::Metrics;
use outgrow_train::metric::Mean;
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
    /// For classes; nothing where something else is predicted.
    pub fn of_classes(data: &Dataset) -> Option<Self> {
        let Target::Class { names } = data.schema().target else { return None };
        let trained = data.class_counts(Split::Train);
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
            (samples > 0).then(|| (split, Metrics { samples, loss, accuracy, ..Metrics::default() }))
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
    moments: Vec<TargetMoments>,
    /// The scale of each number in the loss; none where that is of the numbers as they are.
    scales: Vec<TargetScale>,
    squares: Vec<Mean>,
    loss: Mean,
    samples: u64,
}

impl Deviations {
    /// None seen yet.
    pub fn new(moments: &[TargetMoments], scales: &[TargetScale]) -> Self {
        let squares = vec![Mean::default(); moments.len()];
        let (moments, scales) = (moments.to_vec(), scales.to_vec());
        Self { moments, scales, squares, loss: Mean::default(), samples: 0 }
    }

    /// Sees the targets of a batch.
    pub fn add(&mut self, batch: &Batch) {
        let Some(targets) = &batch.target else { return };
        let width = self.moments.len();
        for i in 0..batch.real * width {
            let error = targets.get_f64(i) - self.moments[i % width].mean;
            self.squares[i % width].add(error * error, 1.0);
            let scale = self.scales.get(i % width).map_or(1.0, |scale| scale.deviation);
            self.loss.add((error / scale) * (error / scale), 1.0);
        }
        self.samples += batch.real as u64;
    }

    fn metrics(self) -> Metrics {
        let mut all = Mean::default();
        self.squares.iter().for_each(|squares| all.merge(squares));
        let each = self.squares.iter().filter_map(Mean::root);
        Metrics {
            samples: self.samples,
            loss: self.loss.value().unwrap_or(f64::NAN),
            rmse: all.root(),
            rmse_each: if self.squares.len() > 1 { each.collect() } else { Vec::new() },
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

//! The best evaluation of a run: the one that early stopping holds to be that, or where there is none, the one with the least
//! loss.

use outgrow_train::early_stopping::Patience;
use outgrow_train::spec::{MetricName, Train};
use serde_json::{Value as Json, json};

use crate::report::format::{metric, metric_name};

/// An evaluation on the validation data.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// The metric.
    pub metric: MetricName,
    /// Its value.
    pub value: f64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The step.
    pub step: u64,
    /// Whether the model has the weights of that time, and not the last ones.
    pub kept: bool,
}

impl Best {
    /// Of what a run has logged.
    pub fn of(lines: &[Json], train: &Train) -> Option<Self> {
        let stopping = train.early_stopping;
        let name = stopping.map_or(MetricName::Loss, |stopping| stopping.metric);
        let mut patience = match &stopping {
            Some(stopping) => Patience::new(stopping),
            None => Patience::watching(name, u32::MAX, 0.0),
        };
        let mut best = None;
        for line in lines.iter().filter(|line| line["split"] == "validation") {
            let number = |key: &str| line[key].as_u64();
            let (Some(value), Some(epoch), Some(step)) =
                (line[name.name()].as_f64(), number("epoch"), number("step"))
            else {
                continue;
            };
            if patience.observe(value).improved {
                let kept = stopping.is_some_and(|stopping| stopping.restore_best);
                best = Some(Self { metric: name, value, epoch, step, kept });
            }
        }
        best
    }

    /// For machines.
    pub fn to_json(&self) -> Json {
        let Self { metric, value, epoch, step, kept } = self;
        json!({ "metric": metric.name(), "value": value, "epoch": epoch, "step": step, "kept": kept })
    }

    /// For people, of what [`Best::to_json`] has written.
    pub fn told(json: &Json) -> Option<String> {
        let (name, value) = (json["metric"].as_str()?, json["value"].as_f64()?);
        let (epoch, step) = (json["epoch"].as_u64()? + 1, json["step"].as_u64()?);
        let kept = if json["kept"] == true { ", whose weights are kept" } else { "" };
        let of = metric_name(name);
        Some(format!("epoch {epoch} (step {step}), by its validation {of} of {}{kept}", metric(name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    /// The best of these accuracies, with these keys of `[train]`: its epoch and whether it is kept.
    fn check(keys: &str, accuracies: &[f64], expect: Option<(u64, bool)>) {
        let text = format!(
            "[data]\nsource = \"rows\"\nrows = [[1, 2]]\n[model]\nname = \"linear\"\n[train]\nepochs = 1\n{keys}"
        );
        let train = manifest::parse(&text).unwrap().train;
        let line = |(epoch, accuracy): (usize, &f64)| json!({ "split": "validation", "epoch": epoch, "step": 10 * epoch, "accuracy": accuracy, "loss": 1.0 - accuracy });
        let mut lines: Vec<Json> = accuracies.iter().enumerate().map(line).collect();
        lines.push(json!({ "split": "train", "epoch": 9, "step": 90, "loss": 0.0 }));
        let found = Best::of(&lines, &train);
        assert_eq!(found.map(|best| (best.epoch, best.kept)), expect, "{keys}");
    }

    #[test]
    fn the_best_is_the_one_that_early_stopping_keeps() {
        let accuracies = [0.5, 0.8, 0.8, 0.81, 0.6];
        check("", &accuracies, Some((3, false)));
        let stopping =
            |more: &str| format!("early_stopping = {{ metric = \"accuracy\", patience = 9{more} }}");
        check(&stopping(""), &accuracies, Some((3, true)));
        check(&stopping(", min_delta = 0.05"), &accuracies, Some((1, true)));
        check(&stopping(", restore_best = false"), &accuracies, Some((3, false)));
        check(&stopping(", ties = \"last\""), &[0.5, 0.8, 0.8, 0.1], Some((2, true)));
        check("", &[], None);
        check("", &[f64::NAN], None);
    }
}

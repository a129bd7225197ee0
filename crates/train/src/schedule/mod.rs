//! The learning rate of each step, as a pure function of the step: nothing to keep, nothing to restore on resumption; but
//! for `plateau`, which goes by how often evaluations have reduced it.
//! Shapes are PyTorch's (`StepLR`, `CosineAnnealingLR`, `OneCycleLR`, `LinearLR` for the warm-up), and for `coslog` the
//! paper's (Holzmüller, Grinsztajn and Steinwart 2024, "Better by Default").

mod plateau;

use crate::spec::{Schedule, Train};

pub use plateau::Plateau;

/// The learning rate of the step that follows `step` finished steps, in a training of `total_steps`; a plateau has reduced
/// it so often.
///
/// With a warm-up of W steps the rate rises along a line from zero before the first step to the full rate at step W
/// (counted from 0), where the cosine begins. `Step` counts its intervals from the beginning of training.
pub fn lr(train: &Train, step: u64, steps_per_epoch: u64, total_steps: u64, reductions: u32) -> f64 {
    let warmup = train.warmup_steps;
    if step < warmup {
        return train.lr * ((step + 1) as f64 / (warmup as f64 + 1.0));
    }
    match train.schedule {
        Schedule::Constant => train.lr,
        Schedule::Plateau(config) => plateau::reduced(train.lr, &config, reductions),
        Schedule::Step { every, gamma } => {
            train.lr * libm::pow(gamma, (step / every.steps(steps_per_epoch).max(1)) as f64)
        }
        Schedule::Cosine { min_lr } => {
            let last = total_steps.saturating_sub(warmup + 1);
            let part = if last == 0 { 0.0 } else { (step - warmup) as f64 / last as f64 };
            cosine(train.lr, min_lr, part)
        }
        Schedule::OneCycle { pct_start, div_factor, final_div_factor } => {
            one_cycle(train.lr, [pct_start, div_factor, final_div_factor], step, total_steps)
        }
        Schedule::Coslog { cycles } => {
            let part = (step as f64 / total_steps.max(1) as f64).min(1.0);
            let cycle = libm::log2(1.0 + (libm::exp2(f64::from(cycles)) - 1.0) * part);
            train.lr / 2.0 * (1.0 - libm::cos(2.0 * std::f64::consts::PI * cycle))
        }
    }
}

/// Half a cosine from `start` at `part` 0 to `end` at `part` 1 and beyond.
fn cosine(start: f64, end: f64, part: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + libm::cos(std::f64::consts::PI * part.min(1.0)))
}

/// Up to `max` at step `pct_start · total_steps − 1`, and down until the last step (Smith and Topin 2018, with both
/// ways along half a cosine).
fn one_cycle(
    max: f64,
    [pct_start, div_factor, final_div_factor]: [f64; 3],
    step: u64,
    total_steps: u64,
) -> f64 {
    let initial = max / div_factor;
    let (step, top, last) = (step as f64, pct_start * total_steps as f64 - 1.0, total_steps as f64 - 1.0);
    if top > 0.0 && step <= top {
        cosine(initial, max, step / top)
    } else {
        // pct_start is below 1, so that there is a way down.
        cosine(max, initial / final_div_factor, (step - top) / (last - top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::TrainSpec;
    use std::collections::HashMap;

    /// What PyTorch's schedulers give; written by `benchmarks/schedule_golden.py`.
    const GOLDEN: &str = include_str!("golden.json");

    fn train(json: &str) -> Train {
        serde_json::from_str::<TrainSpec>(json).unwrap().validate().unwrap()
    }

    #[test]
    fn agrees_with_pytorch() {
        let golden: HashMap<String, Vec<f64>> = serde_json::from_str(GOLDEN).unwrap();
        let cases = [
            ("constant-warmup", r#"{"steps": 12, "lr": 0.2, "warmup_steps": 4}"#),
            (
                "step",
                r#"{"steps": 12, "lr": 0.2, "schedule": {"name": "step", "every_steps": 3, "gamma": 0.5}}"#,
            ),
            (
                "step",
                r#"{"steps": 12, "lr": 0.2, "schedule": {"name": "step", "every_epochs": 1, "gamma": 0.5}}"#,
            ),
            ("cosine", r#"{"steps": 12, "lr": 0.2, "schedule": {"name": "cosine", "min_lr": 0.01}}"#),
            ("cosine-warmup", r#"{"steps": 12, "lr": 0.2, "schedule": "cosine", "warmup_steps": 4}"#),
            ("one-cycle", r#"{"steps": 12, "lr": 0.2, "schedule": "one-cycle"}"#),
            (
                "one-cycle-options",
                r#"{"steps": 12, "lr": 0.2,
                    "schedule": {"name": "one-cycle", "pct_start": 0.4, "div_factor": 10, "final_div_factor": 100}}"#,
            ),
            ("coslog", r#"{"steps": 12, "lr": 0.2, "schedule": "coslog"}"#),
            (
                "one-cycle-down",
                r#"{"steps": 12, "lr": 0.2, "schedule": {"name": "one-cycle", "pct_start": 0}}"#,
            ),
        ];
        for (name, json) in cases {
            let train = train(json);
            assert_eq!(golden[name].len(), 12, "{name}");
            for (step, expected) in golden[name].iter().enumerate() {
                let got = lr(&train, step as u64, 3, 12, 0);
                assert!(
                    (got - expected).abs() <= 1e-12,
                    "{name}, step {step}: got {got}, expected {expected}"
                );
            }
        }
        assert_eq!(cases.iter().map(|c| c.0).collect::<std::collections::HashSet<_>>().len(), golden.len());
    }

    /// The shortest trainings, and steps past the end.
    #[test]
    fn rates_are_positive_numbers_at_the_edges() {
        for schedule in [
            r#""constant""#,
            r#""cosine""#,
            r#""one-cycle""#,
            r#""coslog""#,
            r#""plateau""#,
            r#"{"name": "one-cycle", "pct_start": 0}"#,
            r#"{"name": "one-cycle", "pct_start": 0.5}"#,
            r#"{"name": "step", "every_epochs": 1}"#,
        ] {
            let train = train(&format!(r#"{{"epochs": 1, "lr": 1, "schedule": {schedule}}}"#));
            for total in 0..4 {
                for step in 0..6 {
                    let got = lr(&train, step, 0, total, 7);
                    assert!((0.0..=1.0).contains(&got), "{schedule}, step {step} of {total}: {got}");
                }
            }
        }
        let train = train(r#"{"epochs": 1, "lr": 1, "schedule": "cosine", "warmup_steps": 4}"#);
        assert!((0..4).all(|step| lr(&train, step, 1, 2, 0) == (step + 1) as f64 / 5.0));
        assert_eq!(lr(&train, 4, 1, 2, 0), 1.0);
    }
}

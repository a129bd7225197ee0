//! A learning rate that falls where a validation metric no longer gets better, as a state machine without I/O: it is shown
//! one value after the other and counts how often the rate is to be reduced. Its state is part of the checkpoint.

use serde::{Deserialize, Serialize};

use crate::early_stopping::Patience;
use crate::spec;

/// What the schedule `plateau` has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    patience: Patience,
    /// How often the rate has been reduced.
    reductions: u32,
}

impl Plateau {
    /// Nothing seen yet.
    pub fn new(config: &spec::Plateau) -> Self {
        Self { patience: Patience::watching(config.metric, config.patience, config.min_delta), reductions: 0 }
    }

    /// How often the rate has been reduced.
    pub fn reductions(&self) -> u32 {
        self.reductions
    }

    /// Takes notice of the metric's value at one evaluation, and says whether the rate is reduced by it. Patience begins
    /// anew then, and the best value stays.
    pub fn observe(&mut self, value: f64) -> bool {
        let reduced = self.patience.observe(value).stop;
        if reduced {
            self.reductions = self.reductions.saturating_add(1);
            self.patience.begin_anew();
        }
        reduced
    }
}

/// The rate after so many reductions, each by `factor`: not below `min_lr`, unless `lr` is.
pub(super) fn reduced(lr: f64, config: &spec::Plateau, reductions: u32) -> f64 {
    (lr * libm::pow(config.factor, f64::from(reductions))).max(config.min_lr.min(lr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::MetricName;

    /// After each value, how often the rate has been reduced; through JSON in between.
    fn reductions(metric: MetricName, patience: u32, min_delta: f64, values: &[f64]) -> Vec<u32> {
        let config = spec::Plateau { factor: 0.1, patience, min_lr: 0.0, metric, min_delta };
        let mut state = Plateau::new(&config);
        let observe = |value: &f64| {
            let before = state.reductions();
            assert_eq!(state.observe(*value), state.reductions() > before);
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<Plateau>(&text).unwrap(), state);
            state.reductions()
        };
        values.iter().map(observe).collect()
    }

    #[test]
    fn the_rate_falls_again_and_again_where_nothing_gets_better() {
        use MetricName::{Accuracy, Loss};
        for (metric, patience, min_delta, values, expected) in [
            (Loss, 2, 0.0, &[3.0, 2.0, 2.5, 2.0, 2.1, 2.2, 1.0, 1.5][..], &[0, 0, 0, 1, 1, 2, 2, 2][..]),
            (Accuracy, 1, 0.0, &[0.5, 0.4, 0.6, 0.6], &[0, 1, 1, 2]),
            (Loss, 1, 0.5, &[3.0, 2.6, 2.4, 2.3], &[0, 1, 1, 2]),
            (Loss, 2, 0.0, &[f64::NAN, f64::INFINITY, 1.0, f64::NAN], &[0, 1, 1, 1]),
        ] {
            assert_eq!(reductions(metric, patience, min_delta, values), expected, "{metric:?} {values:?}");
        }
    }

    #[test]
    fn the_rate_ends_at_its_least() {
        let config = spec::Plateau {
            factor: 0.5,
            patience: 1,
            min_lr: 0.03,
            metric: MetricName::Loss,
            min_delta: 0.0,
        };
        for (lr, reductions, expected) in [
            (0.2, 0, 0.2),
            (0.2, 1, 0.1),
            (0.2, 2, 0.05),
            (0.2, 3, 0.03),
            (0.2, u32::MAX, 0.03),
            (0.01, 1, 0.01),
        ] {
            assert_eq!(reduced(lr, &config, reductions), expected, "{lr} {reductions}");
        }
    }
}

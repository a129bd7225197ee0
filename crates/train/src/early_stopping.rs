//! Early stopping as a state machine without I/O: it is shown one validation metric after the other and says when the
//! value got better and when patience is over. Its state is part of the checkpoint.

use serde::{Deserialize, Serialize};

use crate::spec::{self, MetricName, Ties};

/// What early stopping has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patience {
    metric: MetricName,
    patience: u32,
    min_delta: f64,
    #[serde(default)]
    ties: Ties,
    /// The best value so far; always finite, so that it survives JSON.
    best: Option<f64>,
    /// Evaluations in a row that were not better.
    without_improvement: u32,
}

/// What follows from a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The value is the best so far.
    pub improved: bool,
    /// Patience is over.
    pub stop: bool,
}

impl Patience {
    /// Nothing seen yet.
    pub fn new(config: &spec::EarlyStopping) -> Self {
        let spec::EarlyStopping { metric, patience, min_delta, ties, .. } = *config;
        Self { metric, patience, min_delta, ties, best: None, without_improvement: 0 }
    }

    /// The same of a metric alone, of whose equally good values the first is the best.
    pub fn watching(metric: MetricName, patience: u32, min_delta: f64) -> Self {
        Self { metric, patience, min_delta, ties: Ties::First, best: None, without_improvement: 0 }
    }

    /// Has patience from now on as if the last value had been better.
    pub fn begin_anew(&mut self) {
        self.without_improvement = 0;
    }

    /// The best value so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Takes notice of the metric's value at one evaluation. It counts as better when it beats the best by more than
    /// `min_delta`; a value that is not finite never does. One that equals the best is the best too if the last of them
    /// counts, but patience goes on.
    pub fn observe(&mut self, value: f64) -> Decision {
        let beats = |best: f64| {
            let gain = if self.metric.larger_is_better() { value - best } else { best - value };
            gain > self.min_delta
        };
        let improved = value.is_finite() && self.best.is_none_or(beats);
        if improved {
            self.best = Some(value);
            self.without_improvement = 0;
        } else {
            self.without_improvement = self.without_improvement.saturating_add(1);
        }
        let as_good = self.ties == Ties::Last && self.best == Some(value);
        Decision { improved: improved || as_good, stop: self.without_improvement >= self.patience }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows `values` to early stopping with a patience of 2, through JSON after each; gives what was said of each:
    /// `+` for the best so far, `-` for not, `!` for stop, `=` for both.
    fn said(metric: MetricName, min_delta: f64, ties: Ties, values: &[f64]) -> String {
        let config = spec::EarlyStopping { metric, patience: 2, min_delta, ties, restore_best: true };
        let mut state = Patience::new(&config);
        let mut observe = |value: &f64| {
            let decision = state.observe(*value);
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<Patience>(&text).unwrap(), state, "{text}");
            match decision {
                Decision { improved: true, stop: false } => '+',
                Decision { improved: false, stop: false } => '-',
                Decision { improved: false, stop: true } => '!',
                Decision { improved: true, stop: true } => '=',
            }
        };
        values.iter().map(&mut observe).collect()
    }

    #[test]
    fn watches_in_the_direction_of_the_metric() {
        use MetricName::{Accuracy, Loss};
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        for (metric, min_delta, values, expected) in [
            (Loss, 0.0, &[3.0, 2.0, 2.0, 1.0, 1.5, 1.0][..], "++-+-!"),
            (Accuracy, 0.0, &[0.1, 0.2, 0.15, 0.3, 0.3, 0.2], "++-+-!"),
            (Loss, 0.5, &[3.0, 2.6, 2.4, 2.3, 1.9], "+-+-!"),
            (Loss, 0.0, &[nan, 1.0, infinity, nan], "-+-!"),
            (Accuracy, 0.0, &[infinity, nan], "-!"),
        ] {
            assert_eq!(said(metric, min_delta, Ties::First, values), expected, "{metric:?} {values:?}");
        }
    }

    #[test]
    fn the_last_of_equals_is_the_best_where_that_is_asked_for() {
        let values = [0.1, 0.3, 0.3, 0.4, 0.2, 0.4];
        assert_eq!(said(MetricName::Accuracy, 0.0, Ties::Last, &values), "++++-=");
        assert_eq!(said(MetricName::Accuracy, 0.0, Ties::First, &values), "++-+-!");
    }
}

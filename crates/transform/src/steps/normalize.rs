//! Brings numbers to a common scale.

use super::selector::{is_number, refuse_label};
use super::{Fit, Fitted, FittedStep, Fitting, Plan, Selector, Step};
use crate::{Columns, Record, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Brings the numbers of some columns, which must not be labels, to a common scale, learned from the training split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// The columns.
    pub columns: Selector,
    /// Which scale.
    #[serde(default)]
    pub with: Scale,
    /// Then every number x becomes x / √(1 + (x / smooth_clip)²), which hardly changes small ones and keeps all within
    /// ±smooth_clip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smooth_clip: Option<f64>,
}

/// Scales that numbers can be brought to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Mean 0 and standard deviation 1 (of the population).
    #[default]
    Standard,
    /// From 0 to 1 over the training split; later numbers outside of it go beyond.
    MinMax,
    /// Median 0 and a distance of 1 between the quartiles (of half the range where they are equal), which a few extreme
    /// numbers do not change.
    Robust,
}

/// `(number - offset) / divisor` for each of `columns`, then clipped smoothly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormalizeFitted {
    columns: Vec<usize>,
    offset: Vec<f64>,
    divisor: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    smooth_clip: Option<f64>,
}

impl Step for Normalize {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "normalize", "numbers", is_number)?;
        let instead =
            "targets are brought to scale within the model, and predictions back: see `data.target_scaling`";
        refuse_label(columns, &selected, "normalize", instead)?;
        if self.smooth_clip.is_some_and(|limit| !limit.is_finite() || limit <= 0.0) {
            let problem = "`smooth_clip` is no limit that numbers can be kept within";
            return Err(Diagnostic::new("data.normalize.options", problem).expected("a number above 0"));
        }
        let sorted = self.with == Scale::Robust;
        let fit = NormalizeFit {
            with: self.with,
            smooth_clip: self.smooth_clip,
            numbers: vec![Vec::new(); if sorted { selected.len() } else { 0 }],
            columns: selected.clone(),
            names: selected.iter().map(|i| columns.0[*i].name.clone()).collect(),
            moments: vec![Moments::default(); selected.len()],
        };
        Ok(Plan {
            reads: selected.clone(),
            writes: selected,
            after: columns.clone(),
            fitting: Fitting::Learns(Box::new(fit)),
        })
    }
}

/// Running moments (Welford, "Note on a method for calculating corrected sums of squares and products", 1962).
#[derive(Clone, Copy)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0.0, mean: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Moments {
    fn see(&mut self, x: f64) {
        self.count += 1.0;
        let delta = x - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (x - self.mean);
        self.min = self.min.min(x);
        self.max = self.max.max(x);
    }
}

/// The number below which a part of these sorted ones lies, between neighbours along a line (as NumPy's `quantile`).
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = part * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Median and divisor of the robust scale, of numbers that there are.
fn robust(mut numbers: Vec<f64>) -> (f64, f64) {
    numbers.sort_by(f64::total_cmp);
    let [low, median, high] = [0.25, 0.5, 0.75].map(|part| quantile(&numbers, part));
    let half_range = (numbers[numbers.len() - 1] - numbers[0]) / 2.0;
    (median, if high > low { high - low } else { half_range })
}

struct NormalizeFit {
    with: Scale,
    smooth_clip: Option<f64>,
    /// All numbers of each column, where the scale needs their order.
    numbers: Vec<Vec<f64>>,
    columns: Vec<usize>,
    names: Vec<String>,
    moments: Vec<Moments>,
}

impl Fit for NormalizeFit {
    fn see(&mut self, record: &Record) -> Result<(), Diagnostic> {
        for (column, moments) in self.columns.iter().zip(&mut self.moments) {
            if let Value::Number(n) = record.values[*column] {
                moments.see(n);
            }
        }
        for (column, numbers) in self.columns.iter().zip(&mut self.numbers) {
            numbers.extend(record.values[*column].number());
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<FittedStep, Diagnostic> {
        let (mut offset, mut divisor) = (Vec::new(), Vec::new());
        let mut numbers = self.numbers.into_iter();
        for (moments, name) in self.moments.iter().zip(&self.names) {
            if moments.count == 0.0 {
                return Err(Diagnostic::new(
                    "data.normalize.empty",
                    format!("column `{name}` has no number in the training split"),
                )
                .hint("leave it out with `exclude`"));
            }
            let (from, by) = match self.with {
                Scale::Standard => (moments.mean, libm::sqrt(moments.squares / moments.count)),
                Scale::MinMax => (moments.min, moments.max - moments.min),
                Scale::Robust => robust(numbers.next().unwrap_or_default()),
            };
            if !from.is_finite() || !by.is_finite() {
                return Err(Diagnostic::new(
                    "data.normalize.range",
                    format!("the numbers of column `{name}` are too large to be normalised"),
                )
                .hint("clip the column first"));
            }
            offset.push(from);
            // A constant column becomes 0 instead of dividing by zero.
            divisor.push(if by > 0.0 { by } else { 1.0 });
        }
        let Self { columns, smooth_clip, .. } = *self;
        Ok(FittedStep::Normalize(NormalizeFitted { columns, offset, divisor, smooth_clip }))
    }
}

impl Fitted for NormalizeFitted {
    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        for ((column, offset), divisor) in self.columns.iter().zip(&self.offset).zip(&self.divisor) {
            if let Value::Number(n) = &mut record.values[*column] {
                *n = (*n - offset) / divisor;
                if let Some(limit) = self.smooth_clip {
                    // The same as x / √(1 + (x / limit)²), where no square overflows.
                    *n /= libm::hypot(1.0, *n / limit);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, ColumnKind};

    /// Fits the step on one column and gives what it makes of these numbers.
    fn fitted(step: &str, train: &[f64], later: &[f64]) -> Vec<f64> {
        let step: Normalize = serde_json::from_str(step).unwrap();
        let columns = Columns(vec![Column::new("x", ColumnKind::Number)]);
        let Fitting::Learns(mut fit) = step.plan(&columns).unwrap().fitting else { panic!("it learns") };
        let record = |n: f64| Record::new(vec![Value::Number(n)]);
        train.iter().for_each(|n| fit.see(&record(*n)).unwrap());
        fit.see(&Record::new(vec![Value::Missing])).unwrap();
        let step = fit.finish().unwrap();
        let text = serde_json::to_string(&step).unwrap();
        assert_eq!(serde_json::from_str::<FittedStep>(&text).unwrap(), step);
        let apply = |n: &f64| {
            let mut record = record(*n);
            step.apply(&mut record, &mut Run::default()).unwrap();
            record.values[0].number().unwrap()
        };
        later.iter().map(apply).collect()
    }

    #[test]
    fn robust_scaling_is_by_quartiles_then_by_the_range() {
        let robust = r#"{"columns": "x", "with": "robust"}"#;
        // Quartiles 2 and 4 about the median 3, whatever the largest is.
        assert_eq!(fitted(robust, &[5.0, 1.0, 4.0, 2.0, 3.0], &[3.0, 5.0]), [0.0, 1.0]);
        assert_eq!(fitted(robust, &[1e9, 1.0, 4.0, 2.0, 3.0], &[3.0, 5.0]), [0.0, 1.0]);
        // Between neighbours: quartiles 1.75 and 3.25, median 2.5.
        assert_eq!(fitted(robust, &[1.0, 2.0, 3.0, 4.0], &[4.0]), [1.0]);
        // Nearly always the same: half of the range.
        assert_eq!(fitted(robust, &[7.0, 7.0, 7.0, 7.0, 7.0, 11.0], &[7.0, 11.0]), [0.0, 2.0]);
        assert_eq!(fitted(robust, &[7.0], &[7.0]), [0.0]);
    }

    #[test]
    fn smooth_clipping_keeps_numbers_within_its_limit() {
        let step = r#"{"columns": "x", "with": "robust", "smooth_clip": 3}"#;
        let got = fitted(step, &[-1.0, 0.0, 0.0, 0.0, 1.0], &[0.0, 4.0, -4.0, 1e300, f64::MAX]);
        // By half the range, which is 1: 4 / sqrt(1 + 16/9) = 2.4.
        assert_eq!(got[0], 0.0);
        for (got, expect) in got[1..].iter().zip([2.4, -2.4, 3.0, 3.0]) {
            assert!((got - expect).abs() < 1e-12, "got {got}, expected {expect}");
        }
    }
}

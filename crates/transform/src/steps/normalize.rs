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
}

/// `(number - offset) / divisor` for each of `columns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormalizeFitted {
    columns: Vec<usize>,
    offset: Vec<f64>,
    divisor: Vec<f64>,
}

impl Step for Normalize {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "normalize", "numbers", is_number)?;
        let instead =
            "targets are brought to scale within the model, and predictions back: see `data.target_scaling`";
        refuse_label(columns, &selected, "normalize", instead)?;
        let fit = NormalizeFit {
            with: self.with,
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

struct NormalizeFit {
    with: Scale,
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
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<FittedStep, Diagnostic> {
        let (mut offset, mut divisor) = (Vec::new(), Vec::new());
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
        Ok(FittedStep::Normalize(NormalizeFitted { columns: self.columns, offset, divisor }))
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
            }
        }
        Ok(None)
    }
}

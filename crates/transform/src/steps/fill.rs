//! Replaces missing values.

use super::selector::{is_scalar, refuse_label};
use super::{Fit, Fitted, FittedStep, Fitting, Plan, Selector, Step};
use crate::{ColumnKind, Columns, Record, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Replaces missing values of some columns, which must not be labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// The columns.
    columns: Selector,
    /// What to fill with, learned from the training split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    with: Option<FillWith>,
    /// A constant to fill with, instead of `with`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Constant>,
}

/// A number or a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number or a text")]
pub enum Constant {
    /// A number, for columns of numbers.
    Number(f64),
    /// Text, for columns of text.
    Text(String),
}

impl Constant {
    fn value(&self) -> Value {
        match self {
            Self::Number(n) => Value::Number(*n),
            Self::Text(t) => Value::Text(t.clone()),
        }
    }
}

/// What a missing value is replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FillWith {
    /// The mean of the column's numbers.
    Mean,
    /// The median of the column's numbers (the mean of the middle two when their count is even).
    Median,
    /// The most frequent value; of several, the smallest.
    MostFrequent,
}

/// What each column's missing values are replaced by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FillFitted {
    columns: Vec<usize>,
    values: Vec<Constant>,
}

impl Step for Fill {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "fill", "numbers or text", is_scalar)?;
        let instead = "a record without its label teaches nothing: leave it out with `drop_missing` and the label's name";
        refuse_label(columns, &selected, "fill", instead)?;
        let fitting = match (&self.with, &self.value) {
            (None, Some(constant)) => {
                for i in &selected {
                    let fits = match constant {
                        Constant::Number(n) => columns.0[*i].kind == ColumnKind::Number && n.is_finite(),
                        Constant::Text(_) => columns.0[*i].kind == ColumnKind::Text,
                    };
                    if !fits {
                        return Err(Diagnostic::new(
                            "data.fill.value",
                            format!("`fill` cannot put this value into column `{}`", columns.0[*i].name),
                        )
                        .expected(format!("a {}", columns.0[*i].kind.name())));
                    }
                }
                let values = vec![constant.clone(); selected.len()];
                Fitting::Ready(FittedStep::Fill(FillFitted { columns: selected.clone(), values }))
            }
            (Some(with), None) => {
                let mut learners = Vec::new();
                for i in &selected {
                    learners.push(Learner::new(*with, &columns.0[*i].kind, &columns.0[*i].name)?);
                }
                let names = selected.iter().map(|i| columns.0[*i].name.clone()).collect();
                Fitting::Learns(Box::new(FillFit { columns: selected.clone(), names, learners }))
            }
            _ => {
                return Err(Diagnostic::new("data.fill.options", "`fill` needs either `with` or `value`")
                    .expected("with = \"mean\", \"median\" or \"most_frequent\", or value = a constant"));
            }
        };
        Ok(Plan { reads: selected.clone(), writes: selected, after: columns.clone(), fitting })
    }
}

/// Learns the replacement for one column.
enum Learner {
    Mean { sum: f64, count: u64 },
    Median(Vec<f64>),
    Numbers(HashMap<u64, u64>),
    Texts(HashMap<String, u64>),
}

impl Learner {
    fn new(with: FillWith, kind: &ColumnKind, name: &str) -> Result<Self, Diagnostic> {
        Ok(match (with, kind) {
            (FillWith::Mean, ColumnKind::Number) => Self::Mean { sum: 0.0, count: 0 },
            (FillWith::Median, ColumnKind::Number) => Self::Median(Vec::new()),
            (FillWith::MostFrequent, ColumnKind::Number) => Self::Numbers(HashMap::new()),
            (FillWith::MostFrequent, _) => Self::Texts(HashMap::new()),
            _ => {
                return Err(Diagnostic::new(
                    "data.fill.options",
                    format!("column `{name}` holds text, which has neither mean nor median"),
                )
                .expected("with = \"most_frequent\" or value = \"…\""));
            }
        })
    }

    fn see(&mut self, value: &Value) {
        match (self, value) {
            (Self::Mean { sum, count }, Value::Number(n)) => {
                *sum += n;
                *count += 1;
            }
            (Self::Median(all), Value::Number(n)) => all.push(*n),
            (Self::Numbers(counts), Value::Number(n)) => *counts.entry(n.to_bits()).or_default() += 1,
            (Self::Texts(counts), Value::Text(t)) => match counts.get_mut(t) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(t.clone(), 1);
                }
            },
            _ => {}
        }
    }

    /// The replacement, or none when the column has no value at all.
    fn finish(self) -> Option<Constant> {
        match self {
            Self::Mean { count: 0, .. } => None,
            Self::Mean { sum, count } => Some(Constant::Number(sum / count as f64)),
            Self::Median(mut all) => {
                all.sort_by(f64::total_cmp);
                let n = all.len();
                let upper = *all.get(n / 2)?;
                Some(Constant::Number(if n % 2 == 1 { upper } else { (all[n / 2 - 1] + upper) / 2.0 }))
            }
            Self::Numbers(counts) => counts
                .into_iter()
                .map(|(bits, count)| (count, f64::from_bits(bits)))
                .max_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
                .map(|(_, number)| Constant::Number(number)),
            Self::Texts(counts) => counts
                .into_iter()
                .max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0)))
                .map(|(text, _)| Constant::Text(text)),
        }
    }
}

struct FillFit {
    columns: Vec<usize>,
    names: Vec<String>,
    learners: Vec<Learner>,
}

impl Fit for FillFit {
    fn see(&mut self, record: &Record) -> Result<(), Diagnostic> {
        for (column, learner) in self.columns.iter().zip(&mut self.learners) {
            learner.see(&record.values[*column]);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<FittedStep, Diagnostic> {
        let mut values = Vec::new();
        for (learner, name) in self.learners.into_iter().zip(&self.names) {
            values.push(learner.finish().ok_or_else(|| {
                Diagnostic::new(
                    "data.fill.empty",
                    format!("column `{name}` has no value in the training split"),
                )
                .hint("fill it with `value = …`, or leave it out with `exclude`")
            })?);
        }
        Ok(FittedStep::Fill(FillFitted { columns: self.columns, values }))
    }
}

impl Fitted for FillFitted {
    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, run: &mut Run) -> Result<Option<String>, Diagnostic> {
        for (column, constant) in self.columns.iter().zip(&self.values) {
            let value = &mut record.values[*column];
            if value.is_missing() {
                *value = constant.value();
                run.filled(*column);
            }
        }
        Ok(None)
    }
}

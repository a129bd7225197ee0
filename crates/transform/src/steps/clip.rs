//! Limits numbers to a range.

use super::selector::is_number;
use super::{Fitted, FittedStep, Plan, Selector, Step, ready};
use crate::{Columns, Record, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits the numbers of some columns to a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// The columns.
    columns: Selector,
    /// Smaller numbers become this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    /// Larger numbers become this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
}

/// Limits the numbers of `columns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipFitted {
    columns: Vec<usize>,
    min: Option<f64>,
    max: Option<f64>,
}

impl Step for Clip {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "clip", "numbers", is_number)?;
        let bounds = [self.min, self.max];
        let sane = bounds.iter().flatten().all(|b| b.is_finite())
            && bounds.iter().any(Option::is_some)
            && !matches!(bounds, [Some(min), Some(max)] if min > max);
        if !sane {
            return Err(Diagnostic::new("data.clip.options", "`clip` has no usable range")
                .expected("`min`, `max` or both, with min <= max"));
        }
        let step = ClipFitted { columns: selected.clone(), min: self.min, max: self.max };
        Ok(ready(columns, selected.clone(), selected, FittedStep::Clip(step)))
    }
}

impl Fitted for ClipFitted {
    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        for column in &self.columns {
            if let Value::Number(n) = &mut record.values[*column] {
                *n = n.max(self.min.unwrap_or(f64::NEG_INFINITY)).min(self.max.unwrap_or(f64::INFINITY));
            }
        }
        Ok(None)
    }
}

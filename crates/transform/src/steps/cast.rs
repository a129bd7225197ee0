//! Changes a column's kind.

use super::selector::is_scalar;
use super::{Fitted, FittedStep, Fitting, Plan, Selector, Step};
use crate::{ColumnKind, Columns, Record, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Changes the kind of some columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The columns.
    columns: Selector,
    /// The kind they are to have.
    to: CastTo,
}

/// The kinds a column can be cast to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CastTo {
    /// Numbers; text must spell one, and `true` and `false` are 1 and 0.
    Number,
    /// Text; whole numbers are written without a point.
    Text,
}

/// Changes the kind of `columns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CastFitted {
    columns: Vec<usize>,
    names: Vec<String>,
    to: CastTo,
}

impl Step for Cast {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "cast", "numbers or text", is_scalar)?;
        let names = selected.iter().map(|i| columns.0[*i].name.clone()).collect();
        let step = CastFitted { columns: selected.clone(), names, to: self.to };
        Ok(Plan {
            reads: selected.clone(),
            writes: selected,
            after: step.columns(columns.clone()),
            fitting: Fitting::Ready(FittedStep::Cast(step)),
        })
    }
}

impl Fitted for CastFitted {
    fn columns(&self, mut before: Columns) -> Columns {
        for i in &self.columns {
            before.0[*i].kind = match self.to {
                CastTo::Number => ColumnKind::Number,
                CastTo::Text => ColumnKind::Text,
            };
        }
        before
    }

    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        for (i, name) in self.columns.iter().zip(&self.names) {
            let value = &mut record.values[*i];
            let new = match (self.to, &*value) {
                (CastTo::Number, Value::Text(text)) => Some(Value::Number(parse(text).ok_or_else(|| {
                    Diagnostic::new("data.cast", format!("{text:?} in column `{name}` is not a number"))
                        .expected("a number, or `true` or `false`")
                        .hint("name it among the `missing` markers if it stands for a missing value")
                })?)),
                (CastTo::Text, Value::Number(n)) => Some(Value::Text(n.to_string())),
                _ => None,
            };
            if let Some(new) = new {
                *value = new;
            }
        }
        Ok(None)
    }
}

/// The finite number that a text spells.
fn parse(text: &str) -> Option<f64> {
    match text.trim() {
        "true" | "True" | "TRUE" => Some(1.0),
        "false" | "False" | "FALSE" => Some(0.0),
        number => number.parse().ok().filter(|n: &f64| n.is_finite()),
    }
}

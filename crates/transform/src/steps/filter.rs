//! Keeps the records for which an expression is true.

use super::{Fitted, FittedStep, Plan, Step, ready};
use crate::expression::Expression;
use crate::{Columns, Record, Run};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps the records for which this expression is true. Columns are named as they are or in backquotes; there are
/// numbers, `"text"`, `+ - * /`, `= != < <= > >=`, `in (…)`, `is missing`, `and`, `or`, `not` and parentheses. A
/// comparison with a missing value is neither true nor false, and such a record is left out unless the expression
/// asks for `is missing`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Filter(String);

/// Keeps the records for which `expression` is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterFitted {
    columns: Vec<usize>,
    text: String,
    expression: Expression,
}

impl Step for Filter {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let expression = Expression::parse(&self.0, columns)?;
        let reads = expression.columns();
        let step = FilterFitted { columns: reads.clone(), text: self.0.clone(), expression };
        Ok(ready(columns, reads, Vec::new(), FittedStep::Filter(step)))
    }
}

impl Fitted for FilterFitted {
    fn selects_rows(&self) -> bool {
        true
    }

    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        Ok((!self.expression.is_true(record)).then(|| format!("filter `{}`", self.text)))
    }
}

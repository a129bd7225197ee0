//! Cuts numbers into ranges.

use super::selector::is_number;
use super::{Fitted, FittedStep, Fitting, Plan, Selector, Step};
use crate::{ColumnKind, Columns, Record, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cuts the numbers of some columns into ranges, each of which becomes a 0/1 feature. A missing value sets none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bucketize {
    /// The columns.
    columns: Selector,
    /// Where the ranges meet, in rising order; a bound belongs to the range above it.
    bounds: Vec<f64>,
}

/// Cuts the numbers of `columns` at `bounds`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketizeFitted {
    columns: Vec<usize>,
    bounds: Vec<f64>,
}

impl Step for Bucketize {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "bucketize", "numbers", is_number)?;
        let rising = self.bounds.windows(2).all(|w| w[0] < w[1]);
        if self.bounds.is_empty() || !rising || !self.bounds.iter().all(|b| b.is_finite()) {
            return Err(Diagnostic::new("data.bucketize.bounds", "`bounds` do not separate ranges")
                .expected("at least one number, in rising order, each once"));
        }
        let step = BucketizeFitted { columns: selected.clone(), bounds: self.bounds.clone() };
        Ok(Plan {
            reads: selected.clone(),
            writes: selected,
            after: step.columns(columns.clone()),
            fitting: Fitting::Ready(FittedStep::Bucketize(step)),
        })
    }
}

impl Fitted for BucketizeFitted {
    fn columns(&self, mut before: Columns) -> Columns {
        let mut levels: Vec<String> = self.bounds.first().map(|b| format!("< {b}")).into_iter().collect();
        levels.extend(self.bounds.windows(2).map(|w| format!("{} to {}", w[0], w[1])));
        levels.extend(self.bounds.last().map(|b| format!(">= {b}")));
        for i in &self.columns {
            before.0[*i].kind =
                ColumnKind::Category { size: levels.len(), indicators: true, levels: levels.clone() };
        }
        before
    }

    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        for i in &self.columns {
            let value = &mut record.values[*i];
            if let Value::Number(n) = *value {
                *value = Value::Category(self.bounds.partition_point(|b| *b <= n) as u32);
            }
        }
        Ok(None)
    }
}

//! An index for every value of a column, as embeddings take them.

use super::one_hot::{Levels, find};
use super::selector::is_scalar;
use super::{Fit, Fitted, FittedStep, Fitting, Plan, Selector, Step};
use crate::{ColumnKind, Columns, Record, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes an index of every value that a column takes in the training split. Index 0 stands for a missing value and
/// for values that the training split did not have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The columns, of text or numbers.
    columns: Selector,
}

/// The values of each of `columns`, in rising order; the first has index 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexFitted {
    columns: Vec<usize>,
    levels: Vec<Vec<String>>,
}

impl Step for Index {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "index", "text or numbers", is_scalar)?;
        let step = IndexFitted { levels: vec![Vec::new(); selected.len()], columns: selected.clone() };
        Ok(Plan {
            reads: selected.clone(),
            writes: selected.clone(),
            after: step.columns(columns.clone()),
            fitting: Fitting::Learns(Box::new(IndexFit(Levels::new(columns, selected)))),
        })
    }
}

struct IndexFit(Levels);

impl Fit for IndexFit {
    fn see(&mut self, record: &Record) -> Result<(), Diagnostic> {
        self.0.see(record)
    }

    fn finish(self: Box<Self>) -> Result<FittedStep, Diagnostic> {
        let (columns, levels) = self.0.finish();
        Ok(FittedStep::Index(IndexFitted { columns, levels }))
    }
}

impl Fitted for IndexFitted {
    fn columns(&self, mut before: Columns) -> Columns {
        for (column, levels) in self.columns.iter().zip(&self.levels) {
            before.0[*column].kind =
                ColumnKind::Category { size: levels.len() + 1, indicators: false, levels: levels.clone() };
        }
        before
    }

    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        for (column, levels) in self.columns.iter().zip(&self.levels) {
            let value = &mut record.values[*column];
            *value = Value::Category(find(value, levels).map_or(0, |i| i + 1));
        }
        Ok(None)
    }
}

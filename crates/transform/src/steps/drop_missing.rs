//! Leaves out records with missing values.

use super::{Fitted, FittedStep, Plan, Selector, Step, ready};
use crate::{Columns, Record, Role, Run};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Leaves out records in which one of these columns is missing. `"all"` means every feature and the label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DropMissing(Selector);

/// Leaves out records in which one of `columns` is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropMissingFitted {
    columns: Vec<usize>,
    names: Vec<String>,
}

impl Step for DropMissing {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let mut selected = self.0.resolve(columns, "drop_missing", "any kind", |_| true)?;
        if self.0 == Selector::Word("all".into()) {
            selected.extend(columns.with_role(Role::Label));
        }
        let names = selected.iter().map(|i| columns.0[*i].name.clone()).collect();
        let step = DropMissingFitted { columns: selected.clone(), names };
        Ok(ready(columns, selected, Vec::new(), FittedStep::DropMissing(step)))
    }
}

impl Fitted for DropMissingFitted {
    fn selects_rows(&self) -> bool {
        true
    }

    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        let missing = self.columns.iter().position(|c| record.values[*c].is_missing());
        Ok(missing.map(|i| format!("`{}` is missing", self.names[i])))
    }
}

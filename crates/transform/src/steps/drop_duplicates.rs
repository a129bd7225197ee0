//! Leaves out repeated records.

use super::{Fitted, FittedStep, Plan, Step, ready};
use crate::{Columns, Record, Run};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether to leave out records all of whose raw values were there before in the same split. Equality is judged by
/// a 128-bit hash, of which 16 bytes per record are kept in memory while preparing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DropDuplicates(bool);

impl Step for DropDuplicates {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        // It judges by the raw content and so need not wait for columns that are still to change.
        Ok(ready(columns, Vec::new(), Vec::new(), FittedStep::DropDuplicates(self.clone())))
    }
}

impl Fitted for DropDuplicates {
    fn selects_rows(&self) -> bool {
        true
    }

    fn touches(&self) -> &[usize] {
        &[]
    }

    fn apply(&self, _: &mut Record, run: &mut Run) -> Result<Option<String>, Diagnostic> {
        Ok((self.0 && !run.first_seen()).then(|| "duplicate".to_owned()))
    }
}

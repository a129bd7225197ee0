//! How a step names the columns it works on.

use crate::{ColumnKind, Columns, Role};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Columns: a list of names, one name, or `"numeric"`, `"text"` or `"all"` for all feature columns of that kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a list of columns, or \"numeric\", \"text\" or \"all\"")]
pub enum Selector {
    /// `"numeric"`, `"text"`, `"all"`, or the name of one column.
    Word(String),
    /// Names of columns.
    Names(Vec<String>),
}

impl Selector {
    /// Numbers of the columns meant, among those that `accepts` takes. A group quietly leaves out the others; a
    /// column that is named must be acceptable, else the diagnostic says that `step` needs a `wanted` column.
    pub(super) fn resolve(
        &self,
        columns: &Columns,
        step: &str,
        wanted: &str,
        accepts: impl Fn(&ColumnKind) -> bool,
    ) -> Result<Vec<usize>, Diagnostic> {
        let names = match self {
            Self::Word(word) if columns.position(word).is_none() => {
                let in_group: fn(&ColumnKind) -> bool = match word.as_str() {
                    "numeric" => |k| matches!(k, ColumnKind::Number),
                    "text" => |k| matches!(k, ColumnKind::Text),
                    "all" => |_| true,
                    _ => {
                        let groups = "groups of columns are \"numeric\", \"text\" and \"all\"";
                        return Err(match columns.require(word) {
                            Err(unknown) => unknown.hint(groups),
                            Ok(_) => Diagnostic::new("data.unknown-column", word.clone()).hint(groups),
                        });
                    }
                };
                let all = columns.with_role(Role::Feature).into_iter();
                return Ok(all
                    .filter(|i| in_group(&columns.0[*i].kind) && accepts(&columns.0[*i].kind))
                    .collect());
            }
            Self::Word(word) => std::slice::from_ref(word),
            Self::Names(names) => names.as_slice(),
        };
        let mut found = Vec::new();
        for name in names {
            let i = columns.require(name)?;
            let kind = &columns.0[i].kind;
            if !accepts(kind) {
                return Err(Diagnostic::new(
                    "data.wrong-kind",
                    format!("`{step}` cannot work on column `{name}`, which holds {}s", kind.name()),
                )
                .expected(format!("a column of {wanted}")));
            }
            if !found.contains(&i) {
                found.push(i);
            }
        }
        Ok(found)
    }
}

/// Refuses a step that would change what is to be predicted: the model would be measured against other values than those
/// in the data. `instead` says what the step is wanted for, and by which key that is done.
pub(super) fn refuse_label(
    columns: &Columns,
    selected: &[usize],
    step: &str,
    instead: &str,
) -> Result<(), Diagnostic> {
    let Some(label) = selected.iter().map(|i| &columns.0[*i]).find(|c| c.role == Role::Label) else {
        return Ok(());
    };
    let problem =
        format!("`{step}` would change the label `{}`, which is to be predicted as it is", label.name);
    Err(Diagnostic::new("data.clean.label", problem).expected("columns that are no label").hint(instead))
}

impl Selector {
    /// Whether a group of columns is meant, and none by its name.
    pub(super) fn is_group(&self, columns: &Columns) -> bool {
        matches!(self, Self::Word(word) if columns.position(word).is_none())
    }
}

/// Accepts columns of numbers.
pub(super) fn is_number(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Number)
}

/// Accepts columns of text.
pub(super) fn is_text(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Text)
}

/// Accepts columns of numbers or text.
pub(super) fn is_scalar(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Number | ColumnKind::Text)
}

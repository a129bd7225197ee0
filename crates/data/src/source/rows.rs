//! Records written in the manifest itself.

use super::{Context, Opened, Part, RecordSource, Records, SourceKind, check_test, require};
use crate::files::Found;
use crate::spec::Cell;
use crate::{DataSpec, Names};
use outgrow_ir::{Diagnostic, Diagnostics, counted};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, RawFormat, Record, Value};

/// `source = "rows"`.
pub const KIND: SourceKind = SourceKind {
    name: "rows",
    keys: &["rows", "columns", "label", "task", "features", "exclude", "missing"],
    open,
};

struct RowsSource {
    columns: Columns,
    format: RawFormat,
    train: Vec<Record>,
    test: Option<Vec<Record>>,
}

fn open(spec: &DataSpec, _: &Context<'_>) -> Result<Opened, Diagnostics> {
    check_test(spec, &["rows"])?;
    let rows = require(&spec.rows, "rows", "rows")?;
    let test = spec.test.as_ref().and_then(|t| t.rows.as_ref());
    let width = rows.first().map_or(0, Vec::len);
    let names = match &spec.columns {
        Some(names) => names.clone(),
        None => default_names(width, spec.label.as_ref()),
    };
    check_names(&names)?;
    let missing = spec.missing.clone().unwrap_or_default();
    let format = RawFormat { missing, ..RawFormat::default() };
    let mut columns = Columns(Vec::new());
    for (i, name) in names.iter().enumerate() {
        let is_text = |row: &Vec<Cell>| matches!(row.get(i), Some(Cell::Text(t)) if !is_missing(t, &format));
        let text = rows.iter().any(is_text);
        columns.0.push(Column::new(name, if text { ColumnKind::Text } else { ColumnKind::Number }));
    }
    let train = records(rows, &columns, &format, "data.rows")?;
    let test = test.map(|rows| records(rows, &columns, &format, "data.test.rows")).transpose()?;
    Ok(Opened::Records(Box::new(RowsSource { columns, format, train, test })))
}

fn is_missing(text: &str, format: &RawFormat) -> bool {
    text.is_empty() || format.missing.iter().any(|m| m == text)
}

/// `x1`, `x2`, …, with the label last under its own name.
fn default_names(width: usize, label: Option<&Names>) -> Vec<String> {
    let labels = label.map_or(&[][..], Names::list);
    let inputs = width.saturating_sub(labels.len());
    (1..=inputs).map(|i| format!("x{i}")).chain(labels.iter().cloned()).collect()
}

/// Refuses names of columns that are empty or occur twice.
pub(crate) fn check_names(names: &[String]) -> Result<(), Diagnostic> {
    for (i, name) in names.iter().enumerate() {
        let problem = if name.is_empty() {
            format!("column {} has no name", i + 1)
        } else if names[..i].contains(name) {
            format!("two columns are called `{name}`")
        } else {
            continue;
        };
        return Err(Diagnostic::new("data.columns", problem)
            .item("data.columns")
            .expected("a name of its own for every column"));
    }
    Ok(())
}

fn records(
    rows: &[Vec<Cell>],
    columns: &Columns,
    format: &RawFormat,
    key: &str,
) -> Result<Vec<Record>, Diagnostic> {
    let mut records = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let fail = |problem: String, expected: String| {
            Diagnostic::new("data.rows.row", problem).item(format!("{key}[{i}]")).expected(expected)
        };
        if row.len() != columns.0.len() {
            return Err(fail(
                format!("the row has {}", counted(row.len(), "field")),
                counted(columns.0.len(), "field"),
            ));
        }
        let mut values = Vec::new();
        for (cell, column) in row.iter().zip(&columns.0) {
            values.push(match (cell, &column.kind) {
                (Cell::Text(text), _) if is_missing(text, format) => Value::Missing,
                (Cell::Number(n), ColumnKind::Number) if n.is_finite() => Value::Number(*n),
                (Cell::Number(n), ColumnKind::Text) => Value::Text(n.to_string()),
                (Cell::Text(text), ColumnKind::Text) => Value::Text(text.clone()),
                _ => {
                    return Err(fail(
                        format!("column `{}` holds something else here", column.name),
                        "a finite number, as in the rows before".into(),
                    ));
                }
            });
        }
        records.push(Record { values, origin: Origin { row: i as u64 + 1, ..Origin::default() } });
    }
    Ok(records)
}

impl RecordSource for RowsSource {
    fn columns(&self) -> &Columns {
        &self.columns
    }
    fn format(&self) -> RawFormat {
        self.format.clone()
    }
    fn files(&self) -> Vec<Found> {
        Vec::new()
    }
    fn has_test(&self) -> bool {
        self.test.is_some()
    }
    fn count(&self, part: Part) -> Option<u64> {
        match part {
            Part::Train => Some(self.train.len() as u64),
            Part::Test => self.test.as_ref().map(|t| t.len() as u64),
        }
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        let rows = match part {
            Part::Train => self.train.as_slice(),
            Part::Test => self.test.as_deref().unwrap_or_default(),
        };
        Ok(Box::new(rows.iter().cloned().map(Ok)))
    }
}

//! A source whose records go through one SQL statement. The training part and a test set of its own go through it
//! separately, so that nothing of one can get into the other.

use super::{Context, Opened, Part, RecordSource, Records, SourceKind};
use crate::DataSpec;
use crate::files::Found;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_sql::{EngineOptions, Query, Table, engine};
use outgrow_transform::{ColumnKind, Columns, RawFormat, Record, Value};
use std::sync::Arc;

struct SqlSource {
    inner: Arc<dyn RecordSource>,
    /// The key that gives the statement.
    key: &'static str,
    query: Box<dyn Query>,
    engine: String,
}

/// Opens a source of kind `kind` and puts the statement over it.
///
/// # Errors
/// When this build runs no SQL; what the source finds wrong, and what the statement's engine does.
pub(super) fn open(
    kind: &SourceKind,
    spec: &DataSpec,
    context: &Context<'_>,
    key: &'static str,
    statement: &str,
) -> Result<Opened, Diagnostics> {
    let engine = engine(EngineOptions::new(&context.temporary)).map_err(|d| d.item(key))?;
    let inner: Arc<dyn RecordSource> = match (kind.open)(spec, context)? {
        Opened::Records(source) => source.into(),
        Opened::Text(_) => {
            return Err(Diagnostic::new("data.key", "one long text has no records to select from")
                .item(key)
                .hint("take a source of records, such as `csv` or `parquet`")
                .into());
        }
    };
    let query = engine
        .plan(statement, inner.columns())
        .map_err(|all| Diagnostics(all.0.into_iter().map(|d| placed(d, key)).collect()))?;
    Ok(Opened::Records(Box::new(SqlSource { inner, key, query, engine: engine.version() })))
}

/// Says which key a problem with the statement belongs to. Problems with the source's files have their place.
fn placed(mut diagnostic: Diagnostic, key: &str) -> Diagnostic {
    if diagnostic.code.starts_with("data.sql.") && diagnostic.place.file.is_none() {
        diagnostic.place.item = Some(match diagnostic.place.item.take() {
            Some(item) => format!("{key}: {item}"),
            None => key.to_owned(),
        });
    }
    diagnostic
}

/// One part of the source, as the statement reads it.
struct PartTable {
    source: Arc<dyn RecordSource>,
    part: Part,
}

impl Table for PartTable {
    fn columns(&self) -> &Columns {
        self.source.columns()
    }
    fn read(&self) -> Result<outgrow_sql::Records<'_>, Diagnostic> {
        self.source.records(self.part)
    }
}

impl SqlSource {
    /// Whether the source's own label comes out of the statement as it was.
    fn keeps_label(&self) -> bool {
        let label = self.inner.default_label().and_then(|name| self.query.columns().position(name));
        label.is_some_and(|column| self.query.keeps(column))
    }
}

impl RecordSource for SqlSource {
    fn columns(&self) -> &Columns {
        self.query.columns()
    }
    fn format(&self) -> RawFormat {
        self.inner.format()
    }
    fn files(&self) -> Vec<Found> {
        self.inner.files()
    }
    fn default_label(&self) -> Option<&str> {
        self.inner.default_label().filter(|name| self.query.columns().position(name).is_some())
    }
    fn class_names(&self) -> Option<Vec<String>> {
        self.inner.class_names().filter(|_| self.keeps_label())
    }
    fn labels_are_classes(&self) -> bool {
        self.inner.labels_are_classes()
    }
    fn has_test(&self) -> bool {
        self.inner.has_test()
    }
    fn count(&self, _: Part) -> Option<u64> {
        None
    }
    fn engine(&self) -> Option<String> {
        Some(self.engine.clone())
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        let key = self.key;
        let table = Arc::new(PartTable { source: self.inner.clone(), part });
        let records = self.query.run(table).map_err(|d| placed(d, key))?;
        let format = self.format();
        Ok(Box::new(records.map(move |record| {
            record.map_err(|d| placed(d, key)).and_then(|record| as_read(&format, record))
        })))
    }
}

/// Text of a result is read like a field of text elsewhere: what `predict` will read is then the same.
fn as_read(format: &RawFormat, mut record: Record) -> Result<Record, Diagnostic> {
    for value in &mut record.values {
        if let Value::Text(text) = value {
            *value = format.parse(text, &ColumnKind::Text).map_err(|d| record.origin.place(d))?;
        }
    }
    Ok(record)
}

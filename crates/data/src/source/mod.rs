//! Data sources: one file each, one line in the list below. A source turns files (or nothing, when it generates its
//! records) into raw records, and says which files the result depends on.

pub mod arrow;
pub mod csv;
pub mod file_table;
pub mod glyphs;
pub mod idx;
pub mod image_folder;
pub mod json_lines;
pub mod npy;
pub mod parquet;
mod part_files;
pub mod rows;
mod sql;
pub mod synthetic;
pub mod text;

use crate::files::{Finder, Found};
use crate::{ColumnType, DataSpec};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Columns, RawFormat, Record};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One kind of source.
pub struct SourceKind {
    /// The name that the manifest's `data.source` gives.
    pub name: &'static str,
    /// The keys of `[data]` that it takes besides the common ones.
    pub keys: &'static [&'static str],
    /// Opens it.
    pub open: fn(&DataSpec, &Context<'_>) -> Result<Opened, Diagnostics>,
}

/// Every kind of source.
pub const SOURCES: &[&SourceKind] = &[
    &idx::KIND,
    &csv::KIND,
    &json_lines::KIND,
    &parquet::KIND,
    &arrow::KIND,
    &npy::KIND,
    &image_folder::KIND,
    &text::KIND,
    &rows::KIND,
    &synthetic::KIND,
];

/// What a source may use.
pub struct Context<'a> {
    /// Finds files.
    pub finder: Finder<'a>,
    /// Seed for generated records.
    pub seed: u64,
    /// Threads for generated records.
    pub threads: usize,
    /// The folder for temporary files.
    pub temporary: PathBuf,
    /// The kinds of columns that are known beforehand, whether or not they are there. Sources that guess take these.
    pub kinds: BTreeMap<String, ColumnType>,
}

/// Keys that every source of records takes.
const RECORD_KEYS: &[&str] = &[
    "source",
    "test",
    "split",
    "seed",
    "classes",
    "target_scaling",
    "normalize",
    "augment",
    "storage",
    "sql",
    "clean",
    "sha256",
    "download_limit",
];

/// A source that is ready to be read.
pub enum Opened {
    /// Records with columns.
    Records(Box<dyn RecordSource>),
    /// One long text.
    Text(text::TextSource),
}

/// Which part of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What training, validation and, without a test set of its own, testing draw from.
    Train,
    /// The test set of its own.
    Test,
}

/// The records of a source, in their order. A record that cannot be read ends the reading.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Record, Diagnostic>> + Send + 'a>;

/// A source of records. Reading it again gives the same records in the same order.
pub trait RecordSource: Send + Sync {
    /// The raw columns; the role of each is left to the caller.
    fn columns(&self) -> &Columns;
    /// How text fields are read.
    fn format(&self) -> RawFormat {
        RawFormat::default()
    }
    /// The files that the records come from.
    fn files(&self) -> Vec<Found>;
    /// The column that holds the label unless the manifest names another.
    fn default_label(&self) -> Option<&str> {
        None
    }
    /// Names of the classes, where the source itself knows them.
    fn class_names(&self) -> Option<Vec<String>> {
        None
    }
    /// Whether labels that are numbers are classes unless the manifest says otherwise.
    fn labels_are_classes(&self) -> bool {
        false
    }
    /// What is not read as one might expect, for people: columns that are left out.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether there is a test set of its own.
    fn has_test(&self) -> bool;
    /// How many records there are, when that is known beforehand.
    fn count(&self, part: Part) -> Option<u64>;
    /// What the records depend on besides the files and the section: the version of an engine.
    fn engine(&self) -> Option<String> {
        None
    }
    /// Starts reading.
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic>;
}

/// Opens the source that `spec` names, after checking that it takes every key that is given.
///
/// # Errors
/// All keys that do not belong, or what the source itself finds wrong.
pub fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    let Some(kind) = SOURCES.iter().find(|k| k.name == spec.source) else {
        let names: Vec<&str> = SOURCES.iter().map(|k| k.name).collect();
        return Err(Diagnostic::new("data.source", format!("there is no data source `{}`", spec.source))
            .item("data.source")
            .expected(format!("one of: {}", names.join(", ")))
            .into());
    };
    let mut problems = Diagnostics::default();
    for key in spec.given() {
        if !RECORD_KEYS.contains(&key.as_str()) && !kind.keys.contains(&key.as_str()) {
            problems.push(
                Diagnostic::new("data.key", format!("source `{}` does not take `{key}`", kind.name))
                    .item(format!("data.{key}"))
                    .expected(format!("one of: {}, {}", kind.keys.join(", "), RECORD_KEYS.join(", "))),
            );
        }
    }
    problems.into_result(())?;
    match spec.statement()? {
        None => (kind.open)(spec, context),
        Some((key, statement)) => sql::open(kind, spec, context, key, statement),
    }
}

/// The value of a key that the source cannot do without.
pub(crate) fn require<'a, T>(value: &'a Option<T>, key: &str, source: &str) -> Result<&'a T, Diagnostic> {
    value.as_ref().ok_or_else(|| {
        Diagnostic::new("data.key-missing", format!("source `{source}` needs `{key}`"))
            .item(format!("data.{key}"))
            .hint(format!("add `{key}` to `[data]`"))
    })
}

/// Refuses a test set that is given by keys of another source.
pub(crate) fn check_test(spec: &DataSpec, keys: &[&str]) -> Result<(), Diagnostic> {
    let Some(test) = &spec.test else { return Ok(()) };
    let json = serde_json::to_value(test).unwrap_or_default();
    let given: Vec<String> = json.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
    if given.len() == keys.len() && given.iter().all(|k| keys.contains(&k.as_str())) {
        return Ok(());
    }
    Err(Diagnostic::new(
        "data.test",
        format!("the test set of source `{}` is given by other keys", spec.source),
    )
    .item("data.test")
    .expected(keys.join(" and ")))
}

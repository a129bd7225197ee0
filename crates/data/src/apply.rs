//! Other data for a model that is trained: records or text that go through its transform, none of which it learns from.
//! All of it is a test split, in a data set of its own.

use crate::files::Found;
use crate::prepare::{Identified, Prepared, open_source, prepare_with};
use crate::source::{Opened, Part, RecordSource, Records};
use crate::spec::ColumnType;
use crate::split::Splitter;
use crate::work::{PrepareOptions, PrepareProgress};
use crate::{DataSpec, Files, fingerprint};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_store::sha256;
use outgrow_transform::{Column, ColumnKind, Columns, RawFormat, Record, Role, Transform, Value};
use std::collections::BTreeMap;

/// Prepares these files, which are of the kind that the section's source reads, by a transform that was fitted before.
/// Columns are found by their names, in whatever order they come.
///
/// # Errors
/// When the source reads no files, when they lack a column that the model looks at or its label, and whatever
/// [`prepare`](crate::prepare) finds wrong.
pub fn prepare_files(
    spec: &DataSpec,
    files: &[String],
    transform: &Transform,
    options: &PrepareOptions<'_>,
) -> Result<Prepared, Diagnostics> {
    let spec = &of_files(spec, files, transform)?;
    let (source, seed) = open_source(spec, options, kinds(spec, transform)?)?;
    let source = match source {
        Opened::Records(source) => Opened::Records(Box::new(ByName::new(source, &transform.columns)?)),
        text @ Opened::Text(_) => text,
    };
    let (found, engine) = match &source {
        Opened::Records(source) => (source.files(), source.engine()),
        Opened::Text(text) => (text.files(), None),
    };
    let total = Some(found.iter().map(|f| f.bytes).sum());
    // What the transform is counts as an engine's version does: other numbers come out with another one.
    let by = format!("{} {}", engine.unwrap_or_default(), sha256::hex(transform.to_json().as_bytes()));
    let tell = |done| (options.progress)(&PrepareProgress { phase: "checking", done, total });
    let fingerprint = fingerprint::fingerprint(spec, seed, Some(&by), &found, &options.storage, &tell)?;
    let identified = Identified { source, splitter: Splitter::new(seed, 0.0, 1.0), fingerprint };
    let mut transform = transform.clone();
    if let Some(image) = &mut transform.assembly.image {
        image.resize = true;
    }
    prepare_with(spec, options, &identified, Some(&transform))
}

/// The section with these files in place of its own.
fn of_files(spec: &DataSpec, files: &[String], transform: &Transform) -> Result<DataSpec, Diagnostic> {
    if spec.files.is_none() {
        let problem =
            format!("the model was trained on `{}`, which reads no files of this kind", spec.source);
        return Err(Diagnostic::new("data.files", problem)
            .item("data.files")
            .expected("a model that was trained on data with `files`")
            .hint("change the manifest's keys with --set"));
    }
    let mut spec = DataSpec {
        files: Some(Files::Many(files.to_vec())),
        test: None,
        split: None,
        sha256: None,
        storage: None,
        ..spec.stored()
    };
    if spec.source == "json_lines" && spec.statement()?.is_none() {
        // Fields that the first records lack are known all the same, and others are of no interest.
        spec.columns = Some(transform.columns.0.iter().map(|column| column.name.clone()).collect());
    }
    Ok(spec)
}

/// What the columns hold, whatever the first records look like. What a statement makes of a source's columns says nothing
/// of those.
fn kinds(spec: &DataSpec, transform: &Transform) -> Result<BTreeMap<String, ColumnType>, Diagnostic> {
    let kind = |column: &Column| match column.kind {
        ColumnKind::Number => Some((column.name.clone(), ColumnType::Number)),
        ColumnKind::Text => Some((column.name.clone(), ColumnType::Text)),
        _ => None,
    };
    Ok(match spec.statement()? {
        Some(_) => BTreeMap::new(),
        None => transform.columns.0.iter().filter_map(kind).collect(),
    })
}

/// A source whose columns are put into the order of others, by their names.
struct ByName {
    inner: Box<dyn RecordSource>,
    columns: Columns,
    /// For each column, the number of the source's.
    places: Vec<Option<usize>>,
}

impl ByName {
    fn new(inner: Box<dyn RecordSource>, columns: &Columns) -> Result<Self, Diagnostics> {
        let there = inner.columns();
        let mut problems = Diagnostics::default();
        let mut places = Vec::new();
        for column in &columns.0 {
            let place = there.position(&column.name);
            if place.is_none() && column.role != Role::Excluded {
                let what = if column.role == Role::Label { "the label" } else { "the column" };
                let names: Vec<&str> = there.0.iter().map(|c| c.name.as_str()).collect();
                let problem = Diagnostic::new("data.columns", format!("{what} `{}` is missing", column.name))
                    .expected("the columns that the model was trained with")
                    .hint(format!("the columns there are: {}", names.join(", ")));
                problems.push(match inner.files().first() {
                    Some(file) => problem.file(&file.path),
                    None => problem,
                });
            }
            places.push(place);
        }
        problems.into_result(Self { columns: columns.clone(), inner, places })
    }
}

impl RecordSource for ByName {
    fn columns(&self) -> &Columns {
        &self.columns
    }
    fn format(&self) -> RawFormat {
        self.inner.format()
    }
    fn files(&self) -> Vec<Found> {
        self.inner.files()
    }
    fn has_test(&self) -> bool {
        false
    }
    fn count(&self, part: Part) -> Option<u64> {
        self.inner.count(part)
    }
    fn engine(&self) -> Option<String> {
        self.inner.engine()
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        let records = self.inner.records(part)?;
        Ok(Box::new(records.map(|record| {
            let Record { mut values, origin } = record?;
            let mut take = |place: &Option<usize>| {
                place
                    .and_then(|i| values.get_mut(i))
                    .map_or(Value::Missing, |v| std::mem::replace(v, Value::Missing))
            };
            let values = self.places.iter().map(&mut take).collect();
            Ok(Record { values, origin })
        })))
    }
}

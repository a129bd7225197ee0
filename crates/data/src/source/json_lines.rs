//! JSON lines: one object per line (the convention of <https://jsonlines.org>). Nested fields become columns by their
//! dotted path, `{"user": {"age": 3, "tags": ["a"]}}` has the columns `user.age` and `user.tags.0`.
//!
//! Numbers and truth values (0 and 1) make a column of numbers; a text anywhere in the first records makes it one of
//! text. `null`, an absent field, an empty text and the texts of `data.missing` are missing values.

use super::file_table;
use super::part_files::PartFiles;
use super::rows::check_names;
use super::{Context, Opened, Part, RecordSource, Records, SourceKind};
use crate::files::{Found, content, other_encoding};
use crate::spec::ColumnType;
use crate::{DataSpec, Names};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, RawFormat, Record, Value};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

/// `source = "json_lines"`.
pub const KIND: SourceKind = SourceKind {
    name: "json_lines",
    keys: &["files", "columns", "missing", "types", "label", "task", "features", "exclude"],
    open,
};

/// Endings of the files that a folder contributes.
pub const ENDINGS: &[&str] = &[".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"];
/// Records by which the columns and their kinds are told.
const KIND_RECORDS: usize = 1000;
/// A longer line is refused.
const LINE_BYTES_MAX: usize = 16 << 20;
/// More columns than this are refused.
const COLUMNS_MAX: usize = 1 << 16;

/// How JSON lines are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonFormat {
    /// Texts that stand for a missing value.
    pub missing: Vec<String>,
    /// The fields that are read, by their dotted paths; all others are left out. All fields when not given.
    pub columns: Option<Vec<String>>,
    /// Kinds of columns that are not to be guessed. In a column declared as numbers, texts are read as numbers.
    pub types: BTreeMap<String, ColumnType>,
}

impl JsonFormat {
    fn raw(&self) -> RawFormat {
        RawFormat { missing: self.missing.clone(), trim: String::new(), ..RawFormat::default() }
    }
}

/// The objects of one file with the numbers of their lines.
struct Lines<R> {
    reader: BufReader<R>,
    file: Option<Arc<Path>>,
    line: usize,
    buffer: Vec<u8>,
    failed: bool,
}

impl<R: Read> Lines<R> {
    fn new(inner: R, file: Option<Arc<Path>>) -> Self {
        Self { reader: BufReader::new(inner), file, line: 0, buffer: Vec::new(), failed: false }
    }

    fn place(&self, diagnostic: Diagnostic) -> Diagnostic {
        self.in_file(diagnostic.line(self.line.max(1)))
    }

    fn in_file(&self, diagnostic: Diagnostic) -> Diagnostic {
        match &self.file {
            Some(file) => diagnostic.file(&**file),
            None => diagnostic,
        }
    }

    /// The next object; empty lines are passed over. After a failure to read there are no more.
    fn next(&mut self) -> Option<Result<Map<String, Json>, Diagnostic>> {
        while !self.failed {
            self.buffer.clear();
            self.line += 1;
            let limit = LINE_BYTES_MAX as u64 + 1;
            let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
            let problem = match read {
                Ok(0) => return None,
                Ok(n) if n > LINE_BYTES_MAX => Diagnostic::new(
                    "data.json.line",
                    format!("the line is longer than {LINE_BYTES_MAX} bytes"),
                )
                .expected("one JSON object per line")
                .hint("the file may be one long line: write each record on a line of its own, for example with `jq -c .[]`"),
                Ok(_) if self.line == 1 && let Some(problem) = other_encoding(&self.buffer) => {
                    self.failed = true;
                    problem
                }
                Ok(_) => {
                    let text = self.buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.buffer);
                    if text.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    match serde_json::from_slice(text) {
                        Ok(Json::Object(object)) => return Some(Ok(object)),
                        Ok(other) => {
                            Diagnostic::new("data.json.line", format!("the line is {}", kind_of(&other)))
                                .expected("a JSON object, such as {\"x\": 1}")
                                .hint("a file that holds one JSON array is no JSON lines: write each element on a line of its own, for example with `jq -c .[]`")
                        }
                        Err(e) => Diagnostic::new(
                            "data.json.line",
                            format!("the line is not JSON: {} in column {}", message(&e), e.column()),
                        )
                        .expected("a JSON object on one line, such as {\"x\": 1}"),
                    }
                }
                Err(e) => {
                    self.failed = true;
                    Diagnostic::new("data.json.read", format!("the file cannot be read: {e}"))
                        .expected("a whole file, packed by gzip if at all")
                        .hint("the file may be cut short or damaged: fetch it again")
                }
            };
            return Some(Err(self.place(problem)));
        }
        None
    }
}

/// A parser's message without the place in the line, whose line number would be that within the line.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(text, _)| text.to_owned())
}

fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a truth value",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// Calls `each` with the dotted path and value of every field that holds no others. The depth is bounded by the
/// parser, which refuses more than 128 levels.
fn flatten<'a>(
    path: &mut String,
    json: &'a Json,
    each: &mut dyn FnMut(&str, &'a Json) -> Result<(), Diagnostic>,
) -> Result<(), Diagnostic> {
    let length = path.len();
    let mut inner = |key: &str, value: &'a Json| {
        if length > 0 {
            path.push('.');
        }
        path.push_str(key);
        let done = flatten(path, value, each);
        path.truncate(length);
        done
    };
    match json {
        Json::Object(fields) => fields.iter().try_for_each(|(key, value)| inner(key, value)),
        Json::Array(items) => {
            items.iter().enumerate().try_for_each(|(i, value)| inner(&i.to_string(), value))
        }
        value => each(path, value),
    }
}

/// What a column has shown so far.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    number: bool,
    bool: bool,
    text: bool,
}

/// The columns of a file, told by its first records, and which of them hold truth values only.
struct Layout {
    columns: Columns,
    bools: Vec<bool>,
    /// Numbers of the columns by their paths.
    places: HashMap<String, usize>,
}

impl Layout {
    fn new(columns: Columns, bools: Vec<bool>) -> Self {
        let places = columns.0.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        Self { columns, bools, places }
    }

    fn of<R: Read>(mut lines: Lines<R>, format: &JsonFormat) -> Result<Self, Diagnostic> {
        let mut names: Vec<String> = format.columns.clone().unwrap_or_default();
        check_names(&names)?;
        let mut places: HashMap<String, usize> =
            names.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        let mut seen = vec![Seen::default(); names.len()];
        for _ in 0..KIND_RECORDS {
            let Some(next) = lines.next() else { break };
            let object = Json::Object(next?);
            let look = &mut |path: &str, value: &Json| {
                let place = match places.get(path) {
                    Some(place) => *place,
                    None if format.columns.is_some() => return Ok(()),
                    None if names.len() == COLUMNS_MAX => return Err(too_many()),
                    None => {
                        names.push(path.to_owned());
                        seen.push(Seen::default());
                        places.insert(path.to_owned(), names.len() - 1);
                        names.len() - 1
                    }
                };
                match value {
                    Json::Number(_) => seen[place].number = true,
                    Json::Bool(_) => seen[place].bool = true,
                    Json::String(text) if !format.is_missing(text) => seen[place].text = true,
                    _ => {}
                }
                Ok(())
            };
            flatten(&mut String::new(), &object, look).map_err(|d| lines.place(d))?;
        }
        // A declared field may be too rare to occur in the first records.
        for name in format.types.keys().filter(|name| !places.contains_key(*name)) {
            if format.columns.is_some() {
                return Err(Diagnostic::new("data.unknown-column", format!("there is no column `{name}`"))
                    .item("data.types")
                    .expected(format!("one of: {}", names.join(", "))));
            }
            names.push(name.clone());
            seen.push(Seen::default());
        }
        check_names(&names).map_err(|d| lines.in_file(d))?;
        let kind = |name: &String, seen: &Seen| match format.types.get(name) {
            Some(ColumnType::Number) => ColumnKind::Number,
            None if (seen.number || seen.bool) && !seen.text => ColumnKind::Number,
            _ => ColumnKind::Text,
        };
        let columns = names.iter().zip(&seen).map(|(name, seen)| Column::new(name, kind(name, seen)));
        let bools = seen.iter().map(|s| s.bool && !s.number && !s.text).collect();
        Ok(Self::new(Columns(columns.collect()), bools))
    }

    /// The values of an object's fields.
    fn values(&self, object: Map<String, Json>, format: &JsonFormat) -> Result<Vec<Value>, Diagnostic> {
        let mut values = vec![Value::Missing; self.columns.0.len()];
        let mut filled = vec![false; values.len()];
        let raw = format.raw();
        let take = &mut |path: &str, json: &Json| {
            let Some(place) = self.places.get(path) else {
                return if format.columns.is_some() || json.is_null() { Ok(()) } else { Err(unknown(path)) };
            };
            if std::mem::replace(&mut filled[*place], true) {
                return Err(Diagnostic::new("data.json.twice", format!("two fields have the path `{path}`"))
                    .hint("a name with a dot in it looks like a nested field: rename one of them"));
            }
            let column = &self.columns.0[*place];
            values[*place] = value(json, column, format, &raw).map_err(|d| d.item(format!("`{path}`")))?;
            Ok(())
        };
        flatten(&mut String::new(), &Json::Object(object), take)?;
        Ok(values)
    }
}

impl JsonFormat {
    fn is_missing(&self, text: &str) -> bool {
        text.is_empty() || self.missing.iter().any(|m| m == text)
    }
}

fn too_many() -> Diagnostic {
    Diagnostic::new("data.json.columns", format!("the records have more than {COLUMNS_MAX} fields"))
        .hint("name the fields to read with `data.columns`")
}

fn unknown(path: &str) -> Diagnostic {
    Diagnostic::new(
        "data.json.unknown-field",
        format!("the field `{path}` does not occur in the first {KIND_RECORDS} records"),
    )
    .item(format!("`{path}`"))
    .expected("the fields of the first records")
    .hint(format!(
        "declare it, `types = {{ {path:?} = \"number\" }}` in `[data]`, or name all fields to read with `data.columns`"
    ))
}

/// The value of a field in a column.
fn value(json: &Json, column: &Column, format: &JsonFormat, raw: &RawFormat) -> Result<Value, Diagnostic> {
    let number = column.kind == ColumnKind::Number;
    Ok(match json {
        Json::String(text) if !number || format.types.contains_key(&column.name) => {
            return raw.parse(text, &column.kind);
        }
        Json::String(text) if format.is_missing(text) => Value::Missing,
        Json::String(_) => {
            return Err(Diagnostic::new("data.json.not-a-number", "the field holds a text")
                .expected("a number, as in the records before")
                .hint(format!(
                    "say `types = {{ {:?} = \"text\" }}` in `[data]`, or \"number\" for numbers in quotation marks",
                    column.name
                )));
        }
        Json::Bool(b) if number => Value::Number(f64::from(u8::from(*b))),
        Json::Bool(b) => Value::Text(b.to_string()),
        Json::Number(n) if !number => Value::Text(n.to_string()),
        Json::Number(n) => match n.as_f64() {
            Some(n) if n.is_finite() => Value::Number(n),
            _ => {
                return Err(Diagnostic::new("data.json.not-a-number", format!("{n} is out of range"))
                    .expected("a number that fits 64 bits"));
            }
        },
        Json::Null | Json::Array(_) | Json::Object(_) => Value::Missing,
    })
}

/// The record of the next object.
fn next_record<R: Read>(
    lines: &mut Lines<R>,
    layout: &Layout,
    format: &JsonFormat,
    row: u64,
) -> Option<Result<Record, Diagnostic>> {
    let object = match lines.next()? {
        Ok(object) => object,
        Err(problem) => return Some(Err(problem)),
    };
    let values = layout.values(object, format).map_err(|d| lines.place(d));
    let origin = Origin { file: lines.file.clone(), line: Some(lines.line), row };
    Some(values.map(|values| Record { values, origin }))
}

/// Reads the records of one file.
struct FileRecords<'a, R> {
    lines: Lines<R>,
    layout: &'a Layout,
    format: &'a JsonFormat,
}

impl<R: Read> Iterator for FileRecords<'_, R> {
    type Item = Result<Record, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        next_record(&mut self.lines, self.layout, self.format, 0)
    }
}

/// Reads the content of a file of JSON lines.
///
/// # Errors
/// A diagnostic with the line for one that is no JSON object, a field that is not known from the first records, or a
/// text in a column of numbers.
pub fn parse(bytes: &[u8], format: &JsonFormat) -> Result<(Columns, Vec<Record>), Diagnostic> {
    let layout = Layout::of(Lines::new(bytes, None), format)?;
    let records = FileRecords { lines: Lines::new(bytes, None), layout: &layout, format };
    let records = records.collect::<Result<_, _>>()?;
    Ok((layout.columns, records))
}

/// Reads JSON lines as records of a table whose columns are known, as `predict` does: fields of other names are
/// passed over, and a bad line is only an error of its own. Records are numbered from 1.
pub fn records_as<R: Read>(
    reader: R,
    file: Option<Arc<Path>>,
    columns: &Columns,
    missing: &[String],
) -> impl Iterator<Item = Result<Record, Diagnostic>> + use<R> {
    let kinds = columns.0.iter().map(|c| {
        let kind = if c.kind == ColumnKind::Number { ColumnType::Number } else { ColumnType::Text };
        (c.name.clone(), kind)
    });
    let names = columns.0.iter().map(|c| c.name.clone()).collect();
    let format = JsonFormat { missing: missing.to_vec(), columns: Some(names), types: kinds.collect() };
    let layout = Layout::new(columns.clone(), vec![false; columns.0.len()]);
    let mut lines = Lines::new(reader, file);
    let mut row = 0;
    std::iter::from_fn(move || {
        row += 1;
        next_record(&mut lines, &layout, &format, row)
    })
}

/// All of them, of a content in memory.
pub fn parse_as(bytes: &[u8], columns: &Columns, missing: &[String]) -> Vec<Result<Record, Diagnostic>> {
    records_as(bytes, None, columns, missing).collect()
}

struct JsonSource {
    storage: Arc<dyn StorageBackend>,
    format: JsonFormat,
    layout: Layout,
    label: Option<usize>,
    files: PartFiles,
}

fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    let files = PartFiles::find(spec, context, KIND.name, ENDINGS)?;
    let format = JsonFormat {
        missing: spec.missing.clone().unwrap_or_default(),
        columns: spec.columns.clone(),
        types: match context.kinds.is_empty() {
            true => spec.types.clone().unwrap_or_default(),
            false => context.kinds.clone(),
        },
    };
    let storage = context.finder.storage.clone();
    file_table::text_only(&storage, files.first(), KIND.name)?;
    let layout = Layout::of(lines(&storage, files.first())?, &format)?;
    if layout.columns.0.is_empty() {
        return Err(crate::problems::empty().file(&files.first().path).into());
    }
    let labels = spec.label.as_ref().map_or(&[][..], Names::list);
    let label = labels.first().and_then(|name| layout.columns.position(name));
    Ok(Opened::Records(Box::new(JsonSource { storage, format, layout, label, files })))
}

fn lines(storage: &Arc<dyn StorageBackend>, file: &Found) -> Result<Lines<Box<dyn Read + Send>>, Diagnostic> {
    Ok(Lines::new(content(storage, file)?, Some(Arc::from(file.path.as_path()))))
}

impl RecordSource for JsonSource {
    fn columns(&self) -> &Columns {
        &self.layout.columns
    }
    fn format(&self) -> RawFormat {
        self.format.raw()
    }
    fn files(&self) -> Vec<Found> {
        self.files.all().cloned().collect()
    }
    fn labels_are_classes(&self) -> bool {
        self.label.is_some_and(|i| self.layout.bools[i])
    }
    fn has_test(&self) -> bool {
        self.files.has_test()
    }
    fn count(&self, _: Part) -> Option<u64> {
        None
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        Ok(self.files.records(part, |file| {
            let lines = lines(&self.storage, file)?;
            Ok(FileRecords { lines, layout: &self.layout, format: &self.format })
        }))
    }
}

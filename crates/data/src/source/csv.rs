//! CSV files (RFC 4180, with other delimiters, comments and blanks around fields where the manifest says so).

mod guess;
mod kinds;
mod lines;

pub use lines::Lines;

use kinds::Seen;

use super::file_table;
use super::part_files::PartFiles;
use super::rows::check_names;
use super::{Context, Opened, Part, RecordSource, Records, SourceKind};
use crate::DataSpec;
use crate::files::{Found, content};
use crate::spec::ColumnType;
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, counted};
use outgrow_transform::{Column, Columns, Origin, RawFormat, Record};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// `source = "csv"`.
pub const KIND: SourceKind = SourceKind {
    name: "csv",
    keys: &[
        "files",
        "columns",
        "header",
        "delimiter",
        "trim",
        "comment",
        "missing",
        "types",
        "label",
        "task",
        "features",
        "exclude",
    ],
    open,
};

/// Endings of the files that a folder contributes.
pub const ENDINGS: &[&str] = &[".csv", ".tsv", ".csv.gz", ".tsv.gz", ".data"];
/// Records by which the kinds of the columns are told.
const KIND_RECORDS: usize = 1000;

/// How a CSV file is written.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvFormat {
    /// Separator, markers of missing values, blanks and comments.
    pub raw: RawFormat,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Whether the first field of every line counts the rows, and is left out.
    pub index: bool,
    /// The columns' names, instead of those in the file.
    pub columns: Option<Vec<String>>,
    /// Kinds of columns that are not to be guessed.
    pub types: BTreeMap<String, ColumnType>,
    /// Kinds of columns that are known, and need not be there.
    pub known: BTreeMap<String, ColumnType>,
    /// Columns that nobody looks at, whatever they hold.
    pub unread: Vec<String>,
    /// The only columns that anybody looks at, where these are named.
    pub read: Option<Vec<String>>,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self {
            raw: RawFormat::default(),
            header: true,
            index: false,
            columns: None,
            types: BTreeMap::new(),
            known: BTreeMap::new(),
            unread: Vec::new(),
            read: None,
        }
    }
}

impl CsvFormat {
    fn of(spec: &DataSpec) -> Result<Self, Diagnostic> {
        let mut format = Self::default();
        let one_byte = |text: &Option<String>, key: &str| match text {
            Some(t) if t.len() != 1 || matches!(t.as_str(), "\"" | "\n" | "\r") => {
                Err(Diagnostic::new("data.csv.option", format!("{t:?} cannot be the {key}"))
                    .item(format!("data.{key}"))
                    .expected("one ASCII character"))
            }
            _ => Ok(()),
        };
        one_byte(&spec.delimiter, "delimiter")?;
        one_byte(&spec.comment, "comment")?;
        if spec.comment.is_some()
            && spec.comment == Some(spec.delimiter.clone().unwrap_or_else(|| ",".into()))
        {
            let both = spec.comment.as_deref().unwrap_or_default();
            return Err(Diagnostic::new(
                "data.csv.option",
                format!("{both:?} is both the delimiter and the comment"),
            )
            .item("data.comment")
            .expected("another character than the delimiter"));
        }
        if let Some(delimiter) = &spec.delimiter {
            format.raw.delimiter.clone_from(delimiter);
            // Blanks that separate fields are not trimmed off them.
            format.raw.trim = format.raw.trim.replace(delimiter.as_str(), "");
        }
        if let Some(trim) = &spec.trim {
            format.raw.trim.clone_from(trim);
        }
        format.raw.comment.clone_from(&spec.comment);
        format.raw.missing = spec.missing.clone().unwrap_or_default();
        if let Some(names) = &spec.columns {
            check_names(names)?;
        }
        format.header = spec.header.unwrap_or(spec.columns.is_none());
        format.columns.clone_from(&spec.columns);
        format.types = spec.types.clone().unwrap_or_default();
        format.unread = spec.exclude.clone().unwrap_or_default();
        let labels = spec.label.iter().flat_map(|names| names.list());
        format.read = spec.features.as_ref().map(|features| features.iter().chain(labels).cloned().collect());
        Ok(format)
    }
}

/// The columns' names, with the header taken off `lines` where there is one.
fn names<R: Read>(lines: &mut Lines<R>, format: &CsvFormat) -> Result<Option<Vec<String>>, Diagnostic> {
    if !format.header {
        lines.set_width(format.columns.as_ref().map(Vec::len));
        return Ok(format.columns.clone());
    }
    let Some(first) = lines.texts() else { return Ok(format.columns.clone()) };
    let (line, fields) = first?;
    let mut names = own(&fields, &format.raw.trim);
    if let Some(given) = &format.columns {
        if given.len() != names.len() {
            let problem = format!("`columns` has {}", counted(given.len(), "name"));
            let problem = Diagnostic::new("data.columns", problem)
                .expected(format!("{}, as the file has", names.len()));
            return Err(lines.place(problem, line));
        }
        names.clone_from(given);
    }
    match check_names(&names) {
        Ok(()) => Ok(Some(names)),
        Err(problem) => Err(lines.place(problem.hint("name them with `data.columns`"), line)),
    }
}

/// The columns of a file, their kinds told by its first records.
fn columns<R: Read>(mut lines: Lines<R>, format: &CsvFormat) -> Result<Columns, Diagnostic> {
    let mut names = names(&mut lines, format)?;
    let mut seen: Vec<Seen> = Vec::new();
    for _ in 0..KIND_RECORDS {
        let Some(next) = lines.texts() else { break };
        let (line, fields) = next?;
        let names = names.get_or_insert_with(|| (1..=fields.len()).map(|i| format!("c{i}")).collect());
        seen.resize(names.len(), Seen::default());
        for (seen, field) in seen.iter_mut().zip(fields) {
            seen.see(field, line, format);
        }
    }
    let names = names.unwrap_or_default();
    seen.resize(names.len(), Seen::default());
    if let Some(name) = format.types.keys().find(|name| !names.contains(name)) {
        return Err(Diagnostic::new("data.unknown-column", format!("there is no column `{name}`"))
            .item("data.types")
            .expected(format!("one of: {}", names.join(", "))));
    }
    let told = |name: &String| format.types.get(name).or_else(|| format.known.get(name));
    for (name, seen) in names.iter().zip(&seen) {
        let is_read = format.read.as_ref().is_none_or(|read| read.contains(name));
        if is_read && told(name).is_none() && !format.unread.contains(name) {
            seen.check(name).map_err(|(line, problem)| lines.place(problem, line))?;
        }
    }
    let column = |(name, seen): (&String, Seen)| Column::new(name, seen.kind(told(name)));
    Ok(Columns(names.iter().zip(seen).map(column).collect()))
}

/// Reads the records of one file.
struct FileRecords<R> {
    lines: Lines<R>,
    columns: Columns,
    format: RawFormat,
}

impl<R: Read> FileRecords<R> {
    /// Starts after the header, which must name these columns.
    fn new(mut lines: Lines<R>, columns: &Columns, format: &CsvFormat) -> Result<Self, Diagnostic> {
        let found = names(&mut lines, format)?;
        lines.set_width(Some(columns.0.len()));
        if let Some(found) = found
            && !found.iter().eq(columns.0.iter().map(|c| &c.name))
        {
            let expected: Vec<&str> = columns.0.iter().map(|c| c.name.as_str()).collect();
            let problem = Diagnostic::new("data.csv.header", format!("the columns are {}", found.join(", ")))
                .expected(expected.join(", "))
                .hint("all files must have the columns of the first");
            return Err(lines.place(problem, 1));
        }
        Ok(Self { lines, columns: columns.clone(), format: format.raw.clone() })
    }
}

impl<R: Read> Iterator for FileRecords<R> {
    type Item = Result<Record, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.lines.file().cloned();
        let (line, fields) = match self.lines.texts()? {
            Ok(next) => next,
            Err(problem) => return Some(Err(problem)),
        };
        let origin = Origin { file, line: Some(line), row: 0 };
        let mut values = Vec::with_capacity(fields.len());
        for (field, column) in fields.iter().zip(&self.columns.0) {
            match self.format.parse_in(field, column) {
                Ok(value) => values.push(value),
                Err(problem) => {
                    return Some(Err(origin.place(problem.item(format!("column `{}`", column.name)))));
                }
            }
        }
        Some(Ok(Record { values, origin }))
    }
}

/// Reads the content of a CSV file.
///
/// # Errors
/// A diagnostic with the line for a row with another number of fields, text that is not UTF-8, or a field that is no
/// number in a column of numbers.
pub fn parse(bytes: &[u8], format: &CsvFormat) -> Result<(Columns, Vec<Record>), Diagnostic> {
    let lines = || Lines::new(bytes, &format.raw, None);
    let columns = columns(lines(), format)?;
    let records = FileRecords::new(lines(), &columns, format)?.collect::<Result<_, _>>()?;
    Ok((columns, records))
}

/// A line's fields without the blanks around them.
fn own(fields: &[&str], trim: &str) -> Vec<String> {
    let bare = |f: &&str| f.trim_start_matches('\u{feff}').trim_matches(|c| trim.contains(c)).to_owned();
    fields.iter().map(bare).collect()
}

struct CsvSource {
    storage: Arc<dyn StorageBackend>,
    format: CsvFormat,
    columns: Columns,
    files: PartFiles,
    notes: Vec<String>,
}

fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    let files = PartFiles::find(spec, context, KIND.name, ENDINGS)?;
    let mut format = CsvFormat { known: context.kinds.clone(), ..CsvFormat::of(spec)? };
    let storage = context.finder.storage.clone();
    file_table::text_only(&storage, files.first(), KIND.name)?;
    let notes = guess::complete(&storage, files.first(), spec.delimiter.is_some(), &mut format)?;
    let columns = columns(lines(&storage, &format, files.first())?, &format)?;
    if columns.0.is_empty() {
        return Err(crate::problems::empty().file(&files.first().path).into());
    }
    Ok(Opened::Records(Box::new(CsvSource { storage, format, columns, files, notes })))
}

fn lines(
    storage: &Arc<dyn StorageBackend>,
    format: &CsvFormat,
    file: &Found,
) -> Result<Lines<Box<dyn Read + Send>>, Diagnostic> {
    let lines = Lines::new(content(storage, file)?, &format.raw, Some(Arc::from(file.path.as_path())));
    Ok(if format.index { lines.without_first() } else { lines })
}

impl RecordSource for CsvSource {
    fn columns(&self) -> &Columns {
        &self.columns
    }
    fn format(&self) -> RawFormat {
        self.format.raw.clone()
    }
    fn files(&self) -> Vec<Found> {
        self.files.all().cloned().collect()
    }
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
    fn has_test(&self) -> bool {
        self.files.has_test()
    }
    fn count(&self, _: Part) -> Option<u64> {
        None
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        Ok(self.files.records(part, |file| {
            let lines = lines(&self.storage, &self.format, file)?;
            FileRecords::new(lines, &self.columns, &self.format)
        }))
    }
}

//! From files or bytes to the raw records that the model was trained on: images (PNG, JPEG, WebP, IDX) and tables (CSV, JSON
//! lines), packed by gzip or not. What a record's label says is not read: no prediction may depend on it. Tables and IDX
//! files are read record by record, and may be of any length.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use outgrow_data::Content;
use outgrow_data::files::{Found, storage_problem};
use outgrow_data::source::csv::Lines;
use outgrow_data::source::{idx, json_lines};
use outgrow_env::{Entry, StorageBackend};
use outgrow_ir::Diagnostic;
use outgrow_transform::{Origin, RawFormat, Record, Role, Transform, Value, image};

/// Larger files that must be in memory as a whole, unpacked, are refused.
const BYTES_MAX: u64 = 1 << 30;
/// What stands around the fields of a table, when the training data was none.
const BLANKS: &str = " \t";
/// As many bytes tell what an image file is.
const MAGIC_BYTES: u64 = 12;

/// Records in their order, each by itself good or bad.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Record, Diagnostic>> + 'a>;
/// The lines of a CSV file.
type Table = Lines<Box<dyn Read + Send>>;

/// Reads raw records as the model's transform takes them.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    transform: &'a Transform,
    format: RawFormat,
    /// Whether the training data may have had a line with the columns' names.
    header: bool,
}

impl<'a> Reader<'a> {
    /// For a model with this transform, whose training data had a header or not.
    pub(crate) fn new(transform: &'a Transform, header: bool) -> Self {
        let mut format = transform.format.clone();
        if format.delimiter.is_empty() {
            (format.delimiter, format.trim) = (",".into(), BLANKS.into());
        }
        Self { transform, format, header }
    }

    /// The records of a file.
    ///
    /// # Errors
    /// A diagnostic for a file that cannot be read or is of the wrong kind; a bad row is only an error of its own.
    pub fn file(&self, storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Records<'_>, Diagnostic> {
        self.read(&Content::File(storage.clone(), find(storage, path)?))
    }

    /// The records of what would be a file's content, as a request brings it.
    ///
    /// # Errors
    /// As [`Reader::file`].
    pub fn bytes(&self, bytes: Bytes) -> Result<Records<'_>, Diagnostic> {
        self.read(&Content::Memory(bytes))
    }

    fn read(&self, content: &Content) -> Result<Records<'_>, Diagnostic> {
        let origin = Origin { file: content.path().map(Arc::from), ..Origin::default() };
        let rows = match &self.transform.assembly.image {
            Some(input) => self.images(content, &origin, input.column),
            None if is_json(content)? => self.json(content, &origin),
            None => self.table(content, &origin),
        };
        rows.map_err(|problem| origin.place(problem))
    }

    /// One image, or the images of an IDX file.
    fn images(&self, content: &Content, origin: &Origin, column: usize) -> Result<Records<'_>, Diagnostic> {
        let assembly = &self.transform.assembly;
        if assembly.features.is_some() || assembly.categories.is_some() {
            let problem = "the model takes more than an image, which `predict` cannot read yet";
            return Err(Diagnostic::new("predict.input", problem)
                .expected("a model whose only input is an image, or one of tables")
                .hint("evaluate it with `outgrow eval`, or run it on arrays with `outgrow infer`"));
        }
        let columns = self.transform.columns.0.len();
        let origin = origin.clone();
        let record = move |value: Value, row: u64| {
            let mut values = vec![Value::Missing; columns];
            values[column] = value;
            Record { values, origin: Origin { row, ..origin.clone() } }
        };
        let mut start = Vec::new();
        let read = content.open()?.take(MAGIC_BYTES).read_to_end(&mut start);
        read.map_err(|e| content.unreadable(&e))?;
        if image::is_image(&start) {
            let bytes = whole(content)?;
            return Ok(Box::new(std::iter::once(Ok(record(Value::Encoded(bytes), 0)))));
        }
        if !start.starts_with(&[0, 0]) {
            return Err(Diagnostic::new("predict.image", "the file is no image")
                .expected("a PNG, JPEG, WebP or IDX file, as the model was trained on images"));
        }
        let images = idx::images(content)?.zip(1..);
        Ok(Box::new(images.map(move |(pixels, row)| Ok(record(Value::Pixels(pixels?), row)))))
    }

    /// The rows of a file of JSON lines, whose labels are not looked at.
    fn json(&self, content: &Content, origin: &Origin) -> Result<Records<'_>, Diagnostic> {
        let columns = &self.transform.columns;
        let rows =
            json_lines::records_as(content.open()?, origin.file.clone(), columns, &self.format.missing);
        Ok(Box::new(rows.map(|record| {
            let mut record = record?;
            for (value, column) in record.values.iter_mut().zip(&columns.0) {
                if column.role == Role::Label {
                    *value = Value::Missing;
                }
            }
            Ok(record)
        })))
    }

    /// The rows of a CSV file.
    fn table(&self, content: &Content, origin: &Origin) -> Result<Records<'_>, Diagnostic> {
        let mut lines: Table = Lines::new(content.open()?, &self.format, origin.file.clone());
        let (layout, mut first) = match lines.next() {
            Some(Ok((number, fields))) => {
                let layout = self.layout(fields, number)?;
                let first = (!layout.header).then(|| (number, fields.clone()));
                (layout, first)
            }
            Some(Err(problem)) => return Err(problem),
            None => {
                return Err(Diagnostic::new("predict.empty", "the file has no rows").expected(
                    "a row for each prediction, after a line that names the columns or without one",
                ));
            }
        };
        let (mut row, file) = (0, origin.file.clone());
        let record = move |number: usize, fields: &csv::ByteRecord, row: u64| {
            let origin = Origin { file: file.clone(), line: Some(number), row };
            match self.values(fields, &layout) {
                Ok(values) => Ok(Record { values, origin }),
                Err(problem) => Err(origin.place(problem)),
            }
        };
        Ok(Box::new(std::iter::from_fn(move || {
            row += 1;
            if let Some((number, fields)) = first.take() {
                return Some(record(number, &fields, row));
            }
            Some(lines.next()?.and_then(|(number, fields)| record(number, fields, row)))
        })))
    }

    /// Which field holds which column, told by the first line: its names, or else how many fields it has.
    fn layout(&self, first: &csv::ByteRecord, line: usize) -> Result<Layout, Diagnostic> {
        let trim = |c: char| c == '\u{feff}' || self.format.trim.contains(c);
        let texts: Vec<_> = first.iter().map(String::from_utf8_lossy).collect();
        let names: Vec<&str> = texts.iter().map(|text| text.trim_matches(trim)).collect();
        let columns = &self.transform.columns;
        let features = self.transform.feature_columns();
        let find = |column: usize| names.iter().position(|name| *name == columns.0[column].name);
        let absent: Vec<&str> =
            features.iter().filter(|i| find(**i).is_none()).map(|i| columns.0[*i].name.as_str()).collect();
        let fields = |wanted: &dyn Fn(usize) -> bool| {
            let mut next = 0..;
            (0..columns.0.len()).map(|i| if wanted(i) { next.next() } else { None }).collect::<Vec<_>>()
        };
        if absent.is_empty() {
            let is_label = |i: usize| columns.0[i].role == Role::Label;
            let places = (0..columns.0.len()).map(|i| if is_label(i) { None } else { find(i) }).collect();
            return Ok(Layout { places, width: names.len(), header: true });
        }
        let orders: [&dyn Fn(usize) -> bool; 3] =
            [&|_| true, &|i| columns.0[i].role != Role::Label, &|i| columns.0[i].role == Role::Feature];
        let fitting = orders
            .iter()
            .map(|wanted| fields(wanted))
            .find(|places| places.iter().flatten().count() == names.len());
        let named = self.header && absent.len() < features.len();
        match fitting {
            Some(places) if !named => Ok(Layout { places, width: names.len(), header: false }),
            _ => {
                let wanted: Vec<&str> = features.iter().map(|i| columns.0[*i].name.as_str()).collect();
                let problem = if named {
                    format!("the columns {} are missing", absent.join(", "))
                } else {
                    format!("the first line has {} fields and does not name the columns", names.len())
                };
                Err(Diagnostic::new("predict.columns", problem).line(line).expected(format!(
                    "a first line that names the columns {}, or the {} columns of the training data in their order",
                    wanted.join(", "),
                    columns.0.len()
                )))
            }
        }
    }

    /// The values of a line; columns that it does not have, and the label, are missing.
    fn values(&self, line: &csv::ByteRecord, layout: &Layout) -> Result<Vec<Value>, Diagnostic> {
        if line.len() != layout.width {
            return Err(Diagnostic::new(
                "data.csv.ragged-row",
                format!("the line has {} fields", line.len()),
            )
            .expected(format!("{} fields, as in the first line", layout.width))
            .hint("put fields that contain the delimiter into quotation marks"));
        }
        let columns = self.transform.columns.0.iter();
        let value = |(column, place): (&outgrow_transform::Column, &Option<usize>)| {
            let item = format!("column `{}`", column.name);
            let Some(field) = place.filter(|_| column.role != Role::Label).and_then(|i| line.get(i)) else {
                return Ok(Value::Missing);
            };
            match std::str::from_utf8(field) {
                Ok(text) => self.format.parse_in(text, column),
                Err(_) => Err(Diagnostic::new("data.csv.utf8", "the field is not UTF-8 text")
                    .item(item)
                    .expected("text in UTF-8")
                    .hint("convert the file, for example with `iconv -t UTF-8`")),
            }
        };
        columns.zip(&layout.places).map(value).collect()
    }
}

/// Which field of a line holds which column.
struct Layout {
    /// For each column of the transform, the number of its field.
    places: Vec<Option<usize>>,
    /// How many fields a line has.
    width: usize,
    /// Whether the first line only names the columns.
    header: bool,
}

/// Whether a table is one of JSON lines, told by its first character.
fn is_json(content: &Content) -> Result<bool, Diagnostic> {
    let mut reader = content.open()?;
    let mut buffer = [0; 4096];
    loop {
        let n = reader.read(&mut buffer).map_err(|e| content.unreadable(&e))?;
        let first = buffer[..n].iter().find(|byte| !byte.is_ascii_whitespace());
        if n == 0 || first.is_some() {
            return Ok(first == Some(&b'{'));
        }
    }
}

/// What is at this path.
pub(crate) fn entry(storage: &dyn StorageBackend, path: &Path) -> Result<Option<Entry>, Diagnostic> {
    storage.entry(path).map_err(|e| storage_problem(&e))
}

/// A file that is there.
fn find(storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Found, Diagnostic> {
    let missing = |problem: &str| {
        Diagnostic::new("predict.file", problem).file(path).expected(
            "a file: an image, a table (CSV, JSON lines), an IDX file or, for a language model, a text",
        )
    };
    match entry(&**storage, path)? {
        Some(entry) if entry.is_folder => {
            Err(missing("it is a folder").hint("name the files in it, for example as `FOLDER/*`"))
        }
        Some(entry) => {
            Ok(Found { shown: path.display().to_string(), path: path.to_owned(), bytes: entry.bytes })
        }
        None => Err(missing("there is no such file")
            .hint("paths are relative to the folder that the command runs in")),
    }
}

/// The whole content of a file, unpacked where it is compressed by gzip.
///
/// # Errors
/// When it is not there, cannot be read, or is larger than 1 GiB.
pub fn read_file(storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Vec<u8>, Diagnostic> {
    whole(&Content::File(storage.clone(), find(storage, path)?))
}

fn whole(content: &Content) -> Result<Vec<u8>, Diagnostic> {
    let mut bytes = Vec::new();
    let read = content.open()?.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|e| content.unreadable(&e))?;
    if bytes.len() as u64 > BYTES_MAX {
        let problem = Diagnostic::new("predict.file", "the file is too large");
        return Err(content.place(
            problem.expected(format!("at most {BYTES_MAX} bytes")).hint("divide it among several files"),
        ));
    }
    Ok(bytes)
}

//! From files to the raw records that the model was trained on: images (PNG, JPEG, WebP, IDX) and tables (CSV, JSON
//! lines), packed by gzip or not. What a record's label says is not read: no prediction may depend on it. Tables and IDX
//! files are read record by record, and may be of any length.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use outgrow_data::files::{Found, content, read_problem, storage_problem};
use outgrow_data::source::csv::Lines;
use outgrow_data::source::{idx, json_lines};
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use outgrow_transform::{Origin, RawFormat, Record, Role, Transform, Value, image};

/// Larger files that must be in memory as a whole, unpacked, are refused.
const BYTES_MAX: u64 = 1 << 30;
/// What stands around the fields of a table, when the training data was none.
const BLANKS: &str = " \t";
/// As many bytes tell what an image file is.
const MAGIC_BYTES: u64 = 12;

/// Records in their order, each by itself good or bad.
type Rows<'a> = Box<dyn Iterator<Item = Result<Record, Diagnostic>> + 'a>;
/// The lines of a CSV file.
type Table = Lines<Box<dyn Read + Send>>;

/// Reads files as the model's transform takes them.
pub struct Reader<'a> {
    storage: Arc<dyn StorageBackend>,
    transform: &'a Transform,
    format: RawFormat,
    /// Whether the training data may have had a line with the columns' names.
    header: bool,
}

impl<'a> Reader<'a> {
    /// For a model with this transform, whose training data had a header or not.
    pub fn new(storage: Arc<dyn StorageBackend>, transform: &'a Transform, header: bool) -> Self {
        let mut format = transform.format.clone();
        if format.delimiter.is_empty() {
            (format.delimiter, format.trim) = (",".into(), BLANKS.into());
        }
        Self { storage, transform, format, header }
    }

    /// The records of a file.
    ///
    /// # Errors
    /// A diagnostic for a file that cannot be read or is of the wrong kind; a bad row is only an error of its own.
    pub fn read(&self, path: &Path) -> Result<Rows<'_>, Diagnostic> {
        let file: Arc<Path> = path.into();
        let origin = Origin { file: Some(file.clone()), ..Origin::default() };
        let found = find(&self.storage, path)?;
        let rows = match &self.transform.assembly.image {
            Some(input) => self.images(&found, &file, input.column),
            None if self.is_json(&found)? => self.json(&found, &file),
            None => self.table(&found, &file),
        };
        rows.map_err(|problem| origin.place(problem))
    }

    /// One image, or the images of an IDX file.
    fn images(&self, found: &Found, file: &Arc<Path>, column: usize) -> Result<Rows<'_>, Diagnostic> {
        let assembly = &self.transform.assembly;
        if assembly.features.is_some() || assembly.categories.is_some() {
            let problem = "the model takes more than an image, which `predict` cannot read yet";
            return Err(Diagnostic::new("predict.input", problem)
                .expected("a model whose only input is an image, or one of tables")
                .hint("evaluate it with `outgrow eval`, or run it on arrays with `outgrow infer`"));
        }
        let columns = self.transform.columns.0.len();
        let file = file.clone();
        let record = move |value: Value, row: u64| {
            let mut values = vec![Value::Missing; columns];
            values[column] = value;
            Record { values, origin: Origin { file: Some(file.clone()), line: None, row } }
        };
        let mut start = Vec::new();
        let read = content(&self.storage, found)?.take(MAGIC_BYTES).read_to_end(&mut start);
        read.map_err(|e| read_problem(&e, &found.path))?;
        if image::is_image(&start) {
            let bytes = whole(&self.storage, found)?;
            return Ok(Box::new(std::iter::once(Ok(record(Value::Encoded(bytes), 0)))));
        }
        if !start.starts_with(&[0, 0]) {
            return Err(Diagnostic::new("predict.image", "the file is no image")
                .expected("a PNG, JPEG, WebP or IDX file, as the model was trained on images"));
        }
        let images = idx::images(&self.storage, found)?.zip(1..);
        Ok(Box::new(images.map(move |(pixels, row)| Ok(record(Value::Pixels(pixels?), row)))))
    }

    /// Whether a table is one of JSON lines, told by its first character.
    fn is_json(&self, found: &Found) -> Result<bool, Diagnostic> {
        let mut reader = content(&self.storage, found)?;
        let mut buffer = [0; 4096];
        loop {
            let n = reader.read(&mut buffer).map_err(|e| read_problem(&e, &found.path))?;
            let first = buffer[..n].iter().find(|byte| !byte.is_ascii_whitespace());
            if n == 0 || first.is_some() {
                return Ok(first == Some(&b'{'));
            }
        }
    }

    /// The rows of a file of JSON lines, whose labels are not looked at.
    fn json(&self, found: &Found, file: &Arc<Path>) -> Result<Rows<'_>, Diagnostic> {
        let columns = &self.transform.columns;
        let reader = content(&self.storage, found)?;
        let rows = json_lines::records_as(reader, Some(file.clone()), columns, &self.format.missing);
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
    fn table(&self, found: &Found, file: &Arc<Path>) -> Result<Rows<'_>, Diagnostic> {
        let mut lines: Table = Lines::new(content(&self.storage, found)?, &self.format, Some(file.clone()));
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
        let (mut row, file) = (0, file.clone());
        let record = move |number: usize, fields: &csv::ByteRecord, row: u64| {
            let origin = Origin { file: Some(file.clone()), line: Some(number), row };
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
                Ok(text) => self.format.parse(text, &column.kind).map_err(|d| d.item(item)),
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

/// A file that is there.
fn find(storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Found, Diagnostic> {
    let missing = |problem: &str| {
        Diagnostic::new("predict.file", problem).file(path).expected(
            "a file: an image, a table (CSV, JSON lines), an IDX file or, for a language model, a text",
        )
    };
    match storage.entry(path).map_err(|e| storage_problem(&e))? {
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

/// The whole content of a file, unpacked.
pub fn read(storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Vec<u8>, Diagnostic> {
    whole(storage, &find(storage, path)?)
}

fn whole(storage: &Arc<dyn StorageBackend>, found: &Found) -> Result<Vec<u8>, Diagnostic> {
    let mut bytes = Vec::new();
    content(storage, found)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| read_problem(&e, &found.path))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Diagnostic::new("predict.file", "the file is too large")
            .file(&found.path)
            .expected(format!("at most {BYTES_MAX} bytes"))
            .hint("divide it among several files"));
    }
    Ok(bytes)
}

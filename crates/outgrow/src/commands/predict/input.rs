//! From files to the raw records that the model was trained on: images (PNG, JPEG, WebP, IDX) and tables (CSV, JSON
//! lines), packed by gzip or not. What a record's label says is not read: no prediction may depend on it.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use outgrow_data::files::{Found, content, read_problem, storage_problem};
use outgrow_data::source::{idx, json_lines};
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use outgrow_transform::{Origin, Pixels, RawFormat, Record, Role, Transform, Value, image};

/// Larger files, unpacked, are refused.
const BYTES_MAX: u64 = 1 << 30;
/// What stands around the fields of a table, when the training data was none.
const BLANKS: &str = " \t";

/// Records in their order, each by itself good or bad.
type Rows = Vec<Result<Record, Diagnostic>>;

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
    pub fn read(&self, path: &Path) -> Result<Rows, Diagnostic> {
        let bytes = read(&self.storage, path)?;
        let file: Arc<Path> = path.into();
        let rows = match &self.transform.assembly.image {
            Some(input) => self.images(&bytes, &file, input.column),
            None if bytes.trim_ascii_start().starts_with(b"{") => Ok(self.json(&bytes, &file)),
            None => self.table(&bytes, &file),
        };
        rows.map_err(|problem| Origin { file: Some(file), ..Origin::default() }.place(problem))
    }

    /// One image, or the images of an IDX file.
    fn images(&self, bytes: &[u8], file: &Arc<Path>, column: usize) -> Result<Rows, Diagnostic> {
        let assembly = &self.transform.assembly;
        if assembly.features.is_some() || assembly.categories.is_some() {
            let problem = "the model takes more than an image, which `predict` cannot read yet";
            return Err(Diagnostic::new("predict.input", problem));
        }
        let record = |value: Value, row: u64| {
            let mut values = vec![Value::Missing; self.transform.columns.0.len()];
            values[column] = value;
            Record { values, origin: Origin { file: Some(file.clone()), line: None, row } }
        };
        if image::is_image(bytes) {
            return Ok(vec![Ok(record(Value::Encoded(bytes.to_vec()), 0))]);
        }
        if !bytes.starts_with(&[0, 0]) {
            return Err(Diagnostic::new("predict.image", "the file is no image")
                .expected("a PNG, JPEG, WebP or IDX file, as the model was trained on images"));
        }
        let tensor = idx::parse(bytes)?;
        let shape = match tensor.shape().dims() {
            [_, w] => [1, 1, *w],
            [_, h, w] => [1, *h, *w],
            [_, c, h, w] => [*c, *h, *w],
            _ => {
                return Err(Diagnostic::new("predict.image", "the IDX file holds no images")
                    .expected("2 to 4 dimensions: count (, channels) (, height), width"));
            }
        };
        let [channels, height, width] = shape;
        image::check_size(channels, height, width)?;
        let pixels = tensor.as_slice::<u8>().map_err(|e| {
            Diagnostic::new("predict.image", e.to_string()).expected("images of 8-bit samples")
        })?;
        let images = pixels.chunks_exact(channels * height * width).zip(1..);
        let pixels = |data: &[u8]| Value::Pixels(Pixels { channels, height, width, data: data.to_vec() });
        Ok(images.map(|(data, row)| Ok(record(pixels(data), row))).collect())
    }

    /// The rows of a file of JSON lines, whose labels are not looked at.
    fn json(&self, bytes: &[u8], file: &Arc<Path>) -> Rows {
        let columns = &self.transform.columns;
        let mut rows = json_lines::parse_as(bytes, columns, &self.format.missing);
        for record in rows.iter_mut().flatten() {
            record.origin.file = Some(file.clone());
            for (value, column) in record.values.iter_mut().zip(&columns.0) {
                if column.role == Role::Label {
                    *value = Value::Missing;
                }
            }
        }
        rows
    }

    /// The rows of a CSV file.
    fn table(&self, bytes: &[u8], file: &Arc<Path>) -> Result<Rows, Diagnostic> {
        let byte = |text: &str| text.as_bytes().first().copied();
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(byte(&self.format.delimiter).unwrap_or(b','))
            .comment(self.format.comment.as_deref().and_then(byte))
            .from_reader(bytes);
        let mut lines = reader.byte_records().peekable();
        let unreadable = |e: &csv::Error| {
            Diagnostic::new("data.csv.read", format!("the file cannot be read: {e}")).file(&**file)
        };
        let layout = match lines.peek() {
            Some(Ok(first)) => self.layout(first)?,
            Some(Err(e)) => return Err(unreadable(e)),
            None => return Err(Diagnostic::new("predict.empty", "the file has no rows")),
        };
        if layout.header {
            lines.next();
        }
        let rows = lines.zip(1..).map(|(line, row)| {
            let line = line.map_err(|e| unreadable(&e))?;
            let number = line.position().map(|p| p.line() as usize);
            let origin = Origin { file: Some(file.clone()), line: number, row };
            match self.values(&line, &layout) {
                Ok(values) => Ok(Record { values, origin }),
                Err(problem) => Err(origin.place(problem)),
            }
        });
        Ok(rows.collect())
    }

    /// Which field holds which column, told by the first line: its names, or else how many fields it has.
    fn layout(&self, first: &csv::ByteRecord) -> Result<Layout, Diagnostic> {
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
                Err(Diagnostic::new("predict.columns", problem).line(1).expected(format!(
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
                Err(_) => Err(Diagnostic::new("data.csv.utf8", "the field is not UTF-8 text").item(item)),
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

/// The whole content of a file, unpacked.
pub fn read(storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let entry = storage.entry(path).map_err(|e| storage_problem(&e))?;
    let Some(entry) = entry.filter(|entry| !entry.is_folder) else {
        return Err(Diagnostic::new("predict.file", "there is no such file").file(path));
    };
    let found = Found { shown: path.display().to_string(), path: path.to_owned(), bytes: entry.bytes };
    let mut bytes = Vec::new();
    content(storage, &found)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| read_problem(&e, path))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Diagnostic::new("predict.file", "the file is too large")
            .file(path)
            .expected(format!("at most {BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

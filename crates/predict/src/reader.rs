//! From files, bytes or a stream to the raw records that the model was trained on: images (PNG, JPEG, WebP, IDX, or in
//! tables), tables (CSV, JSON lines, Parquet, Arrow, NumPy), the text formats packed by gzip or not. What a record's
//! label says is not read: no prediction may depend on it. Tables and IDX files are read record by record, and may be
//! of any length.

mod layout;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::csv::ByteRecord;
use bytes::Bytes;
use outgrow_data::files::{Found, read_problem, storage_problem};
use outgrow_data::source::csv::{self, Lines};
use outgrow_data::source::file_table::{self, FileTable, Kind};
use outgrow_data::source::image_folder::images_below;
use outgrow_data::source::{idx, json_lines};
use outgrow_data::{Content, unpacked};
use outgrow_env::{Entry, StorageBackend};
use outgrow_ir::Diagnostic;
use outgrow_transform::{Column, ColumnKind, Origin, RawFormat, Record, Role, Transform, Value, image};

use layout::Layout;

/// Larger files that must be in memory as a whole, unpacked, are refused.
const BYTES_MAX: u64 = 1 << 30;
/// What stands around the fields of a table, when the training data was none.
const BLANKS: &str = " \t";
/// As many bytes tell what an image file is.
const MAGIC_BYTES: u64 = 12;
/// As many bytes of a table are looked at to tell what it is: few, for more may only come once these are answered.
const START_BYTES: u64 = 8;

/// Records in their order, each by itself good or bad.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Record, Diagnostic>> + 'a>;
/// The lines of a CSV file.
type Table = Lines<Stream>;
/// What is read from its start to its end.
type Stream = Box<dyn Read + Send>;

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

    /// The files that a path stands for: itself, or for a folder those in it that the model can read, in the order of
    /// their names: images at any depth, tables directly in it.
    ///
    /// # Errors
    /// When there is nothing, or nothing of that kind.
    pub fn files(&self, storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
        if entry(&**storage, path)?.is_none_or(|entry| !entry.is_folder) {
            return Ok(vec![find(storage, path)?.path]);
        }
        let of_images = self.transform.assembly.image.is_some();
        let mut files = if of_images { images_below(&**storage, path)? } else { Vec::new() };
        let endings: Vec<&str> = match of_images {
            true => file_table::endings().collect(),
            false => {
                csv::ENDINGS.iter().chain(json_lines::ENDINGS).copied().chain(file_table::endings()).collect()
            }
        };
        if files.is_empty() {
            let entries = storage.list(path).map_err(|e| storage_problem(&e))?;
            let fits = |name: &str| endings.iter().any(|ending| name.ends_with(ending));
            files
                .extend(entries.iter().filter(|e| !e.is_folder && fits(&e.name)).map(|e| path.join(&e.name)));
        }
        if !files.is_empty() {
            return Ok(files);
        }
        let images = if of_images { "images (.png, .jpg, .jpeg, .webp), or " } else { "" };
        Err(Diagnostic::new("predict.file", "the folder holds nothing that the model reads")
            .file(path)
            .expected(format!("{images}files that end in {}", endings.join(", ")))
            .hint("name the files themselves, for example as `FOLDER/*`"))
    }

    /// The records of a file.
    ///
    /// # Errors
    /// A diagnostic for a file that cannot be read or is of the wrong kind; a bad row is only an error of its own.
    pub fn file(&self, storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Records<'_>, Diagnostic> {
        let found = find(storage, path)?;
        let columns = &self.transform.columns;
        let wanted = |name: &str| columns.position(name).is_some_and(|i| columns.0[i].role != Role::Label);
        match file_table::open(storage, &found, &wanted)? {
            Some(table) => self.described(table).map_err(|problem| problem.file(path)),
            None => self.read(&Content::File(storage.clone(), found), Some(path)),
        }
    }

    /// The records of what would be a file's content, as a request brings it.
    ///
    /// # Errors
    /// As [`Reader::file`].
    pub fn bytes(&self, bytes: Bytes) -> Result<Records<'_>, Diagnostic> {
        self.read(&Content::Memory(bytes), None)
    }

    /// The records of what comes from a pipe, which is called `name`: the rows of a table, or one file of images.
    ///
    /// # Errors
    /// As [`Reader::file`], and for what can only be read as a file.
    pub fn stream(&self, stream: Stream, name: &Path) -> Result<Records<'_>, Diagnostic> {
        if self.transform.assembly.image.is_some() {
            return self.read(&Content::Memory(read_stream(stream, name)?.into()), Some(name));
        }
        let stream = unpacked(stream).map_err(|e| read_problem(&e, name))?;
        let origin = Origin { file: Some(Arc::from(name)), ..Origin::default() };
        self.rows(stream, &origin).map_err(|problem| origin.place(problem))
    }

    fn read(&self, content: &Content, name: Option<&Path>) -> Result<Records<'_>, Diagnostic> {
        let origin = Origin { file: name.map(Arc::from), ..Origin::default() };
        let rows = match &self.transform.assembly.image {
            Some(input) => self.images(content, &origin, input.column),
            None => content.open().and_then(|stream| self.rows(stream, &origin)),
        };
        rows.map_err(|problem| origin.place(problem))
    }

    /// The rows of a table of text.
    fn rows(&self, mut stream: Stream, origin: &Origin) -> Result<Records<'_>, Diagnostic> {
        let nowhere = Path::new("");
        let unreadable = |e| read_problem(&e, origin.file.as_deref().unwrap_or(nowhere));
        let start = start(&mut stream).map_err(unreadable)?;
        if let Some(kind) = Kind::of(&start) {
            return Err(Diagnostic::new(
                "predict.stream",
                format!("{} data can only be read from a file", kind.name()),
            )
            .expected("CSV or JSON lines")
            .hint("write it to a file, and name that"));
        }
        let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
        let is_json = first == Some(&b'{');
        let stream: Stream = Box::new(std::io::Cursor::new(start).chain(stream));
        if is_json { self.json(stream, origin) } else { self.table(stream, origin) }
    }

    /// The rows of a file that says which columns it has.
    fn described(&self, table: FileTable) -> Result<Records<'_>, Diagnostic> {
        let places = layout::of_table(self.transform, &table)?;
        let columns = &self.transform.columns.0;
        Ok(Box::new(table.records.map(move |record| {
            let Record { mut values, origin } = record?;
            let mut value = |(column, place): (&Column, &Option<usize>)| {
                let value = place.and_then(|i| values.get_mut(i));
                let value = value.map_or(Value::Missing, |v| std::mem::replace(v, Value::Missing));
                match (value, &column.kind) {
                    (Value::Text(text), ColumnKind::Number) => self.format.parse_in(&text, column),
                    (Value::Number(n), ColumnKind::Text) => Ok(Value::Text(n.to_string())),
                    (value, _) => Ok(value),
                }
            };
            let values = columns.iter().zip(&places).map(&mut value).collect::<Result<_, _>>();
            match values {
                Ok(values) => Ok(Record { values, origin }),
                Err(problem) => Err(origin.place(problem)),
            }
        })))
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
            let bytes = whole(content.open()?, &|e| content.unreadable(e))?;
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
    fn json(&self, stream: Stream, origin: &Origin) -> Result<Records<'_>, Diagnostic> {
        let columns = &self.transform.columns;
        let rows = json_lines::records_as(stream, origin.file.clone(), columns, &self.format.missing);
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
    fn table(&self, stream: Stream, origin: &Origin) -> Result<Records<'_>, Diagnostic> {
        let mut lines: Table = Lines::new(stream, &self.format, origin.file.clone());
        let (layout, mut first) = match lines.next() {
            Some(Ok((number, fields))) => {
                let layout = Layout::of_line(self, fields, number)?;
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
        let record = move |number: usize, fields: &ByteRecord, row: u64| {
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

    /// The values of a line; columns that it does not have, and the label, are missing.
    fn values(&self, line: &ByteRecord, layout: &Layout) -> Result<Vec<Value>, Diagnostic> {
        if line.len() != layout.width {
            return Err(Diagnostic::new(
                "data.csv.ragged-row",
                format!("the line has {} fields", line.len()),
            )
            .expected(format!("{} fields, as in the first line", layout.width))
            .hint("put fields that contain the delimiter into quotation marks"));
        }
        let columns = self.transform.columns.0.iter();
        let value = |(column, place): (&Column, &Option<usize>)| {
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

/// The start of a stream, up to the first character that is no blank and so that a file's kind can be told.
fn start(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    loop {
        let before = start.len();
        stream.by_ref().take(START_BYTES).read_to_end(&mut start)?;
        if start.len() == before || start.iter().any(|byte| !byte.is_ascii_whitespace()) {
            return Ok(start);
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
            "a file: an image, a table (CSV, JSON lines, Parquet, Arrow, NumPy), an IDX file or, for a language model, a text",
        )
    };
    match entry(&**storage, path)? {
        Some(entry) if entry.is_folder => {
            Err(missing("it is a folder").hint("name the files in it, for example as `FOLDER/*`"))
        }
        Some(entry) => {
            Ok(Found { shown: path.display().to_string(), path: path.to_owned(), bytes: entry.bytes })
        }
        // Who gives a language model words in place of a file.
        None if path.extension().is_none() => Err(missing("there is no such file").hint(
            "paths are relative to the folder that the command runs in; what a language model is to go on with may come \
             through a pipe: echo WORDS | outgrow predict MODEL -",
        )),
        None => Err(missing("there is no such file")
            .hint("paths are relative to the folder that the command runs in")),
    }
}

/// The whole content of a file, unpacked where it is compressed by gzip.
///
/// # Errors
/// When it is not there, cannot be read, or is larger than 1 GiB.
pub fn read_file(storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let content = Content::File(storage.clone(), find(storage, path)?);
    whole(content.open()?, &|e| content.unreadable(e)).map_err(|problem| content.place(problem))
}

/// All that a stream, which is called `name`, gives, unpacked where it is compressed by gzip.
///
/// # Errors
/// When it cannot be read, or is larger than 1 GiB.
pub fn read_stream(stream: Stream, name: &Path) -> Result<Vec<u8>, Diagnostic> {
    let unreadable = |e: &std::io::Error| read_problem(e, name);
    let stream = unpacked(stream).map_err(|e| unreadable(&e))?;
    whole(stream, &unreadable).map_err(|problem| problem.file(name))
}

fn whole(stream: Stream, unreadable: &dyn Fn(&std::io::Error) -> Diagnostic) -> Result<Vec<u8>, Diagnostic> {
    let mut bytes = Vec::new();
    stream.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Diagnostic::new("predict.file", "the file is too large")
            .expected(format!("at most {BYTES_MAX} bytes"))
            .hint("divide it among several files"));
    }
    Ok(bytes)
}

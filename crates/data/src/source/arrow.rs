//! Arrow IPC: the file format (`.arrow`, `.feather` of version 2) and the stream format. Columns are handled as in
//! Parquet files: numbers and text, plain or as dictionaries, and images embedded as PNG, JPEG or WebP files, either
//! as bytes or in the layout of the Hugging Face Hub (a struct of `bytes` and `path`). Everything else is left out.
//!
//! A file is the stream of its messages between two marks, so both are read as a stream, one message at a time. What
//! a message claims is checked against what is there before the `arrow-ipc` crate sees it.

use super::file_table::FileTable;
use super::parquet::class_names_of;
use super::part_files::PartFiles;
use super::{Context, Opened, Part, RecordSource, Records, SourceKind};
use crate::DataSpec;
use crate::files::{FileReader, Found, read_problem};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, types};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{MessageHeader, RecordBatch as Layout, root_as_message};
use arrow_schema::{DataType, Schema};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, shielded};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, Record, Value};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// `source = "arrow"`.
pub const KIND: SourceKind = SourceKind {
    name: "arrow",
    keys: &["files", "image", "size", "channels", "label", "task", "features", "exclude"],
    open,
};

/// Endings of the files that a folder contributes.
pub(super) const ENDINGS: &[&str] = &[".arrow", ".feather", ".arrows", ".ipc"];
/// The label's column unless the manifest names another.
const LABEL: &str = "label";
/// The field of a struct that holds an image's file.
const IMAGE_BYTES: &str = "bytes";
/// What a file begins with; a stream does not.
const MAGIC: &[u8] = b"ARROW1\0\0";
/// What precedes the length of a message since version 0.15.
const CONTINUATION: u32 = u32::MAX;
/// A larger description of a message is refused.
const METADATA_BYTES_MAX: u64 = 1 << 26;
/// A compressed buffer may unpack to this and so many times its size, all of a message to the second.
const UNPACKED_BYTES: u64 = 1 << 26;
const UNPACKED_TIMES: u64 = 1 << 10;
const UNPACKED_BYTES_MAX: u64 = 1 << 31;

fn broken(file: &Path, why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new("data.arrow.read", format!("the Arrow file cannot be read: {why}"))
        .file(file)
        .expected("an Arrow IPC file or stream, compressed by LZ4 or Zstandard if at all")
        .hint("the file may be cut short or damaged, or Feather of version 1: fetch it again, or write it with `pyarrow.feather.write_feather(table, path, version=2)`")
}

/// How a column is read; `None` when it is not.
fn kind_of(ty: &DataType) -> Option<ColumnKind> {
    use DataType::*;
    match ty {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float16 | Float32
        | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Date32 | Date64 | Time32(_)
        | Time64(_) | Timestamp(..) | Duration(_) => Some(ColumnKind::Number),
        Utf8 | LargeUtf8 | Utf8View => Some(ColumnKind::Text),
        Binary | LargeBinary | BinaryView => Some(ColumnKind::Image),
        // Dictionaries of dictionaries and of images are legal, but nobody writes them.
        Dictionary(_, value) if matches!(**value, Dictionary(..)) => None,
        Dictionary(_, value) => kind_of(value).filter(|kind| *kind != ColumnKind::Image),
        Struct(fields) => {
            let bytes = fields.iter().find(|f| f.name() == IMAGE_BYTES)?;
            kind_of(bytes.data_type()).filter(|kind| *kind == ColumnKind::Image)
        }
        _ => None,
    }
}

/// A column that is read.
#[derive(Clone, Debug, PartialEq)]
struct Leaf {
    name: String,
    /// Its number among the file's columns.
    number: usize,
    kind: ColumnKind,
}

fn leaves(schema: &Schema) -> Vec<Leaf> {
    let leaf = |(number, field): (usize, &arrow_schema::FieldRef)| {
        Some(Leaf { name: field.name().clone(), number, kind: kind_of(field.data_type())? })
    };
    schema.fields().iter().enumerate().filter_map(leaf).collect()
}

/// The value in each place of a column.
type Cells<'a> = Box<dyn Fn(usize) -> Value + 'a>;

/// Reads numbers of one type.
fn numbers<'a, T: types::ArrowPrimitiveType>(
    array: &'a ArrayRef,
    convert: impl Fn(T::Native) -> f64 + 'a,
) -> Cells<'a> {
    let array = array.as_primitive::<T>();
    Box::new(move |i| match array.is_null(i) {
        true => Value::Missing,
        false => finite(convert(array.value(i))),
    })
}

/// Floating point columns mark missing values by NaN, too.
fn finite(n: f64) -> Value {
    if n.is_nan() { Value::Missing } else { Value::Number(n) }
}

/// Reads a column; `None` for a type that is not read.
fn cells(array: &ArrayRef) -> Option<Cells<'_>> {
    use DataType::*;
    use arrow_schema::TimeUnit::*;
    /// A present value of a typed array.
    macro_rules! plain {
        ($array:expr, $value:expr) => {{
            let array = $array;
            Box::new(move |i| if array.is_null(i) { Value::Missing } else { $value(array.value(i)) })
        }};
    }
    let power = |scale: i8| libm::pow(10.0, f64::from(scale));
    let whole = |n: i64| n as f64;
    let text = |t: &str| Value::Text(t.to_owned());
    let image = |b: &[u8]| Value::Encoded(b.to_vec());
    Some(match array.data_type() {
        Boolean => plain!(array.as_boolean(), |b| Value::Number(f64::from(u8::from(b)))),
        Int8 => numbers::<types::Int8Type>(array, f64::from),
        Int16 => numbers::<types::Int16Type>(array, f64::from),
        Int32 => numbers::<types::Int32Type>(array, f64::from),
        Int64 => numbers::<types::Int64Type>(array, whole),
        UInt8 => numbers::<types::UInt8Type>(array, f64::from),
        UInt16 => numbers::<types::UInt16Type>(array, f64::from),
        UInt32 => numbers::<types::UInt32Type>(array, f64::from),
        UInt64 => numbers::<types::UInt64Type>(array, |n| n as f64),
        Float16 => numbers::<types::Float16Type>(array, |n| n.to_f64()),
        Float32 => numbers::<types::Float32Type>(array, f64::from),
        Float64 => numbers::<types::Float64Type>(array, |n| n),
        Decimal32(_, s) => numbers::<types::Decimal32Type>(array, move |n| f64::from(n) / power(*s)),
        Decimal64(_, s) => numbers::<types::Decimal64Type>(array, move |n| n as f64 / power(*s)),
        Decimal128(_, s) => numbers::<types::Decimal128Type>(array, move |n| n as f64 / power(*s)),
        Date32 => numbers::<types::Date32Type>(array, f64::from),
        Date64 => numbers::<types::Date64Type>(array, whole),
        Time32(Second) => numbers::<types::Time32SecondType>(array, f64::from),
        Time32(_) => numbers::<types::Time32MillisecondType>(array, f64::from),
        Time64(Microsecond) => numbers::<types::Time64MicrosecondType>(array, whole),
        Time64(_) => numbers::<types::Time64NanosecondType>(array, whole),
        Timestamp(Second, _) => numbers::<types::TimestampSecondType>(array, whole),
        Timestamp(Millisecond, _) => numbers::<types::TimestampMillisecondType>(array, whole),
        Timestamp(Microsecond, _) => numbers::<types::TimestampMicrosecondType>(array, whole),
        Timestamp(Nanosecond, _) => numbers::<types::TimestampNanosecondType>(array, whole),
        Duration(Second) => numbers::<types::DurationSecondType>(array, whole),
        Duration(Millisecond) => numbers::<types::DurationMillisecondType>(array, whole),
        Duration(Microsecond) => numbers::<types::DurationMicrosecondType>(array, whole),
        Duration(Nanosecond) => numbers::<types::DurationNanosecondType>(array, whole),
        Utf8 => plain!(array.as_string::<i32>(), text),
        LargeUtf8 => plain!(array.as_string::<i64>(), text),
        Utf8View => plain!(array.as_string_view(), text),
        Binary => plain!(array.as_binary::<i32>(), image),
        LargeBinary => plain!(array.as_binary::<i64>(), image),
        BinaryView => plain!(array.as_binary_view(), image),
        Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let (keys, values) = (dictionary_keys(dictionary)?, cells(dictionary.values())?);
            Box::new(move |i| keys(i).map_or(Value::Missing, &values))
        }
        Struct(_) => {
            let array = array.as_struct();
            let bytes = cells(array.column_by_name(IMAGE_BYTES)?)?;
            Box::new(move |i| if array.is_null(i) { Value::Missing } else { bytes(i) })
        }
        _ => return None,
    })
}

/// The place in its dictionary of each value.
fn dictionary_keys(
    array: &dyn arrow_array::AnyDictionaryArray,
) -> Option<Box<dyn Fn(usize) -> Option<usize> + '_>> {
    let keys = array.keys();
    macro_rules! keys {
        ($ty:ty) => {{
            let keys = keys.as_primitive::<$ty>();
            Box::new(move |i| if keys.is_null(i) { None } else { usize::try_from(keys.value(i)).ok() })
        }};
    }
    Some(match keys.data_type() {
        DataType::Int8 => keys!(types::Int8Type),
        DataType::Int16 => keys!(types::Int16Type),
        DataType::Int32 => keys!(types::Int32Type),
        DataType::Int64 => keys!(types::Int64Type),
        DataType::UInt8 => keys!(types::UInt8Type),
        DataType::UInt16 => keys!(types::UInt16Type),
        DataType::UInt32 => keys!(types::UInt32Type),
        DataType::UInt64 => keys!(types::UInt64Type),
        _ => return None,
    })
}

/// The messages of a file, decoded one after the other.
struct Messages {
    reader: FileReader,
    /// Bytes of the file that are left.
    left: u64,
    decoder: StreamDecoder,
    path: Arc<Path>,
}

impl Messages {
    fn open(storage: &Arc<dyn StorageBackend>, file: &Found) -> Result<Self, Diagnostic> {
        let path: Arc<Path> = Arc::from(file.path.as_path());
        let mut start = Vec::new();
        let head = FileReader::new(storage.clone(), file).starting_at(0);
        head.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(|e| read_problem(&e, &path))?;
        let begin = if start == MAGIC { MAGIC.len() as u64 } else { 0 };
        let reader = FileReader::new(storage.clone(), file).going_on_at(begin);
        Ok(Self { reader, left: file.bytes - begin, decoder: StreamDecoder::new(), path })
    }

    fn take(&mut self, bytes: u64, out: &mut Vec<u8>) -> Result<(), Diagnostic> {
        if bytes > self.left {
            return Err(broken(&self.path, "it ends within a message"));
        }
        let read = self.reader.by_ref().take(bytes).read_to_end(out);
        let read = read.map_err(|e| read_problem(&e, &self.path))?;
        if (read as u64) < bytes {
            return Err(broken(&self.path, "it ends within a message"));
        }
        self.left -= bytes;
        Ok(())
    }

    /// The next message, its description and its body; none at the end.
    fn message(&mut self) -> Result<Option<Vec<u8>>, Diagnostic> {
        // A stream may end without a mark.
        if self.left == 0 {
            return Ok(None);
        }
        let mut length = self.word()?;
        if length == CONTINUATION {
            length = self.word()?;
        }
        if length == 0 {
            return Ok(None);
        }
        if u64::from(length) > METADATA_BYTES_MAX {
            return Err(broken(&self.path, format!("a message is described by {length} bytes")));
        }
        let mut bytes = Vec::new();
        self.take(u64::from(length), &mut bytes)?;
        let body = body_bytes(&bytes, self.left).map_err(|why| broken(&self.path, why))?;
        let start = bytes.len();
        self.take(body, &mut bytes)?;
        let (metadata, body) = bytes.split_at(start);
        check_body(metadata, body).map_err(|why| broken(&self.path, why))?;
        self.decode(length.to_le_bytes())?;
        Ok(Some(bytes))
    }

    fn word(&mut self) -> Result<u32, Diagnostic> {
        let mut bytes = Vec::new();
        self.take(4, &mut bytes)?;
        Ok(bytes.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b)))
    }

    /// The next records; none at the end.
    fn batch(&mut self) -> Result<Option<RecordBatch>, Diagnostic> {
        while let Some(message) = self.message()? {
            if let Some(batch) = self.decode_message(message)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Hands bytes to the decoder so that nothing in them can end the process.
    fn decode(&mut self, bytes: impl Into<Buffer>) -> Result<Option<RecordBatch>, Diagnostic> {
        let mut buffer = bytes.into();
        let decoder = &mut self.decoder;
        let decoded = shielded(|| decoder.decode(&mut buffer));
        decoded.ok_or_else(|| broken(&self.path, "the reader gave up"))?.map_err(|e| broken(&self.path, e))
    }

    /// Decodes a whole message. The mark that begins the next one goes with it, for a message without a body is only
    /// looked at when more follows.
    fn decode_message(&mut self, bytes: Vec<u8>) -> Result<Option<RecordBatch>, Diagnostic> {
        let batch = self.decode(Buffer::from_vec(bytes))?;
        let late = self.decode(CONTINUATION.to_le_bytes())?;
        Ok(batch.or(late))
    }

    /// Reads until the columns are known.
    fn schema(&mut self) -> Result<Arc<Schema>, Diagnostic> {
        loop {
            if let Some(schema) = self.decoder.schema() {
                return Ok(schema);
            }
            let Some(message) = self.message()? else {
                return Err(broken(&self.path, "it does not say which columns it has"));
            };
            self.decode_message(message)?;
        }
    }
}

/// The length of a message's body.
fn body_bytes(metadata: &[u8], left: u64) -> Result<u64, String> {
    let message = root_as_message(metadata).map_err(|e| e.to_string())?;
    let bytes =
        u64::try_from(message.bodyLength()).map_err(|_| "a message has a negative length".to_owned())?;
    if bytes > left { Err("it ends within a message".into()) } else { Ok(bytes) }
}

/// Refuses a message whose buffers lie outside of it, or claim to unpack to absurd sizes.
fn check_body(metadata: &[u8], body: &[u8]) -> Result<(), String> {
    let message = root_as_message(metadata).map_err(|e| e.to_string())?;
    let layout: Option<Layout<'_>> = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|d| d.data()),
        MessageHeader::Schema => return Ok(()),
        other => return Err(format!("a message of the kind {other:?}")),
    };
    let layout = layout.ok_or("a message without content")?;
    let mut total = 0u64;
    for buffer in layout.buffers().into_iter().flatten() {
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = range.and_then(|(start, length)| body.get(start..start.checked_add(length)?));
        let bytes = bytes.ok_or("a buffer reaches beyond its message")?;
        if layout.compression().is_none() || bytes.is_empty() {
            continue;
        }
        let claimed = bytes.first_chunk::<8>().map(|b| i64::from_le_bytes(*b));
        let claimed = claimed.ok_or("a compressed buffer without its length")?;
        let unpacked = u64::try_from(claimed).unwrap_or(0);
        total = total.saturating_add(unpacked);
        if unpacked > UNPACKED_BYTES + UNPACKED_TIMES * bytes.len() as u64 || total > UNPACKED_BYTES_MAX {
            return Err(format!("a buffer claims to unpack to {unpacked} bytes"));
        }
    }
    Ok(())
}

/// The records of one file.
struct FileRecords {
    messages: Messages,
    leaves: Vec<Leaf>,
    ready: std::vec::IntoIter<Vec<Value>>,
    batch: Option<RecordBatch>,
    /// The next row of the batch.
    at: usize,
    row: u64,
    ended: bool,
}

/// Records that are turned into values at a time.
const BLOCK_RECORDS: usize = 256;

impl FileRecords {
    fn new(messages: Messages, leaves: Vec<Leaf>) -> Self {
        let ready = Vec::new().into_iter();
        Self { messages, leaves, ready, batch: None, at: 0, row: 0, ended: false }
    }

    /// Makes the next block of records ready. Nothing is ready at the end.
    fn fill(&mut self) -> Result<(), Diagnostic> {
        let batch = loop {
            match self.batch.take() {
                Some(batch) if self.at < batch.num_rows() => break batch,
                _ => {
                    self.at = 0;
                    self.batch = self.messages.batch()?;
                    if self.batch.is_none() {
                        return Ok(());
                    }
                }
            }
        };
        let end = batch.num_rows().min(self.at + BLOCK_RECORDS);
        let path = self.messages.path.clone();
        let rows = shielded(|| {
            let mut rows: Vec<Vec<Value>> = vec![Vec::with_capacity(self.leaves.len()); end - self.at];
            for leaf in &self.leaves {
                let cells = cells(batch.column(leaf.number))?;
                rows.iter_mut().zip(self.at..).for_each(|(row, i)| row.push(cells(i)));
            }
            Some(rows)
        });
        let Some(Some(rows)) = rows else { return Err(broken(&path, "the reader gave up")) };
        self.ready = rows.into_iter();
        self.at = end;
        self.batch = Some(batch);
        Ok(())
    }
}

impl Iterator for FileRecords {
    type Item = Result<Record, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.len() == 0 && !self.ended {
            if let Err(problem) = self.fill() {
                self.ended = true;
                return Some(Err(problem.item(format!("after record {}", self.row))));
            }
            self.ended = self.ready.len() == 0;
        }
        let values = self.ready.next()?;
        self.row += 1;
        let origin = Origin { file: Some(self.messages.path.clone()), line: None, row: self.row };
        Some(Ok(Record { values, origin }))
    }
}

struct ArrowSource {
    storage: Arc<dyn StorageBackend>,
    columns: Columns,
    files: PartFiles,
    class_names: Option<Vec<String>>,
    labels_are_classes: bool,
}

fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    let files = PartFiles::find(spec, context, KIND.name, ENDINGS)?;
    let storage = context.finder.storage.clone();
    let schema = Messages::open(&storage, files.first())?.schema()?;
    let leaves = leaves(&schema);
    for file in files.all().skip(1) {
        let found = self::leaves(&*Messages::open(&storage, file)?.schema()?);
        let same = |(a, b): (&Leaf, &Leaf)| (&a.name, &a.kind) == (&b.name, &b.kind);
        if found.len() != leaves.len() || !found.iter().zip(&leaves).all(same) {
            let names = |l: &[Leaf]| l.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
            let problem = format!("the file's columns are {}", names(&found));
            return Err(Diagnostic::new("data.arrow.columns", problem)
                .file(&file.path)
                .expected(format!("{} as in {}", names(&leaves), files.first().path.display()))
                .into());
        }
    }
    let columns = columns(&leaves);
    let label = spec.label.as_ref().and_then(|l| l.list().first()).map_or(LABEL, String::as_str);
    let has_image = leaves.iter().any(|l| l.kind == ColumnKind::Image);
    let of_label = |leaf: &Leaf| {
        leaf.name == label && (has_image || *schema.field(leaf.number).data_type() == DataType::Boolean)
    };
    let labels_are_classes = leaves.iter().any(of_label);
    let class_names = schema.metadata().get("huggingface").and_then(|text| class_names_of(text, label));
    Ok(Opened::Records(Box::new(ArrowSource { storage, columns, files, class_names, labels_are_classes })))
}

fn columns(leaves: &[Leaf]) -> Columns {
    Columns(leaves.iter().map(|leaf| Column::new(&leaf.name, leaf.kind.clone())).collect())
}

/// One file by itself, of which only the columns that are wanted are made into values.
pub(super) fn file_table(
    storage: &Arc<dyn StorageBackend>,
    file: &Found,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<FileTable, Diagnostic> {
    let mut messages = Messages::open(storage, file)?;
    let mut leaves = leaves(&*messages.schema()?);
    let names = leaves.iter().map(|leaf| leaf.name.clone()).collect();
    leaves.retain(|leaf| wanted(&leaf.name));
    let columns = columns(&leaves);
    let records = Box::new(FileRecords::new(messages, leaves));
    Ok(FileTable { columns, names, by_place: false, records })
}

impl RecordSource for ArrowSource {
    fn columns(&self) -> &Columns {
        &self.columns
    }
    fn files(&self) -> Vec<Found> {
        self.files.all().cloned().collect()
    }
    fn default_label(&self) -> Option<&str> {
        self.columns.position(LABEL).map(|_| LABEL)
    }
    fn class_names(&self) -> Option<Vec<String>> {
        self.class_names.clone()
    }
    fn labels_are_classes(&self) -> bool {
        self.labels_are_classes || self.class_names.is_some()
    }
    fn has_test(&self) -> bool {
        self.files.has_test()
    }
    fn count(&self, _: Part) -> Option<u64> {
        None
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        Ok(self.files.records(part, |file| {
            let mut messages = Messages::open(&self.storage, file)?;
            let leaves = leaves(&*messages.schema()?);
            Ok(FileRecords::new(messages, leaves))
        }))
    }
}

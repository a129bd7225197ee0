//! Parquet files: plain columns of numbers and text, and images embedded as PNG or JPEG files, either as a column of
//! bytes or in the layout of the Hugging Face Hub (a struct of `bytes` and `path`). Lists and maps are left out, which
//! the source's notes say.

use super::file_table::FileTable;
use super::part_files::PartFiles;
use super::{Context, Opened, Part, RecordSource, Records, SourceKind};
use crate::DataSpec;
use crate::files::{FileReader, Found};
use bytes::Bytes;
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, shielded};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, Record, Value};
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, FileReader as _, Length, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// `source = "parquet"`.
pub const KIND: SourceKind = SourceKind {
    name: "parquet",
    keys: &["files", "image", "size", "channels", "label", "task", "features", "exclude"],
    open,
};

/// Endings of the files that a folder contributes.
pub(super) const ENDINGS: &[&str] = &[".parquet"];
/// Records that are read at a time.
const BLOCK_RECORDS: usize = 256;
/// The label's column unless the manifest names another.
const LABEL: &str = "label";
/// The field of a struct that holds an image's file.
const IMAGE_BYTES: &str = "bytes";

/// A file of a storage, as the Parquet reader wants it.
struct Chunks {
    storage: Arc<dyn StorageBackend>,
    file: Found,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file.bytes
    }
}

impl ChunkReader for Chunks {
    type T = FileReader;

    fn get_read(&self, start: u64) -> ParquetResult<FileReader> {
        Ok(FileReader::new(self.storage.clone(), &self.file).starting_at(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.storage.read_range(&self.file.path, start, length);
        bytes.map(Bytes::from).map_err(|e| ParquetError::General(e.to_string()))
    }
}

fn broken(file: &Path, why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new("data.parquet.read", format!("the Parquet file cannot be read: {why}"))
        .file(file)
        .expected(
            "a whole Parquet file, without encryption, compressed by Snappy, gzip or Zstandard if at all",
        )
        .hint("the file may be cut short or damaged: fetch it again")
}

/// Runs the reader so that nothing in a file can end the process.
fn guarded<T>(file: &Path, read: impl FnOnce() -> ParquetResult<T>) -> Result<T, Diagnostic> {
    shielded(read).ok_or_else(|| broken(file, "the reader gave up"))?.map_err(|e| broken(file, e))
}

/// A column of a file that is read.
#[derive(Clone, Debug, PartialEq)]
struct Leaf {
    name: String,
    /// Its number among the file's columns.
    number: usize,
    /// The definition level of a value that is there.
    defined: i16,
    content: Content,
}

/// What a column's values mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    /// Numbers that are divided by this: 1, or a power of ten for decimals.
    Number(f64),
    /// Whole numbers without a sign.
    Unsigned,
    /// Truth values.
    Bool,
    /// Numbers of 16 bits (IEEE 754 binary16).
    Half,
    /// Whole numbers in two's complement, the highest byte first, divided by this power of ten.
    Decimal(f64),
    Text,
    Image,
}

impl Leaf {
    /// How a column is read, or why it is not.
    fn of(number: usize, column: &ColumnDescriptor) -> Result<Self, &'static str> {
        let parts = column.path().parts();
        if column.max_rep_level() > 0 {
            return Err("a list or map");
        }
        let (name, in_struct) = match parts {
            [name] => (name, false),
            [name, field] if field == IMAGE_BYTES => (name, true),
            _ => return Err("a field of a struct"),
        };
        let logical = column.logical_type_ref();
        let converted = column.converted_type();
        let text = matches!(logical, Some(LogicalType::String | LogicalType::Enum | LogicalType::Json))
            || matches!(converted, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON);
        let unsigned = matches!(
            converted,
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64
        );
        let is_decimal =
            matches!(logical, Some(LogicalType::Decimal { .. })) || converted == ConvertedType::DECIMAL;
        let power = || libm::pow(10.0, f64::from(column.type_scale()));
        let content = match column.physical_type() {
            Physical::BYTE_ARRAY if text && !in_struct => Content::Text,
            Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY if is_decimal && !in_struct => {
                Content::Decimal(power())
            }
            Physical::BYTE_ARRAY => Content::Image,
            _ if in_struct => return Err("a field of a struct"),
            Physical::BOOLEAN => Content::Bool,
            Physical::INT32 | Physical::INT64 if unsigned => Content::Unsigned,
            Physical::INT32 | Physical::INT64 if is_decimal => Content::Number(power()),
            Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE => Content::Number(1.0),
            Physical::FIXED_LEN_BYTE_ARRAY if matches!(logical, Some(LogicalType::Float16)) => Content::Half,
            Physical::INT96 => return Err("times in 96 bits"),
            Physical::FIXED_LEN_BYTE_ARRAY => return Err("bytes of a fixed length"),
        };
        Ok(Self { name: name.clone(), number, defined: column.max_def_level(), content })
    }

    fn kind(&self) -> ColumnKind {
        match self.content {
            Content::Number(_) | Content::Unsigned | Content::Bool | Content::Half | Content::Decimal(_) => {
                ColumnKind::Number
            }
            Content::Text => ColumnKind::Text,
            Content::Image => ColumnKind::Image,
        }
    }

    /// Reads the next `count` values of the column.
    fn read(&self, reader: &mut ColumnReader, count: usize) -> ParquetResult<Vec<Value>> {
        let divisor = match self.content {
            Content::Number(divisor) => divisor,
            _ => 1.0,
        };
        let unsigned = self.content == Content::Unsigned;
        match reader {
            ColumnReader::BoolColumnReader(r) => {
                self.values(r, count, |b| Ok(Value::Number(f64::from(u8::from(b)))))
            }
            ColumnReader::Int32ColumnReader(r) => self.values(r, count, |n| {
                Ok(Value::Number(if unsigned { f64::from(n as u32) } else { f64::from(n) / divisor }))
            }),
            ColumnReader::Int64ColumnReader(r) => self.values(r, count, |n| {
                Ok(Value::Number(if unsigned { n as u64 as f64 } else { n as f64 / divisor }))
            }),
            ColumnReader::FloatColumnReader(r) => self.values(r, count, |n| Ok(finite(f64::from(n)))),
            ColumnReader::DoubleColumnReader(r) => self.values(r, count, |n| Ok(finite(n))),
            ColumnReader::ByteArrayColumnReader(r) => {
                self.values(r, count, |bytes: ByteArray| match self.content {
                    Content::Text => Ok(Value::Text(bytes.as_utf8()?.to_owned())),
                    Content::Decimal(power) => Ok(Value::Number(whole(bytes.data()) / power)),
                    _ => Ok(Value::Encoded(bytes.data().to_vec())),
                })
            }
            ColumnReader::FixedLenByteArrayColumnReader(r) => {
                self.values(r, count, |bytes: FixedLenByteArray| match (self.content, bytes.data()) {
                    (Content::Decimal(power), bytes) => Ok(Value::Number(whole(bytes) / power)),
                    (Content::Half, [low, high]) => Ok(finite(half(u16::from_le_bytes([*low, *high])))),
                    _ => Err(self.changed()),
                })
            }
            ColumnReader::Int96ColumnReader(_) => Err(self.changed()),
        }
    }

    fn changed(&self) -> ParquetError {
        ParquetError::General(format!("column `{}` changes its type", self.name))
    }

    fn values<T: DataType>(
        &self,
        reader: &mut ColumnReaderImpl<T>,
        count: usize,
        convert: impl Fn(T::T) -> ParquetResult<Value>,
    ) -> ParquetResult<Vec<Value>> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let mut records = 0;
        while records < count {
            let (n, _, _) = reader.read_records(count - records, Some(&mut levels), None, &mut values)?;
            if n == 0 {
                return Err(ParquetError::EOF(format!("column `{}` has too few values", self.name)));
            }
            records += n;
        }
        let mut values = values.into_iter();
        let mut next = || {
            let value = values.next();
            value.ok_or_else(|| ParquetError::EOF(format!("column `{}` has too few values", self.name)))
        };
        if self.defined == 0 {
            return (0..count).map(|_| convert(next()?)).collect();
        }
        let one = |level: &i16| if *level == self.defined { convert(next()?) } else { Ok(Value::Missing) };
        levels.iter().map(one).collect()
    }
}

/// A whole number in two's complement, the highest byte first.
fn whole(bytes: &[u8]) -> f64 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    if bytes.len() <= 16 {
        return bytes.iter().fold(-i128::from(negative), |n, byte| n << 8 | i128::from(*byte)) as f64;
    }
    bytes.iter().fold(-f64::from(u8::from(negative)), |n, byte| n * 256.0 + f64::from(*byte))
}

/// A number of 16 bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => libm::ldexp(fraction, -24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => libm::ldexp(fraction + 1024.0, exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// Floating point columns mark missing values by NaN, too.
fn finite(n: f64) -> Value {
    if n.is_nan() { Value::Missing } else { Value::Number(n) }
}

type Reader = SerializedFileReader<Chunks>;

fn open_file(storage: &Arc<dyn StorageBackend>, file: &Found) -> Result<Reader, Diagnostic> {
    let chunks = Chunks { storage: storage.clone(), file: file.clone() };
    guarded(&file.path, || SerializedFileReader::new(chunks)).map_err(|problem| {
        // `PARE` begins one whose end is encrypted.
        let start = storage.read_range(&file.path, 0, file.bytes.min(4) as usize).unwrap_or_default();
        if start.is_empty() || [b"PAR1", b"PARE"].iter().any(|magic| start == *magic) {
            return problem;
        }
        Diagnostic::new("data.parquet.read", "the file is no Parquet file")
            .file(&file.path)
            .expected("a file that begins with `PAR1`, which the source `parquet` reads")
            .hint("`source` in `[data]` says how files are read, such as `csv` or `json_lines`")
    })
}

fn leaves(reader: &Reader) -> Vec<Leaf> {
    let columns = reader.metadata().file_metadata().schema_descr().columns();
    columns.iter().enumerate().filter_map(|(i, column)| Leaf::of(i, column).ok()).collect()
}

/// What is not read as one might expect: columns that are left out, and times that are numbers.
fn notes(reader: &Reader, leaves: &[Leaf]) -> Vec<String> {
    let columns = reader.metadata().file_metadata().schema_descr().columns();
    let mut notes: Vec<String> = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        let name = column.path().parts().first().map_or("", String::as_str);
        let note = match Leaf::of(i, column) {
            Ok(_) if is_time(column) => {
                format!(
                    "column `{name}` holds times, which are read as the whole numbers that stand for them"
                )
            }
            // The other fields of an image are nothing that one would miss.
            Err(_) if leaves.iter().any(|leaf| leaf.name == name) => continue,
            Err(why) => format!("column `{name}` is left out: it is {why}"),
            Ok(_) => continue,
        };
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

fn is_time(column: &ColumnDescriptor) -> bool {
    use ConvertedType as Converted;
    let logical = column.logical_type_ref();
    matches!(logical, Some(LogicalType::Date | LogicalType::Time { .. } | LogicalType::Timestamp { .. }))
        || matches!(
            column.converted_type(),
            Converted::DATE
                | Converted::TIME_MILLIS
                | Converted::TIME_MICROS
                | Converted::TIMESTAMP_MILLIS
                | Converted::TIMESTAMP_MICROS
        )
}

/// Refuses columns of the same name: which of them is meant could not be said.
fn check_names(leaves: &[Leaf], file: &Found) -> Result<(), Diagnostic> {
    let twice = leaves.iter().enumerate().find(|(i, leaf)| leaves[..*i].iter().any(|l| l.name == leaf.name));
    match twice {
        Some((_, leaf)) => {
            Err(Diagnostic::new("data.parquet.columns", format!("two columns are called `{}`", leaf.name))
                .file(&file.path)
                .expected("a name of its own for every column")
                .hint("rename one of them where the file is written"))
        }
        None => Ok(()),
    }
}

/// Reads the records of one file.
struct FileRecords {
    reader: Reader,
    leaves: Vec<Leaf>,
    path: Arc<Path>,
    /// The next row group.
    group: usize,
    /// Readers of the present row group's columns, and how many of its records are left.
    columns: Vec<ColumnReader>,
    left: usize,
    ready: VecDeque<Vec<Value>>,
    row: u64,
    failed: bool,
}

impl FileRecords {
    fn new(reader: Reader, leaves: Vec<Leaf>, file: &Found) -> Self {
        Self {
            reader,
            leaves,
            path: Arc::from(file.path.as_path()),
            group: 0,
            columns: Vec::new(),
            left: 0,
            ready: VecDeque::new(),
            row: 0,
            failed: false,
        }
    }

    /// Reads the next block of records. Nothing is read at the end.
    fn fill(&mut self) -> ParquetResult<()> {
        while self.left == 0 {
            if self.group == self.reader.num_row_groups() {
                return Ok(());
            }
            let group = self.reader.get_row_group(self.group)?;
            self.group += 1;
            self.left = usize::try_from(group.metadata().num_rows())
                .map_err(|_| ParquetError::General("a row group has a negative number of rows".into()))?;
            let columns = self.leaves.iter().map(|leaf| group.get_column_reader(leaf.number));
            self.columns = columns.collect::<ParquetResult<_>>()?;
        }
        let count = self.left.min(BLOCK_RECORDS);
        let mut rows: Vec<Vec<Value>> = (0..count).map(|_| Vec::with_capacity(self.leaves.len())).collect();
        for (leaf, reader) in self.leaves.iter().zip(&mut self.columns) {
            let values = leaf.read(reader, count)?;
            rows.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
        }
        self.left -= count;
        self.ready.extend(rows);
        Ok(())
    }
}

impl Iterator for FileRecords {
    type Item = Result<Record, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() && !self.failed {
            let path = self.path.clone();
            if let Err(problem) = guarded(&path, || self.fill()) {
                self.failed = true;
                return Some(Err(problem.item(format!("after record {}", self.row))));
            }
        }
        let values = self.ready.pop_front()?;
        self.row += 1;
        let origin = Origin { file: Some(self.path.clone()), line: None, row: self.row };
        Some(Ok(Record { values, origin }))
    }
}

struct ParquetSource {
    storage: Arc<dyn StorageBackend>,
    columns: Columns,
    files: PartFiles,
    counts: [u64; 2],
    class_names: Option<Vec<String>>,
    labels_are_classes: bool,
    notes: Vec<String>,
}

fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    let files = PartFiles::find(spec, context, KIND.name, ENDINGS)?;
    let storage = context.finder.storage.clone();
    let first = open_file(&storage, files.first())?;
    let leaves = leaves(&first);
    check_names(&leaves, files.first())?;
    let notes = notes(&first, &leaves);
    let mut counts = [0; 2];
    for part in [Part::Train, Part::Test] {
        for file in files.of(part) {
            let reader = open_file(&storage, file)?;
            same_columns(&leaves, &reader, files.first(), file)?;
            counts[part as usize] += u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        }
    }
    let columns = columns(&leaves);
    let label = spec.label.as_ref().map_or(&[][..], crate::Names::list);
    let label = label.first().map_or(LABEL, String::as_str);
    let has_image = leaves.iter().any(|l| l.content == Content::Image);
    let labels_are_classes =
        leaves.iter().any(|l| l.name == label && (has_image || l.content == Content::Bool));
    let class_names = class_names(&first, label);
    let source = ParquetSource { storage, columns, files, counts, class_names, labels_are_classes, notes };
    Ok(Opened::Records(Box::new(source)))
}

fn columns(leaves: &[Leaf]) -> Columns {
    Columns(leaves.iter().map(|leaf| Column::new(&leaf.name, leaf.kind())).collect())
}

/// One file by itself, of which only the columns that are wanted are read.
pub(super) fn file_table(
    storage: &Arc<dyn StorageBackend>,
    file: &Found,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<FileTable, Diagnostic> {
    let reader = open_file(storage, file)?;
    let mut leaves = leaves(&reader);
    check_names(&leaves, file)?;
    let names = leaves.iter().map(|leaf| leaf.name.clone()).collect();
    leaves.retain(|leaf| wanted(&leaf.name));
    let columns = columns(&leaves);
    let records = Box::new(FileRecords::new(reader, leaves, file));
    Ok(FileTable { columns, names, by_place: false, records })
}

/// Refuses a file whose columns differ from those of the first.
fn same_columns(leaves: &[Leaf], reader: &Reader, first: &Found, file: &Found) -> Result<(), Diagnostic> {
    let found = self::leaves(reader);
    let same = |(a, b): (&Leaf, &Leaf)| (&a.name, a.content) == (&b.name, b.content);
    if found.len() == leaves.len() && found.iter().zip(leaves).all(same) {
        return Ok(());
    }
    let names = |leaves: &[Leaf]| leaves.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
    Err(Diagnostic::new("data.parquet.columns", format!("the file's columns are {}", names(&found)))
        .file(&file.path)
        .expected(format!("{} as in {}", names(leaves), first.path.display())))
}

/// The names of the classes, where the file's metadata gives them in the way of the Hugging Face Hub.
fn class_names(reader: &Reader, label: &str) -> Option<Vec<String>> {
    let metadata = reader.metadata().file_metadata().key_value_metadata()?;
    let text = metadata.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
    class_names_of(text, label)
}

/// The names of the classes of column `label` in the description that the Hugging Face Hub keeps in its files.
pub(super) fn class_names_of(text: &str, label: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let names = json["info"]["features"][label]["names"].as_array()?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}

impl RecordSource for ParquetSource {
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
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
    fn has_test(&self) -> bool {
        self.files.has_test()
    }
    fn count(&self, part: Part) -> Option<u64> {
        Some(self.counts[part as usize])
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        Ok(self.files.records(part, |file| {
            let reader = open_file(&self.storage, file)?;
            let leaves = leaves(&reader);
            Ok(FileRecords::new(reader, leaves, file))
        }))
    }
}

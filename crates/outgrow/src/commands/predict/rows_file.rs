//! Predictions as rows of a file for other programs: CSV, JSON lines or Parquet. What is written comes out in pieces, so
//! that memory does not grow with the number of rows.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use outgrow_ir::Diagnostic;
use outgrow_predict::{Answer, Meaning};
use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::{Map, Value as Json, json};

/// Rows of Parquet that are written together, each column by itself.
const GROUP_ROWS: usize = 1 << 14;

/// The form of such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Comma-separated values, with a line that names the columns.
    Csv,
    /// A JSON object a line.
    JsonLines,
    /// Parquet.
    Parquet,
}

impl Kind {
    /// What the end of a file's name says.
    ///
    /// # Errors
    /// For an ending that says none of them.
    pub fn of(path: &Path) -> Result<Self, Diagnostic> {
        let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        match ending.as_str() {
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "parquet" => Ok(Self::Parquet),
            _ => Err(Diagnostic::new("predict.output-format", "the name does not say the file's format")
                .file(path)
                .item("--output")
                .expected("a name that ends in .csv, .jsonl, .ndjson or .parquet")),
        }
    }
}

/// Writes the rows of one file.
pub struct RowsFile<'a> {
    meaning: &'a Meaning,
    form: Form,
    /// What has been written and not been taken yet.
    bytes: Shared,
}

enum Form {
    Csv(csv::Writer<Shared>),
    JsonLines,
    Parquet(Groups),
}

/// What a row says of where its record is from.
const FILE: &str = "file";
const ROW: &str = "row";

/// A value of a row.
#[derive(Clone, Debug)]
enum Cell {
    Text(String),
    Number(f64),
    Row(Option<u64>),
}

impl<'a> RowsFile<'a> {
    /// For answers of this meaning.
    ///
    /// # Errors
    /// When it cannot be begun.
    pub fn new(kind: Kind, meaning: &'a Meaning) -> io::Result<Self> {
        let bytes = Shared::default();
        let columns = columns(meaning);
        let form = match kind {
            Kind::Csv => {
                let mut writer = csv::Writer::from_writer(bytes.clone());
                writer.write_record(&columns)?;
                Form::Csv(writer)
            }
            Kind::JsonLines => Form::JsonLines,
            Kind::Parquet => {
                let kinds = cells(meaning, Path::new(""), None, None);
                Form::Parquet(Groups::new(&columns, &kinds, bytes.clone())?)
            }
        };
        Ok(Self { meaning, form, bytes })
    }

    /// Takes the answer for a row of a file, or for a file that is one record, and gives what is to be written now.
    ///
    /// # Errors
    /// When it cannot be put into the file's form.
    pub fn push(&mut self, file: &Path, row: Option<u64>, answer: &Answer) -> io::Result<Vec<u8>> {
        match &mut self.form {
            Form::Csv(writer) => {
                let cells = cells(self.meaning, file, row, Some(answer));
                writer.write_record(cells.iter().map(Cell::text))?;
                writer.flush()?;
            }
            Form::JsonLines => {
                let line = Json::Object(object(self.meaning, file, row, answer));
                writeln!(self.bytes, "{line}")?;
            }
            Form::Parquet(groups) => groups.push(cells(self.meaning, file, row, Some(answer)))?,
        }
        Ok(self.bytes.take())
    }

    /// What is to be written at the end.
    ///
    /// # Errors
    /// As [`RowsFile::push`].
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.form {
            Form::Csv(mut writer) => writer.flush()?,
            Form::JsonLines => {}
            Form::Parquet(groups) => groups.finish()?,
        }
        Ok(self.bytes.take())
    }
}

/// An answer as an object: where its record is from, and what it says.
pub fn object(meaning: &Meaning, file: &Path, row: Option<u64>, answer: &Answer) -> Map<String, Json> {
    let mut json = Map::new();
    json.insert(FILE.into(), json!(file.display().to_string()));
    json.extend(row.map(|row| (ROW.to_owned(), json!(row))));
    json.extend(meaning.to_json(answer));
    json
}

/// The names of the columns.
fn columns(meaning: &Meaning) -> Vec<String> {
    let own: Vec<String> = match meaning {
        Meaning::Classes { names, .. } => {
            let each = names.iter().map(|name| format!("probability of {name}"));
            ["class".into(), "probability".into()].into_iter().chain(each).collect()
        }
        Meaning::Numbers(names) => {
            let taken = |name: &String| name == FILE || name == ROW;
            names.iter().map(|n| if taken(n) { format!("predicted {n}") } else { n.clone() }).collect()
        }
        Meaning::Tokens(_) => ["continuation", "next", "probability"].map(String::from).to_vec(),
    };
    [FILE.to_owned(), ROW.to_owned()].into_iter().chain(own).collect()
}

/// The values below these columns; without an answer, values of the same kinds.
fn cells(meaning: &Meaning, file: &Path, row: Option<u64>, answer: Option<&Answer>) -> Vec<Cell> {
    let number = |i: usize| Cell::Number(answer.and_then(|a| a.numbers.get(i).copied()).unwrap_or_default());
    let mut cells = vec![Cell::Text(file.display().to_string()), Cell::Row(row)];
    let best = answer.map_or(0, |answer| answer.class);
    let name = || Cell::Text(meaning.names().get(best).cloned().unwrap_or_default());
    match meaning {
        Meaning::Classes { names, .. } => {
            cells.extend([name(), number(best)]);
            cells.extend((0..names.len()).map(number));
        }
        Meaning::Numbers(names) => cells.extend((0..names.len()).map(number)),
        Meaning::Tokens(_) => {
            let continuation = answer.and_then(|answer| answer.continuation.clone()).unwrap_or_default();
            cells.extend([Cell::Text(continuation), name(), number(best)]);
        }
    }
    cells
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Row(row) => row.map_or_else(String::new, |row| row.to_string()),
        }
    }
}

/// Rows that become groups of a Parquet file.
struct Groups {
    writer: SerializedFileWriter<Shared>,
    /// The rows that wait.
    rows: Vec<Vec<Cell>>,
}

impl Groups {
    fn new(names: &[String], kinds: &[Cell], to: Shared) -> io::Result<Self> {
        let field = |(name, kind): (&String, &Cell)| {
            let (physical, repetition) = match kind {
                Cell::Text(_) => (Physical::BYTE_ARRAY, Repetition::REQUIRED),
                Cell::Number(_) => (Physical::DOUBLE, Repetition::REQUIRED),
                Cell::Row(_) => (Physical::INT64, Repetition::OPTIONAL),
            };
            let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
            let is_text = matches!(kind, Cell::Text(_));
            let converted = if is_text { ConvertedType::UTF8 } else { ConvertedType::NONE };
            Ok(Arc::new(builder.with_converted_type(converted).build()?))
        };
        let fields = names.iter().zip(kinds).map(field).collect::<io::Result<_>>()?;
        let schema = Type::group_type_builder("predictions").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(to, Arc::new(schema), Arc::new(properties))?;
        Ok(Self { writer, rows: Vec::new() })
    }

    fn push(&mut self, row: Vec<Cell>) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() == GROUP_ROWS { self.write() } else { Ok(()) }
    }

    /// Writes what waits as a group.
    fn write(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        let mut columns = 0..;
        while let (Some(mut column), Some(i)) = (group.next_column()?, columns.next()) {
            let cells = rows.iter().filter_map(|row| row.get(i));
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let texts: Vec<ByteArray> = cells.map(|cell| cell.text().into_bytes().into()).collect();
                    writer.write_batch(&texts, None, None)?;
                }
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let rows: Vec<Option<u64>> =
                        cells.map(|cell| if let Cell::Row(row) = cell { *row } else { None }).collect();
                    let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
                    let there: Vec<i64> = rows.iter().flatten().map(|row| row.cast_signed()).collect();
                    writer.write_batch(&there, Some(&levels), None)?;
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    let numbers: Vec<f64> =
                        cells.map(|cell| if let Cell::Number(n) = cell { *n } else { f64::NAN }).collect();
                    writer.write_batch(&numbers, None, None)?;
                }
                _ => return Err(io::Error::other("invariant: columns are text, numbers or row numbers")),
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.rows.is_empty() {
            self.write()?;
        }
        self.writer.close()?;
        Ok(())
    }
}

/// Bytes that a library writes and that are taken from it piece by piece.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Records as Arrow batches, made by a thread of its own that stays a few batches ahead.

use super::errors::internal;
use crate::{Records, Table};
use datafusion::arrow::array::{ArrayRef, BinaryBuilder, Float64Builder, RecordBatch, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::Stream;
use outgrow_ir::Diagnostic;
use outgrow_transform::{ColumnKind, Columns, Pixels, Record, Value};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

/// Records of a batch.
const BATCH_RECORDS: usize = 4096;
/// A batch ends when it holds this much, however few records that are.
const BATCH_BYTES: usize = 4 << 20;
/// Batches that wait to be taken.
const BATCHES_AHEAD: usize = 2;
/// A longer text or image is refused; Arrow counts in 32 bits.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// What an image begins with that is decoded already, followed by its channels, height, width and samples.
const PIXELS: &[u8; 8] = b"\0pixels\0";

/// A table without records, to plan with.
pub struct NoRecords(pub Columns);

impl Table for NoRecords {
    fn columns(&self) -> &Columns {
        &self.0
    }
    fn read(&self) -> Result<Records<'_>, Diagnostic> {
        Ok(Box::new(std::iter::empty()))
    }
}

/// A table as DataFusion reads it.
pub struct Feed {
    table: Arc<dyn Table>,
    schema: SchemaRef,
}

impl Feed {
    /// # Errors
    /// When a column is neither of numbers, nor of text, nor of images.
    pub fn new(table: Arc<dyn Table>) -> Result<Self, Diagnostic> {
        let mut fields = Vec::new();
        for column in &table.columns().0 {
            let kind = match &column.kind {
                ColumnKind::Number => DataType::Float64,
                ColumnKind::Text => DataType::Utf8,
                ColumnKind::Image => DataType::Binary,
                ColumnKind::Category { .. } => {
                    return Err(internal(&format!("column `{}` is encoded already", column.name)));
                }
            };
            fields.push(Field::new(&column.name, kind, true));
        }
        Ok(Self { table, schema: Arc::new(Schema::new(fields)) })
    }

    /// The columns in Arrow's terms.
    pub fn arrow_schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

type Sent = Result<RecordBatch, DataFusionError>;

impl PartitionStream for Feed {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        let (table, schema) = (self.table.clone(), self.schema.clone());
        let reader = std::thread::Builder::new().name("sql-input".into()).spawn(move || {
            // When nobody takes any more, nothing is left to be told.
            if let Err(Some(problem)) = feed(&*table, &schema, &sender) {
                let _ = sender.send(Err(DataFusionError::External(Box::new(problem))));
            }
        });
        let (reader, refused) = match reader {
            Ok(reader) => (Some(reader), None),
            Err(error) => (None, Some(DataFusionError::IoError(error))),
        };
        Box::pin(Batches { schema: self.schema.clone(), receiver: Some(receiver), reader, refused })
    }
}

/// The batches of one reading. Taking one waits for it: there is nothing else to be done on this thread, and a stream
/// that is always ready is polled in the same order every time.
struct Batches {
    schema: SchemaRef,
    receiver: Option<Receiver<Sent>>,
    reader: Option<JoinHandle<()>>,
    refused: Option<DataFusionError>,
}

impl Stream for Batches {
    type Item = Sent;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Sent>> {
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let next = self.receiver.as_ref().and_then(|r| r.recv().ok());
        if next.is_none() {
            self.receiver = None;
            if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
                let problem = internal("the thread that reads the table ended early");
                return Poll::Ready(Some(Err(DataFusionError::External(Box::new(problem)))));
            }
        }
        Poll::Ready(next)
    }
}

impl RecordBatchStream for Batches {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Without a receiver the reader ends at the next batch.
        self.receiver = None;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Sends all records; `Err(None)` when nobody takes them any more.
fn feed(table: &dyn Table, schema: &SchemaRef, sender: &SyncSender<Sent>) -> Result<(), Option<Diagnostic>> {
    let mut batch = Batch::new(table.columns());
    for record in table.read()? {
        batch.push(&record?)?;
        if batch.records == BATCH_RECORDS || batch.bytes >= BATCH_BYTES {
            sender.send(batch.finish(schema)).map_err(|_| None)?;
        }
    }
    if batch.records > 0 {
        sender.send(batch.finish(schema)).map_err(|_| None)?;
    }
    Ok(())
}

enum Builder {
    Number(Float64Builder),
    Text(StringBuilder),
    Image(BinaryBuilder),
}

/// A batch that grows.
struct Batch<'a> {
    columns: &'a Columns,
    builders: Vec<Builder>,
    records: usize,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(columns: &'a Columns) -> Self {
        let builder = |kind: &ColumnKind| match kind {
            ColumnKind::Text => Builder::Text(StringBuilder::new()),
            ColumnKind::Image => Builder::Image(BinaryBuilder::new()),
            _ => Builder::Number(Float64Builder::new()),
        };
        let builders = columns.0.iter().map(|c| builder(&c.kind)).collect();
        Self { columns, builders, records: 0, bytes: 0 }
    }

    fn push(&mut self, record: &Record) -> Result<(), Diagnostic> {
        let fail = |name: &str, problem: String| {
            let problem = Diagnostic::new("data.sql.value", format!("column `{name}` {problem}"));
            record.origin.place(problem.hint("clean the value, or read the column as text with `types`"))
        };
        if record.values.len() != self.builders.len() {
            return Err(fail("?", format!("is one of {} values", record.values.len())));
        }
        for (i, (value, builder)) in record.values.iter().zip(&mut self.builders).enumerate() {
            let bytes = match (builder, value) {
                (Builder::Number(b), Value::Missing) => {
                    b.append_null();
                    8
                }
                (Builder::Text(b), Value::Missing) => {
                    b.append_null();
                    4
                }
                (Builder::Image(b), Value::Missing) => {
                    b.append_null();
                    4
                }
                (Builder::Number(b), Value::Number(n)) => {
                    b.append_value(*n);
                    8
                }
                (Builder::Text(b), Value::Text(text)) if text.len() < VALUE_BYTES_MAX => {
                    b.append_value(text);
                    text.len() + 4
                }
                (Builder::Image(b), Value::Encoded(bytes)) if bytes.len() < VALUE_BYTES_MAX => {
                    b.append_value(bytes);
                    bytes.len() + 4
                }
                (Builder::Image(b), Value::Pixels(pixels)) if pixels.data.len() < VALUE_BYTES_MAX => {
                    b.append_value(from_pixels(pixels));
                    pixels.data.len() + 4
                }
                (_, value) => {
                    let problem = format!("holds {} here, or one that is too long", value.kind_name());
                    return Err(fail(&self.columns.0[i].name, problem));
                }
            };
            self.bytes += bytes;
        }
        self.records += 1;
        Ok(())
    }

    fn finish(&mut self, schema: &SchemaRef) -> Sent {
        self.records = 0;
        self.bytes = 0;
        let array = |builder: &mut Builder| -> ArrayRef {
            match builder {
                Builder::Number(b) => Arc::new(b.finish()),
                Builder::Text(b) => Arc::new(b.finish()),
                Builder::Image(b) => Arc::new(b.finish()),
            }
        };
        let arrays = self.builders.iter_mut().map(array).collect();
        Ok(RecordBatch::try_new(schema.clone(), arrays)?)
    }
}

fn from_pixels(pixels: &Pixels) -> Vec<u8> {
    let extents = [pixels.channels, pixels.height, pixels.width].map(|n| (n as u64).to_le_bytes());
    [PIXELS.as_slice(), extents.as_flattened(), &pixels.data].concat()
}

/// The image that bytes of a batch stand for.
pub fn to_image(bytes: &[u8]) -> Value {
    let pixels = || {
        let rest = bytes.strip_prefix(PIXELS)?;
        let (extents, data) = rest.split_at_checked(24)?;
        let mut extents = extents.as_chunks::<8>().0.iter().map(|e| u64::from_le_bytes(*e) as usize);
        let (channels, height, width) = (extents.next()?, extents.next()?, extents.next()?);
        let size = channels.checked_mul(height)?.checked_mul(width)?;
        (size == data.len()).then(|| Pixels { channels, height, width, data: data.to_vec() })
    };
    match pixels() {
        Some(pixels) => Value::Pixels(pixels),
        None => Value::Encoded(bytes.to_vec()),
    }
}

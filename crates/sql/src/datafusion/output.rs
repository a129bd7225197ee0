//! Arrow batches as records: which types a result may have, and what becomes of their values.
//!
//! Numbers and truth values are numbers; dates are days since 1970, times of day seconds since midnight, points in time
//! seconds since 1970 (UTC), durations seconds. Text stays text, bytes are images.

use super::errors::to_diagnostic;
use super::input::to_image;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures_util::StreamExt;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, Record, Value};
use std::collections::VecDeque;
use tokio::runtime::Runtime;

/// The columns of a result.
///
/// # Errors
/// Every column of a type that has no meaning here, and names that occur twice.
pub fn columns(schema: &DFSchema) -> Result<Columns, Diagnostics> {
    let mut found = Diagnostics::default();
    let mut columns = Columns::default();
    for field in schema.fields() {
        let name = field.name();
        let Some(kind) = kind(field.data_type()) else {
            found.push(
                Diagnostic::new(
                    "data.sql.type",
                    format!("the result's column `{name}` is of type {}", field.data_type()),
                )
                .expected("numbers, truth values, dates, times, text or images")
                .hint(format!("leave it out, or write `CAST(… AS DOUBLE) AS {name}`")),
            );
            continue;
        };
        if columns.position(name).is_some() {
            found.push(
                Diagnostic::new("data.sql.twice", format!("two columns of the result are called `{name}`"))
                    .expected("a name of its own for every column")
                    .hint("name them with AS"),
            );
        }
        columns.0.push(Column::new(name, kind));
    }
    found.into_result(columns)
}

/// Whether a column of a result is the table's own of that name: it still belongs to the table then.
pub fn is_kept(schema: &DFSchema, column: usize) -> bool {
    schema.qualified_field(column).0.is_some_and(|table| table.table() == crate::TABLE)
}

fn kind(of: &DataType) -> Option<ColumnKind> {
    use DataType as D;
    match of {
        D::Boolean
        | D::Date32
        | D::Date64
        | D::Timestamp(..)
        | D::Time32(_)
        | D::Time64(_)
        | D::Duration(_) => Some(ColumnKind::Number),
        of if of.is_numeric() => Some(ColumnKind::Number),
        D::Utf8 | D::LargeUtf8 | D::Utf8View => Some(ColumnKind::Text),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => Some(ColumnKind::Image),
        D::Dictionary(_, values) => kind(values),
        _ => None,
    }
}

/// The records of a running statement.
pub struct Rows {
    /// Dropped before the runtime that it needs.
    stream: Option<SendableRecordBatchStream>,
    ready: VecDeque<Record>,
    runtime: Runtime,
    output: Columns,
    input: Columns,
    row: u64,
}

impl Rows {
    pub fn new(
        runtime: Runtime,
        stream: SendableRecordBatchStream,
        output: &Columns,
        input: &Columns,
    ) -> Self {
        let (output, input) = (output.clone(), input.clone());
        Self { stream: Some(stream), ready: VecDeque::new(), runtime, output, input, row: 0 }
    }

    fn fill(&mut self, batch: &RecordBatch) -> Result<(), Diagnostic> {
        let mut values = Vec::new();
        for array in batch.columns() {
            values.push(Values::new(array).map_err(|e| to_diagnostic(&e, &self.input))?);
        }
        for i in 0..batch.num_rows() {
            self.row += 1;
            let origin = Origin { row: self.row, ..Origin::default() };
            let mut record = Record { values: Vec::with_capacity(values.len()), origin };
            for (column, values) in self.output.0.iter().zip(&values) {
                let value = values.get(i);
                if let Value::Number(n) = value
                    && !n.is_finite()
                {
                    let problem = format!("the result's column `{}` is {n}", column.name);
                    return Err(record.origin.place(
                        Diagnostic::new("data.sql.not-finite", problem)
                            .expected("finite numbers, or NULL for what is missing")
                            .hint("divide by NULLIF(x, 0), and take logarithms of positive numbers only"),
                    ));
                }
                record.values.push(value);
            }
            self.ready.push_back(record);
        }
        Ok(())
    }
}

impl Iterator for Rows {
    type Item = Result<Record, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(Ok(record));
            }
            let batch = self.runtime.block_on(self.stream.as_mut()?.next());
            let filled = match batch {
                Some(Ok(batch)) => self.fill(&batch),
                Some(Err(error)) => Err(to_diagnostic(&error, &self.input)),
                None => {
                    self.stream = None;
                    return None;
                }
            };
            if let Err(problem) = filled {
                // The records before it have not been seen, but nothing can come after it.
                self.stream = None;
                self.ready.clear();
                return Some(Err(problem));
            }
        }
    }
}

/// One column of a batch.
enum Values {
    Number(ArrayRef, f64),
    Text(ArrayRef),
    Image(ArrayRef),
}

impl Values {
    fn new(array: &ArrayRef) -> Result<Self, DataFusionError> {
        let array = match array.data_type() {
            DataType::Dictionary(_, values) => cast(array, values)?,
            _ => array.clone(),
        };
        // Units per day or second.
        let per = |unit: &TimeUnit| match unit {
            TimeUnit::Second => 1.0,
            TimeUnit::Millisecond => 1e3,
            TimeUnit::Microsecond => 1e6,
            TimeUnit::Nanosecond => 1e9,
        };
        let scaled = |integers: ArrayRef, per: f64| -> Result<Self, DataFusionError> {
            Ok(Self::Number(cast(&integers, &DataType::Float64)?, per))
        };
        match array.data_type().clone() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Ok(Self::Text(cast(&array, &DataType::LargeUtf8)?))
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Ok(Self::Image(cast(&array, &DataType::LargeBinary)?)),
            DataType::Date32 => scaled(cast(&array, &DataType::Int32)?, 1.0),
            DataType::Date64 => scaled(cast(&array, &DataType::Int64)?, 86_400_000.0),
            DataType::Timestamp(unit, _) | DataType::Time64(unit) | DataType::Duration(unit) => {
                scaled(cast(&array, &DataType::Int64)?, per(&unit))
            }
            DataType::Time32(unit) => scaled(cast(&array, &DataType::Int32)?, per(&unit)),
            _ => scaled(array, 1.0),
        }
    }

    fn get(&self, i: usize) -> Value {
        match self {
            Self::Number(array, _) | Self::Text(array) | Self::Image(array) if array.is_null(i) => {
                Value::Missing
            }
            Self::Number(array, per) => Value::Number(array.as_primitive::<Float64Type>().value(i) / per),
            Self::Text(array) => Value::Text(array.as_string::<i64>().value(i).to_owned()),
            Self::Image(array) => to_image(array.as_binary::<i64>().value(i)),
        }
    }
}

//! Tables as text, CSV and JSON lines: a file that is accepted gives records that fit its columns, and the same ones
//! again. The first byte chooses the format.

use outgrow_data::ColumnType;
use outgrow_data::source::csv::{self, CsvFormat};
use outgrow_data::source::json_lines::{self, JsonFormat};
use outgrow_transform::{ColumnKind, Columns, Record, Value};

pub fn csv(data: &[u8]) {
    let Some((options, content)) = data.split_first() else { return };
    let format = csv_format(*options);
    let (columns, records) = match csv::parse(content, &format) {
        Ok(table) => table,
        Err(found) => {
            assert!(!found.problem.is_empty(), "a refusal says why");
            let lines = content.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() + 1;
            assert!(found.place.line.is_none_or(|line| (1..=lines).contains(&line)), "{found}");
            return;
        }
    };
    assert!(records.len() <= content.len());
    check_fit(&columns, &records);
    let (again, same) = csv::parse(content, &format).expect("reading again gives the same");
    assert!(again == columns && same == records);
}

fn csv_format(options: u8) -> CsvFormat {
    let bit = |n: u8| options >> n & 1 == 1;
    let mut format = CsvFormat { header: !bit(0), ..CsvFormat::default() };
    format.raw.delimiter = [",", ";", "\t", " "][usize::from(options >> 1 & 3)].into();
    format.raw.comment = bit(3).then(|| "#".into());
    format.raw.trim = if bit(4) { String::new() } else { " ".into() };
    format.raw.missing = if bit(5) { vec!["?".into(), "NA".into()] } else { Vec::new() };
    format.columns = bit(6).then(|| vec!["a".into(), "b".into()]);
    if bit(7) {
        format.types.insert("a".into(), ColumnType::Number);
    }
    format
}

pub fn json_records(data: &[u8]) {
    let Some((options, content)) = data.split_first() else { return };
    let format = json_format(*options);
    let (columns, records) = match json_lines::parse(content, &format) {
        Ok(table) => table,
        Err(found) => {
            assert!(!found.problem.is_empty(), "a refusal says why");
            let lines = content.iter().filter(|b| **b == b'\n').count() + 1;
            assert!(found.place.line.is_none_or(|line| (1..=lines).contains(&line)), "{found}");
            return;
        }
    };
    assert!(records.len() <= content.len());
    check_fit(&columns, &records);
    let (again, same) = json_lines::parse(content, &format).expect("reading again gives the same");
    assert!(again == columns && same == records);
    assert_eq!(json_lines::parse_as(content, &columns, &format.missing).len(), records.len());
}

fn json_format(options: u8) -> JsonFormat {
    let bit = |n: u8| options >> n & 1 == 1;
    let mut format = JsonFormat::default();
    if bit(0) {
        format.missing = vec!["?".into(), "NA".into()];
    }
    format.columns = bit(1).then(|| vec!["a".into(), "b.c".into(), "d.0".into()]);
    if bit(2) {
        format.types.insert("a".into(), if bit(3) { ColumnType::Number } else { ColumnType::Text });
    }
    format
}

/// Checks that each record has a value for each column, of its kind.
fn check_fit(columns: &Columns, records: &[Record]) {
    for record in records {
        assert_eq!(record.values.len(), columns.0.len());
        for (value, column) in record.values.iter().zip(&columns.0) {
            let fits = match value {
                Value::Missing => true,
                Value::Number(n) => n.is_finite() && column.kind == ColumnKind::Number,
                Value::Text(_) => column.kind == ColumnKind::Text,
                _ => false,
            };
            assert!(fits, "{value:?} in column `{}`", column.name);
        }
    }
}

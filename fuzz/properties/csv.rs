//! CSV files: a file that is accepted gives records that fit its columns. The first byte chooses the format.

use outgrow_data::ColumnType;
use outgrow_data::source::csv::{CsvFormat, parse};
use outgrow_transform::{ColumnKind, Value};

pub fn check(data: &[u8]) {
    let Some((options, content)) = data.split_first() else { return };
    let format = format(*options);
    let (columns, records) = match parse(content, &format) {
        Ok(table) => table,
        Err(found) => {
            assert!(!found.problem.is_empty(), "a refusal says why");
            let lines = content.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() + 1;
            assert!(found.place.line.is_none_or(|line| (1..=lines).contains(&line)), "{found}");
            return;
        }
    };
    assert!(records.len() <= content.len());
    for record in &records {
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
    let (again, same) = parse(content, &format).expect("reading again gives the same");
    assert!(again == columns && same == records);
}

fn format(options: u8) -> CsvFormat {
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

//! JSON lines as data: a file that is accepted gives records that fit its columns. The first byte chooses the format.

use outgrow_data::ColumnType;
use outgrow_data::source::json_lines::{JsonFormat, parse, parse_as};
use outgrow_transform::{ColumnKind, Value};

pub fn check(data: &[u8]) {
    let Some((options, content)) = data.split_first() else { return };
    let format = format(*options);
    let (columns, records) = match parse(content, &format) {
        Ok(table) => table,
        Err(found) => {
            assert!(!found.problem.is_empty(), "a refusal says why");
            let lines = content.iter().filter(|b| **b == b'\n').count() + 1;
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
    assert_eq!(parse_as(content, &columns, &format.missing).len(), records.len());
}

fn format(options: u8) -> JsonFormat {
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

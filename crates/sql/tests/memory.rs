//! A million records in little memory: sorts and groups go on in temporary files. In a process of its own, whose peak
//! is looked at.
#![cfg(feature = "datafusion")]
#![allow(clippy::print_stderr)]

use outgrow_ir::Diagnostic;
use outgrow_sql::{EngineOptions, Records, Table, engine};
use outgrow_transform::{Column, ColumnKind, Columns, Record, Value};
use std::sync::Arc;

const RECORDS: u64 = 1_000_000;
/// What the operators may hold.
const MEMORY: usize = 64 << 20;
/// What the whole process may: the operators, the program with its threads and stacks, and batches on their way.
const PEAK_KIB: u64 = 300 << 10;

/// Records that follow from their number: about 140 bytes each, as Arrow has them.
struct Generated(Columns);

impl Table for Generated {
    fn columns(&self) -> &Columns {
        &self.0
    }
    fn read(&self) -> Result<Records<'_>, Diagnostic> {
        Ok(Box::new((0..RECORDS).map(|i| {
            let hash = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Ok(Record::new(vec![
                Value::Number((hash >> 24) as f64),
                Value::Number(i as f64),
                Value::Text(format!("{i:0100}")),
            ]))
        })))
    }
}

/// The largest resident size so far, where the system tells it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_million_records_stay_within_the_limit() {
    let folder = std::env::temp_dir().join(format!("outgrow-sql-memory-{}", std::process::id()));
    let mut options = EngineOptions::new(&folder);
    options.memory = MEMORY;
    let column = |name: &str, kind| Column::new(name, kind);
    let columns = Columns(vec![
        column("key", ColumnKind::Number),
        column("n", ColumnKind::Number),
        column("t", ColumnKind::Text),
    ]);
    let table = Arc::new(Generated(columns.clone()));
    let engine = engine(options).unwrap();
    let cases = [
        ("SELECT key, n FROM data WHERE n % 2 = 0", RECORDS / 2, false),
        ("SELECT key, n, t FROM data ORDER BY key", RECORDS, true),
        ("SELECT key, max(n) AS n, max(t) AS t FROM data GROUP BY key", RECORDS, false),
    ];
    for (statement, count, sorted) in cases {
        let query = engine.plan(statement, &columns).unwrap();
        let (mut found, mut sum, mut last) = (0, 0.0, f64::MIN);
        for record in query.run(table.clone()).unwrap() {
            let values = record.unwrap_or_else(|problem| panic!("{statement}: {problem}")).values;
            let (Value::Number(key), Value::Number(n)) = (&values[0], &values[1]) else {
                panic!("{values:?}")
            };
            assert!(!sorted || last <= *key, "{statement}: {last} before {key}");
            (found, sum, last) = (found + 1, sum + n, *key);
        }
        let all = if count == RECORDS { RECORDS * (RECORDS - 1) / 2 } else { count * (count - 1) };
        assert_eq!((found, sum), (count, all as f64), "{statement}");
        eprintln!("peak {:?} KiB after {statement}", peak_kib());
    }
    // Nothing is left of the temporary files.
    assert_eq!(std::fs::read_dir(&folder).map_or(0, Iterator::count), 0);
    let _ = std::fs::remove_dir(&folder);
    match peak_kib() {
        Some(peak) => assert!(peak < PEAK_KIB, "the peak is {peak} KiB"),
        None => eprintln!("skipped: this system does not tell the peak of memory"),
    }
}

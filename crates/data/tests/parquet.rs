//! Parquet files with columns of less common kinds: decimals in bytes, numbers of 16 bits, times, lists, and names that
//! occur twice.

mod common;

use common::{storage, try_prepare};
use outgrow_data::{Dataset, LoaderOptions, Split};
use parquet::data_type::{ByteArrayType, FixedLenByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

type Column = (&'static str, Vec<Vec<u8>>);

/// A file with required columns; each value is given as the bytes that stand for it.
fn write(path: &Path, columns: &[Column]) {
    let fields: String = columns.iter().map(|(field, _)| format!("{field};")).collect();
    let schema = Arc::new(parse_message_type(&format!("message m {{ {fields} }}")).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (field, values) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        if field.contains("int64") {
            let values: Vec<i64> =
                values.iter().map(|v| i64::from_le_bytes(v.as_slice().try_into().unwrap())).collect();
            let levels = field.contains("repeated").then(|| vec![1; values.len()]);
            let repeated = levels.as_ref().map(|levels| vec![0; levels.len()]);
            let (levels, repeated) = (levels.as_deref(), repeated.as_deref());
            column.typed::<Int64Type>().write_batch(&values, levels, repeated).unwrap();
        } else if field.contains("fixed") {
            let values: Vec<_> = values.iter().map(|v| v.clone().into()).collect();
            column.typed::<FixedLenByteArrayType>().write_batch(&values, None, None).unwrap();
        } else {
            let values: Vec<_> = values.iter().map(|v| v.clone().into()).collect();
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn long(values: [i64; 3]) -> Vec<Vec<u8>> {
    values.map(|n| n.to_le_bytes().to_vec()).to_vec()
}

#[test]
fn decimals_and_short_floats_are_numbers_and_the_rest_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let wide = |n: i128| [&[if n < 0 { 0xff } else { 0 }; 4][..], &n.to_be_bytes()].concat();
    write(
        &folder.path().join("t.parquet"),
        &[
            (
                "required fixed_len_byte_array(3) price (DECIMAL(6, 2))",
                vec![vec![0, 0x30, 0x39], vec![0xff, 0xff, 0xff], vec![0x80, 0, 0]],
            ),
            ("required binary sum (DECIMAL(30, 3))", vec![vec![5], wide(-2500), wide(1 << 100)]),
            (
                "required fixed_len_byte_array(2) short (FLOAT16)",
                vec![
                    0x3e00u16.to_le_bytes().to_vec(),
                    0xc500u16.to_le_bytes().to_vec(),
                    0x0001u16.to_le_bytes().to_vec(),
                ],
            ),
            ("required int64 at (TIMESTAMP(MILLIS, true))", long([1, 2, 3])),
            ("repeated int64 tags", long([7, 8, 9])),
            ("required fixed_len_byte_array(4) id", vec![vec![0; 4]; 3]),
            ("required int64 y", long([10, 20, 30])),
        ],
    );
    let section = json!({
        "source": "parquet", "files": "t.parquet", "label": "y", "task": "regress",
        "split": { "validation": 0, "test": 0 },
    });
    let prepared = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap();
    assert_eq!(
        prepared.report.notes,
        [
            "column `at` holds times, which are read as the whole numbers that stand for them",
            "column `tags` is left out: it is a list or map",
            "column `id` is left out: it is bytes of a fixed length",
        ]
    );
    let data = Dataset::open(storage(), &prepared.folder).unwrap();
    assert_eq!(data.report().notes, prepared.report.notes);
    let batch = data.loader(Split::Train, LoaderOptions::evaluation(3)).unwrap().next().unwrap().unwrap();
    let expect: [[f64; 4]; 3] = [
        [123.45, 0.005, 1.5, 1.0],
        [-0.01, -2.5, -5.0, 2.0],
        [-83886.08, (2f64.powi(100)) / 1000.0, 2f64.powi(-24), 3.0],
    ];
    let expect: Vec<f32> = expect.into_iter().flatten().map(|n| n as f32).collect();
    assert_eq!(batch.inputs[0].as_slice::<f32>().unwrap(), expect);
}

#[test]
fn columns_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder.path().join("t.parquet"),
        &[
            ("required int64 x", long([1, 2, 3])),
            ("required int64 y", long([1, 2, 3])),
            ("required int64 x", long([4, 5, 6])),
        ],
    );
    let section = json!({ "source": "parquet", "files": "t.parquet", "label": "y" });
    let error = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
    assert_eq!(error.0[0].code, "data.parquet.columns", "{error}");
    assert!(error.0[0].problem.contains("two columns are called `x`"), "{error}");
}

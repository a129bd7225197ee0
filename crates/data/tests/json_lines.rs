//! JSON lines: columns from nested fields, kinds by the first records, cleaning as for every table, bad lines.

mod common;

use common::{dataset, try_prepare};
use flate2::{Compression, write::GzEncoder};
use outgrow_data::source::json_lines::{JsonFormat, parse, parse_as};
use outgrow_data::{Dataset, LoaderOptions, Split};
use outgrow_transform::{ColumnKind, Value};
use serde_json::{Value as Json, json};
use std::io::Write;

/// The first batch of a split: the features in rows, and the classes.
fn batch(data: &Dataset, size: usize) -> (Vec<f32>, Vec<i32>) {
    let mut loader = data.loader(Split::Train, LoaderOptions::evaluation(size)).unwrap();
    let batch = loader.next().unwrap().unwrap();
    let target = batch.target.unwrap();
    (batch.inputs[0].as_slice::<f32>().unwrap().to_vec(), target.as_slice::<i32>().unwrap().to_vec())
}

#[test]
fn nested_fields_are_columns_and_clean_like_any_table() {
    let folder = tempfile::tempdir().unwrap();
    let lines = r#"{"user": {"age": 31, "city": "Bern"}, "tags": ["a", "b"], "clicks": 3, "bought": true}
{"user": {"age": null, "city": "Basel"}, "tags": ["b"], "clicks": 5, "bought": false}

{"clicks": 1.5, "bought": true, "user": {"city": "?"}, "tags": []}
"#;
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(lines.as_bytes()).unwrap();
    std::fs::write(folder.path().join("a.jsonl.gz"), packed.finish().unwrap()).unwrap();
    std::fs::write(folder.path().join("b.jsonl"), lines).unwrap();
    let section = json!({
        "source": "json_lines", "files": ".", "label": "bought", "missing": ["?"],
        "features": ["user.age", "user.city", "clicks"],
        "clean": [
            { "fill": { "columns": ["user.age"], "value": -1 } },
            { "fill": { "columns": ["user.city"], "value": "Chur" } },
            { "one_hot": { "columns": ["user.city"] } },
        ],
    });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    let (features, classes) = batch(&data, 6);
    let once = [[31.0f32, 0.0, 1.0, 0.0, 3.0], [-1.0, 1.0, 0.0, 0.0, 5.0], [-1.0, 0.0, 0.0, 1.0, 1.5]];
    assert_eq!(features, [once, once].as_flattened().as_flattened());
    assert_eq!(classes, [1, 0, 1, 1, 0, 1]);
}

#[test]
fn kinds_follow_the_first_records_and_declarations() {
    let rows = b"{\"a\": 1, \"b\": \"x\", \"c\": null}\n{\"a\": \"7\", \"b\": 2, \"c\": true, \"d\": {}}\n";
    let kinds = |format: &JsonFormat| {
        let (columns, records) = parse(rows, format).unwrap_or_else(|d| panic!("{d}"));
        let names: Vec<_> = columns.0.iter().map(|c| (c.name.clone(), c.kind.clone())).collect();
        (names, records.into_iter().map(|r| r.values).collect::<Vec<_>>())
    };
    let (text, number) = (|s: &str| Value::Text(s.into()), Value::Number);
    let name = |n: &str, kind| (n.to_owned(), kind);
    let (columns, values) = kinds(&JsonFormat::default());
    assert_eq!(
        columns,
        [name("a", ColumnKind::Text), name("b", ColumnKind::Text), name("c", ColumnKind::Number)]
    );
    assert_eq!(values, [[text("1"), text("x"), Value::Missing], [text("7"), text("2"), number(1.0)]]);
    let declared = JsonFormat {
        columns: Some(vec!["c".into(), "a".into()]),
        types: [("a".into(), outgrow_data::ColumnType::Number)].into(),
        missing: Vec::new(),
    };
    let (columns, values) = kinds(&declared);
    assert_eq!(columns, [name("c", ColumnKind::Number), name("a", ColumnKind::Number)]);
    assert_eq!(values, [[Value::Missing, number(1.0)], [number(1.0), number(7.0)]]);
}

#[test]
fn predictions_read_the_known_columns_only() {
    let (columns, _) = parse(b"{\"x\": 1, \"y\": \"a\"}", &JsonFormat::default()).unwrap();
    let rows = parse_as(b"{\"y\": 5, \"z\": [1], \"x\": \"2\"}\nno\n{}", &columns, &[]);
    assert_eq!(rows[0].as_ref().unwrap().values, [Value::Number(2.0), Value::Text("5".into())]);
    assert_eq!(rows[1].as_ref().unwrap_err().place.line, Some(2));
    assert_eq!(rows[2].as_ref().unwrap().values, [Value::Missing, Value::Missing]);
}

/// Each file, the code of what is wrong with it, and the line.
#[test]
fn bad_lines_are_named() {
    let long = format!("{{\"x\": 1}}\n{{\"x\": \"{}\"}}\n", "a".repeat(17 << 20));
    let deep = format!("{{\"x\": {}1{}}}", "[".repeat(500), "]".repeat(500));
    let late = format!("{}{{\"y\": 2}}\n", "{\"x\": 1, \"l\": 2}\n".repeat(1200));
    let late_text = format!("{}{{\"x\": \"b\"}}\n", "{\"x\": 1, \"l\": 2}\n".repeat(1200));
    let cases: [(&str, &str, usize); 10] = [
        ("{\"x\": 1}\n{\"x\": 2\n", "data.json.line", 2),
        ("{\"x\": 1}\n\n[1, 2]\n", "data.json.line", 3),
        ("{\"x\": 1}\n\"text\"\n", "data.json.line", 2),
        ("{\"x\": 1}\n{\"x\": 1} {\"x\": 2}\n", "data.json.line", 2),
        ("{\"x\": 1, \"l\": 1}\n{\"x\": 1e999}\n", "data.json.line", 2),
        ("{\"a.b\": 1, \"a\": {\"b\": 2}}\n", "data.json.twice", 1),
        (&long, "data.json.line", 2),
        (&deep, "data.json.line", 1),
        (&late, "data.json.unknown-field", 1201),
        (&late_text, "data.json.not-a-number", 1201),
    ];
    for (content, code, line) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        let label = if content.contains("\"l\"") { "l" } else { "x" };
        let label = if code == "data.json.twice" { "a.b" } else { label };
        let section = json!({ "source": "json_lines", "files": "a.jsonl", "label": label });
        let found = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
        let shown = &content[..content.len().min(60)];
        assert_eq!((found.0[0].code, found.0[0].place.line), (code, Some(line)), "{shown}: {found}");
        assert_eq!(found.0[0].place.file.as_deref(), Some(path.as_path()), "{shown}");
    }
}

#[test]
fn unknown_names_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), "{\"x\": 1, \"y\": 2}\n").unwrap();
    let cases: [(Json, &str); 3] = [
        (json!({ "label": "z" }), "data.unknown-column"),
        (json!({ "label": "y", "columns": ["y"], "types": { "x": "number" } }), "data.unknown-column"),
        (json!({ "label": "y", "delimiter": ";" }), "data.key"),
    ];
    for (keys, code) in cases {
        let mut section = json!({ "source": "json_lines", "files": "a.jsonl" });
        section.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let found = try_prepare(section, folder.path(), &folder.path().join("cache")).unwrap_err();
        assert_eq!(found.0[0].code, code, "{keys}: {found}");
    }
}

//! What a trained model is asked goes through the very transform it was trained with.

#![allow(clippy::result_large_err)]

mod common;

use common::{dataset, real_data};
use outgrow_data::source::csv;
use outgrow_data::{Dataset, LoaderOptions, Split};
use outgrow_ir::Diagnostic;
use outgrow_transform::{Batch, Record, Transform, Value};
use serde_json::json;
use std::path::Path;

/// Asks as `predict` does, with the transform brought back from its JSON.
fn apply(data: &Dataset, records: Vec<Record>) -> Result<Batch, Diagnostic> {
    Transform::from_json(&data.transform().to_json())?.apply(&records)
}

/// A PNG file.
fn png(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    file
}

#[test]
fn adult_rows_are_encoded_as_in_training() {
    let Some(root) = real_data("adult") else { return };
    let cache = tempfile::tempdir().unwrap();
    let section = json!({
        "source": "csv", "files": "adult/adult.data", "test": { "files": "adult/adult.test" },
        "missing": ["?"], "label": "classification", "exclude": ["fnlwgt"],
        "clean": [
            { "filter": "age > 0" },
            { "clip": { "columns": ["capital-gain"], "max": 50000 } },
            { "fill": { "columns": ["workclass", "occupation", "native-country"], "with": "most_frequent" } },
            { "hash": { "columns": ["education", "occupation"], "buckets": 50, "cross": true } },
            { "normalize": { "columns": "numeric" } },
            { "one_hot": { "columns": "text" } },
        ],
    });
    let data = dataset(section, &root, cache.path());
    let mut loader = data.loader(Split::Test, LoaderOptions::evaluation(16_281)).unwrap();
    let trained = loader.next().unwrap().unwrap();
    let text = std::fs::read(root.join("adult/adult.test")).unwrap();
    let format = csv::CsvFormat { raw: data.transform().format.clone(), ..csv::CsvFormat::default() };
    let (_, records) = csv::parse(&text, &format).unwrap();
    let asked = apply(&data, records).unwrap();
    assert_eq!(asked.real, 16_281);
    assert!(asked.inputs[0].same_bits(&trained.inputs[0]));
    assert_eq!(asked.target, trained.target);
}

#[test]
fn images_are_encoded_as_in_training() {
    let cache = tempfile::tempdir().unwrap();
    let section = json!({ "source": "synthetic:glyphs", "samples": 100, "normalize": "standard" });
    let data = dataset(section, Path::new("."), cache.path());
    let sample = data.sample(Split::Train, 42).unwrap();
    let norm = &data.transform().assembly.image.as_ref().unwrap().normalize;
    let (factor, offset) = norm.affine(0);
    let pixels: Vec<u8> = sample.inputs[0]
        .as_slice::<f32>()
        .unwrap()
        .iter()
        .map(|v| ((v - offset) / factor).round() as u8)
        .collect();
    let ask = |file: Vec<u8>| apply(&data, vec![Record::new(vec![Value::Encoded(file), Value::Missing])]);
    assert_eq!(ask(png(&pixels, 28, 28)).unwrap().inputs, sample.inputs);
    let doubled: Vec<u8> = (0..56 * 56).map(|i| pixels[i / 56 / 2 * 28 + i % 56 / 2]).collect();
    assert_eq!(ask(png(&doubled, 56, 56)).unwrap().inputs[0].shape().dims(), [1, 1, 28, 28]);
    assert_eq!(ask(b"not an image".to_vec()).unwrap_err().code, "data.image.format");
    assert_eq!(ask(b"\xff\xd8\xff\xe0 broken".to_vec()).unwrap_err().code, "data.image.broken");
}

#[test]
fn texts_become_their_last_tokens() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.txt"), "hello world, hello").unwrap();
    let section = json!({ "source": "text", "files": "t.txt", "context": 4 });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    let vocabulary = &data.transform().assembly.text.as_ref().unwrap().vocabulary;
    let tokens = |text: &str| vocabulary.encode(text).unwrap();
    let ask = |text: &str| apply(&data, vec![Record::new(vec![Value::Text(text.into())])]);
    assert_eq!(ask("well, hello").unwrap().inputs[0].as_slice::<i32>().unwrap(), tokens("ello"));
    assert_eq!(ask("he").unwrap().inputs[0].as_slice::<i32>().unwrap(), [tokens("he"), vec![0, 0]].concat());
    assert_eq!(ask("hex").unwrap_err().code, "data.text.unknown-character");
}

#[test]
fn records_that_do_not_fit_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let data = dataset(small_table(), Path::new("."), cache.path());
    let text = |t: &str| Value::Text(t.into());
    let good = vec![Value::Number(3.0), text("b"), Value::Missing];
    let batch = apply(&data, vec![Record::new(good.clone())]).unwrap();
    assert_eq!(batch.inputs[0].as_slice::<f32>().unwrap(), [1.0, 0.0, 1.0]);
    assert_eq!(batch.target, None);
    let labelled = vec![Value::Number(3.0), text("never seen"), Value::Number(1.0)];
    let batch = apply(&data, vec![Record::new(labelled)]).unwrap();
    assert_eq!(batch.inputs[0].as_slice::<f32>().unwrap(), [1.0, 0.0, 0.0]);
    assert_eq!(batch.target.unwrap().as_slice::<f32>().unwrap(), [1.0]);
    let bad = [
        (good[..2].to_vec(), "data.width"),
        (vec![Value::Missing, text("b"), Value::Missing], "data.missing-value"),
        (vec![text("3"), text("b"), Value::Missing], "data.wrong-kind"),
        (vec![Value::Number(1e300), text("b"), Value::Missing], "data.overflow"),
    ];
    for (values, code) in bad {
        assert_eq!(apply(&data, vec![Record::new(values)]).unwrap_err().code, code);
    }
}

/// Two records of a number and a text, with a number to predict.
fn small_table() -> serde_json::Value {
    json!({
        "source": "rows", "rows": [[1, "a", 0], [3, "b", 1]], "columns": ["x", "c", "y"], "label": "y",
        "clean": [{ "normalize": { "columns": ["x"] } }, { "one_hot": { "columns": ["c"] } }],
    })
}

#[test]
fn damaged_transforms_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let json = dataset(small_table(), Path::new("."), cache.path()).transform().to_json();
    Transform::from_json(&json).unwrap();
    let changes = [
        ("\"columns\":[0]", "\"columns\":[9]", "transform.column"),
        ("\"columns\":[2]", "\"columns\":[9]", "transform.assembly"),
        ("\"widths\":[1,2]", "\"widths\":[1]", "transform.assembly"),
        ("\"widths\":[1,2]", "\"widths\":[1,3]", "transform.assembly"),
        ("{", "", "transform.json"),
    ];
    for (from, to, code) in changes {
        assert!(json.contains(from), "{from} is not in {json}");
        let error = Transform::from_json(&json.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.code, code, "{from} -> {to}");
    }
}

#[test]
fn inspection_counts_and_measures() {
    let cache = tempfile::tempdir().unwrap();
    let section = json!({
        "source": "rows", "rows": [[1, "a", 0], [3, "b", 1], [5, "b", 1]], "columns": ["x", "c", "y"],
        "label": "y", "task": "classify", "clean": [{ "one_hot": { "columns": ["c"] } }],
    });
    let found = dataset(section, Path::new("."), cache.path()).inspect().unwrap();
    let train = &found.splits[0];
    assert_eq!((train.samples, train.shards), (3, 1));
    assert_eq!(train.classes, [("0".to_owned(), 1), ("1".to_owned(), 2)]);
    let names: Vec<&str> = found.ranges.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["x", "c=a", "c=b"]);
    let x = &found.ranges[0];
    assert_eq!((x.min, x.max, x.mean), (1.0, 5.0, 3.0));
    assert!((x.deviation - (8.0f64 / 3.0).sqrt()).abs() < 1e-12);
}

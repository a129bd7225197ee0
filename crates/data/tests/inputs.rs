//! What a trained model is asked goes through the very transform it was trained with.

#![allow(clippy::result_large_err)]

mod common;

use common::{dataset, real_data, storage};
use outgrow_data::{Dataset, LoaderOptions, Split, read_inputs};
use outgrow_ir::Diagnostic;
use outgrow_transform::{Batch, Transform};
use serde_json::json;
use std::path::Path;

/// Reads a file as `predict` does, with the transform brought back from its JSON.
fn ask(data: &Dataset, file: &Path) -> Result<Batch, Diagnostic> {
    let transform = Transform::from_json(&data.transform().to_json())?;
    transform.apply(&read_inputs(&storage(), file, &transform)?)
}

fn png(path: &Path, pixels: &[u8], width: u32, height: u32) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
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
    let asked = ask(&data, &root.join("adult/adult.test")).unwrap();
    assert_eq!(asked.real, 16_281);
    assert!(asked.inputs[0].same_bits(&trained.inputs[0]));
    assert_eq!(asked.target, None);
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
    let file = cache.path().join("glyph.png");
    png(&file, &pixels, 28, 28);
    assert_eq!(ask(&data, &file).unwrap().inputs, sample.inputs);
    let doubled: Vec<u8> = (0..56 * 56).map(|i| pixels[i / 56 / 2 * 28 + i % 56 / 2]).collect();
    png(&file, &doubled, 56, 56);
    assert_eq!(ask(&data, &file).unwrap().inputs[0].shape().dims(), [1, 1, 28, 28]);
    std::fs::write(&file, "not an image").unwrap();
    assert_eq!(ask(&data, &file).unwrap_err().code, "data.image.format");
    std::fs::write(&file, b"\xff\xd8\xff\xe0 broken").unwrap();
    assert_eq!(ask(&data, &file).unwrap_err().code, "data.image.broken");
}

#[test]
fn tables_may_have_names_and_labels_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.csv");
    let section = json!({
        "source": "rows", "rows": [[1, "a", 0], [3, "b", 1]], "columns": ["x", "c", "y"], "label": "y",
        "clean": [{ "normalize": { "columns": ["x"] } }, { "one_hot": { "columns": ["c"] } }, { "filter": "y < 9" }],
    });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    let good = [
        "x,c\n3,b\n5,z\n",
        "c,extra,x\nb,7,3\nz,7,5\n",
        "x, c, y\n3, b, 1\n5, z, 0\n",
        "3,b\n5,z\n",
        "3,b,1\n5,z,\n",
    ];
    for text in good {
        std::fs::write(&file, text).unwrap();
        let batch = ask(&data, &file).unwrap_or_else(|d| panic!("{text:?}: {d}"));
        assert_eq!(batch.inputs[0].as_slice::<f32>().unwrap(), [1.0, 0.0, 1.0, 3.0, 0.0, 0.0], "{text:?}");
    }
    let bad = [
        ("x\n3\n", "data.csv.header"),
        ("x,c\n3,b\n5\n", "data.csv.ragged-row"),
        ("x,c\n,b\n", "data.missing-value"),
        ("x,c\nq,b\n", "data.csv.not-a-number"),
    ];
    for (text, code) in bad {
        std::fs::write(&file, text).unwrap();
        assert_eq!(ask(&data, &file).unwrap_err().code, code, "{text:?}");
    }
    assert_eq!(ask(&data, &folder.path().join("none.csv")).unwrap_err().code, "data.not-found");
}

#[test]
fn texts_become_their_last_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.txt");
    std::fs::write(&file, "hello world, hello").unwrap();
    let section = json!({ "source": "text", "files": "t.txt", "context": 4 });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    let vocabulary = &data.transform().assembly.text.as_ref().unwrap().vocabulary;
    let tokens = |text: &str| vocabulary.encode(text).unwrap();
    assert_eq!(ask(&data, &file).unwrap().inputs[0].as_slice::<i32>().unwrap(), tokens("ello"));
    std::fs::write(&file, "he").unwrap();
    assert_eq!(
        ask(&data, &file).unwrap().inputs[0].as_slice::<i32>().unwrap(),
        [tokens("he"), vec![0, 0]].concat()
    );
    std::fs::write(&file, "hex").unwrap();
    assert_eq!(ask(&data, &file).unwrap_err().code, "data.text.unknown-character");
}

#[test]
fn damaged_transforms_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let section = json!({
        "source": "rows", "rows": [[1, "a", 0], [3, "b", 1]], "columns": ["x", "c", "y"], "label": "y",
        "clean": [{ "normalize": { "columns": ["x"] } }, { "one_hot": { "columns": ["c"] } }],
    });
    let json = dataset(section, Path::new("."), cache.path()).transform().to_json();
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

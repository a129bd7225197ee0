//! Some rows of a batch are the same rows of the whole one, to the bit, however a batch is divided.

mod common;

use common::dataset;
use outgrow_data::{Dataset, LoaderOptions, Position, Split};
use outgrow_tensor::Tensor;
use outgrow_transform::Batch;
use serde_json::json;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Fifty drawings of ten classes, whose last batch of most sizes is short.
fn glyphs(cache: &Path) -> Dataset {
    let section =
        json!({ "source": "synthetic:glyphs", "samples": 50, "split": { "validation": 0, "test": 0 } });
    dataset(section, Path::new("."), cache)
}

/// Rows of two unequal classes.
fn table(cache: &Path) -> Dataset {
    let rows: Vec<_> = (0..43).map(|i| json!([i, if i % 5 == 1 { "b" } else { "a" }])).collect();
    let section = json!({
        "source": "rows", "rows": rows, "columns": ["i", "class"], "label": "class",
        "split": { "validation": 0, "test": 0 },
    });
    dataset(section, Path::new("."), cache)
}

fn text(folder: &Path) -> Dataset {
    let text: String = (0..400).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
    std::fs::write(folder.join("a.txt"), text).unwrap();
    let section = json!({ "source": "text", "files": "a.txt", "tokenizer": "byte", "context": 7,
        "split": { "validation": 0, "test": 0 } });
    dataset(section, folder, &folder.join("cache"))
}

fn take(data: &Dataset, options: &LoaderOptions, n: usize) -> Vec<Batch> {
    let loader = data.loader(Split::Train, options.clone()).unwrap_or_else(|d| panic!("{d}"));
    loader.take(n).map(|b| b.unwrap_or_else(|d| panic!("{d}"))).collect()
}

/// What some rows of a whole batch should be.
fn rows_of(whole: &Batch, rows: &Range<usize>) -> Batch {
    let cut = |tensor: &Tensor| {
        let width = tensor.bytes() / tensor.shape().dims()[0];
        let dims = [&[rows.len()], &tensor.shape().dims()[1..]].concat();
        Tensor::from_le_bytes(tensor.dtype(), dims, &tensor.le_bytes()[rows.start * width..rows.end * width])
            .unwrap()
    };
    Batch {
        inputs: whole.inputs.iter().map(cut).collect(),
        target: whole.target.as_ref().map(cut),
        weight: whole.weight[rows.clone()].to_vec(),
        real: whole.real.clamp(rows.start, rows.end) - rows.start,
        first: rows.start,
        ..whole.clone()
    }
}

/// All batches of some epochs, divided in all the ways there are to be tried.
fn check(data: &Dataset, options: &LoaderOptions, what: &str) {
    let count = 12;
    let whole = take(data, options, count);
    assert!(options.drop_last || whole.iter().any(|b| b.real < options.batch), "{what}: none is padded");
    for batch in &whole {
        let weight: f32 = batch.weight.iter().sum();
        assert_eq!((batch.first, batch.whole_real, batch.whole_weight), (0, batch.real, weight), "{what}");
    }
    for parts in [1, 2, 3, 5] {
        let bound = |part: usize| part * options.batch / parts;
        for rows in (0..parts).map(|part| bound(part)..bound(part + 1)) {
            for threads in [1, 3] {
                let some = LoaderOptions { rows: Some(rows.clone()), threads, ..options.clone() };
                for (found, whole) in take(data, &some, count).iter().zip(&whole) {
                    let expect = rows_of(whole, &rows);
                    assert!(
                        *found == expect,
                        "{what}: rows {rows:?} of batch {}/{}",
                        whole.epoch,
                        whole.index
                    );
                }
            }
        }
    }
}

#[test]
fn of_images_however_they_are_changed_and_mixed() {
    let cache = tempfile::tempdir().unwrap();
    let data = glyphs(cache.path());
    let specs = [
        json!({ "flip": "both", "crop": { "padding": 4 }, "color": { "brightness": 0.4, "contrast": 0.4 } }),
        json!({ "mixup": 0.4 }),
        json!({ "flip": "horizontal", "cutmix": 1.0 }),
        json!({ "crop": { "area": [0.3, 1.0] }, "mixup": 0.2, "cutmix": 1.0 }),
    ];
    for spec in specs {
        for (shuffle, class_weights) in [(true, vec![]), (false, (1..=10).map(|c| c as f32 / 3.0).collect())]
        {
            let augment = Some(serde_json::from_value(spec.clone()).unwrap());
            // A batch of twelve leaves two samples for the last one, so that some divisions have rows of padding alone.
            for batch in [12, 15] {
                let plain = LoaderOptions::training(batch, 5);
                let options = LoaderOptions {
                    augment: augment.clone(),
                    shuffle,
                    class_weights: class_weights.clone(),
                    ..plain
                };
                check(
                    &data,
                    &options,
                    &format!("{spec}, batch {batch}, {} weights", options.class_weights.len()),
                );
            }
        }
    }
}

#[test]
fn of_tables_and_text_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let (table, text) = (table(folder.path()), text(folder.path()));
    let plain = LoaderOptions::training(10, 2);
    let stored = LoaderOptions { shuffle: false, ..plain.clone() };
    let later = LoaderOptions { start: Position { epoch: 3, index: 2 }, ..plain.clone() };
    for options in [&plain, &stored, &later] {
        check(&table, options, "a table");
        check(&text, options, "text");
    }
    check(&table, &LoaderOptions { balanced: true, ..plain.clone() }, "balanced");
    let weighted = LoaderOptions { class_weights: vec![0.3, 2.7], ..plain.clone() };
    check(&table, &weighted, "weighted");
    check(&table, &LoaderOptions { balanced: true, ..weighted.clone() }, "balanced and weighted");
    let subset = Some(Arc::new((3..28).collect::<Vec<u64>>()));
    check(&table, &LoaderOptions { subset, ..weighted.clone() }, "a part of the split");
    check(&table, &LoaderOptions { drop_last: true, ..weighted }, "without the last");
    let evaluation = LoaderOptions { limit: Some(33), ..LoaderOptions::evaluation(10) };
    check(&table, &evaluation, "an evaluation");
}

#[test]
fn rows_beyond_the_batch_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(folder.path());
    for rows in [4..4, 9..11] {
        let options = LoaderOptions { rows: Some(rows), ..LoaderOptions::training(10, 2) };
        assert_eq!(table.loader(Split::Train, options).unwrap_err().code, "data.rows");
    }
}

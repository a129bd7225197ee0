//! Loaders, from sources to batches: order, positions, padding, splits of text.

mod common;

use common::{dataset, real_data, try_prepare};
use outgrow_data::{Dataset, LoaderOptions, Split};
use outgrow_transform::{Batch, BatchStream, Target};
use serde_json::json;
use std::collections::HashSet;
use std::path::Path;

fn rows(n: usize) -> serde_json::Value {
    let rows: Vec<[usize; 2]> = (0..n).map(|i| [i, 2 * i]).collect();
    json!({ "source": "rows", "rows": rows, "columns": ["x", "y"], "label": "y" })
}

fn batches(data: &Dataset, split: Split, options: LoaderOptions, n: usize) -> Vec<Batch> {
    let loader = data.loader(split, options).unwrap_or_else(|d| panic!("{d}"));
    loader.take(n).map(|b| b.unwrap_or_else(|d| panic!("{d}"))).collect()
}

/// The first feature of every sample that is not padding.
fn firsts(batch: &Batch) -> Vec<i64> {
    let width = batch.inputs[0].elements() / batch.weight.len();
    (0..batch.real).map(|i| batch.inputs[0].get_f64(i * width) as i64).collect()
}

#[test]
fn every_epoch_has_every_record_once_in_its_own_order() {
    let cache = tempfile::tempdir().unwrap();
    let data = dataset(rows(10), Path::new("."), cache.path());
    let got = batches(&data, Split::Train, LoaderOptions::training(4, 3), 9);
    let mut orders = Vec::new();
    for (epoch, three) in got.chunks(3).enumerate() {
        let order: Vec<i64> = three.iter().flat_map(firsts).collect();
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), 10, "{order:?}");
        for (index, batch) in three.iter().enumerate() {
            assert_eq!((batch.epoch, batch.index), (epoch as u64, index as u64));
            assert_eq!(batch.inputs[0].shape().dims(), [4, 1]);
            let target = batch.target.as_ref().unwrap();
            assert_eq!(target.shape().dims(), [4, 1]);
            assert!((0..4).all(|i| target.get_f64(i) == 2.0 * batch.inputs[0].get_f64(i)));
        }
        assert_eq!(three[2].real, 2);
        assert_eq!(three[2].weight, [1.0, 1.0, 0.0, 0.0]);
        orders.push(order);
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
    let other = batches(&data, Split::Train, LoaderOptions::training(4, 4), 3);
    assert_ne!(orders[0], other.iter().flat_map(firsts).collect::<Vec<_>>());
}

#[test]
fn a_loader_goes_on_from_any_position() {
    let cache = tempfile::tempdir().unwrap();
    let data = dataset(rows(23), Path::new("."), cache.path());
    for (drop_last, read_ahead) in [(false, 2), (true, 2), (false, 0)] {
        let options = LoaderOptions { drop_last, read_ahead, ..LoaderOptions::training(4, 3) };
        let whole = batches(&data, Split::Train, options.clone(), 20);
        let mut loader = data.loader(Split::Train, options.clone()).unwrap();
        for skip in 0..20 {
            let start = loader.position();
            let from = batches(&data, Split::Train, LoaderOptions { start, ..options.clone() }, 20 - skip);
            assert_eq!(from, whole[skip..], "after {skip}");
            let batch = loader.next().unwrap().unwrap();
            loader.recycle(batch);
        }
        assert_eq!(loader.batches_per_epoch(), if drop_last { 5 } else { 6 });
    }
}

#[test]
fn evaluation_sees_records_in_order_once() {
    let cache = tempfile::tempdir().unwrap();
    let data = dataset(rows(10), Path::new("."), cache.path());
    let all: Vec<i64> =
        batches(&data, Split::Train, LoaderOptions::evaluation(4), 99).iter().flat_map(firsts).collect();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    let large = batches(&data, Split::Train, LoaderOptions::evaluation(64), 99);
    assert_eq!((large.len(), large[0].real, large[0].weight.len()), (1, 10, 64));
    let limited = LoaderOptions { limit: Some(7), shuffle: true, ..LoaderOptions::evaluation(4) };
    assert_eq!(batches(&data, Split::Train, limited, 99).iter().map(|b| b.real).sum::<usize>(), 7);
    let spread = LoaderOptions { limit: Some(4), ..LoaderOptions::evaluation(4) };
    assert_eq!(firsts(&batches(&data, Split::Train, spread, 99)[0]), [0, 2, 5, 7]);
    let one = data.sample(Split::Train, 7).unwrap();
    assert_eq!(firsts(&one), [7]);
    assert!(data.sample(Split::Train, 10).is_err());
}

#[test]
fn records_that_do_not_fit_into_memory_give_the_same_batches() {
    let cache = tempfile::tempdir().unwrap();
    let data = dataset(rows(20_000), Path::new("."), cache.path());
    let on_disk = Dataset::open_with(common::storage(), data.folder(), 0).unwrap();
    let options = LoaderOptions::training(32, 9);
    assert_eq!(
        batches(&data, Split::Train, options.clone(), 50),
        batches(&on_disk, Split::Train, options, 50)
    );
}

#[test]
fn bad_batches_and_splits_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let data = dataset(rows(10), Path::new("."), cache.path());
    let cases = [
        (Split::Train, LoaderOptions::training(11, 0), "data.batch-too-large"),
        (Split::Train, LoaderOptions::training(0, 0), "data.batch"),
        (Split::Test, LoaderOptions::evaluation(1), "data.empty-split"),
    ];
    for (split, options, code) in cases {
        assert_eq!(data.loader(split, options).unwrap_err().code, code);
    }
}

#[test]
fn text_is_cut_into_windows() {
    let folder = tempfile::tempdir().unwrap();
    // A hundred different characters of two bytes each, so that every window tells its place.
    let text: Vec<char> = (0x100..0x164).filter_map(char::from_u32).collect();
    std::fs::write(folder.path().join("t.txt"), text.iter().collect::<String>()).unwrap();
    let section = json!({ "source": "text", "files": "t.txt", "context": 8, "split": { "validation": 0.2 } });
    let data = dataset(section, folder.path(), &folder.path().join("cache"));
    assert_eq!((data.stored(Split::Train), data.stored(Split::Validation)), (80, 20));
    assert_eq!((data.samples(Split::Train), data.samples(Split::Validation)), (9, 2));
    let vocabulary = &data.transform().assembly.text.as_ref().unwrap().vocabulary;
    let decode = |t: &outgrow_tensor::Tensor| {
        vocabulary.decode(t.as_slice::<i32>().unwrap()).chars().collect::<Vec<_>>()
    };
    let validation = batches(&data, Split::Validation, LoaderOptions::evaluation(2), 9);
    assert_eq!(decode(&validation[0].inputs[0]), text[80..96]);
    assert_eq!(decode(validation[0].target.as_ref().unwrap()), text[81..97]);
    let mut starts = HashSet::new();
    for batch in batches(&data, Split::Train, LoaderOptions::training(1, 5), 180) {
        let input = decode(&batch.inputs[0]);
        let at = text.iter().position(|c| *c == input[0]).unwrap();
        assert_eq!(input, text[at..at + 8]);
        assert!(at + 9 <= 80);
        assert_eq!(decode(batch.target.as_ref().unwrap()), text[at + 1..at + 9]);
        starts.insert(at);
    }
    assert!(starts.len() > 60, "windows start at {} places only", starts.len());
}

#[test]
fn mnist_loads() {
    let Some(root) = real_data("mnist") else { return };
    let cache = tempfile::tempdir().unwrap();
    let section = json!({
        "source": "idx",
        "images": "mnist/train-images-idx3-ubyte.gz",
        "labels": "mnist/train-labels-idx1-ubyte.gz",
        "test": {
            "images": "mnist/t10k-images-idx3-ubyte.gz",
            "labels": "mnist/t10k-labels-idx1-ubyte.gz",
        },
        "split": { "validation": 0.1 },
    });
    let data = dataset(section.clone(), &root, cache.path());
    assert_eq!(data.samples(Split::Test), 10_000);
    assert_eq!(data.samples(Split::Train) + data.samples(Split::Validation), 60_000);
    assert!((5_600..6_400).contains(&data.samples(Split::Validation)));
    let schema = data.schema();
    assert_eq!(schema.inputs[0].shape, [1, 28, 28]);
    let Target::Class { names } = schema.target else { panic!("no classes") };
    assert_eq!(names.len(), 10);
    let first = data.sample(Split::Test, 0).unwrap();
    assert_eq!(first.target.unwrap().get_i64(0), 7);
    let sum: f64 = (0..784).map(|i| first.inputs[0].get_f64(i)).sum();
    // The mean pixel of the first test image, by numpy: 23.53826530612245 of 255.
    assert!((sum * 255.0 / 784.0 - 23.538_265_3).abs() < 1e-3, "{sum}");
    let again = try_prepare(section, &root, cache.path()).unwrap();
    assert!(again.reused);
}

#[test]
fn tinyshakespeare_loads() {
    let Some(root) = real_data("tinyshakespeare") else { return };
    let cache = tempfile::tempdir().unwrap();
    let section = json!({
        "source": "text", "files": "tinyshakespeare/input.txt", "context": 128, "split": { "validation": 0.1 },
    });
    let data = dataset(section, &root, cache.path());
    let Target::Tokens { vocab } = data.schema().target else { panic!("no tokens") };
    assert_eq!(vocab, 65);
    assert_eq!(data.stored(Split::Train) + data.stored(Split::Validation), 1_115_394);
    let batch = data.sample(Split::Train, 0).unwrap();
    let vocabulary = &data.transform().assembly.text.as_ref().unwrap().vocabulary;
    assert!(
        vocabulary
            .decode(batch.inputs[0].as_slice::<i32>().unwrap())
            .starts_with("First Citizen:\nBefore we")
    );
}

//! What training asks of a loader beyond order: augmentation, mixing, balance of classes, parts of a split.

mod common;

use common::dataset;
use outgrow_data::{Dataset, LoaderOptions, Position, Split};
use outgrow_transform::{Batch, Portion};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// Two hundred drawings of ten classes.
fn glyphs(cache: &Path) -> Dataset {
    let section =
        json!({ "source": "synthetic:glyphs", "samples": 200, "split": { "validation": 0, "test": 0 } });
    dataset(section, Path::new("."), cache)
}

/// Rows `[i, class]`, of which only every tenth is of class b, and none but the first of class c.
fn uneven(cache: &Path) -> Dataset {
    let class = |i| match i {
        0 => "c",
        i if i % 10 == 1 => "b",
        _ => "a",
    };
    let rows: Vec<_> = (0..90).map(|i| json!([i, class(i)])).collect();
    let section = json!({
        "source": "rows", "rows": rows, "columns": ["i", "class"], "label": "class",
        "split": { "validation": 0, "test": 0 },
    });
    dataset(section, Path::new("."), cache)
}

fn take(data: &Dataset, options: &LoaderOptions, n: usize) -> Vec<Batch> {
    let loader = data.loader(Split::Train, options.clone()).unwrap_or_else(|d| panic!("{d}"));
    loader.take(n).map(|b| b.unwrap_or_else(|d| panic!("{d}"))).collect()
}

fn classes(batch: &Batch) -> &[i32] {
    batch.target.as_ref().unwrap().as_slice().unwrap()
}

#[test]
fn augmented_batches_depend_on_seed_and_place_alone() {
    let cache = tempfile::tempdir().unwrap();
    let data = glyphs(cache.path());
    let specs = [
        json!({ "flip": "both", "crop": { "padding": 4 }, "color": { "brightness": 0.4, "contrast": 0.4 } }),
        json!({ "crop": { "area": [0.3, 1.0] }, "mixup": 0.4 }),
        json!({ "flip": "horizontal", "cutmix": 1.0 }),
        json!({ "mixup": 0.2, "cutmix": 1.0 }),
    ];
    for spec in specs {
        let augment = Some(serde_json::from_value(spec.clone()).unwrap());
        let options = LoaderOptions { augment, ..LoaderOptions::training(32, 5) };
        let whole = take(&data, &options, 40);
        assert!(whole.iter().all(|b| b.inputs[0].shape().dims() == [32, 1, 28, 28]), "{spec}");
        let plain = take(&data, &LoaderOptions::training(32, 5), 1);
        assert_ne!(whole[0].inputs, plain[0].inputs, "{spec} changes nothing");
        for (threads, read_ahead) in [(1, 0), (2, 1), (3, 2), (8, 2)] {
            let other = LoaderOptions { threads, read_ahead, ..options.clone() };
            assert_eq!(take(&data, &other, 40), whole, "{spec} with {threads} threads");
        }
        let start = Position { epoch: 2, index: 3 };
        let later = take(&data, &LoaderOptions { start, threads: 2, ..options.clone() }, 5);
        assert_eq!(later, whole[2 * 7 + 3..][..5], "{spec} from the middle");
        let other = take(&data, &LoaderOptions { seed: 6, ..options.clone() }, 1);
        assert_ne!(other[0].inputs, whole[0].inputs, "{spec} with another seed");
        // The same sample is changed in another way in each epoch.
        let stored = LoaderOptions { shuffle: false, ..options };
        let two = take(&data, &stored, 8);
        assert_ne!(two[0].inputs, two[7].inputs, "{spec} in the next epoch");
    }
}

#[test]
fn mixed_targets_are_shares_of_two_classes() {
    let cache = tempfile::tempdir().unwrap();
    let data = glyphs(cache.path());
    let augment = Some(serde_json::from_value(json!({ "mixup": 1.0 })).unwrap());
    let plain = LoaderOptions::training(24, 5);
    let mixed =
        LoaderOptions { augment, class_weights: (1..=10).map(|c| c as f32).collect(), ..plain.clone() };
    for (plain, mixed) in take(&data, &plain, 9).iter().zip(&take(&data, &mixed, 9)) {
        let shares: &[f32] = mixed.target.as_ref().unwrap().as_slice().unwrap();
        let class = classes(plain);
        for (i, row) in shares.chunks(10).enumerate() {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            let partner = class[(i + 1) % mixed.real];
            assert!(
                row.iter()
                    .enumerate()
                    .all(|(c, share)| { *share == 0.0 || c as i32 == class[i] || c as i32 == partner })
            );
            if i < mixed.real {
                let weight: f32 = row.iter().enumerate().map(|(c, share)| share * (c + 1) as f32).sum();
                assert!((mixed.weight[i] - weight).abs() < 1e-5, "{} and {weight}", mixed.weight[i]);
                // The blend itself: the share of the sample's own class tells how much of its image is there.
                if class[i] != partner {
                    let own = row[class[i] as usize];
                    let at = |j: usize| plain.inputs[0].get_f64(j * 784 + 400) as f32;
                    let blend = own * at(i) + (1.0 - own) * at((i + 1) % mixed.real);
                    let is = mixed.inputs[0].get_f64(i * 784 + 400) as f32;
                    assert!((is - blend).abs() < 1e-5, "{is} and {blend}");
                }
            } else {
                assert_eq!(mixed.weight[i], 0.0);
            }
        }
    }
}

#[test]
fn portions_of_a_pass_are_its_batches() {
    let cache = tempfile::tempdir().unwrap();
    let data = glyphs(cache.path());
    for read_ahead in [0, 2] {
        let options = LoaderOptions { read_ahead, limit: Some(100), ..LoaderOptions::evaluation(9) };
        let all = |portion| {
            let options = LoaderOptions { portion, ..options.clone() };
            data.loader(Split::Train, options).unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        let whole = all(Portion::WHOLE);
        assert_eq!(whole.len(), 12);
        for of in [2, 5, 12, 30] {
            let parts: Vec<_> = (0..of).flat_map(|number| all(Portion { number, of })).collect();
            assert_eq!(parts, whole, "in {of} portions");
        }
    }
}

#[test]
fn balanced_sampling_sees_each_class_equally_often() {
    let cache = tempfile::tempdir().unwrap();
    let data = uneven(cache.path());
    let options = LoaderOptions { balanced: true, ..LoaderOptions::training(9, 1) };
    let batches = take(&data, &options, 20);
    for batch in &batches {
        for class in 0..3 {
            assert_eq!(classes(batch).iter().filter(|c| **c == class).count(), 3);
        }
    }
    let start = Position { epoch: 1, index: 4 };
    assert_eq!(take(&data, &LoaderOptions { start, threads: 2, ..options.clone() }, 4), batches[14..18]);
    let first = |b: &Batch| b.inputs[0].get_f64(0);
    assert!(batches[..10].iter().zip(&batches[10..]).any(|(a, b)| first(a) != first(b)), "epochs differ");
}

#[test]
fn class_weights_weigh_and_padding_stays_zero() {
    let cache = tempfile::tempdir().unwrap();
    let data = uneven(cache.path());
    let options = LoaderOptions { class_weights: vec![0.5, 2.0, 9.0], ..LoaderOptions::training(40, 1) };
    for batch in take(&data, &options, 3) {
        for (i, class) in classes(&batch).iter().enumerate() {
            let expected = if i < batch.real { [0.5, 2.0, 9.0][*class as usize] } else { 0.0 };
            assert_eq!(batch.weight[i], expected);
        }
    }
}

#[test]
fn a_part_of_a_split_is_used_alone() {
    let cache = tempfile::tempdir().unwrap();
    let data = uneven(cache.path());
    let subset = Some(Arc::new((10..30).collect::<Vec<u64>>()));
    let options = LoaderOptions { subset, ..LoaderOptions::training(5, 1) };
    let batches = take(&data, &options, 8);
    for epoch in batches.chunks(4) {
        let mut seen: Vec<i64> =
            epoch.iter().flat_map(|b| (0..5).map(|i| b.inputs[0].get_f64(i) as i64)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (10..30).collect::<Vec<_>>());
    }
    let balanced = LoaderOptions { balanced: true, ..options };
    let count: usize =
        take(&data, &balanced, 4).iter().map(|b| classes(b).iter().filter(|c| **c == 1).count()).sum();
    assert_eq!(count, 10, "of two classes in the part, each is half");
}

#[test]
fn what_does_not_fit_the_data_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let (images, table) = (glyphs(cache.path()), uneven(cache.path()));
    let numbers = json!({ "source": "rows", "rows": [[1, 2], [2, 3], [3, 4]], "columns": ["x", "y"], "label": "y",
        "split": { "validation": 0, "test": 0 } });
    let numbers = dataset(numbers, Path::new("."), cache.path());
    let check = |data: &Dataset, change: &dyn Fn(&mut LoaderOptions), code: &str, item: &str| {
        let mut options = LoaderOptions::training(2, 1);
        change(&mut options);
        let error = data.loader(Split::Train, options).unwrap_err();
        assert_eq!((error.code, error.place.item.as_deref()), (code, Some(item)), "{error}");
    };
    let spec = |json| Some(serde_json::from_value(json).unwrap());
    check(&table, &|o| o.augment = spec(json!({ "flip": "both" })), "data.augment", "data.augment");
    check(
        &images,
        &|o| o.augment = spec(json!({ "color": { "hue": 0.1 } })),
        "data.augment",
        "data.augment.color",
    );
    check(&numbers, &|o| o.balanced = true, "data.no-classes", "train.sampling");
    check(&numbers, &|o| o.class_weights = vec![1.0], "data.no-classes", "train.class_weights");
}

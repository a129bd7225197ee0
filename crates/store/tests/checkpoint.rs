//! Checkpoints: nothing is lost and no damage goes unseen.

use outgrow_env::{SimStorage, StorageBackend};
use outgrow_store::checkpoint::{Checkpoint, parse};
use outgrow_store::{Best, CheckpointStore, StoreError, safetensors};
use outgrow_tensor::{DType, RngKey, Tensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const MODEL: &str = "sha256:model-a";

fn at_step(step: u64) -> Checkpoint {
    let weights = BTreeMap::from([
        (
            "dense.weight".to_owned(),
            Tensor::from_f64(DType::F32, [20, 10], |i| (i as f64 + step as f64).sin()),
        ),
        ("dense.bias".to_owned(), Tensor::from_f64(DType::BF16, [10], |i| i as f64 / 3.0)),
    ]);
    let mut checkpoint = Checkpoint { step, model: MODEL.to_owned(), ..Checkpoint::default() };
    checkpoint.insert_group("parameters", &weights);
    checkpoint.insert_group("adam/m", &weights);
    checkpoint.tensors.insert("count".to_owned(), Tensor::scalar(step as i64));
    checkpoint.state.insert("loader".to_owned(), json!({"epoch": 3, "position": 17, "seed": u64::MAX}));
    checkpoint.state.insert("metrics".to_owned(), json!([0.1, 1.0 / 3.0, 5e-324, 1.797e308, "\"quoted\"\n"]));
    checkpoint
}

/// Checkpoints on a simulated disk, in an existing folder.
fn simulated(seed: u64, keep_last: usize) -> (Arc<SimStorage>, CheckpointStore) {
    let storage = Arc::new(SimStorage::new(seed));
    storage.create_folder(Path::new("/run")).unwrap();
    let store = CheckpointStore::new(storage.clone(), "/run/checkpoints", MODEL, keep_last);
    (storage, store)
}

fn steps(store: &CheckpointStore) -> Vec<u64> {
    store.list().unwrap().iter().map(|s| s.step).collect()
}

fn latest(store: &CheckpointStore) -> Option<u64> {
    store.load_latest().unwrap().map(|loaded| loaded.checkpoint.step)
}

fn code(error: &StoreError) -> &'static str {
    match error {
        StoreError::Invalid(diagnostics) => diagnostics.0[0].code,
        other => panic!("{other}"),
    }
}

#[test]
fn everything_comes_back_bit_for_bit() {
    let checkpoint = at_step(123);
    let bytes = checkpoint.to_bytes().unwrap();
    let mut back = parse(bytes.clone()).unwrap();
    assert_eq!(back, checkpoint);
    assert_eq!(back.to_bytes().unwrap(), bytes);
    assert_eq!(back.part("loader").unwrap()["position"], 17);
    let text = back.part("optimiser").unwrap_err().to_string();
    assert!(
        text.contains("optimiser: the checkpoint has no such part") && text.contains("loader, metrics"),
        "{text}"
    );
    let parameters = back.take_group("parameters");
    assert_eq!(parameters.keys().collect::<Vec<_>>(), ["dense.bias", "dense.weight"]);
    assert_eq!(
        back.tensors.keys().collect::<Vec<_>>(),
        ["adam/m/dense.bias", "adam/m/dense.weight", "count"]
    );
    // Any tool that reads safetensors can look into it.
    assert_eq!(safetensors::parse(bytes).unwrap().tensors, checkpoint.tensors);
    // The smallest one.
    let empty = Checkpoint::default();
    assert_eq!(parse(empty.to_bytes().unwrap()).unwrap(), empty);
}

/// Names and texts that look like the format's own do not confuse it.
#[test]
fn content_cannot_pose_as_the_digest() {
    let mut checkpoint = at_step(1);
    let mark = r#""outgrow.header_sha256":"0000""#;
    checkpoint.model = mark.to_owned();
    checkpoint.state.insert(mark.to_owned(), json!({"outgrow.header_sha256": "0".repeat(64)}));
    checkpoint.tensors.insert("outgrow.header_sha256".to_owned(), Tensor::scalar(1.0f32));
    assert_eq!(parse(checkpoint.to_bytes().unwrap()).unwrap(), checkpoint);
}

/// Every byte of the file, changed in one bit, in several or to another value.
#[test]
fn every_changed_byte_is_found() {
    let valid = at_step(5).to_bytes().unwrap();
    for at in 0..valid.len() {
        for change in [1 << (at % 8), 0x20, 0xff] {
            let mut bytes = valid.clone();
            bytes[at] ^= change;
            assert!(parse(bytes).is_err(), "byte {at} of {} changed by {change:#x}", valid.len());
        }
    }
    let flipped_last = [&valid[..valid.len() - 1], &[valid[valid.len() - 1] ^ 1]].concat();
    let text = parse(flipped_last).unwrap_err().to_string();
    assert!(text.contains("the tensor's checksum differs [store.checkpoint.damaged]"), "{text}");
}

#[test]
fn every_truncation_and_extension_is_found() {
    let valid = at_step(5).to_bytes().unwrap();
    for length in 0..valid.len() {
        assert!(parse(valid[..length].to_vec()).is_err(), "{length} of {} bytes", valid.len());
    }
    assert!(parse([&valid[..], &[0]].concat()).is_err());
}

#[test]
fn random_bytes_never_panic() {
    let valid = at_step(5).to_bytes().unwrap();
    let mut random = RngKey::new(3).stream();
    for _ in 0..5_000 {
        let mut bytes: Vec<u8> = (0..random.below(300)).map(|_| random.next_u32() as u8).collect();
        assert!(parse(bytes).is_err());
        bytes = valid.clone();
        let (from, to) =
            (random.below(valid.len() as u64) as usize, random.below(valid.len() as u64) as usize);
        bytes.copy_within(from..(from + 16).min(valid.len()), to.min(valid.len() - 16));
        assert!(bytes == valid || parse(bytes).is_err());
    }
}

/// A later version of the format, with all checksums right, is refused by name.
#[test]
fn a_later_version_is_refused() {
    let text = String::from_utf8_lossy(&at_step(1).to_bytes().unwrap()).into_owned();
    assert!(text.contains(r#""outgrow.checkpoint":"1""#));
    let mut bytes = at_step(1).to_bytes().unwrap();
    replace(&mut bytes, br#""outgrow.checkpoint":"1""#, br#""outgrow.checkpoint":"2""#);
    let mark = br#""outgrow.header_sha256":""#;
    let at = find(&bytes, mark) + mark.len();
    bytes[at..at + 64].fill(b'0');
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let digest = outgrow_store::sha256::hex(&bytes[..header]);
    bytes[at..at + 64].copy_from_slice(digest.as_bytes());
    assert_eq!(parse(bytes).unwrap_err().0[0].code, "store.checkpoint.version");
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|w| w == what).unwrap()
}

fn replace(bytes: &mut [u8], what: &[u8], by: &[u8]) {
    let at = find(bytes, what);
    bytes[at..at + by.len()].copy_from_slice(by);
}

#[test]
fn the_last_few_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(outgrow_env::LocalStorage::new());
    let store = CheckpointStore::new(storage, folder.path().join("checkpoints"), MODEL, 3);
    assert_eq!((steps(&store), latest(&store), store.best().unwrap()), (vec![], None, None));
    for step in [10, 20, 30, 40, 50, 60] {
        let path = store.save(&at_step(step)).unwrap();
        assert!(path.ends_with(format!("step-000000{step}.ckpt")));
        if step == 20 {
            store.mark_best(Best { step: 20, score: 0.1 + 0.2 }).unwrap();
        }
    }
    assert_eq!(steps(&store), [20, 40, 50, 60]);
    assert_eq!(store.best().unwrap(), Some(Best { step: 20, score: 0.1 + 0.2 }));
    assert_eq!(store.load(&store.path(20)).unwrap(), at_step(20));
    let loaded = store.load_latest().unwrap().unwrap();
    assert_eq!((loaded.checkpoint, loaded.path, loaded.skipped.0.len()), (at_step(60), store.path(60), 0));
}

#[test]
fn a_damaged_newest_gives_way_to_the_one_before() {
    let (storage, store) = simulated(1, 3);
    for step in [1, 2, 3] {
        store.save(&at_step(step)).unwrap();
    }
    storage.disk().corrupt(&store.path(3), |bytes| {
        let at = bytes.len() - 100;
        bytes[at] ^= 4;
    });
    storage.disk().corrupt(&store.path(2), |bytes| bytes.truncate(500));
    let loaded = store.load_latest().unwrap().unwrap();
    assert_eq!((loaded.checkpoint, loaded.path), (at_step(1), store.path(1)));
    let skipped = loaded.skipped.to_string();
    assert!(skipped.contains("/run/checkpoints/step-00000003.ckpt: "), "{skipped}");
    assert!(skipped.contains("/run/checkpoints/step-00000002.ckpt: "), "{skipped}");
    assert_eq!(steps(&store), [1, 2, 3], "nothing is deleted");

    storage.disk().corrupt(&store.path(1), |bytes| bytes[0] ^= 1);
    assert!(matches!(store.load_latest().unwrap_err(), StoreError::Invalid(d) if d.0.len() == 3));
    assert_eq!(steps(&store), [1, 2, 3]);
}

/// What was just saved stays, even when damaged files of later steps are there and only one is to be kept.
#[test]
fn damaged_later_files_do_not_push_out_good_ones() {
    let (storage, store) = simulated(1, 1);
    store.save(&at_step(30)).unwrap();
    storage.disk().corrupt(&store.path(30), |bytes| bytes.truncate(9));
    for step in [10, 20] {
        store.save(&at_step(step)).unwrap();
        assert_eq!(latest(&store), Some(step));
    }
    assert_eq!(steps(&store), [20, 30]);
}

#[test]
fn another_models_checkpoint_is_refused_and_left() {
    let (storage, store) = simulated(1, 3);
    store.save(&at_step(1)).unwrap();
    let other = CheckpointStore::new(storage, "/run/checkpoints", "sha256:model-b", 3);
    for error in [
        other.load_latest().unwrap_err(),
        other.load(&store.path(1)).unwrap_err(),
        other.save(&at_step(2)).unwrap_err(),
    ] {
        assert_eq!(code(&error), "store.checkpoint.model");
        assert!(error.to_string().contains(MODEL) && error.to_string().contains("model-b"), "{error}");
    }
    assert_eq!(latest(&store), Some(1));
}

#[test]
fn bits_that_flip_while_reading_are_found() {
    let (storage, store) = simulated(1, 3);
    store.save(&at_step(1)).unwrap();
    storage.disk().flip_on_read(true);
    for _ in 0..200 {
        assert!(store.load_latest().is_err());
    }
    storage.disk().flip_on_read(false);
    assert_eq!(latest(&store), Some(1));
}

/// A crash at any operation while saving, under many seeds: afterwards the old or the new checkpoint loads, the new
/// one if the save had returned, and training can go on saving.
#[test]
fn a_crash_at_any_moment_leaves_old_or_new() {
    let (mut kept_old, mut kept_new) = (0, 0);
    for seed in 0..25 {
        for operation in 1.. {
            let (storage, store) = simulated(seed, 1);
            store.save(&at_step(1)).unwrap();
            storage.disk().crash_at_operation(Some(operation));
            let saved = store.save(&at_step(2)).is_ok();
            let finished = !storage.disk().has_crashed();
            storage.disk().restart();
            let loaded = store.load_latest().unwrap().unwrap();
            assert_eq!(loaded.skipped.0.len(), 0, "no half-written file has a checkpoint's name");
            assert_eq!(loaded.checkpoint, at_step(loaded.checkpoint.step));
            match loaded.checkpoint.step {
                1 => assert!(!saved, "seed {seed}, operation {operation}: a saved checkpoint is lost"),
                step => assert_eq!(step, 2),
            }
            if loaded.checkpoint.step == 1 {
                kept_old += 1
            } else {
                kept_new += 1
            }
            store.save(&at_step(3)).unwrap();
            assert_eq!(steps(&store), [3]);
            if finished {
                break;
            }
        }
    }
    assert!(kept_old > 25 && kept_new > 25, "both outcomes must occur: {kept_old}, {kept_new}");
}

/// The same for the very first checkpoint of a run, when not even the folder exists: none or a whole one.
#[test]
fn a_crash_during_the_first_save_leaves_none_or_a_whole_one() {
    for seed in 0..25 {
        for operation in 1.. {
            let (storage, store) = simulated(seed, 1);
            storage.disk().crash_at_operation(Some(operation));
            let saved = store.save(&at_step(1)).is_ok();
            let finished = !storage.disk().has_crashed();
            storage.disk().restart();
            let after = latest(&store);
            assert!(after == Some(1) || (after.is_none() && !saved), "seed {seed}, operation {operation}");
            if finished {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_keeps_the_old_ones() {
    let (storage, store) = simulated(1, 2);
    for step in [1, 2] {
        store.save(&at_step(step)).unwrap();
    }
    let used = storage.disk().used();
    for room in [0, 1, 100, 2000] {
        storage.disk().set_capacity(Some(used + room));
        let error = store.save(&at_step(3)).unwrap_err();
        assert!(matches!(&error, StoreError::Storage(e) if e.is_no_space()), "{error}");
        assert_eq!((latest(&store), steps(&store), storage.disk().used()), (Some(2), vec![1, 2], used));
    }
    storage.disk().set_capacity(None);
    store.save(&at_step(3)).unwrap();
    assert_eq!(steps(&store), [2, 3]);
}

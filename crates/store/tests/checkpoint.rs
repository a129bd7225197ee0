//! Checkpoints: nothing is lost and no damage goes unseen, by however many they are written and read.

use outgrow_env::{SimStorage, StorageBackend};
use outgrow_store::checkpoint::{Part, PartFile, Piece, Record, State, Stored};
use outgrow_store::{CheckpointStore, StoreError, safetensors};
use outgrow_tensor::{DType, RngKey, RngStream, Shape, Tensor};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MODEL: &str = "sha256:model-a";
const FOLDER: &str = "/run/checkpoints";

/// The tensors of a step.
fn tensors(step: u64) -> BTreeMap<String, Tensor> {
    let weight = Tensor::from_f64(DType::F32, [20, 10], |i| (i as f64 + step as f64).sin());
    let bias = Tensor::from_f64(DType::BF16, [10], |i| i as f64 / 3.0);
    let named = [
        ("param/dense.weight", weight.clone()),
        ("param/dense.bias", bias.clone()),
        ("adam/m/dense.weight", weight),
        ("adam/m/dense.bias", bias),
        ("count", Tensor::scalar(step as i64)),
    ];
    named.map(|(name, tensor)| (name.to_owned(), tensor)).into()
}

fn state() -> State {
    State::from([
        ("loader".to_owned(), json!({"epoch": 3, "position": 17, "seed": u64::MAX})),
        ("metrics".to_owned(), json!([0.1, 1.0 / 3.0, 5e-324, 1.797e308, "\"quoted\"\n"])),
    ])
}

fn at_step(step: u64) -> Part {
    Part { step, model: MODEL.to_owned(), tensors: tensors(step), ..Part::default() }
}

/// The same, each tensor cut into `count` pieces at places drawn from `random`, some of them empty.
fn cut(step: u64, count: usize, random: &mut RngStream) -> Vec<Part> {
    let empty = Part { step, model: MODEL.to_owned(), ..Part::default() };
    let mut parts = vec![empty; count];
    for (name, tensor) in tensors(step) {
        let n = tensor.elements();
        let mut ends: Vec<usize> = (1..count).map(|_| random.below(n as u64 + 1) as usize).collect();
        ends.push(n);
        ends.sort_unstable();
        let mut from = 0;
        for (part, end) in parts.iter_mut().zip(ends) {
            if end - from == n {
                part.tensors.insert(name.clone(), tensor.clone());
            } else if end > from {
                let width = tensor.dtype().bytes();
                let bytes = &tensor.le_bytes()[from * width..end * width];
                let elements = Tensor::from_le_bytes(tensor.dtype(), [end - from], bytes).unwrap();
                part.pieces.insert(name.clone(), Piece { shape: tensor.shape().clone(), from, elements });
            }
            from = end;
        }
    }
    parts
}

fn shuffle<T>(items: &mut [T], random: &mut RngStream) {
    (1..items.len()).for_each(|i| items.swap(i, random.below(i as u64 + 1) as usize));
}

/// All of a checkpoint, compared with what it should be.
fn check(stored: &Stored, step: u64) {
    stored.verify().unwrap_or_else(|d| panic!("{d}"));
    let expect = tensors(step);
    assert_eq!(stored.step(), step);
    assert!(stored.tensors().map(|(name, ..)| name).eq(expect.keys()));
    for (name, tensor) in &expect {
        assert!(stored.tensor(name).unwrap().same_bits(tensor), "{name} of step {step}");
    }
    assert_eq!(stored.record().state, state());
}

/// Checkpoints on a simulated disk, in an existing folder.
fn simulated(seed: u64, keep_last: usize) -> (Arc<SimStorage>, CheckpointStore) {
    let storage = Arc::new(SimStorage::new(seed));
    storage.create_folder(Path::new("/run")).unwrap();
    let store = CheckpointStore::new(storage.clone(), FOLDER, MODEL, keep_last);
    (storage, store)
}

fn save(store: &CheckpointStore, step: u64) -> Result<PathBuf, StoreError> {
    store.save(&at_step(step), &state())
}

fn steps(store: &CheckpointStore) -> Vec<u64> {
    store.list().unwrap().iter().map(|s| s.step).collect()
}

fn latest(store: &CheckpointStore) -> Option<u64> {
    store.load_latest().unwrap().map(|loaded| loaded.stored.step())
}

/// The files of the parts of a step.
fn parts(storage: &SimStorage, step: u64) -> Vec<PathBuf> {
    let files = storage.list(Path::new(FOLDER)).unwrap();
    let of_step = files.iter().filter(|e| e.name.starts_with(&format!("step-{step:08}-")));
    of_step.map(|e| Path::new(FOLDER).join(&e.name)).collect()
}

fn diagnostic(error: StoreError) -> (&'static str, String) {
    match error {
        StoreError::Invalid(diagnostics) => (diagnostics.0[0].code, diagnostics.to_string()),
        other => panic!("{other}"),
    }
}

/// What is said of the one checkpoint there is.
fn refused(store: &CheckpointStore) -> (&'static str, String) {
    diagnostic(store.load_latest().unwrap_err())
}

#[test]
fn everything_comes_back_bit_for_bit() {
    let (storage, store) = simulated(1, 3);
    let path = save(&store, 123).unwrap();
    assert!(path.ends_with("step-00000123.json"));
    let stored = store.open(&path).unwrap();
    check(&stored, 123);
    assert_eq!(stored.state("loader").unwrap()["position"], 17);
    let text = stored.state("optimiser").unwrap_err().to_string();
    assert!(
        text.contains("optimiser: the checkpoint has no such") && text.contains("loader, metrics"),
        "{text}"
    );
    // Any tool that reads safetensors can look into it.
    let [part] = &parts(&storage, 123)[..] else { panic!("one part") };
    assert_eq!(safetensors::read(&*storage, part).unwrap().tensors, tensors(123));
    // The smallest one.
    store.save(&Part { step: 124, model: MODEL.into(), ..Part::default() }, &State::new()).unwrap();
    assert_eq!(store.open(&store.path(124)).unwrap().tensors().count(), 0);
}

/// Written by any number of processes in any order, the whole is the same, and so is any range of it.
#[test]
fn parts_in_any_order_make_up_the_whole() {
    let mut random = RngKey::new(2).stream();
    for count in [1, 2, 3, 5, 9] {
        for round in 0..5 {
            let (storage, store) = simulated(round, 3);
            let mut parts = cut(7, count, &mut random);
            shuffle(&mut parts, &mut random);
            let files: Vec<PartFile> = parts.iter().map(|part| store.write_part(part).unwrap()).collect();
            assert_eq!(latest(&store), None, "nothing is committed yet");
            let path = store.commit(7, &state(), files.clone()).unwrap();
            let stored = store.open(&path).unwrap();
            for (name, tensor) in tensors(7) {
                for _ in 0..5 {
                    let from = random.below(tensor.elements() as u64 + 1) as usize;
                    let to = from + random.below((tensor.elements() - from) as u64 + 1) as usize;
                    let read = stored.read(&name, from..to).unwrap();
                    assert_eq!(read.shape().dims(), [to - from]);
                    let width = tensor.dtype().bytes();
                    assert_eq!(read.as_bytes(), &tensor.as_bytes()[from * width..to * width]);
                }
                assert!(stored.read(&name, 0..tensor.elements() + 1).is_err());
            }
            check(&stored, 7);
            assert!(stored.read("param/other", 0..0).is_err());
            assert_eq!(storage.list(Path::new(FOLDER)).unwrap().len(), 1 + files.len());
        }
    }
}

/// What is read is verified, and nothing else is looked at.
#[test]
fn damage_is_found_by_who_reads_it() {
    let (storage, store) = simulated(1, 3);
    let table = Tensor::from_f64(DType::F32, [3 << 20], |i| i as f64);
    let tensors = BTreeMap::from([("table".to_owned(), table.clone())]);
    let part = Part { step: 1, model: MODEL.into(), tensors, ..Part::default() };
    let path = store.save(&part, &State::new()).unwrap();
    storage.disk().corrupt(&parts(&storage, 1)[0], |bytes| *bytes.last_mut().unwrap() ^= 1);
    let stored = store.open(&path).unwrap();
    let first = stored.read("table", 5..1 << 20).unwrap();
    assert_eq!(first.as_slice::<f32>().unwrap(), &table.as_slice::<f32>().unwrap()[5..1 << 20]);
    let text = stored.read("table", 5..(2 << 20) + 1).unwrap_err().to_string();
    assert!(text.contains("table: the tensor's checksum differs [store.checkpoint.damaged]"), "{text}");
    assert!(stored.verify().is_err() && stored.tensor("table").is_err());
}

/// Names and texts that look like the format's own do not confuse it.
#[test]
fn content_cannot_pose_as_the_format() {
    let (_storage, store) = simulated(1, 3);
    let mark = r#","record_sha256":"0000"}"#;
    let mut part = at_step(1);
    part.tensors.insert("outgrow.pieces".to_owned(), Tensor::scalar(1.0f32));
    part.tensors.insert("w[0..4]".to_owned(), Tensor::scalar(2.0f32));
    let state = State::from([(mark.to_owned(), json!({"record_sha256": "0".repeat(64), "format": mark}))]);
    let path = store.save(&part, &state).unwrap();
    let stored = store.open(&path).unwrap();
    assert_eq!((stored.record().state.clone(), stored.tensors().count()), (state, part.tensors.len()));
    assert!(stored.tensor("w[0..4]").unwrap().same_bits(&part.tensors["w[0..4]"]));
    // A piece cannot take the name of another tensor.
    let elements = Tensor::zeros(DType::F32, [4]);
    part.pieces.insert("w".into(), Piece { shape: Shape::new([8]), from: 0, elements });
    let error = store.write_part(&part).unwrap_err();
    assert_eq!(diagnostic(error).0, "store.checkpoint.piece");
}

/// Every byte of both files, changed in one bit, in several or to another value; and every length.
#[test]
fn every_changed_byte_is_found() {
    let (storage, store) = simulated(1, 3);
    let record = save(&store, 5).unwrap();
    for path in [record.clone(), parts(&storage, 5).remove(0)] {
        let valid = storage.read(&path).unwrap();
        let refuses = |bytes: Vec<u8>, what: String| {
            storage.disk().corrupt(&path, |there| *there = bytes);
            let opened = store.open(&record).map(|stored| stored.verify().is_ok());
            assert!(!opened.unwrap_or(false), "{}: {what} of {}", path.display(), valid.len());
        };
        for at in 0..valid.len() {
            for change in [1 << (at % 8), 0x20, 0xff] {
                let mut bytes = valid.clone();
                bytes[at] ^= change;
                refuses(bytes, format!("byte {at} changed by {change:#x}"));
            }
            refuses(valid[..at].to_vec(), format!("cut after {at}"));
        }
        refuses([&valid[..], &[0]].concat(), "a byte more".into());
        storage.disk().corrupt(&path, |there| *there = valid.clone());
    }
    check(&store.open(&record).unwrap(), 5);
}

#[test]
fn random_bytes_never_panic() {
    let (storage, store) = simulated(1, 3);
    let record = save(&store, 5).unwrap();
    let mut random = RngKey::new(3).stream();
    for path in [record.clone(), parts(&storage, 5).remove(0)] {
        let valid = storage.read(&path).unwrap();
        for round in 0..4_000 {
            let mut bytes: Vec<u8> = (0..random.below(300)).map(|_| random.next_u32() as u8).collect();
            if round % 2 == 0 {
                let below = |random: &mut RngStream| random.below(valid.len() as u64) as usize;
                let (from, to) = (below(&mut random), below(&mut random));
                bytes = valid.clone();
                bytes.copy_within(from..(from + 16).min(valid.len()), to.min(valid.len() - 16));
            }
            let same = bytes == valid;
            storage.disk().corrupt(&path, |there| *there = bytes);
            let sound = store.open(&record).is_ok_and(|stored| stored.verify().is_ok());
            assert_eq!(sound, same);
        }
        storage.disk().corrupt(&path, |there| *there = valid.clone());
    }
}

/// Parts that are whole by themselves and yet do not belong together, named by a record that is sound.
#[test]
fn parts_that_do_not_belong_together_are_refused_by_name() {
    let (storage, store) = simulated(1, 9);
    let mut random = RngKey::new(9).stream();
    let files = |store: &CheckpointStore, parts: &[Part]| -> Vec<PartFile> {
        parts.iter().map(|part| store.write_part(part).unwrap()).collect()
    };
    let cut7 = cut(7, 3, &mut random);
    let (seven, eight) = (files(&store, &cut7), files(&store, &cut(8, 3, &mut random)));
    let whole = files(&store, &[at_step(7)]);
    let other = CheckpointStore::new(storage.clone(), FOLDER, "sha256:model-b", 3);
    let foreign = files(&other, &[Part { model: "sha256:model-b".into(), ..cut7[0].clone() }]);
    let missing = PartFile { file: "step-00000007-0.safetensors".into(), ..seven[0].clone() };
    let swapped = PartFile { file: seven[1].file.clone(), ..seven[0].clone() };
    let pick = |parts: &[&PartFile]| parts.iter().copied().cloned().collect::<Vec<_>>();
    let [a, b, c] = &seven[..] else { panic!("three parts") };
    let cases = [
        (pick(&[a, b]), "store.checkpoint.incomplete", "are in no part"),
        (pick(&[a, b, c, &whole[0]]), "store.checkpoint.incomplete", "are there twice"),
        (pick(&[&eight[0], b, c]), "store.checkpoint.step", "the part is of step 8"),
        (pick(&[&foreign[0], b, c]), "store.checkpoint.model", "model-b"),
        (pick(&[&missing, b, c]), "store.checkpoint.missing", "the part is missing"),
        (pick(&[&swapped, c]), "store.checkpoint.damaged", "the part"),
        (pick(&[a, a, b, c]), "store.checkpoint.part", "twice"),
    ];
    for (parts, code, problem) in cases {
        // Neither committed, nor believed when somebody else has written the record.
        if code != "store.checkpoint.part" {
            let (found, text) = diagnostic(store.commit(7, &state(), parts.clone()).unwrap_err());
            assert!(found == code && text.contains(problem), "{text}");
            assert_eq!(latest(&store), None);
        }
        let record = Record { step: 7, model: MODEL.into(), state: state(), parts };
        storage.write(&store.path(7), &record.to_bytes().unwrap()).unwrap();
        let (found, text) = refused(&store);
        assert!(found == code && text.contains(problem) && text.contains(FOLDER), "{text}");
        storage.remove_file(&store.path(7)).unwrap();
    }
    // What a part says of itself must agree with the others, too.
    let piece = |shape: &[usize], from, n| Piece {
        shape: Shape::new(shape.to_vec()),
        from,
        elements: Tensor::zeros(DType::F32, [n]),
    };
    let with = |piece| {
        let pieces = BTreeMap::from([("w".to_owned(), piece)]);
        Part { step: 7, model: MODEL.into(), pieces, ..Part::default() }
    };
    let shapes = files(&store, &[with(piece(&[2, 4], 0, 5)), with(piece(&[8], 5, 3))]);
    let (found, text) = diagnostic(store.commit(7, &state(), shapes).unwrap_err());
    assert!(
        found == "store.checkpoint.incomplete" && text.contains("[8]") && text.contains("[2, 4]"),
        "{text}"
    );
    assert!(store.write_part(&with(piece(&[8], 5, 4))).is_err(), "beyond the end");
    store.commit(7, &state(), seven).unwrap();
    check(&store.load_latest().unwrap().unwrap().stored, 7);
}

/// A later version of the format, with all checksums right, is refused by name; so is the first one.
#[test]
fn other_versions_are_refused() {
    let (storage, store) = simulated(1, 3);
    let path = save(&store, 1).unwrap();
    let text = String::from_utf8(storage.read(&path).unwrap()).unwrap();
    let text = text.replace(r#""version":2"#, r#""version":3"#);
    let (open, _) = text.rsplit_once(r#""record_sha256":""#).unwrap();
    let zeros = format!("{open}\"record_sha256\":\"{}\"}}\n", "0".repeat(64));
    let sealed = zeros.replace(&"0".repeat(64), &outgrow_store::sha256::hex(zeros.as_bytes()));
    storage.write(&path, sealed.as_bytes()).unwrap();
    assert_eq!(refused(&store).0, "store.checkpoint.version");

    let (storage, store) = simulated(1, 3);
    storage.create_folder(Path::new(FOLDER)).unwrap();
    storage.write(&Path::new(FOLDER).join("step-00000040.ckpt"), b"of the first form").unwrap();
    let (code, text) = refused(&store);
    assert!(code == "store.checkpoint.version", "{text}");
    assert!(text.contains("step-00000040.ckpt") && text.contains("--fresh"), "{text}");
    save(&store, 41).unwrap();
    assert_eq!(latest(&store), Some(41));
}

#[test]
fn the_last_few_are_kept_with_their_parts() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(outgrow_env::LocalStorage::new());
    let folder = folder.path().join("checkpoints");
    let store = CheckpointStore::new(storage.clone(), &folder, MODEL, 3);
    assert_eq!((steps(&store), latest(&store)), (vec![], None));
    let mut random = RngKey::new(4).stream();
    for step in [10, 20, 30, 40, 50, 60] {
        let parts = cut(step, 2, &mut random);
        // Written, but never committed.
        store.write_part(&at_step(step - 5)).unwrap();
        let files = parts.iter().map(|part| store.write_part(part).unwrap()).collect();
        store.commit(step, &state(), files).unwrap();
    }
    // Committed again by other parts: those of before go.
    save(&store, 60).unwrap();
    assert_eq!(steps(&store), [40, 50, 60]);
    assert_eq!(storage.list(&folder).unwrap().len(), 3 + 2 + 2 + 1);
    for saved in store.list().unwrap() {
        check(&store.open(&saved.path).unwrap(), saved.step);
    }
    let loaded = store.load_latest().unwrap().unwrap();
    assert_eq!((loaded.path, loaded.skipped.0.len()), (store.path(60), 0));
}

#[test]
fn a_damaged_newest_gives_way_to_the_one_before() {
    let (storage, store) = simulated(1, 4);
    for step in [1, 2, 3, 4] {
        save(&store, step).unwrap();
    }
    let part = |step| parts(&storage, step).remove(0);
    storage.disk().corrupt(&part(4), |bytes| {
        let at = bytes.len() - 100;
        bytes[at] ^= 4;
    });
    storage.disk().corrupt(&part(3), |bytes| bytes.truncate(500));
    storage.disk().corrupt(&store.path(2), |bytes| bytes[30] ^= 1);
    let loaded = store.load_latest().unwrap().unwrap();
    check(&loaded.stored, 1);
    assert_eq!(loaded.path, store.path(1));
    let skipped = loaded.skipped.to_string();
    for path in [part(4), part(3), store.path(2)] {
        assert!(skipped.contains(&format!("{}:", path.display())), "{skipped}");
    }
    assert_eq!(steps(&store), [1, 2, 3, 4], "nothing is deleted");

    storage.remove_file(&part(1)).unwrap();
    assert!(matches!(store.load_latest().unwrap_err(), StoreError::Invalid(d) if d.0.len() == 4));
    assert_eq!(steps(&store), [1, 2, 3, 4]);
}

/// What was just saved stays, even when damaged files of later steps are there and only one is to be kept.
#[test]
fn damaged_later_files_do_not_push_out_good_ones() {
    let (storage, store) = simulated(1, 1);
    save(&store, 30).unwrap();
    storage.disk().corrupt(&parts(&storage, 30)[0], |bytes| bytes.truncate(9));
    for step in [10, 20] {
        save(&store, step).unwrap();
        assert_eq!(latest(&store), Some(step));
    }
    assert_eq!(steps(&store), [20, 30]);
    assert_eq!((parts(&storage, 10).len(), parts(&storage, 20).len(), parts(&storage, 30).len()), (0, 1, 1));
}

#[test]
fn another_models_checkpoint_is_refused_and_left() {
    let (storage, store) = simulated(1, 3);
    save(&store, 1).unwrap();
    let other = CheckpointStore::new(storage, FOLDER, "sha256:model-b", 3);
    for error in [
        other.load_latest().unwrap_err(),
        other.open(&store.path(1)).unwrap_err(),
        save(&other, 2).unwrap_err(),
    ] {
        let (code, text) = diagnostic(error);
        assert_eq!(code, "store.checkpoint.model");
        assert!(text.contains(MODEL) && text.contains("model-b"), "{text}");
    }
    assert_eq!(latest(&store), Some(1));
}

#[test]
fn bits_that_flip_while_reading_are_found() {
    let (storage, store) = simulated(1, 3);
    save(&store, 1).unwrap();
    storage.disk().flip_on_read(true);
    for _ in 0..200 {
        assert!(store.load_latest().is_err());
    }
    storage.disk().flip_on_read(false);
    assert_eq!(latest(&store), Some(1));
}

/// Two checkpoints, saved by a number of processes in turn; a crash ends it.
fn save_by(
    store: &CheckpointStore,
    step: u64,
    count: usize,
    random: &mut RngStream,
) -> Result<(), StoreError> {
    store.sweep()?;
    let mut parts = cut(step, count, random);
    shuffle(&mut parts, random);
    let files = parts.iter().map(|part| store.write_part(part)).collect::<Result<_, _>>()?;
    store.commit(step, &state(), files).map(drop)
}

/// A crash at any operation while saving, under many seeds: afterwards the old or the new checkpoint loads, the new
/// one if the save had returned, and training can go on saving, by another number of processes.
#[test]
fn a_crash_at_any_moment_leaves_old_or_new() {
    let (mut kept_old, mut kept_new, mut points) = (0, 0, 0);
    for (seed, count) in (0..24).zip([1, 2, 3, 5].into_iter().cycle()) {
        for operation in 1.. {
            let (storage, store) = simulated(seed, 1);
            let mut random = RngKey::new(seed).stream();
            save_by(&store, 1, 2, &mut random).unwrap();
            storage.disk().crash_at_operation(Some(operation));
            let saved = save_by(&store, 2, count, &mut random).is_ok();
            let finished = !storage.disk().has_crashed();
            storage.disk().restart();
            let loaded = store.load_latest().unwrap().unwrap();
            assert_eq!(loaded.skipped.0.len(), 0, "no half-written file is committed");
            check(&loaded.stored, loaded.stored.step());
            match loaded.stored.step() {
                1 => assert!(!saved, "seed {seed}, operation {operation}: a saved checkpoint is lost"),
                step => assert_eq!(step, 2),
            }
            if loaded.stored.step() == 1 {
                kept_old += 1
            } else {
                kept_new += 1
            }
            points += 1;
            save(&store, 3).unwrap();
            assert_eq!(steps(&store), [3]);
            let left = storage.list(Path::new(FOLDER)).unwrap().len();
            assert_eq!(left, 2, "seed {seed}, operation {operation}: what the crash left is swept");
            if finished {
                break;
            }
        }
    }
    assert!(kept_old > 25 && kept_new > 25, "both outcomes must occur: {kept_old}, {kept_new} of {points}");
}

/// The same for the very first checkpoint of a run, when not even the folder exists: none or a whole one.
#[test]
fn a_crash_during_the_first_save_leaves_none_or_a_whole_one() {
    for (seed, count) in (0..24).zip([1, 2, 3, 5].into_iter().cycle()) {
        for operation in 1.. {
            let (storage, store) = simulated(seed, 1);
            storage.disk().crash_at_operation(Some(operation));
            let saved = save_by(&store, 1, count, &mut RngKey::new(seed).stream()).is_ok();
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
        save(&store, step).unwrap();
    }
    let used = storage.disk().used();
    for room in [0, 1, 100, 2000] {
        storage.disk().set_capacity(Some(used + room));
        let error = save(&store, 3).unwrap_err();
        assert!(matches!(&error, StoreError::Storage(e) if e.is_no_space()), "{error}");
        assert_eq!((latest(&store), steps(&store)), (Some(2), vec![1, 2]));
    }
    storage.disk().set_capacity(None);
    save(&store, 3).unwrap();
    assert_eq!(steps(&store), [2, 3]);
}

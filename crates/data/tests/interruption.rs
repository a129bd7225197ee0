//! Preparation that is interrupted, meets a full disk, a second process or damaged files, on simulated and on real
//! disks. Whatever happens, what was prepared before stays whole, and the next run ends with the same bits.

mod common;

use common::{spec, storage};
use outgrow_data::{Dataset, LoaderOptions, PrepareOptions, Prepared, Split, prepare};
use outgrow_env::{SimStorage, StorageBackend};
use outgrow_ir::Diagnostics;
use outgrow_store::sha256;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Enough records for several shards, with a step that learns.
fn table() -> Value {
    let rows: Vec<[f64; 3]> =
        (0..20_000).map(|i| [f64::from(i), f64::from(i % 7), f64::from(i % 3)]).collect();
    json!({
        "source": "rows", "rows": rows, "columns": ["a", "b", "y"], "label": "y", "task": "classify",
        "split": { "validation": 0.1 },
        "clean": [{ "normalize": { "columns": ["a"] } }, { "filter": "b < 6" }],
    })
}

fn run(section: &Value, storage: &Arc<dyn StorageBackend>, cache: &Path) -> Result<Prepared, Diagnostics> {
    let options = PrepareOptions {
        storage: storage.clone(),
        remote: Arc::new(outgrow_env::NoRemote),
        roots: Vec::new(),
        cache: cache.to_path_buf(),
        seed: 1,
        threads: 2,
        progress: &|_| {},
    };
    prepare(&spec(section.clone()), &options)
}

/// Checksums of all files of a data set. What says how far an interrupted preparation came is none of it: a crash
/// may undo its removal.
fn content(storage: &dyn StorageBackend, folder: &Path) -> BTreeMap<String, String> {
    let files = storage.list(folder).unwrap().into_iter().filter(|e| e.name != "progress.json");
    files.map(|e| (e.name.clone(), sha256::hex(&storage.read(&folder.join(&e.name)).unwrap()))).collect()
}

fn simulated(seed: u64) -> (Arc<SimStorage>, Arc<dyn StorageBackend>) {
    let disk = Arc::new(SimStorage::new(seed));
    (disk.clone(), disk)
}

const CACHE: &str = "/cache";

#[test]
fn a_crash_at_any_operation_changes_nothing_in_the_end() {
    let section = table();
    let (disk, storage) = simulated(0);
    let whole = run(&section, &storage, Path::new(CACHE)).unwrap();
    let expect = content(&*storage, &whole.folder);
    assert_eq!(expect.len(), 4, "a manifest, two shards of training data and one of validation");
    let operations = disk.disk().operations();
    assert!(operations > 30);
    for at in 1..=operations {
        let (disk, storage) = simulated(at);
        disk.disk().crash_at_operation(Some(at));
        run(&section, &storage, Path::new(CACHE)).unwrap_err();
        disk.disk().restart();
        let prepared =
            run(&section, &storage, Path::new(CACHE)).unwrap_or_else(|d| panic!("crash at {at}: {d}"));
        assert_eq!(content(&*storage, &prepared.folder), expect, "crash at {at}");
        Dataset::open(storage, &prepared.folder).unwrap().verify().unwrap();
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let (disk, storage) = simulated(0);
    let mut other = table();
    other["seed"] = json!(5);
    let old = run(&other, &storage, Path::new(CACHE)).unwrap();
    let used = disk.disk().used();
    for more in [0, 1000, 100_000, 250_000] {
        disk.disk().set_capacity(Some(used + more));
        let error = run(&table(), &storage, Path::new(CACHE)).unwrap_err();
        assert_eq!(error.0[0].code, "data.no-space", "{error}");
        assert!(run(&other, &storage, Path::new(CACHE)).unwrap().reused);
    }
    Dataset::open(storage.clone(), &old.folder).unwrap().verify().unwrap();
    disk.disk().set_capacity(None);
    let resumed = run(&table(), &storage, Path::new(CACHE)).unwrap();
    let (_, fresh) = simulated(1);
    let expect = run(&table(), &fresh, Path::new(CACHE)).unwrap();
    assert_eq!(content(&*storage, &resumed.folder), content(&*fresh, &expect.folder));
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let (_, storage) = simulated(0);
    let prepared = run(&table(), &storage, Path::new(CACHE)).unwrap();
    let lock = storage.lock(&prepared.folder).unwrap();
    assert!(run(&table(), &storage, Path::new(CACHE)).unwrap().reused, "reading needs no lock");
    storage.remove_file(&prepared.folder.join("dataset.json")).unwrap();
    assert_eq!(run(&table(), &storage, Path::new(CACHE)).unwrap_err().0[0].code, "data.locked");
    drop(lock);
    assert!(!run(&table(), &storage, Path::new(CACHE)).unwrap().reused);
}

#[test]
fn a_damaged_shard_is_named_and_made_again_once_removed() {
    let (disk, storage) = simulated(0);
    let prepared = run(&table(), &storage, Path::new(CACHE)).unwrap();
    let expect = content(&*storage, &prepared.folder);
    let shard = prepared.folder.join("train-00001.safetensors");
    disk.disk().corrupt(&shard, |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    for memory in [0, u64::MAX] {
        let data = Dataset::open_with(storage.clone(), &prepared.folder, memory).unwrap();
        let problems = data.verify().unwrap_err();
        assert_eq!((problems.0.len(), problems.0[0].code), (1, "data.shard.corrupt"));
        let loader = data.loader(Split::Train, LoaderOptions::evaluation(100));
        let problem = match loader {
            Ok(mut loader) => loader.find_map(Result::err).unwrap(),
            Err(problem) => problem,
        };
        assert_eq!(problem.place.file.as_deref(), Some(shard.as_path()));
        assert!(problem.problem.contains("checksum") && problem.expected.unwrap().contains("checksum"));
        assert!(data.loader(Split::Validation, LoaderOptions::evaluation(100)).unwrap().all(|b| b.is_ok()));
    }
    disk.disk().corrupt(&shard, |bytes| bytes.truncate(100));
    assert_eq!(run(&table(), &storage, Path::new(CACHE)).unwrap_err().0[0].code, "data.shard.corrupt");
    storage.remove_file(&shard).unwrap();
    assert!(!run(&table(), &storage, Path::new(CACHE)).unwrap().reused);
    assert_eq!(content(&*storage, &prepared.folder), expect);
    disk.disk().corrupt(&prepared.folder.join("dataset.json"), |bytes| bytes[200] ^= 4);
    assert_eq!(run(&table(), &storage, Path::new(CACHE)).unwrap_err().0[0].code, "data.manifest");
}

/// A folder copied over that of another data set is whole in itself: only its fingerprint tells that it is the wrong
/// one. It stays as it is, since it may be somebody's only copy.
#[test]
fn a_folder_of_other_data_is_refused_and_left_alone() {
    let (_, storage) = simulated(0);
    let wanted = run(&table(), &storage, Path::new(CACHE)).unwrap();
    let expect = content(&*storage, &wanted.folder);
    let mut other = table();
    other["seed"] = json!(5);
    let other = run(&other, &storage, Path::new(CACHE)).unwrap();
    for entry in storage.list(&other.folder).unwrap().iter().filter(|e| e.name != ".lock") {
        let bytes = storage.read(&other.folder.join(&entry.name)).unwrap();
        storage.write(&wanted.folder.join(&entry.name), &bytes).unwrap();
    }
    let copied = content(&*storage, &wanted.folder);
    let problem = run(&table(), &storage, Path::new(CACHE)).unwrap_err().0.remove(0);
    assert_eq!((problem.code, problem.place.file.as_deref()), ("data.moved", Some(wanted.folder.as_path())));
    assert!(problem.problem.contains(&other.fingerprint), "{problem}");
    assert!(problem.expected.unwrap().contains(&wanted.fingerprint));
    assert_eq!(content(&*storage, &wanted.folder), copied);
    // A shard that is missing as well makes it no better.
    storage.remove_file(&wanted.folder.join("train-00001.safetensors")).unwrap();
    assert_eq!(run(&table(), &storage, Path::new(CACHE)).unwrap_err().0[0].code, "data.moved");
    for name in content(&*storage, &wanted.folder).keys() {
        storage.remove_file(&wanted.folder.join(name)).unwrap();
    }
    assert!(!run(&table(), &storage, Path::new(CACHE)).unwrap().reused);
    assert_eq!(content(&*storage, &wanted.folder), expect);
}

#[test]
fn any_change_prepares_anew_and_threads_are_none() {
    let (_, storage) = simulated(0);
    let first = run(&table(), &storage, Path::new(CACHE)).unwrap();
    let mut changed = table();
    changed["clean"][1]["filter"] = json!("b < 5");
    assert_ne!(run(&changed, &storage, Path::new(CACHE)).unwrap().folder, first.folder);
    let options = |threads, cache: &str| PrepareOptions {
        storage: storage.clone(),
        remote: Arc::new(outgrow_env::NoRemote),
        roots: Vec::new(),
        cache: PathBuf::from(cache),
        seed: 1,
        threads,
        progress: &|_| {},
    };
    let glyphs = spec(json!({ "source": "synthetic:glyphs", "samples": 3000, "test": { "samples": 500 } }));
    let [one, three] =
        [1, 3].map(|threads| prepare(&glyphs, &options(threads, &format!("/threads{threads}"))).unwrap());
    assert_eq!(content(&*storage, &one.folder), content(&*storage, &three.folder));
    let other = prepare(&glyphs, &PrepareOptions { seed: 2, ..options(1, CACHE) }).unwrap();
    assert_ne!(other.fingerprint, one.fingerprint);
}

/// What the child of the next test prepares: enough work to be killed in the middle of.
fn glyphs() -> Value {
    json!({ "source": "synthetic:glyphs", "samples": 40_000, "split": { "validation": 0.2 } })
}

const CHILD: &str = "OUTGROW_TEST_PREPARE_INTO";

/// Not a test by itself: the process that the next test kills.
#[test]
fn child_that_prepares() {
    let Some(cache) = std::env::var_os(CHILD) else { return };
    run(&glyphs(), &storage(), Path::new(&cache)).unwrap();
}

#[test]
fn killed_processes_leave_work_that_is_kept() {
    let undisturbed = tempfile::tempdir().unwrap();
    let expect = run(&glyphs(), &storage(), undisturbed.path()).unwrap();
    let name = expect.folder.file_name().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join(name);
    let first = data.join("train-00000.safetensors");
    let inode = || std::fs::metadata(&first).ok().map(|m| m.ino());
    let progress =
        || std::fs::read_to_string(data.join("progress.json")).is_ok_and(|p| p.contains("train-00000"));
    let mut kept = None;
    for kill in 0..6u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_prepares"])
            .env(CHILD, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The last kills come after the first shard is written down as finished, the others at any time.
        while kill >= 3 && !progress() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(kill * 37));
        child.kill().unwrap();
        child.wait().unwrap();
        if progress() {
            assert!(kept.is_none() || kept == inode(), "a finished shard was written again");
            kept = inode();
        }
    }
    assert!(kept.is_some(), "no kill came after a finished shard");
    let prepared = run(&glyphs(), &storage(), folder.path()).unwrap();
    assert_eq!(inode(), kept, "a finished shard was written again");
    assert_eq!(content(&*storage(), &prepared.folder), content(&*storage(), &expect.folder));
}

//! Model packages: parts come back whole or with a diagnostic, and saving over another package is atomic.

use outgrow_env::{LocalStorage, SimStorage, StorageBackend};
use outgrow_store::package::{INDEX, parse_index};
use outgrow_store::{ModelPackage, StoreError};
use outgrow_tensor::RngKey;
use std::path::Path;

const FOLDER: &str = "/model";

fn package(parts: &[(&str, &str)]) -> ModelPackage {
    ModelPackage {
        parts: parts.iter().map(|(n, b)| ((*n).to_owned(), b.as_bytes().to_vec().into())).collect(),
    }
}

fn old() -> ModelPackage {
    package(&[
        ("graph.txt", "graph"),
        ("weights.safetensors", "weights of old"),
        ("labels.json", "[]"),
        ("gone", "x"),
    ])
}

fn new() -> ModelPackage {
    package(&[
        ("graph.txt", "graph"),
        ("weights.safetensors", "weights of new"),
        ("labels.json", "[1]"),
        ("empty", ""),
    ])
}

fn diagnostics(error: StoreError) -> outgrow_ir::Diagnostics {
    match error {
        StoreError::Invalid(diagnostics) => diagnostics,
        StoreError::Storage(e) => panic!("{e}"),
        other => panic!("{other}"),
    }
}

#[test]
fn parts_come_back_and_old_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/model");
    let storage = LocalStorage::new();
    for package in [old(), old(), new(), old(), ModelPackage::default(), new()] {
        package.save(&storage, &path).unwrap();
        assert_eq!(ModelPackage::load(&storage, &path).unwrap(), package);
        let files = storage.list(&path).unwrap().len();
        assert_eq!(files, package.parts.len() + 1, "no part of an earlier package is left");
    }
    let fresh = folder.path().join("fresh");
    old().save(&storage, &fresh).unwrap();
    assert_eq!(std::fs::read(fresh.join("weights.safetensors")).unwrap(), b"weights of old");
    let loaded = ModelPackage::load(&storage, &fresh).unwrap();
    assert_eq!(loaded.part("labels.json").unwrap(), &b"[]"[..]);
    let text = loaded.part("transform.json").unwrap_err().to_string();
    assert!(text.contains("graph.txt, labels.json"), "{text}");
}

#[test]
fn damage_is_found_and_every_damaged_part_told() {
    let storage = SimStorage::new(1);
    let folder = Path::new(FOLDER);
    old().save(&storage, folder).unwrap();
    storage.disk().corrupt(&folder.join("graph.txt"), |bytes| bytes[0] ^= 1);
    storage.disk().corrupt(&folder.join("labels.json"), |bytes| bytes.push(b' '));
    storage.remove_file(&folder.join("gone")).unwrap();
    let problems = diagnostics(ModelPackage::load(&storage, folder).unwrap_err());
    let told: Vec<String> = problems.0.iter().map(|d| format!("{}: {}", d.place, d.problem)).collect();
    assert_eq!(
        told,
        [
            "/model/gone: gone: the part is missing, expected 1 bytes",
            "/model/graph.txt: graph.txt: its checksum differs",
            "/model/labels.json: labels.json: the part has 3 bytes, expected 2 bytes",
        ]
    );
    let problems = diagnostics(ModelPackage::load(&storage, Path::new("/nowhere")).unwrap_err());
    assert_eq!(problems.0[0].code, "store.package.missing");
    old().save(&storage, folder).unwrap();
    assert_eq!(ModelPackage::load(&storage, folder).unwrap(), old());
}

/// Every changed byte of the list is refused, except white space for other white space.
#[test]
fn every_changed_byte_of_the_list_is_found() {
    let storage = SimStorage::new(1);
    old().save(&storage, Path::new(FOLDER)).unwrap();
    let valid = storage.read(&Path::new(FOLDER).join(INDEX)).unwrap();
    let index = parse_index(&valid).unwrap();
    for at in 0..valid.len() {
        for bit in 0..8 {
            let mut bytes = valid.clone();
            bytes[at] ^= 1 << bit;
            let space = |b: u8| b.is_ascii_whitespace();
            if space(valid[at]) && space(bytes[at]) {
                assert_eq!(parse_index(&bytes).unwrap(), index);
            } else {
                assert!(parse_index(&bytes).is_err(), "byte {at}, bit {bit}");
            }
        }
    }
    let mut random = RngKey::new(1).stream();
    for _ in 0..5_000 {
        let bytes: Vec<u8> = (0..random.below(100)).map(|_| random.next_u32() as u8).collect();
        assert!(parse_index(&bytes).is_err());
    }
}

/// No name leads out of the folder, neither when writing nor when reading.
#[test]
fn names_stay_in_the_folder() {
    let storage = SimStorage::new(1);
    let long = "x".repeat(101);
    for name in
        ["", ".", "..", ".hidden", "a/b", "../a", "/etc/passwd", "a\\b", "a b", "é", "a\0", INDEX, &long]
    {
        let problems = diagnostics(package(&[(name, "x")]).save(&storage, Path::new(FOLDER)).unwrap_err());
        assert_eq!(problems.0[0].code, "store.package.name", "{name}");
        let entry = serde_json::json!({"name": "a", "file": name, "bytes": 1, "sha256": ""});
        let index =
            serde_json::json!({"format": "outgrow-package", "version": 2, "parts": [entry], "sha256": ""});
        assert_eq!(
            parse_index(index.to_string().as_bytes()).unwrap_err().0[0].code,
            "store.package.name",
            "{name}"
        );
    }
}

#[test]
fn a_crash_or_full_disk_at_any_moment_leaves_old_or_new() {
    let folder = Path::new(FOLDER);
    let (mut kept_old, mut kept_new) = (0, 0);
    for seed in 0..25 {
        for operation in 1.. {
            let storage = SimStorage::new(seed);
            old().save(&storage, folder).unwrap();
            storage.disk().crash_at_operation(Some(operation));
            let saved = new().save(&storage, folder).is_ok();
            let finished = !storage.disk().has_crashed();
            storage.disk().restart();
            let after = ModelPackage::load(&storage, folder).unwrap();
            assert!(after == new() || (after == old() && !saved), "seed {seed}, operation {operation}");
            if after == new() {
                kept_new += 1
            } else {
                kept_old += 1
            }
            new().save(&storage, folder).unwrap();
            assert_eq!(ModelPackage::load(&storage, folder).unwrap(), new());
            if finished {
                break;
            }
        }
    }
    assert!(kept_old > 25 && kept_new > 25, "both outcomes must occur: {kept_old}, {kept_new}");

    let storage = SimStorage::new(1);
    old().save(&storage, folder).unwrap();
    storage.disk().set_capacity(Some(storage.disk().used() + 20));
    assert!(matches!(new().save(&storage, folder), Err(StoreError::Storage(e)) if e.is_no_space()));
    assert_eq!(ModelPackage::load(&storage, folder).unwrap(), old());
}

//! Where the system refuses to start threads, the work goes on with those that there are: the same shards and the same
//! batches.

mod common;

use common::{prepare_with, storage};
use outgrow_data::{Dataset, LoaderOptions, Split};
use outgrow_store::sha256;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

const CHILD: &str = "OUTGROW_TEST_FEW_THREADS";

/// Checksums of the records and of a few batches of generated images and of text.
fn work(folder: &Path) -> String {
    std::fs::write(folder.join("t.txt"), "one two three four. ".repeat(30_000)).unwrap();
    let sections = [
        json!({ "source": "synthetic:glyphs", "samples": 2500, "split": { "validation": 0, "test": 0 } }),
        json!({ "source": "text", "files": "t.txt", "context": 16, "split": { "validation": 0, "test": 0 } }),
    ];
    let mut sums = String::new();
    for section in sections {
        let prepared = prepare_with(section, folder, &folder.join("cache"), 4).unwrap();
        assert!(!prepared.reused);
        let data = Dataset::open(storage(), &prepared.folder).unwrap();
        sums += &data.content_hash(Split::Train).unwrap();
        let options = LoaderOptions { threads: 3, ..LoaderOptions::training(32, 7) };
        for batch in data.loader(Split::Train, options).unwrap().take(100) {
            let batch = batch.unwrap();
            sums += &sha256::hex(&batch.inputs[0].le_bytes())[..8];
            sums += &sha256::hex(&batch.target.unwrap().le_bytes())[..8];
        }
    }
    sums
}

/// Not a test by itself: the process of the next test in which no thread starts.
#[test]
fn child_that_works() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "a thread was started all the same");
    let folder = Path::new(&folder);
    std::fs::write(folder.join("sums"), work(folder)).unwrap();
}

#[test]
fn without_threads_the_results_are_the_same() {
    let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_works", "--test-threads=1"])
        .env(CHILD, without.path())
        // No memory is large enough for such a stack, so no thread gets one.
        .env("RUST_MIN_STACK", (1u64 << 60).to_string())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    assert_eq!(std::fs::read_to_string(without.path().join("sums")).unwrap(), work(with.path()));
}

//! What the tests of this crate share: preparing a section of a manifest in a temporary cache.
#![allow(dead_code, clippy::print_stderr)]

use outgrow_data::{DataSpec, Dataset, PrepareOptions, Prepared, prepare};
use outgrow_env::{LocalStorage, StorageBackend};
use outgrow_ir::Diagnostics;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of real data sets; a test that needs one says that it skips when the variable is not set.
pub fn real_data(set: &str) -> Option<PathBuf> {
    let root = std::env::var_os("OUTGROW_DATA").map(PathBuf::from);
    let found = root.filter(|r| r.join(set).is_dir());
    if found.is_none() {
        eprintln!("skipped: OUTGROW_DATA names no folder with `{set}`");
    }
    found
}

pub fn storage() -> Arc<dyn StorageBackend> {
    Arc::new(LocalStorage::new())
}

/// A section given as JSON, which stands for the same keys as TOML.
pub fn spec(json: serde_json::Value) -> DataSpec {
    serde_json::from_value(json).unwrap_or_else(|e| panic!("the section cannot be read: {e}"))
}

pub fn try_prepare(json: serde_json::Value, root: &Path, cache: &Path) -> Result<Prepared, Diagnostics> {
    prepare_with(json, root, cache, 2)
}

pub fn prepare_with(
    json: serde_json::Value,
    root: &Path,
    cache: &Path,
    threads: usize,
) -> Result<Prepared, Diagnostics> {
    let options = PrepareOptions {
        storage: storage(),
        remote: Arc::new(outgrow_env::NoRemote),
        roots: vec![root.to_path_buf()],
        cache: cache.to_path_buf(),
        seed: 1,
        threads,
        progress: &|_| {},
    };
    prepare(&spec(json), &options)
}

pub fn dataset(json: serde_json::Value, root: &Path, cache: &Path) -> Dataset {
    let prepared = try_prepare(json, root, cache).unwrap_or_else(|d| panic!("{d}"));
    Dataset::open(storage(), &prepared.folder).unwrap_or_else(|d| panic!("{d}"))
}

//! Replays a corpus: every file that fuzzing found worth keeping goes through the same function again, on any
//! toolchain and as part of the tests.

use std::panic::{RefUnwindSafe, catch_unwind};
use std::path::Path;

/// Runs `check` on every file of the corpus of `target`.
pub fn replay(target: &str, check: impl Fn(&[u8]) + RefUnwindSafe) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a corpus can be listed").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    let failed = |path: &&std::path::PathBuf| {
        let content = std::fs::read(path).expect("a corpus can be read");
        catch_unwind(|| check(&content)).is_err()
    };
    let failed: Vec<_> = paths.iter().filter(failed).collect();
    assert!(failed.is_empty(), "{} of {} files fail: {failed:?}", failed.len(), paths.len());
}

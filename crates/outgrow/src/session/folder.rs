//! The folder of a run: what it holds, who may write to it, and whether it belongs to this manifest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use outgrow_env::{FolderLock, StorageBackend, StorageError};
use outgrow_ir::{Diagnostic, Diagnostics};
use serde_json::{Value as Json, json};

/// The folder of a run, locked for this process.
///
/// | name | what |
/// |---|---|
/// | `manifest.toml` | the manifest with its defaults filled in |
/// | `run.json` | what the run's numbers depend on |
/// | `metrics.jsonl` | metrics over the course of training, a JSON object a line |
/// | `checkpoints/` | the last training states |
/// | `model/` | the model: graph, weights, transform |
/// | `result.json` | how the run ended |
/// | `report.html` | the run on one page |
/// | `tune-lr.json`, `tune-lr.html` | from a search for a learning rate, before or after the run |
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    storage: Arc<dyn StorageBackend>,
    fingerprint: String,
    /// Whether the run starts anew.
    fresh: bool,
    _lock: FolderLock,
}

/// Files that `tune-lr` may have written here before the run.
const GUESTS: [&str; 2] = [TUNE_LR_NUMBERS, TUNE_LR_PLOT];
/// The numbers that `tune-lr` found.
pub const TUNE_LR_NUMBERS: &str = "tune-lr.json";
/// Their plot.
pub const TUNE_LR_PLOT: &str = "tune-lr.html";
const RUN: &str = "run.json";
const RESULT: &str = "result.json";
const MANIFEST: &str = "manifest.toml";

fn problem(error: &StorageError) -> Diagnostics {
    let diagnostic = Diagnostic::new("run.folder", error.to_string()).file(error.path());
    let diagnostic = match error {
        StorageError::Locked { .. } => {
            diagnostic.hint("wait until the other run has ended, or choose another --out")
        }
        e if e.is_no_space() => {
            diagnostic.hint("nothing that was there is lost; free some space and run again")
        }
        _ => diagnostic,
    };
    diagnostic.into()
}

/// The fingerprint of the run that was begun in a folder, if there is one.
pub fn begun(storage: &dyn StorageBackend, path: &Path) -> Result<Option<String>, Diagnostics> {
    let run = read_json(storage, &path.join(RUN))?;
    Ok(run.and_then(|run| run["fingerprint"].as_str().map(str::to_owned)))
}

fn read_json(storage: &dyn StorageBackend, path: &Path) -> Result<Option<Json>, Diagnostics> {
    let bytes = match storage.read(path) {
        Err(e) if e.is_not_found() => return Ok(None),
        bytes => bytes.map_err(|e| problem(&e))?,
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        let diagnostic = Diagnostic::new("run.damaged", format!("not valid JSON: {e}")).file(path);
        diagnostic.hint("start anew with --fresh, or choose another --out").into()
    })
}

impl RunFolder {
    /// Opens the folder for a run of `fingerprint`, creating it if need be. A folder of another run is refused, unless
    /// the run is to start anew. Nothing in the folder changes before [`RunFolder::begin`].
    pub fn open(
        storage: Arc<dyn StorageBackend>,
        path: &Path,
        fingerprint: &str,
        fresh: bool,
    ) -> Result<Self, Diagnostics> {
        let is_run = storage.entry(&path.join(RUN)).map_err(|e| problem(&e))?.is_some();
        let occupied = storage.entry(path).map_err(|e| problem(&e))?.is_some()
            && storage
                .list(path)
                .map_err(|e| problem(&e))?
                .iter()
                .any(|entry| !GUESTS.contains(&entry.name.as_str()));
        if occupied && !is_run {
            let text = "the folder holds something else than a run";
            let diagnostic = Diagnostic::new("run.folder", text).file(path);
            return Err(diagnostic.hint("choose another --out").into());
        }
        storage.create_folder(path).map_err(|e| problem(&e))?;
        let lock = storage.lock(path).map_err(|e| problem(&e))?;
        let folder = Self { path: path.into(), storage, fingerprint: fingerprint.into(), fresh, _lock: lock };
        if !fresh && folder.read(RUN)?.is_some_and(|before| before["fingerprint"] != fingerprint) {
            let text =
                "the folder holds a run of another manifest, of other data, or from another model file";
            let diagnostic = Diagnostic::new("run.changed", text).file(folder.file(RUN));
            return Err(diagnostic.hint("choose another --out, or start anew with --fresh").into());
        }
        Ok(folder)
    }

    /// Makes the folder one of this run: what an earlier one left goes, when the run is to start anew.
    pub fn begin(&self, manifest: &str) -> Result<(), Diagnostics> {
        if self.fresh {
            self.empty()?;
        }
        let is_there = |name| -> Result<bool, Diagnostics> {
            Ok(self.storage.entry(&self.file(name)).map_err(|e| problem(&e))?.is_some())
        };
        // The marker comes first, so that an interrupted start is still known as one of a run.
        if self.fresh || !is_there(RUN)? {
            let version = env!("CARGO_PKG_VERSION");
            self.write_json(RUN, &json!({ "fingerprint": self.fingerprint, "version": version }))?;
        }
        if !is_there(MANIFEST)? {
            self.write(MANIFEST, manifest.as_bytes())?;
        }
        Ok(())
    }

    /// Removes what runs write, except the marker; anything else stays. Checkpoints go before the log: what is left of
    /// them, should this be interrupted, still has its log.
    fn empty(&self) -> Result<(), Diagnostics> {
        self.storage.remove_file(&self.file(RESULT)).map_err(|e| problem(&e))?;
        for folder in ["checkpoints", "model"] {
            self.storage.remove_tree(&self.file(folder)).map_err(|e| problem(&e))?;
        }
        for file in ["report.html", "metrics.jsonl", MANIFEST] {
            self.storage.remove_file(&self.file(file)).map_err(|e| problem(&e))?;
        }
        Ok(())
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file durably.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Diagnostics> {
        self.storage.write(&self.file(name), bytes).map_err(|e| problem(&e))
    }

    fn write_json(&self, name: &str, value: &Json) -> Result<(), Diagnostics> {
        self.write(name, format!("{value:#}\n").as_bytes())
    }

    fn read(&self, name: &str) -> Result<Option<Json>, Diagnostics> {
        read_json(&*self.storage, &self.file(name))
    }

    /// How the run ended, if it has and is not to start anew.
    pub fn result(&self) -> Result<Option<Json>, Diagnostics> {
        if self.fresh { Ok(None) } else { self.read(RESULT) }
    }

    /// Notes how the run ended. This is the last thing that a run writes.
    pub fn finish(&self, result: &Json) -> Result<(), Diagnostics> {
        self.write_json(RESULT, result)
    }
}

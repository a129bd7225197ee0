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
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    storage: Arc<dyn StorageBackend>,
    _lock: FolderLock,
}

const RUN: &str = "run.json";
const RESULT: &str = "result.json";

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

fn storage_entry(folder: &RunFolder, name: &str) -> Result<Option<outgrow_env::Entry>, Diagnostics> {
    folder.storage.entry(&folder.file(name)).map_err(|e| problem(&e))
}

impl RunFolder {
    /// Opens the folder for a run of `fingerprint`, creating it if need be. A folder of another run is refused, or with
    /// `fresh` emptied.
    pub fn open(
        storage: Arc<dyn StorageBackend>,
        path: &Path,
        fingerprint: &str,
        manifest: &str,
        fresh: bool,
    ) -> Result<Self, Diagnostics> {
        let known = |found: Option<outgrow_env::Entry>| found.is_some();
        let is_run = known(storage.entry(&path.join(RUN)).map_err(|e| problem(&e))?);
        let occupied = known(storage.entry(path).map_err(|e| problem(&e))?)
            && !storage.list(path).map_err(|e| problem(&e))?.is_empty();
        if occupied && !is_run {
            let text = "the folder holds something else than a run";
            let diagnostic = Diagnostic::new("run.folder", text).file(path);
            return Err(diagnostic.hint("choose another --out").into());
        }
        storage.create_folder(path).map_err(|e| problem(&e))?;
        let lock = storage.lock(path).map_err(|e| problem(&e))?;
        let folder = Self { path: path.into(), storage, _lock: lock };
        if fresh && is_run {
            folder.empty()?;
        }
        match folder.read(RUN)? {
            Some(before) if before["fingerprint"] != fingerprint => {
                let text = "the folder holds a run of another manifest";
                let diagnostic = Diagnostic::new("run.changed", text).file(folder.file(RUN));
                return Err(diagnostic.hint("choose another --out, or start anew with --fresh").into());
            }
            Some(_) => {}
            None => {
                // First, so that an interrupted start is still known as one of a run.
                let version = env!("CARGO_PKG_VERSION");
                folder.write_json(RUN, &json!({ "fingerprint": fingerprint, "version": version }))?;
            }
        }
        if !known(storage_entry(&folder, "manifest.toml")?) {
            folder.write("manifest.toml", manifest.as_bytes())?;
        }
        Ok(folder)
    }

    /// Removes what runs write; anything else stays.
    fn empty(&self) -> Result<(), Diagnostics> {
        // The marker of the run goes last: interrupted, the folder is still known as one of a run.
        for file in [RESULT, "report.html", "metrics.jsonl", "manifest.toml", RUN] {
            if file == RUN {
                for folder in ["checkpoints", "model"] {
                    self.storage.remove_tree(&self.file(folder)).map_err(|e| problem(&e))?;
                }
            }
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
        let bytes = match self.storage.read(&self.file(name)) {
            Err(e) if e.is_not_found() => return Ok(None),
            bytes => bytes.map_err(|e| problem(&e))?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            let diagnostic =
                Diagnostic::new("run.damaged", format!("not valid JSON: {e}")).file(self.file(name));
            diagnostic.hint("start anew with --fresh, or choose another --out").into()
        })
    }

    /// How the run ended, if it has.
    pub fn result(&self) -> Result<Option<Json>, Diagnostics> {
        self.read(RESULT)
    }

    /// Notes how the run ended. This is the last thing that a run writes.
    pub fn finish(&self, result: &Json) -> Result<(), Diagnostics> {
        self.write_json(RESULT, result)
    }
}

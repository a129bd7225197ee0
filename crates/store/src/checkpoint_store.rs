//! The checkpoints of one run in one folder: `step-00000123.ckpt` each, the last few kept, and the best one if asked.
//!
//! One process at a time may save into a folder: who saves holds the lock of the run. Loading never removes or changes
//! anything, however damaged it is.

use crate::checkpoint::{self, Checkpoint};
use crate::{StoreError, in_file, safetensors};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that says which checkpoint is the best.
const BEST: &str = "best.json";

/// A folder of checkpoints of one model.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    storage: Arc<dyn StorageBackend>,
    folder: PathBuf,
    model: String,
    keep_last: usize,
}

/// One checkpoint file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The step in its name.
    pub step: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// A checkpoint that was read and verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it holds.
    pub checkpoint: Checkpoint,
    /// Where it was.
    pub path: PathBuf,
    /// What was wrong with newer ones, which were passed over and left where they are.
    pub skipped: Diagnostics,
}

/// Which checkpoint is the best, and how good it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// Its score, in the caller's measure.
    pub score: f64,
}

impl CheckpointStore {
    /// The checkpoints in `folder`, which need not exist yet, of the model with this fingerprint. After each save the
    /// last `keep_last` (at least one) are kept.
    pub fn new(
        storage: Arc<dyn StorageBackend>,
        folder: impl Into<PathBuf>,
        model: impl Into<String>,
        keep_last: usize,
    ) -> Self {
        Self { storage, folder: folder.into(), model: model.into(), keep_last: keep_last.max(1) }
    }

    /// Saves a checkpoint durably; one of the same step is replaced. Older ones that need not be kept are removed
    /// afterwards. On an error, all that could be loaded before can be loaded still.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf, StoreError> {
        if checkpoint.model != self.model {
            return Err(other_model(&checkpoint.model, &self.model).into());
        }
        let header = checkpoint.header()?;
        let path = self.path(checkpoint.step);
        self.storage.create_folder(&self.folder)?;
        // An earlier process may have been killed while it wrote; its temporary files would fill the disk.
        self.storage.sweep(&self.folder)?;
        self.storage
            .write_with(&path, &mut |out| safetensors::write_parts(out, &header, &checkpoint.tensors))?;
        self.prune(checkpoint.step)?;
        Ok(path)
    }

    /// Marks the checkpoint of `step` as the best so far, which keeps it from being removed.
    pub fn mark_best(&self, best: Best) -> Result<(), StoreError> {
        Ok(self.storage.write(&self.folder.join(BEST), serde_json::json!(best).to_string().as_bytes())?)
    }

    /// Which checkpoint was marked as the best.
    pub fn best(&self) -> Result<Option<Best>, StoreError> {
        let path = self.folder.join(BEST);
        let bytes = match self.storage.read(&path) {
            Err(e) if e.is_not_found() => return Ok(None),
            bytes => bytes?,
        };
        match serde_json::from_slice(&bytes) {
            Ok(best) => Ok(Some(best)),
            Err(e) => {
                let problem = format!("not a valid mark of the best checkpoint: {e}");
                Err(Diagnostics::from(
                    Diagnostic::new("store.checkpoint.best", problem)
                        .file(path)
                        .hint("remove it: the best checkpoint is then marked anew"),
                )
                .into())
            }
        }
    }

    /// All checkpoint files, oldest step first. A folder that does not exist has none.
    pub fn list(&self) -> Result<Vec<Saved>, StoreError> {
        let entries = match self.storage.list(&self.folder) {
            Err(e) if e.is_not_found() => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut saved: Vec<Saved> = entries
            .into_iter()
            .filter(|e| !e.is_folder)
            .filter_map(|e| {
                let step = e.name.strip_prefix("step-")?.strip_suffix(".ckpt")?.parse().ok()?;
                Some(Saved { step, path: self.folder.join(&e.name), bytes: e.bytes })
            })
            .collect();
        saved.sort_by_key(|s| s.step);
        Ok(saved)
    }

    /// The newest checkpoint that is whole. Damaged ones are passed over, and told in [`Loaded::skipped`]; when
    /// there are files but none is whole, that is an error, and so is the checkpoint of another model: silently
    /// starting anew would lose work. `None` when there is no file at all.
    pub fn load_latest(&self) -> Result<Option<Loaded>, StoreError> {
        let mut skipped = Diagnostics::default();
        for saved in self.list()?.into_iter().rev() {
            match self.read(&saved.path) {
                Ok(checkpoint) if checkpoint.model == self.model => {
                    return Ok(Some(Loaded { checkpoint, path: saved.path, skipped }));
                }
                Ok(checkpoint) => {
                    return Err(in_file(other_model(&checkpoint.model, &self.model), &saved.path).into());
                }
                Err(e) => skipped.0.extend(e.into_diagnostics().0),
            }
        }
        Ok(skipped.into_result(None)?)
    }

    /// The checkpoint in a file, verified to be whole and of this model.
    pub fn load(&self, path: &Path) -> Result<Checkpoint, StoreError> {
        let checkpoint = self.read(path)?;
        if checkpoint.model == self.model {
            Ok(checkpoint)
        } else {
            Err(in_file(other_model(&checkpoint.model, &self.model), path).into())
        }
    }

    /// The file of the checkpoint of `step`.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}.ckpt"))
    }

    fn read(&self, path: &Path) -> Result<Checkpoint, StoreError> {
        Ok(checkpoint::parse(self.storage.map(path)?).map_err(|d| in_file(d, path))?)
    }

    /// Removes what is older than the last `keep_last` up to `newest`, which has just been written. Files of later
    /// steps are left alone: they could not be read, or else training would have gone on from them.
    fn prune(&self, newest: u64) -> Result<(), StoreError> {
        // When the mark cannot be read, nothing is removed: it might be the best one.
        let Ok(best) = self.best() else { return Ok(()) };
        let old = self.list()?.into_iter().rev().filter(|s| s.step <= newest).skip(self.keep_last);
        for saved in old.filter(|s| best.is_none_or(|best| best.step != s.step)) {
            self.storage.remove_file(&saved.path)?;
        }
        Ok(())
    }
}

fn other_model(found: &str, expected: &str) -> Diagnostics {
    Diagnostic::new("store.checkpoint.model", format!("the checkpoint is of another model, `{found}`"))
        .expected(format!("a checkpoint of the model `{expected}`"))
        .hint("use another folder, or the manifest that the checkpoint was made with")
        .into()
}

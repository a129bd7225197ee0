//! The checkpoints of one run in one folder, of which the last few are kept. [`crate::checkpoint`] says what the files are.
//!
//! One process at a time may commit checkpoints into a folder: the one that holds the lock of the run. Others may write
//! parts meanwhile. Loading never removes or changes anything, however damaged it is.

use crate::checkpoint::{Part, PartFile, Record, State, Stored, part};
use crate::{StoreError, in_file};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the name of a record ends with.
const RECORD: &str = ".json";
/// What the name of a checkpoint of the first form of this format ends with: a file of its own.
const FIRST_FORM: &str = ".ckpt";

/// A folder of checkpoints of one model.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    storage: Arc<dyn StorageBackend>,
    folder: PathBuf,
    model: String,
    /// Those of which this one goes on.
    earlier: Vec<String>,
    keep_last: usize,
}

/// One committed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The step in its name.
    pub step: u64,
    /// Where its record is.
    pub path: PathBuf,
}

/// A checkpoint that was found to be sound.
#[derive(Debug)]
pub struct Loaded {
    /// What it holds.
    pub stored: Stored,
    /// Where its record is.
    pub path: PathBuf,
    /// What was wrong with newer ones, which were passed over and left where they are.
    pub skipped: Diagnostics,
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
        Self {
            storage,
            folder: folder.into(),
            model: model.into(),
            earlier: Vec::new(),
            keep_last: keep_last.max(1),
        }
    }

    /// The same, where checkpoints of these earlier fingerprints are as good as this model's own.
    pub fn going_on_from(self, earlier: Vec<String>) -> Self {
        Self { earlier, ..self }
    }

    fn is_ours(&self, record: &Record) -> bool {
        record.model == self.model || self.earlier.contains(&record.model)
    }

    /// Saves a checkpoint of one part durably; one of the same step is replaced. Older ones that need not be kept are
    /// removed afterwards. On an error, all that could be loaded before can be loaded still. Only for who holds the
    /// lock of the run, while nobody else writes parts.
    ///
    /// # Errors
    /// When the part is another model's, or the storage fails.
    pub fn save(&self, part: &Part, state: &State) -> Result<PathBuf, StoreError> {
        self.sweep()?;
        let written = self.write_part(part)?;
        self.commit(part.step, state, vec![written])
    }

    /// Removes what processes that were killed were writing; it would fill the disk. Only while nobody writes parts.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn sweep(&self) -> Result<(), StoreError> {
        self.storage.create_folder(&self.folder)?;
        self.storage.sweep(&self.folder)?;
        Ok(())
    }

    /// Writes one part of a checkpoint durably, and says how the record will name it. It changes nothing of what can be
    /// loaded. Any number of processes may do this, in any order.
    ///
    /// # Errors
    /// When the part is another model's, or the storage fails.
    pub fn write_part(&self, part: &Part) -> Result<PartFile, StoreError> {
        if part.model != self.model {
            return Err(Diagnostics::from(part::other_model(&part.model, &self.model)).into());
        }
        let encoded = part.encode()?;
        self.storage.create_folder(&self.folder)?;
        let path = self.folder.join(&encoded.file.file);
        self.storage.write_with(&path, &mut |out| encoded.write(out))?;
        Ok(encoded.file)
    }

    /// Commits the checkpoint of `step` that these parts make up, durably and atomically, and gives the path of its
    /// record. One of the same step is replaced; what need not be kept is removed afterwards. On an error, all that
    /// could be loaded before can be loaded still. Only for who holds the lock of the run.
    ///
    /// # Errors
    /// When the parts do not give each element of each tensor once, are of another step or model, or not there; or
    /// when the storage fails.
    pub fn commit(&self, step: u64, state: &State, parts: Vec<PartFile>) -> Result<PathBuf, StoreError> {
        let record = Record { step, model: self.model.clone(), state: state.clone(), parts };
        let bytes = record.to_bytes()?;
        Stored::open(&*self.storage, &self.folder, record)?;
        let path = self.path(step);
        self.storage.write(&path, &bytes)?;
        self.prune(step)?;
        Ok(path)
    }

    /// All committed checkpoints, oldest step first. A folder that does not exist has none.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn list(&self) -> Result<Vec<Saved>, StoreError> {
        let step = |name: &str| name.strip_prefix("step-")?.strip_suffix(RECORD)?.parse().ok();
        let saved = |name: &String| Some(Saved { step: step(name)?, path: self.folder.join(name) });
        let mut saved: Vec<Saved> = self.files()?.iter().filter_map(saved).collect();
        saved.sort_by_key(|s| s.step);
        Ok(saved)
    }

    /// The newest checkpoint that is whole, verified to its last byte. Damaged ones are passed over, and told in
    /// [`Loaded::skipped`]; when there are checkpoints but none is whole, that is an error, and so is the checkpoint of
    /// another model: silently starting anew would lose work. `None` when there is none at all.
    ///
    /// # Errors
    /// As above, and when the storage fails.
    pub fn load_latest(&self) -> Result<Option<Loaded>, StoreError> {
        let mut skipped = Diagnostics::default();
        for saved in self.list()?.into_iter().rev() {
            let record = match self.record(&saved.path) {
                Ok(record) if self.is_ours(&record) => record,
                Ok(record) => return Err(self.not_ours(&record, &saved.path)),
                Err(e) => {
                    skipped.0.extend(e.into_diagnostics().0);
                    continue;
                }
            };
            let stored = self.open_record(record, &saved.path);
            match stored.and_then(|stored| Ok(stored.verify().map(|()| stored)?)) {
                Ok(stored) => return Ok(Some(Loaded { stored, path: saved.path, skipped })),
                Err(e) => skipped.0.extend(e.into_diagnostics().0),
            }
        }
        let first_form = self.files()?.into_iter().filter(|name| name.ends_with(FIRST_FORM));
        skipped.0.extend(first_form.map(|name| {
            let problem = "the checkpoint was written by an earlier version of this program";
            Diagnostic::new("store.checkpoint.version", problem)
                .file(self.folder.join(name))
                .expected("a record `step-NUMBER.json` with its parts")
                .hint("end the run with the version that wrote it, or start it anew with --fresh")
        }));
        Ok(skipped.into_result(None)?)
    }

    /// The checkpoint that a record commits, of this model. Of its data nothing is looked at, nor verified, until it is
    /// read.
    ///
    /// # Errors
    /// When the record or a part is damaged, missing or another model's.
    pub fn open(&self, path: &Path) -> Result<Stored, StoreError> {
        let record = self.record(path)?;
        if !self.is_ours(&record) {
            return Err(self.not_ours(&record, path));
        }
        self.open_record(record, path)
    }

    /// The record of the checkpoint of `step`.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}{RECORD}"))
    }

    fn open_record(&self, record: Record, path: &Path) -> Result<Stored, StoreError> {
        match Stored::open(&*self.storage, &self.folder, record) {
            Err(StoreError::Invalid(found)) => Err(in_file(found, path).into()),
            stored => stored,
        }
    }

    fn record(&self, path: &Path) -> Result<Record, StoreError> {
        Ok(Record::parse(&self.storage.read(path)?).map_err(|d| in_file(d, path))?)
    }

    fn not_ours(&self, record: &Record, path: &Path) -> StoreError {
        in_file(part::other_model(&record.model, &self.model).into(), path).into()
    }

    /// The names of the files in the folder.
    fn files(&self) -> Result<Vec<String>, StoreError> {
        match self.storage.list(&self.folder) {
            Err(e) if e.is_not_found() => Ok(Vec::new()),
            entries => Ok(entries?.into_iter().filter(|e| !e.is_folder).map(|e| e.name).collect()),
        }
    }

    /// Removes what is older than the last `keep_last` up to `newest`, which has just been committed: records first, then
    /// the parts that none of those kept names. Files of later steps are left alone: they could not be read, or else
    /// training would have gone on from them.
    fn prune(&self, newest: u64) -> Result<(), StoreError> {
        let mut kept = BTreeMap::new();
        for saved in self.list()?.into_iter().rev().filter(|s| s.step <= newest) {
            if kept.len() < self.keep_last {
                kept.insert(saved.step, self.record(&saved.path).ok());
            } else {
                self.storage.remove_file(&saved.path)?;
            }
        }
        for name in self.files()? {
            let step = name.strip_prefix("step-").and_then(|rest| rest.split_once('-')?.0.parse().ok());
            let Some(step) = step.filter(|step| *step <= newest && name.ends_with(part::SUFFIX)) else {
                continue;
            };
            let needed = match kept.get(&step) {
                Some(Some(record)) => record.parts.iter().any(|part| part.file == name),
                // Of a record that cannot be read nobody knows which parts it names.
                Some(None) => true,
                None => false,
            };
            if !needed {
                self.storage.remove_file(&self.folder.join(&name))?;
            }
        }
        Ok(())
    }
}

//! The folder of a run: what it holds, who may write to it, and whether it belongs to this manifest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use outgrow_env::{FolderLock, StorageBackend, StorageError};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::MODEL_FOLDER;
use outgrow_store::{CheckpointStore, EventFile, ModelPackage, sha256};
use outgrow_train::defaults::Known;
use outgrow_train::spec::Interval;
use serde_json::{Value as Json, json};

use super::length::{Earlier, Identity};
use super::own_folder::free_folder;
use crate::manifest::Manifest;
use crate::manifest::kept::{MANIFEST, ROOTS, RUN};

/// The folder of a run, locked for this process.
///
/// | name | what |
/// |---|---|
/// | `manifest.toml` | the manifest with its defaults filled in |
/// | `run.json` | what the run's numbers depend on, lengths it had before, where its data was, and once it has ended the checksum of its result |
/// | `metrics.jsonl` | metrics over the course of training, a JSON object a line |
/// | `events.out.tfevents.…` | the same for TensorBoard, if the manifest wants that |
/// | `checkpoints/` | the last training states |
/// | `model/` | the model: graph, weights, transform |
/// | `result.json` | how the run ended |
/// | `report.html` | the run on one page |
/// | `fold-1/` and so on, `predictions.csv` | of a k-fold evaluation: the runs, and what each predicted for its part |
/// | `tune-lr.json`, `tune-lr.html` | from a search for a learning rate, before or after the run |
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    storage: Arc<dyn StorageBackend>,
    identity: Identity,
    /// Whether the run starts anew.
    fresh: bool,
    /// What it was when it was last begun, if that was with another length.
    before: Option<Before>,
    /// The lengths that it had before this one.
    earlier: Vec<Earlier>,
    _lock: FolderLock,
}

/// A run that was begun with another length.
#[derive(Clone, Debug)]
pub struct Before {
    /// What it was known by.
    pub fingerprint: String,
    /// How long it was to train.
    pub length: Interval,
    /// Whether it has ended.
    pub ended: bool,
}

/// Files that `tune-lr` may have written here before the run.
const GUESTS: [&str; 2] = [TUNE_LR_NUMBERS, TUNE_LR_PLOT];
/// The numbers that `tune-lr` found.
pub const TUNE_LR_NUMBERS: &str = "tune-lr.json";
/// Their plot.
pub const TUNE_LR_PLOT: &str = "tune-lr.html";
const RESULT: &str = "result.json";
/// The page.
pub const REPORT: &str = "report.html";
/// What k-fold evaluation has predicted for each row.
pub const PREDICTIONS: &str = "predictions.csv";
/// The folder of one of its runs, without its number.
const FOLD: &str = "fold-";
/// The folder of the training states.
pub const CHECKPOINTS: &str = "checkpoints";

/// Keys of `run.json`.
const FINGERPRINT: &str = "fingerprint";
const WITHOUT_LENGTH: &str = "fingerprint_without_length";
const LENGTH: &str = "length";
const KNOWN: &str = "known_of_data";
const EARLIER: &str = "earlier_lengths";
const RESULT_SHA256: &str = "result_sha256";
/// Whether all else in the folder is of an earlier run and yet to be removed.
const EMPTYING: &str = "emptying";

/// How far the run in a folder has come.
#[derive(Debug)]
pub enum Ending {
    /// It has not ended, or is to start anew.
    Open,
    /// It has ended, and this is its result.
    Whole(Json),
    /// It has ended, but something that it wrote is gone.
    Lacking(String),
}

/// Who only looks whether a folder is taken has it for a moment: so often, and in these intervals, it is tried again.
const TRIES: usize = 5;
const BETWEEN: Duration = Duration::from_millis(5);

fn lock(storage: &dyn StorageBackend, path: &Path) -> Result<FolderLock, StorageError> {
    for _ in 1..TRIES {
        match storage.lock(path) {
            Err(StorageError::Locked { .. }) => thread::sleep(BETWEEN),
            lock => return lock,
        }
    }
    storage.lock(path)
}

fn problem(error: &StorageError) -> Diagnostics {
    let diagnostic = Diagnostic::new("run.folder", error.to_string()).file(error.path());
    let diagnostic = match error {
        StorageError::Locked { .. } => {
            diagnostic.hint("wait until the other run has ended, or choose another --out")
        }
        e if e.is_no_space() => {
            diagnostic.hint("nothing that was there is lost; free some space and run again")
        }
        _ => diagnostic.hint("choose another --out, which may be written to"),
    };
    diagnostic.into()
}

/// The folder of one run of a k-fold evaluation, by its number from 1.
pub fn fold_folder(number: u32) -> String {
    format!("{FOLD}{number}")
}

fn is_fold(name: &str) -> bool {
    name.strip_prefix(FOLD).is_some_and(|number| number.parse::<u32>().is_ok())
}

/// What there is in a folder in which a run is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing that would be in its way.
    Nobody,
    /// A run.
    Run,
    /// Something else.
    Other,
}

/// What there is in a folder in which a run is to be.
///
/// # Errors
/// When that cannot be told.
pub fn occupant(storage: &dyn StorageBackend, path: &Path) -> Result<Occupant, Diagnostics> {
    let is_there = |path: &Path| -> Result<bool, Diagnostics> {
        Ok(storage.entry(path).map_err(|e| problem(&e))?.is_some())
    };
    if is_there(&path.join(RUN))? {
        return Ok(Occupant::Run);
    }
    let is_empty = !is_there(path)?
        || storage
            .list(path)
            .map_err(|e| problem(&e))?
            .iter()
            .all(|entry| GUESTS.contains(&entry.name.as_str()));
    Ok(if is_empty { Occupant::Nobody } else { Occupant::Other })
}

/// What the run that was begun in a folder is known by.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// Its fingerprints, with its length and without; none where there is no run. The first word of each is that of the
    /// manifest, the second that of the data.
    pub fingerprints: Vec<String>,
    /// What it knew of its data.
    pub known: Option<Known>,
}

impl Begun {
    /// Whether it is this run, or one that differs in its length alone.
    pub fn is(&self, identity: &Identity) -> bool {
        [&identity.fingerprint, &identity.without_length].iter().any(|own| self.fingerprints.contains(own))
    }

    /// The fingerprint by which it is a run of this manifest, whatever its data was.
    pub fn of_manifest(&self, manifest: &Manifest) -> Option<&str> {
        let own = manifest.fingerprints(self.known);
        self.fingerprints
            .iter()
            .find(|print| own.iter().any(|own| is_first_word(own, print)))
            .map(String::as_str)
    }
}

/// Whether a word is the first of a fingerprint.
pub fn is_first_word(word: &str, fingerprint: &str) -> bool {
    fingerprint.split(' ').next() == Some(word)
}

/// What the run that was begun in a folder is known by.
///
/// # Errors
/// When its record cannot be read.
pub fn begun(storage: &dyn StorageBackend, path: &Path) -> Result<Begun, Diagnostics> {
    let run = read_json(storage, &path.join(RUN))?.unwrap_or_default();
    let prints = [FINGERPRINT, WITHOUT_LENGTH].iter().filter_map(|key| run[*key].as_str());
    Ok(Begun {
        fingerprints: prints.map(str::to_owned).collect(),
        known: serde_json::from_value(run[KNOWN].clone()).ok(),
    })
}

/// The result of the run in a folder, if it has ended.
///
/// # Errors
/// When the file is not what the run wrote.
pub fn result(storage: &dyn StorageBackend, path: &Path) -> Result<Ending, Diagnostics> {
    let run = read_json(storage, &path.join(RUN))?.unwrap_or_default();
    let Some(sha256) = run[RESULT_SHA256].as_str() else { return Ok(Ending::Open) };
    let bytes = match storage.read(&path.join(RESULT)) {
        Err(e) if e.is_not_found() => return Ok(Ending::Lacking(format!("{RESULT} is gone"))),
        bytes => bytes.map_err(|e| problem(&e))?,
    };
    let whole = (sha256::hex(&bytes) == sha256).then(|| serde_json::from_slice(&bytes).ok()).flatten();
    whole.map(Ending::Whole).ok_or_else(|| {
        Diagnostic::new("run.damaged", "the file is not what the run wrote: its checksum differs")
            .file(path.join(RESULT))
            .expected(format!("the SHA-256 {sha256}"))
            .hint("remove it, and `outgrow run` writes it anew from the newest checkpoint")
            .into()
    })
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

/// The length in a manifest's text, as it is written there.
fn length_in(manifest: &str) -> Option<[Json; 2]> {
    let json: Json = toml::from_str(manifest).ok()?;
    Some(["epochs", "steps"].map(|key| json["train"][key].clone()))
}

impl RunFolder {
    /// Opens the folder for a run, creating it if need be. A folder of another run is refused, unless it differs in
    /// nothing but its length ([`RunFolder::before`]), or the run is to start anew. Nothing changes before [`RunFolder::begin`], except that temporary files go which killed
    /// processes left.
    pub fn open(
        storage: Arc<dyn StorageBackend>,
        path: &Path,
        identity: Identity,
        fresh: bool,
    ) -> Result<Self, Diagnostics> {
        if occupant(&*storage, path)? == Occupant::Other {
            let text = "the folder holds something else than a run";
            let diagnostic = Diagnostic::new("run.folder", text).file(path);
            return Err(diagnostic.hint("choose another --out").into());
        }
        storage.create_folder(path).map_err(|e| problem(&e))?;
        let lock = lock(&*storage, path).map_err(|e| problem(&e))?;
        // What killed processes were writing; nobody else writes here now.
        storage.sweep(path).map_err(|e| problem(&e))?;
        let mut folder = Self {
            path: path.into(),
            storage,
            identity,
            fresh,
            before: None,
            earlier: Vec::new(),
            _lock: lock,
        };
        if fresh {
            return Ok(folder);
        }
        let Some(before) = folder.read(RUN)? else { return Ok(folder) };
        folder.fresh = before[EMPTYING] == true;
        if before[FINGERPRINT] != folder.identity.fingerprint && !folder.is_of_another_length(&before) {
            let text =
                "the folder holds a run of another manifest, of other data, or from another model file";
            let diagnostic = Diagnostic::new("run.changed", text).file(folder.file(RUN));
            let free = free_folder(&*folder.storage, path)?;
            return Err(diagnostic
                .hint(format!(
                    "choose a folder that is free, as --out {}, or start anew with --fresh",
                    free.display()
                ))
                .into());
        }
        if !folder.fresh {
            folder.earlier = serde_json::from_value(before[EARLIER].clone()).unwrap_or_default();
        }
        Ok(folder)
    }

    /// Whether the run that was begun here, which is another one, differs in nothing but its length; that is kept in mind.
    fn is_of_another_length(&mut self, before: &Json) -> bool {
        let length = serde_json::from_value(before[LENGTH].clone());
        let (Some(fingerprint), Ok(length)) = (before[FINGERPRINT].as_str(), length) else { return false };
        if before[WITHOUT_LENGTH] != self.identity.without_length {
            return false;
        }
        if !self.fresh {
            let ended = before[RESULT_SHA256].is_string();
            self.before = Some(Before { fingerprint: fingerprint.into(), length, ended });
        }
        true
    }

    /// What the run here was when it was last begun, if that was with another length than is asked for now.
    pub fn before(&self) -> Option<&Before> {
        self.before.as_ref()
    }

    /// Takes what the run has done under another length for its own.
    pub fn go_on(&mut self, earlier: Earlier) {
        // Its length may have been this one once, and another one since.
        self.earlier.retain(|known| known.fingerprint != earlier.fingerprint || known.differs.is_some());
        self.earlier.push(earlier);
    }

    /// The lengths that it had before this one.
    pub fn earlier(&self) -> &[Earlier] {
        &self.earlier
    }

    /// Its checkpoints, of which the last `keep` are kept.
    pub fn checkpoints(&self, keep: usize) -> CheckpointStore {
        let (storage, fingerprint) = (self.storage.clone(), self.identity.fingerprint.clone());
        let earlier = self.earlier.iter().map(|earlier| earlier.fingerprint.clone()).collect();
        CheckpointStore::new(storage, self.file(CHECKPOINTS), fingerprint, keep).going_on_from(earlier)
    }

    /// The step of its newest checkpoint, if there is one.
    pub fn newest_step(&self) -> Result<Option<u64>, Diagnostics> {
        let saved = self.checkpoints(1).list().map_err(|e| e.into_diagnostics())?;
        Ok(saved.last().map(|saved| saved.step))
    }

    /// Makes the folder one of this run, whose data is looked for in `roots`: what an earlier one left goes, when the
    /// run is to start anew.
    pub fn begin(&self, manifest: &str, roots: &[PathBuf]) -> Result<(), Diagnostics> {
        let version = env!("CARGO_PKG_VERSION");
        let whole = |root: &PathBuf| std::path::absolute(root).unwrap_or_else(|_| root.clone());
        let roots: Vec<PathBuf> = roots.iter().map(whole).collect();
        let mut marker = json!({
            FINGERPRINT: self.identity.fingerprint,
            WITHOUT_LENGTH: self.identity.without_length,
            LENGTH: self.identity.length,
            KNOWN: self.identity.known,
            "version": version,
            ROOTS: roots,
        });
        if !self.earlier.is_empty() {
            marker[EARLIER] = json!(self.earlier);
        }
        if self.fresh {
            // Only a folder that can be written to is emptied, and one that was left half empty is known as such.
            let mut emptying = marker.clone();
            emptying[EMPTYING] = json!(true);
            self.write_json(RUN, &emptying)?;
            self.empty()?;
        }
        let is_there = |name| -> Result<bool, Diagnostics> {
            Ok(self.storage.entry(&self.file(name)).map_err(|e| problem(&e))?.is_some())
        };
        // The marker comes first, so that an interrupted start is still known as one of a run.
        if self.fresh || self.before.is_some() || !is_there(RUN)? {
            self.write_json(RUN, &marker)?;
        }
        // Whoever had it go on to another length may not have come to this.
        if !is_there(MANIFEST)? || self.kept_length()? != length_in(manifest) {
            self.write(MANIFEST, manifest.as_bytes())?;
        }
        Ok(())
    }

    /// The length in the manifest that is kept here, if that can be read.
    fn kept_length(&self) -> Result<Option<[Json; 2]>, Diagnostics> {
        let bytes = self.storage.read(&self.file(MANIFEST)).map_err(|e| problem(&e))?;
        Ok(std::str::from_utf8(&bytes).ok().and_then(length_in))
    }

    /// Removes what runs write, except the marker; anything else stays. Checkpoints go before the log: what is left of
    /// them, should this be interrupted, still has its log.
    fn empty(&self) -> Result<(), Diagnostics> {
        self.storage.remove_file(&self.file(RESULT)).map_err(|e| problem(&e))?;
        let there = self.storage.list(&self.path).map_err(|e| problem(&e))?;
        let folds = there.iter().filter(|entry| entry.is_folder && is_fold(&entry.name));
        for folder in folds.map(|entry| entry.name.as_str()).chain([CHECKPOINTS, MODEL_FOLDER]) {
            self.storage.remove_tree(&self.file(folder)).map_err(|e| problem(&e))?;
        }
        for entry in there.iter().filter(|entry| !entry.is_folder && EventFile::is_named(&entry.name)) {
            self.storage.remove_file(&self.file(&entry.name)).map_err(|e| problem(&e))?;
        }
        for file in [REPORT, "metrics.jsonl", MANIFEST, PREDICTIONS] {
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

    /// How far the run has come. One that is `evaluated` has a report.
    pub fn ending(&self, evaluated: bool) -> Result<Ending, Diagnostics> {
        let ending = if self.fresh || self.before.is_some() {
            Ending::Open
        } else {
            result(&*self.storage, &self.path)?
        };
        let Ending::Whole(result) = ending else { return Ok(ending) };
        if evaluated && result.get("train").is_none() {
            return Ok(Ending::Open);
        }
        if let Err(found) = ModelPackage::check_files(&*self.storage, &self.file(MODEL_FOLDER)) {
            let found = found.into_diagnostics();
            let first = found.0.first().map_or(String::new(), |found| found.problem.clone());
            return Ok(Ending::Lacking(format!("its model is not whole: {first}")));
        }
        let report = self.storage.entry(&self.file(REPORT)).map_err(|e| problem(&e))?;
        if evaluated && report.is_none_or(|report| report.bytes == 0) {
            return Ok(Ending::Lacking(format!("{REPORT} is gone")));
        }
        Ok(Ending::Whole(result))
    }

    /// Why a run that lacks something cannot be completed.
    pub fn no_checkpoint(&self, lacking: &str) -> Diagnostic {
        let problem =
            format!("the run has ended, but {lacking}, and there is no checkpoint to complete it from");
        Diagnostic::new("run.incomplete", problem)
            .file(&self.path)
            .expected("the run's files as it wrote them, or its newest checkpoint")
            .hint("start anew with --fresh, or choose another --out")
    }

    /// Notes how the run ended. This is the last thing that a run writes.
    pub fn finish(&self, result: &Json) -> Result<(), Diagnostics> {
        let text = format!("{result:#}\n");
        self.write(RESULT, text.as_bytes())?;
        let mut marker = self.read(RUN)?.unwrap_or_default();
        marker[RESULT_SHA256] = json!(sha256::hex(text.as_bytes()));
        self.write_json(RUN, &marker)
    }
}

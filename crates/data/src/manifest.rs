//! The files that describe prepared data: `dataset.json`, which makes a folder a data set, and `progress.json`, which
//! lets an interrupted preparation go on. Both carry a checksum of themselves.

use crate::{CleanReport, DataSpec, Split};
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use outgrow_store::sha256;
use outgrow_transform::Transform;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file that makes a folder a data set.
pub(crate) const DATASET: &str = "dataset.json";
/// The file that says how far preparation has come.
pub(crate) const PROGRESS: &str = "progress.json";
/// The version of the stored form; another one is never read.
pub(crate) const FORMAT: u32 = 3;

/// What `dataset.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub format: u32,
    pub fingerprint: String,
    pub spec: DataSpec,
    pub transform: Transform,
    pub report: CleanReport,
    /// In the order of [`Split::ALL`].
    pub splits: [SplitInfo; 3],
}

/// What is stored of one split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SplitInfo {
    pub shards: Vec<ShardInfo>,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardInfo {
    /// Name of the file.
    pub file: String,
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Records, or tokens, in it.
    pub records: u64,
    /// Records of each class, where the target is a class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<u64>,
}

impl SplitInfo {
    /// Records, or tokens, in all shards.
    pub fn records(&self) -> u64 {
        self.shards.iter().map(|s| s.records).sum()
    }

    /// Records of each class.
    pub fn classes(&self) -> Vec<u64> {
        let mut counts = Vec::new();
        for shard in &self.shards {
            counts.resize(counts.len().max(shard.classes.len()), 0);
            counts.iter_mut().zip(&shard.classes).for_each(|(sum, n)| *sum += n);
        }
        counts
    }
}

/// What `progress.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub fingerprint: String,
    /// Once it is fitted.
    pub transform: Option<Transform>,
    /// Finished shards, in the order of [`Split::ALL`].
    pub splits: [SplitInfo; 3],
}

/// The name of a shard's file.
pub(crate) fn shard_name(split: Split, number: usize) -> String {
    format!("{split}-{number:05}.safetensors")
}

/// Content with a checksum of itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sealed<T> {
    /// SHA-256 of the compact JSON text of `content`.
    sha256: String,
    content: T,
}

impl<T: Serialize> Sealed<T> {
    /// The bytes of a file that holds `content` and its checksum.
    pub fn seal(content: &T) -> Result<Vec<u8>, Diagnostic> {
        let json = |e: serde_json::Error| Diagnostic::fault("data.json", e.to_string());
        let text = serde_json::to_string(content).map_err(json)?;
        let sealed = Sealed { sha256: sha256::hex(text.as_bytes()), content };
        serde_json::to_vec_pretty(&sealed).map_err(json)
    }
}

impl<T: Serialize + DeserializeOwned> Sealed<T> {
    /// What [`Sealed::seal`] made these bytes of, or what is wrong with them.
    pub fn open(bytes: &[u8]) -> Result<T, String> {
        let sealed: Self =
            serde_json::from_slice(bytes).map_err(|e| format!("the file cannot be read: {e}"))?;
        let text = serde_json::to_string(&sealed.content).map_err(|e| e.to_string())?;
        let actual = sha256::hex(text.as_bytes());
        if actual != sealed.sha256 {
            return Err(format!("its content has the checksum {actual}, not {}", sealed.sha256));
        }
        Ok(sealed.content)
    }
}

/// Writes a file durably, with a checksum of itself.
pub(crate) fn write<T: Serialize>(
    storage: &dyn StorageBackend,
    path: &Path,
    content: &T,
) -> Result<(), Diagnostic> {
    let bytes = Sealed::seal(content).map_err(|d| d.file(path))?;
    storage.write(path, &bytes).map_err(|e| crate::files::storage_problem(&e))
}

/// Reads a file that [`write`] wrote. `None` when there is none.
///
/// # Errors
/// A diagnostic when it is damaged or of another version.
pub(crate) fn read<T: Serialize + DeserializeOwned>(
    storage: &dyn StorageBackend,
    path: &Path,
) -> Result<Option<T>, Diagnostic> {
    let bytes = match storage.read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(crate::files::storage_problem(&e)),
    };
    let damaged = |what: String| {
        Diagnostic::new("data.manifest", what)
            .file(path)
            .hint("the prepared data is damaged or was made by another version: remove its folder, it will be prepared again")
    };
    Sealed::open(&bytes).map(Some).map_err(damaged)
}

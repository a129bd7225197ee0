//! Versions of a data set: numbered records that are written once.

use super::Replicas;
use crate::manifest::{Manifest, Sealed, ShardInfo};
use outgrow_env::Place;
use outgrow_ir::Diagnostic;
use serde::{Deserialize, Serialize};

/// One version of a data set.
#[derive(Clone, Debug)]
pub struct Version {
    /// Counted from 1.
    pub number: u64,
    pub(crate) record: VersionRecord,
}

/// What a version's file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub number: u64,
    /// The seed that it was prepared with.
    pub seed: u64,
    pub dataset: Manifest,
}

impl Version {
    /// Hash of all that the data depends on.
    pub fn fingerprint(&self) -> &str {
        &self.record.dataset.fingerprint
    }

    /// The version's shards.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &ShardInfo> {
        self.record.dataset.splits.iter().flat_map(|split| &split.shards)
    }
}

impl Replicas {
    pub(super) fn version_key(&self, number: u64) -> String {
        format!("{}/versions/{number:08}.json", self.name)
    }

    /// The numbers of the versions that a place has.
    pub(super) fn numbers(&self, place: &dyn Place) -> Result<Vec<u64>, Diagnostic> {
        let names =
            place.list(&format!("{}/versions", self.name)).map_err(|e| crate::files::storage_problem(&e))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// A version as one place has it; nothing when it has none of this number.
    ///
    /// # Errors
    /// When the place cannot be read, or the record there is damaged.
    pub(super) fn read_version(&self, place: &dyn Place, number: u64) -> Result<Option<Version>, Diagnostic> {
        let key = self.version_key(number);
        let bytes = match place.read(&key) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(crate::files::storage_problem(&e)),
        };
        let damaged = |why: String| {
            Diagnostic::new("data.version", format!("the record of version {number} is damaged: {why}"))
                .file(format!("{}/{key}", place.name()))
                .hint("`outgrow data verify --repair` takes it from another place")
        };
        let record: VersionRecord = Sealed::open(&bytes).map_err(damaged)?;
        if record.number != number {
            return Err(damaged(format!("it is of version {}", record.number)));
        }
        Ok(Some(Version { number, record }))
    }

    /// The newest version that any place has a good record of, and what was wrong on the way there.
    pub fn newest(&self) -> (Option<Version>, Vec<Diagnostic>) {
        self.find(|_| true)
    }

    /// The newest version with this fingerprint.
    pub fn with_fingerprint(&self, fingerprint: &str) -> (Option<Version>, Vec<Diagnostic>) {
        self.find(|version| version.fingerprint() == fingerprint)
    }

    /// The newest version that `accepts` takes.
    pub(crate) fn find(&self, accepts: impl Fn(&Version) -> bool) -> (Option<Version>, Vec<Diagnostic>) {
        let mut faults = Vec::new();
        let mut numbers = Vec::new();
        for place in &self.places {
            match self.numbers(&**place) {
                Ok(found) => numbers.extend(found),
                Err(problem) => faults.push(problem),
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers.into_iter().rev() {
            for place in &self.places {
                match self.read_version(&**place, number) {
                    Ok(Some(version)) if accepts(&version) => return (Some(version), faults),
                    // The same everywhere: a record never changes.
                    Ok(Some(_)) => break,
                    Ok(None) => {}
                    Err(problem) => faults.push(problem),
                }
            }
        }
        (None, faults)
    }
}

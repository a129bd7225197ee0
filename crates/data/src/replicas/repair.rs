//! Checking every copy of a version, and restoring those that are bad from those that are good.

use super::Replicas;
use super::version::Version;
use crate::files::storage_problem;
use crate::manifest::{Sealed, ShardInfo};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_store::sha256;
use serde::Serialize;

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RepairReport {
    /// The version that was checked.
    pub version: u64,
    /// Every shard.
    pub shards: Vec<ShardState>,
    /// Places without a good record of the version.
    pub records_missing: Vec<String>,
    /// Copies and records that were restored.
    pub restored: usize,
}

/// The copies of one shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardState {
    /// Its file name in the data set.
    pub file: String,
    /// Its checksum.
    pub sha256: String,
    /// What each place has, home first.
    pub copies: Vec<CopyState>,
}

/// A shard in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "problem")]
pub enum CopyState {
    /// Intact.
    Good,
    /// Not there, and need not be.
    NotWanted,
    /// Not there, but should be.
    Missing,
    /// There, but not what was written.
    Damaged(String),
    /// The place cannot be read.
    Unreachable(String),
}

impl CopyState {
    fn is_bad(&self) -> bool {
        !matches!(self, Self::Good | Self::NotWanted)
    }
}

impl RepairReport {
    /// Whether every place has what it should.
    pub fn is_whole(&self) -> bool {
        self.bad() == 0 && self.records_missing.is_empty()
    }

    /// Copies that are not as they should be.
    pub fn bad(&self) -> usize {
        self.shards.iter().flat_map(|s| &s.copies).filter(|c| c.is_bad()).count()
    }

    /// Shards without any good copy.
    pub fn lost(&self) -> Vec<&ShardState> {
        self.shards.iter().filter(|s| !s.copies.contains(&CopyState::Good)).collect()
    }
}

/// Looks at every copy of every shard of a version.
pub fn check(replicas: &Replicas, version: &Version, progress: &dyn Fn(u64, u64)) -> RepairReport {
    let shards: Vec<&ShardInfo> = version.shards().collect();
    let mut report = RepairReport { version: version.number, ..RepairReport::default() };
    for (i, shard) in shards.iter().enumerate() {
        progress(i as u64, shards.len() as u64);
        report.shards.push(state(replicas, shard));
    }
    for place in &replicas.places {
        if !matches!(replicas.read_version(&**place, version.number), Ok(Some(_))) {
            report.records_missing.push(place.name().to_owned());
        }
    }
    report
}

fn state(replicas: &Replicas, shard: &ShardInfo) -> ShardState {
    let key = replicas.shard_key(&shard.sha256);
    let mut copies: Vec<CopyState> = replicas
        .places
        .iter()
        .map(|place| match place.read(&key) {
            Ok(bytes) if sha256::hex(&bytes) == shard.sha256 => CopyState::Good,
            Ok(bytes) => {
                CopyState::Damaged(format!("{} of {} bytes, another checksum", bytes.len(), shard.bytes))
            }
            Err(e) if e.is_not_found() => CopyState::NotWanted,
            Err(e) => CopyState::Unreachable(e.to_string()),
        })
        .collect();
    // Where copies lack, the first places in the shard's order should have them.
    let good = copies.iter().filter(|c| **c == CopyState::Good).count();
    let mut lacking = replicas.copies.saturating_sub(good);
    for i in replicas.order(&shard.sha256) {
        if lacking == 0 {
            break;
        }
        if copies[i] == CopyState::NotWanted {
            copies[i] = CopyState::Missing;
            lacking -= 1;
        } else if copies[i].is_bad() {
            lacking -= 1;
        }
    }
    ShardState { file: shard.file.clone(), sha256: shard.sha256.clone(), copies }
}

/// Restores what [`check`] finds bad, as far as good copies and places allow, and says how things are afterwards.
///
/// # Errors
/// When a place that can be read cannot be written. What was restored before stays.
pub fn repair(
    replicas: &Replicas,
    version: &Version,
    progress: &dyn Fn(u64, u64),
) -> Result<RepairReport, Diagnostics> {
    let before = check(replicas, version, progress);
    let mut problems = Diagnostics::default();
    let mut restored = 0;
    for (shard, state) in version.shards().zip(&before.shards) {
        match restore(replicas, shard, state) {
            Ok(count) => restored += count,
            Err(problem) => problems.push(problem),
        }
    }
    let record = Sealed::seal(&version.record)?;
    for place in replicas.places.iter().filter(|p| before.records_missing.iter().any(|m| m == p.name())) {
        match place.write(&replicas.version_key(version.number), &record) {
            Ok(()) => restored += 1,
            Err(e) => problems.push(storage_problem(&e)),
        }
    }
    problems.into_result(())?;
    Ok(RepairReport { restored, ..check(replicas, version, progress) })
}

/// Writes the bad copies of a shard anew from a good one.
fn restore(replicas: &Replicas, shard: &ShardInfo, state: &ShardState) -> Result<usize, Diagnostic> {
    let Some(good) = state.copies.iter().position(|c| *c == CopyState::Good) else { return Ok(0) };
    let key = replicas.shard_key(&shard.sha256);
    let mut bytes = None;
    let mut restored = 0;
    for (place, copy) in replicas.places.iter().zip(&state.copies) {
        if !matches!(copy, CopyState::Missing | CopyState::Damaged(_)) {
            continue;
        }
        let bytes = match &bytes {
            Some(bytes) => bytes,
            None => bytes.insert(replicas.places[good].read(&key).map_err(|e| storage_problem(&e))?),
        };
        place.write(&key, bytes).map_err(|e| storage_problem(&e))?;
        restored += 1;
    }
    Ok(restored)
}

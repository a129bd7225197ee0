//! Making a version: shards first, then the record that makes them one.

use super::Replicas;
use super::version::{Version, VersionRecord};
use crate::files::storage_problem;
use crate::manifest::{Manifest, Sealed, ShardInfo};
use crate::shards::ShardFiles;
use outgrow_env::Place;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_store::sha256;

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The version that holds the data.
    pub version: Version,
    /// Whether it was there before.
    pub reused: bool,
    /// Copies of shards that were written.
    pub written: usize,
}

/// How often a writer that came second tries the next number.
const TRIES: usize = 16;

/// Makes the data set whose shards `from` has the newest version, unless it is that already.
///
/// # Errors
/// When home cannot be written, or fewer places than there should be copies took a shard. What was the newest version
/// stays it.
pub(crate) fn commit_files(
    replicas: &Replicas,
    dataset: &Manifest,
    seed: u64,
    from: &dyn ShardFiles,
    progress: &dyn Fn(u64, u64),
) -> Result<Committed, Diagnostics> {
    let home = &*replicas.places[0];
    let newest = replicas.numbers(home)?.into_iter().max().unwrap_or(0);
    if newest > 0
        && let Some(version) = replicas.read_version(home, newest)?
        && version.record.dataset == *dataset
    {
        return Ok(Committed { version, reused: true, written: 0 });
    }
    let shards: Vec<&ShardInfo> = dataset.splits.iter().flat_map(|split| &split.shards).collect();
    let total = shards.iter().map(|s| s.bytes).sum();
    let (mut written, mut done) = (0, 0);
    for shard in shards {
        written += put(replicas, shard, from)?;
        done += shard.bytes;
        progress(done, total);
    }
    let version =
        create(replicas, home, &VersionRecord { number: newest + 1, seed, dataset: dataset.clone() })?;
    // The commit is done; a place that is away now gets the record from a later repair.
    let bytes = Sealed::seal(&version.record)?;
    for place in &replicas.places[1..] {
        let _ = place.write(&replicas.version_key(version.number), &bytes);
    }
    Ok(Committed { version, reused: false, written })
}

/// Creates the record at home under the first number that is free.
fn create(replicas: &Replicas, home: &dyn Place, wanted: &VersionRecord) -> Result<Version, Diagnostic> {
    for number in wanted.number..wanted.number + TRIES as u64 {
        let record = VersionRecord { number, ..wanted.clone() };
        if home
            .create(&replicas.version_key(number), &Sealed::seal(&record)?)
            .map_err(|e| storage_problem(&e))?
        {
            return Ok(Version { number, record });
        }
        // Somebody was first; or this writer was, and the answer to its request was lost on the way.
        if let Some(there) = replicas.read_version(home, number)?
            && there.record == record
        {
            return Ok(there);
        }
    }
    Err(Diagnostic::new("data.version", "others commit versions of this data set all the time")
        .file(home.name())
        .hint("try again, or give the data sets different names with `data.storage.name`"))
}

/// Puts a shard into as many places as there should be copies; answers how many copies were written. A place that
/// cannot take it is passed over while there are others.
fn put(replicas: &Replicas, shard: &ShardInfo, from: &dyn ShardFiles) -> Result<usize, Diagnostics> {
    let key = replicas.shard_key(&shard.sha256);
    let (mut there, mut written, mut bytes) = (0, 0, None);
    let mut problems = Diagnostics::default();
    for i in replicas.order(&shard.sha256) {
        if there == replicas.copies {
            break;
        }
        let place = &*replicas.places[i];
        match has(place, &key, shard) {
            Ok(true) => there += 1,
            Ok(false) => {
                let bytes = match &bytes {
                    Some(bytes) => bytes,
                    None => bytes.insert(from.read(shard)?),
                };
                match place.write(&key, bytes) {
                    Ok(()) => (there, written) = (there + 1, written + 1),
                    Err(e) => problems.push(storage_problem(&e)),
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    if there == replicas.copies {
        return Ok(written);
    }
    problems.push(
        Diagnostic::new(
            "data.storage.copies",
            format!("a shard is in {there} places, and should be in {}", replicas.copies),
        )
        .item("data.storage.copies")
        .hint("mend the places, or ask for fewer copies"),
    );
    Err(problems)
}

/// Whether a place has an intact copy of a shard.
pub(super) fn has(place: &dyn Place, key: &str, shard: &ShardInfo) -> Result<bool, Diagnostic> {
    if place.length(key).map_err(|e| storage_problem(&e))? != Some(shard.bytes) {
        return Ok(false);
    }
    match place.read(key) {
        Ok(bytes) => Ok(sha256::hex(&bytes) == shard.sha256),
        Err(e) => Err(storage_problem(&e)),
    }
}

/// Makes an open data set the newest version.
///
/// # Errors
/// As above: what was the newest version stays it.
pub fn commit(
    replicas: &Replicas,
    dataset: &crate::Dataset,
    seed: u64,
    progress: &dyn Fn(u64, u64),
) -> Result<Committed, Diagnostics> {
    commit_files(replicas, dataset.manifest(), seed, dataset.shards(), progress)
}

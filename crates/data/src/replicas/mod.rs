//! Prepared data that is kept in several places. Each shard lies in some of them under its checksum; a numbered record
//! in every place makes a version of the data set.
//!
//! | key | what |
//! |---|---|
//! | `NAME/shards/SHA256.safetensors` | a shard; versions that have it in common share it |
//! | `NAME/versions/00000001.json` | a version: what `dataset.json` says, and where its shards were put |
//!
//! **Commit.** First the shards, then the record. The first place in the list is home: the record is created there under
//! the next number, which succeeds for one writer only, and that moment is the commit. A version is there as a whole or
//! not at all, and it never changes; a reader keeps the one that it opened, whatever is committed meanwhile. The other
//! places get their copy of the record after that, or from `repair`.
//!
//! **Reading.** A shard is looked for in every place, those first that should have it, until a copy with the right
//! checksum is found. What was wrong with the others is kept to be told.

mod commit;
mod prepare;
mod reader;
mod repair;
mod version;

pub use commit::{Committed, commit};
pub use prepare::{Replicated, prepare_replicated};
pub use reader::Fault;
pub(crate) use reader::ReplicatedShards;
pub use repair::{CopyState, RepairReport, ShardState, check, repair};
pub use version::Version;

use outgrow_env::Place;
use outgrow_ir::Diagnostic;
use outgrow_store::sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The places that prepared data is kept in besides the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageSpec {
    /// The places: folders, each best on a disk or machine of its own, or buckets such as `s3://bucket/folder` (in a
    /// build with the feature `cloud`). The first one is home: it decides which version is the current one.
    pub places: Vec<String>,
    /// In how many of the places each shard is kept; in two when left out (with one place, in one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 2)]
    pub copies: Option<usize>,
    /// What the data set is called there; the manifest's name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// More places than this are taken for a mistake.
const PLACES_MAX: usize = 64;

/// Opens a place by its name.
pub type OpenPlace<'a> = dyn Fn(&str) -> Result<Arc<dyn Place>, Diagnostic> + 'a;

/// A data set's name in its places.
#[derive(Clone, Debug)]
pub struct Replicas {
    /// The places, home first.
    pub places: Vec<Arc<dyn Place>>,
    /// In how many each shard is kept.
    pub copies: usize,
    /// The data set's name.
    pub name: String,
}

impl Replicas {
    /// The replicas that a section asks for, in places that `open` opens by their names.
    ///
    /// # Errors
    /// When the section contradicts itself, or a place cannot be opened.
    pub fn new(spec: &StorageSpec, name: &str, open: &OpenPlace<'_>) -> Result<Self, Diagnostic> {
        let fail = |item: &str, text: String, expected: String| {
            Err(Diagnostic::new("data.storage", text).item(format!("data.storage.{item}")).expected(expected))
        };
        let count = spec.places.len();
        if !(1..=PLACES_MAX).contains(&count) {
            return fail("places", format!("{count} places"), format!("1 to {PLACES_MAX} folders"));
        }
        if let Some(twice) = (1..count).find(|i| spec.places[..*i].contains(&spec.places[*i])) {
            let text = format!("the place `{}` is given twice", spec.places[twice]);
            return fail("places", text, "different places".into());
        }
        let copies = spec.copies.unwrap_or(count.min(2));
        if !(1..=count).contains(&copies) {
            return fail("copies", format!("{copies} copies in {count} places"), format!("1 to {count}"));
        }
        let name = spec.name.as_deref().unwrap_or(name);
        let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let text = format!("a data set cannot be called `{name}`");
            return fail("name", text, "letters, digits, blanks and any of - _ .".into());
        }
        let places = spec.places.iter().map(|place| open(place)).collect::<Result<_, _>>()?;
        Ok(Self { places, copies, name: name.to_owned() })
    }

    fn shard_key(&self, sha256: &str) -> String {
        format!("{}/shards/{sha256}.safetensors", self.name)
    }

    /// The places in the order in which a shard is put there and looked for: by the hash of both names (rendezvous
    /// hashing: Thaler and Ravishankar 1998), so that shards spread evenly and a new place takes over only its share.
    fn order(&self, sha256: &str) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_cached_key(|i| sha256::hex(format!("{} {sha256}", self.places[*i].name()).as_bytes()));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_env::{FolderPlace, SimStorage};
    use std::path::Path;

    fn replicas(json: &str) -> Result<Replicas, Diagnostic> {
        let spec: StorageSpec = serde_json::from_str(json).unwrap();
        let storage: Arc<dyn outgrow_env::StorageBackend> = Arc::new(SimStorage::new(1));
        Replicas::new(&spec, "m", &|place| {
            Ok(Arc::new(FolderPlace::new(storage.clone(), Path::new(place))) as Arc<dyn Place>)
        })
    }

    #[test]
    fn shards_spread_evenly_and_stay_when_a_place_is_added() {
        let three = replicas(r#"{"places": ["/a", "/b", "/c"]}"#).unwrap();
        let four = replicas(r#"{"places": ["/a", "/b", "/c", "/d"], "copies": 3}"#).unwrap();
        assert_eq!((three.copies, four.copies, three.name.as_str()), (2, 3, "m"));
        let (mut counts, mut moved) = ([0; 4], 0);
        for shard in 0..1000 {
            let sha256 = sha256::hex(&[shard as u8, (shard >> 8) as u8]);
            let (before, after) = (three.order(&sha256), four.order(&sha256));
            counts[after[0]] += 1;
            moved += usize::from(before[0] != after[0]);
            assert_eq!(after.iter().copied().filter(|i| *i < 3).collect::<Vec<_>>(), before);
        }
        assert!(counts.iter().all(|n| (200..300).contains(n)), "{counts:?}");
        assert_eq!(moved, counts[3], "only what the new place took has moved");
    }

    #[test]
    fn contradictions_are_refused() {
        for (json, item) in [
            (r#"{"places": []}"#, "data.storage.places"),
            (r#"{"places": ["/a", "/a"]}"#, "data.storage.places"),
            (r#"{"places": ["/a"], "copies": 2}"#, "data.storage.copies"),
            (r#"{"places": ["/a"], "copies": 0}"#, "data.storage.copies"),
            (r#"{"places": ["/a"], "name": "../x"}"#, "data.storage.name"),
            (r#"{"places": ["/a"], "name": "a/b"}"#, "data.storage.name"),
        ] {
            let error = replicas(json).unwrap_err();
            assert_eq!(error.place.item.as_deref(), Some(item), "{json}: {error}");
        }
    }
}

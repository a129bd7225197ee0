//! Reading shards from wherever a good copy is.

use super::Replicas;
use crate::files::storage_problem;
use crate::manifest::ShardInfo;
use crate::shards::ShardFiles;
use outgrow_ir::Diagnostic;
use outgrow_store::sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A copy that could not be used; another one served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: String,
    /// Which file there.
    pub key: String,
    /// What was wrong.
    pub problem: String,
}

/// The shards of a version, in their places.
#[derive(Debug)]
pub(crate) struct ReplicatedShards {
    replicas: Replicas,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The place whose copy of a shard was found good, by the shard's checksum.
    good: BTreeMap<String, usize>,
    faults: Vec<Fault>,
    /// Places that could not be reached. They are asked last, so that not every shard waits for them.
    away: BTreeSet<usize>,
}

impl ReplicatedShards {
    pub fn new(replicas: Replicas) -> Self {
        Self { replicas, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, place: usize, key: &str, problem: String) {
        let place = self.replicas.places[place].name().to_owned();
        let fault = Fault { place, key: key.to_owned(), problem };
        let mut state = self.state();
        if !state.faults.contains(&fault) {
            state.faults.push(fault);
        }
    }

    /// The places in the order in which they are asked for a shard.
    fn order(&self, shard: &ShardInfo) -> Vec<usize> {
        let mut order = self.replicas.order(&shard.sha256);
        let state = self.state();
        order.sort_by_key(|place| state.away.contains(place));
        order
    }
}

impl ShardFiles for ReplicatedShards {
    fn read(&self, shard: &ShardInfo) -> Result<Vec<u8>, Diagnostic> {
        let key = self.replicas.shard_key(&shard.sha256);
        for i in self.order(shard) {
            let problem = match self.replicas.places[i].read(&key) {
                Ok(bytes) if sha256::hex(&bytes) == shard.sha256 => {
                    let mut state = self.state();
                    state.away.remove(&i);
                    state.good.insert(shard.sha256.clone(), i);
                    return Ok(bytes);
                }
                Ok(bytes) if bytes.len() as u64 != shard.bytes => {
                    format!("the shard has {} bytes, not {}", bytes.len(), shard.bytes)
                }
                Ok(_) => "the shard is damaged: its checksum is another one".into(),
                // Not every place is to have every shard.
                Err(e) if e.is_not_found() => continue,
                Err(e) => {
                    self.state().away.insert(i);
                    e.to_string()
                }
            };
            self.fault(i, &key, problem);
        }
        let places: Vec<&str> = self.replicas.places.iter().map(|p| p.name()).collect();
        Err(Diagnostic::new("data.shard.lost", format!("no place has a good copy of {key}"))
            .file(&shard.file)
            .expected(format!("an intact copy in one of: {}", places.join(", ")))
            .hint("bring a place back, or prepare the data again from its source"))
    }

    fn read_range(&self, shard: &ShardInfo, offset: u64, length: usize) -> Result<Vec<u8>, Diagnostic> {
        let key = self.replicas.shard_key(&shard.sha256);
        let good = self.state().good.get(&shard.sha256).copied();
        if let Some(i) = good {
            match self.replicas.places[i].read_range(&key, offset, length) {
                Ok(bytes) => return Ok(bytes),
                Err(e) => self.fault(i, &key, storage_problem(&e).to_string()),
            }
        }
        // The copy went away, or none was read yet: from another one, verified anew.
        let bytes = self.read(shard)?;
        let range = usize::try_from(offset).ok().and_then(|from| bytes.get(from..from.checked_add(length)?));
        range.map(<[u8]>::to_vec).ok_or_else(|| {
            Diagnostic::fault("data.shard.field", "a record lies outside of its shard").file(&shard.file)
        })
    }

    fn faults(&self) -> Vec<Fault> {
        self.state().faults.clone()
    }
}

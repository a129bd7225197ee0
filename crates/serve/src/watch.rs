//! Looks into repositories from time to time: versions that have come are served, and those whose folders have gone are not.
//!
//! A folder is written over some time. What has changed is taken up once it is the same in two looks, and what was refused
//! is tried again when it has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outgrow_ir::shielded;

use crate::http::Site;
use crate::models::Models;
use crate::source::{folders, number};

/// How deep folders are looked into: a version is a run's folder or less.
const DEPTH_MAX: usize = 4;

/// Versions, and what their folders look like.
pub(crate) type Looks = BTreeMap<u64, u64>;

/// What there was at the last look, by the names of models.
#[derive(Debug, Default)]
pub(crate) struct Watch(BTreeMap<String, Looks>);

impl Watch {
    /// Looks once, and loads and unloads what is not as it was when it was last loaded. What is wrong with a version is in
    /// the log and in the index.
    pub fn look(&mut self, models: &Models) {
        models.discover();
        for (name, folder, loaded) in models.folders() {
            let looks = looks(&folder);
            let last = self.0.insert(name.clone(), looks.clone());
            if last.as_ref() != Some(&looks) {
                continue;
            }
            let served: Vec<u64> =
                models.served(&name).iter().filter_map(|version| number(version)).collect();
            // What is older than all that are served is nothing to them.
            let oldest = served.iter().min().copied().unwrap_or(0);
            if loaded.range(oldest..).eq(looks.range(oldest..)) {
                continue;
            }
            let _ = match looks.is_empty() {
                true if served.is_empty() => Ok(()),
                true => models.unload(&name),
                false => models.load_again(&name),
            };
        }
    }
}

/// Looks every so often, as long as somebody else holds the site.
pub(crate) fn start(site: &Arc<Site>, every: Duration) -> std::io::Result<()> {
    let mut watch = Watch::default();
    let site = Arc::downgrade(site);
    let look = move || {
        loop {
            std::thread::sleep(every);
            let Some(site) = site.upgrade() else { return };
            if !site.is_ready() {
                return;
            }
            // Models that break off when they are tried are refused before it comes to that.
            let _ = shielded(|| watch.look(&site.models));
        }
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(look).map(drop)
}

/// The versions in a model's folder, and what each looks like.
pub(crate) fn looks(folder: &Path) -> Looks {
    let versions = folders(folder).into_iter().filter_map(|(name, path)| Some((number(&name)?, path)));
    versions.map(|(number, path)| (number, look(&path))).collect()
}

/// What changes when something in a folder does: names, sizes and times.
fn look(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder).into_iter().flatten().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            entry.file_name().hash(&mut hasher);
            // Of a link, what it leads to.
            let Ok(data) = std::fs::metadata(entry.path()) else { continue };
            if data.is_dir() && depth < DEPTH_MAX {
                folders.push((entry.path(), depth + 1));
            } else {
                let changed = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                (data.len(), changed).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

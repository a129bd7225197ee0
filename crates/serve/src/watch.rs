//! Looks into repositories from time to time: versions that have come are served, and those whose folders have gone are not
//! (but for versions that a client has named, which go on as long as there are others).
//!
//! A folder is written over some time. What has changed is taken up once it is the same in two looks, and what was refused
//! is tried again when it has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outgrow_ir::shielded;

use crate::http::Site;
use crate::models::Models;
use crate::source::number;

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
        for (name, source) in models.in_repositories() {
            // A folder that cannot be read has not gone.
            let Ok(looks) = source.looks() else { continue };
            let last = self.0.insert(name.clone(), looks.clone());
            if last.as_ref() != Some(&looks) || !models.is_outdated(&name, &looks) {
                continue;
            }
            let _ = match looks.is_empty() {
                true if models.served(&name).is_empty() => Ok(()),
                true => models.gone(&name),
                false => models.load_again(&name),
            };
        }
    }
}

/// Looks every so often, as long as somebody else holds the site.
pub(crate) fn start(site: &Arc<Site>, every: Duration) -> io::Result<()> {
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

/// The versions in a model's folder, and what each looks like. There are none where the folder is not there.
pub(crate) fn looks(folder: &Path) -> io::Result<Looks> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Looks::new()),
        entries => entries?,
    };
    let mut looks = Looks::new();
    for entry in entries {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(number);
        if let Some(number) = number.filter(|_| entry.path().is_dir()) {
            looks.insert(number, look(&entry.path()));
        }
    }
    Ok(looks)
}

/// What changes when something in a folder does: names, sizes and times. Links are not followed into folders.
fn look(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        // One that cannot be read looks like that; its version is refused, if it needs it.
        let mut entries = entries.inspect_err(|error| error.kind().hash(&mut hasher)).unwrap_or_default();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        (&folder, entries.len()).hash(&mut hasher);
        for entry in entries {
            entry.file_name().hash(&mut hasher);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth < DEPTH_MAX {
                folders.push((entry.path(), depth + 1));
            } else if let Ok(data) = std::fs::metadata(entry.path()) {
                let changed = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                (data.len(), changed).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_looks_different_once_anything_in_it_is() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["1/model", "1/tmp", "not a version"] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        let mut seen = vec![looks(&path("none")).unwrap()];
        let mut differs = |what: &str| {
            let now = looks(root.path()).unwrap();
            assert_eq!(now, looks(root.path()).unwrap());
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        differs("an empty version");
        std::fs::write(path("1/tmp/weights"), b"1").unwrap();
        differs("a file");
        std::fs::rename(path("1/tmp/weights"), path("1/model/weights")).unwrap();
        differs("a file that was moved to a folder beside it");
        std::fs::write(path("1/model/weights"), b"12").unwrap();
        differs("a longer file");
        std::fs::create_dir_all(path("2")).unwrap();
        differs("another version");
        // What a link leads to is not walked through.
        std::os::unix::fs::symlink("/", path("2/all")).unwrap();
        differs("a link");
    }
}

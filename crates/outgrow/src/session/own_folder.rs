//! Which folder a run gets that was told none: the one of its name; where that holds another run, one beside it with a
//! number: that which holds this run already, or else the first that is free.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostics;

use super::Session;
use super::folder::{Begun, Occupant, RunFolder, begun, is_first_word, occupant};
use super::length::Identity;
use crate::manifest::Manifest;
use crate::places::RunPlace;

/// The first number of a folder: the one of the name alone has none.
const FIRST: u64 = 2;
/// How often, and in which intervals, it is looked which run somebody is about to begin in a folder. That is known once it
/// has compiled its programs: after a minute nobody waits any longer.
const LOOKS: usize = 3000;
const BETWEEN: Duration = Duration::from_millis(20);
/// After so many it is said what is waited for.
const PATIENT: usize = 100;

impl Session<'_> {
    /// The folder for a run, opened: the one that it was told; or one of its name that holds no other run, and it says so
    /// if that is not the first. Of several runs that are begun at the same moment, each gets one of its own.
    ///
    /// # Errors
    /// When there is something else in the folder, or somebody else who has the same run there.
    pub fn open_folder(
        &self,
        place: &RunPlace,
        identity: &Identity,
        fresh: bool,
    ) -> Result<RunFolder, Diagnostics> {
        let storage = &self.context.world.storage;
        let open = |path: &Path| RunFolder::open(storage.clone(), path, identity.clone(), fresh);
        for look in 0..LOOKS {
            let Some(namesakes) = self.namesakes(place) else { break };
            let path = namesakes.folder_for(&**storage, identity, fresh)?;
            let found = match open(&path) {
                Ok(folder) => {
                    self.say_own(&place.path, &path);
                    return Ok(folder);
                }
                Err(found) => found,
            };
            let begun = begun(&**storage, &path)?;
            let is_taken = storage.is_locked(&path).unwrap_or(false) || !begun.fingerprints.is_empty();
            if fresh || !is_taken || begun.is(identity) {
                return Err(found);
            }
            // Another run was begun there since it was looked; or somebody is about to begin one.
            if begun.fingerprints.is_empty() {
                if look == PATIENT {
                    let path = path.display();
                    self.context.note(&format!("waiting to see which run somebody else begins in {path}"));
                }
                thread::sleep(BETWEEN);
            }
        }
        open(&place.path)
    }

    /// Says where a run is that is not in the first folder of its name.
    pub(super) fn say_own(&self, first: &Path, own: &Path) {
        if own != first {
            let (other, own) = (first.display(), own.display());
            self.context.note(&format!(
                "{other} holds a run of another manifest, of other data, or from another model file: this one is in {own}"
            ));
        }
    }
}

/// The runs that were begun in the folders of a name.
pub struct Namesakes {
    /// The folder of the name alone.
    base: PathBuf,
    /// Folders with what their runs are known by.
    runs: Vec<(PathBuf, Begun)>,
}

impl Namesakes {
    /// Looks at the folder of the name, and at those beside it with a number.
    pub fn of(storage: &dyn StorageBackend, base: &Path) -> Self {
        let parent = base.parent().filter(|parent| !parent.as_os_str().is_empty());
        let beside = storage.list(parent.unwrap_or(Path::new("."))).unwrap_or_default();
        let folders = beside.iter().filter(|entry| entry.is_folder);
        let mut numbers: Vec<u64> = folders.filter_map(|entry| number(base, &entry.name)).collect();
        numbers.sort_unstable();
        let paths = [base.to_owned()].into_iter().chain(numbers.into_iter().map(|n| numbered(base, n)));
        // What is wrong with a run there matters to who opens it.
        let known = |path: PathBuf| begun(storage, &path).ok().map(|begun| (path, begun));
        Self { base: base.to_owned(), runs: paths.filter_map(known).collect() }
    }

    /// The folder of this run, or of one that differs in its length alone.
    pub fn same(&self, identity: &Identity) -> Option<&Path> {
        self.find(|begun| begun.is(identity))
    }

    /// The folder of a run of this manifest, whatever its data was.
    pub fn of_manifest(&self, manifest: &Manifest) -> Option<&Path> {
        self.find(|begun| begun.of_manifest(manifest).is_some())
    }

    fn find(&self, is_it: impl Fn(&Begun) -> bool) -> Option<&Path> {
        self.runs.iter().find(|(_, begun)| is_it(begun)).map(|(path, _)| path.as_path())
    }

    /// The folder for a run. One that starts anew takes the place of one of the same manifest, or else of the one that
    /// has the name alone.
    ///
    /// # Errors
    /// When it cannot be told what is in a folder.
    pub fn folder_for(
        &self,
        storage: &dyn StorageBackend,
        identity: &Identity,
        fresh: bool,
    ) -> Result<PathBuf, Diagnostics> {
        if let Some(path) = self.same(identity) {
            return Ok(path.to_owned());
        }
        if fresh {
            let own = [&identity.fingerprint, &identity.without_length];
            let own = own.map(|own| own.split(' ').next().unwrap_or_default());
            let is_own = |begun: &Begun| {
                begun.fingerprints.iter().any(|print| own.iter().any(|own| is_first_word(own, print)))
            };
            return Ok(self.find(is_own).unwrap_or(&self.base).to_owned());
        }
        // Something in the way that is no run is told as such by who opens the folder.
        if occupant(storage, &self.base)? != Occupant::Run {
            return Ok(self.base.clone());
        }
        free_folder(storage, &self.base)
    }
}

/// The first folder beside this one in which a run may be begun.
///
/// # Errors
/// When it cannot be told what is in a folder.
pub fn free_folder(storage: &dyn StorageBackend, base: &Path) -> Result<PathBuf, Diagnostics> {
    let mut number = FIRST;
    loop {
        let path = numbered(base, number);
        if occupant(storage, &path)? == Occupant::Nobody {
            return Ok(path);
        }
        number += 1;
    }
}

/// The folder beside this one with a number.
fn numbered(base: &Path, number: u64) -> PathBuf {
    let mut name = base.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    base.with_file_name(name)
}

/// The number of a folder beside `base`, if it has one.
fn number(base: &Path, name: &str) -> Option<u64> {
    let own = base.file_name()?.to_str()?;
    let number = name.strip_prefix(own)?.strip_prefix('-')?.parse().ok()?;
    (number >= FIRST && numbered(base, number).file_name()?.to_str()? == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_folders_are_those_that_are_given_out() {
        let base = Path::new("runs/a");
        for (name, expect) in [
            ("a-2", Some(2)),
            ("a-10", Some(10)),
            ("a", None),
            ("a-1", None),
            ("a-02", None),
            ("a-+3", None),
            ("a-b-2", None),
            ("b-2", None),
        ] {
            assert_eq!(number(base, name), expect, "{name}");
        }
    }
}

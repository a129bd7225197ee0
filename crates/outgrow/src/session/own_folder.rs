//! Which folder a run gets that was told none: the one of its name; where that holds another run, one beside it with a
//! number: that which holds this run already, or else the first that is free.

use std::path::{Path, PathBuf};

use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostics;

use super::folder::{Occupant, begun, occupant};
use super::length::Identity;

/// The first number of a folder: the one of the name alone has none.
const FIRST: u64 = 2;

/// The runs that were begun in the folders of a name.
pub struct Namesakes {
    /// The folder of the name alone.
    base: PathBuf,
    /// Folders with what their runs are known by: with their length, and without.
    runs: Vec<(PathBuf, Vec<String>)>,
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
        let own = [&identity.fingerprint, &identity.without_length];
        self.find(|begun| own.iter().any(|own| begun.contains(own)))
    }

    /// The folder of a run whose manifest has one of these fingerprints, whatever its data was.
    pub fn of_manifest(&self, manifests: &[String]) -> Option<&Path> {
        let manifest = |begun: &String| begun.split(' ').next().map(str::to_owned);
        self.find(|begun| begun.iter().filter_map(manifest).any(|one| manifests.contains(&one)))
    }

    fn find(&self, is_it: impl Fn(&[String]) -> bool) -> Option<&Path> {
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
            let manifests = [&identity.fingerprint, &identity.without_length];
            let manifests = manifests.map(|own| own.split(' ').next().unwrap_or_default().to_owned());
            return Ok(self.of_manifest(&manifests).unwrap_or(&self.base).to_owned());
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
        if occupant(storage, &path)? == Occupant::Nobody && !is_being_begun(storage, &path) {
            return Ok(path);
        }
        number += 1;
    }
}

/// Whether somebody is about to begin a run here, and has written nothing yet.
fn is_being_begun(storage: &dyn StorageBackend, path: &Path) -> bool {
    storage.entry(path).is_ok_and(|entry| entry.is_some()) && storage.lock(path).is_err()
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

//! `runs/latest`, which points to the run that was begun or gone on with last, and commands that name it.

use std::path::{Path, PathBuf};

use outgrow_env::{StorageBackend, StorageError};

use crate::cli::Command;
use crate::context::Context;

/// The pointer's name. No run's folder is called so by itself.
pub const LATEST: &str = "latest";
/// What a folder is called that gets such a pointer.
const RUNS: &str = "runs";

/// Has `latest` beside a run's folder point to it, where that lies in a folder `runs`. Nothing depends on the pointer: where
/// it cannot be written, that is only said; and what somebody else has put there is left alone.
pub fn point(context: &Context, run: &Path) {
    let storage = &*context.world.storage;
    let Ok(run) = std::path::absolute(run) else { return };
    let (Some(runs), Some(name)) = (run.parent(), run.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    if runs.file_name().is_none_or(|name| name != RUNS) || name == LATEST {
        return;
    }
    let pointer = runs.join(LATEST);
    let is_ours = is_pointer(storage, &pointer);
    if !is_ours && storage.entry(&pointer).is_ok_and(|entry| entry.is_some()) {
        return;
    }
    let pointed = match storage.lock(runs) {
        // Of runs that are begun at the same moment, any one is the last.
        Err(StorageError::Locked { .. }) => return,
        lock => lock.and_then(|_lock| storage.point(&pointer, name)),
    };
    if let Err(error) = pointed {
        context.note(&format!("warning: {RUNS}/{LATEST} does not point to this run: {error}"));
    }
}

/// Whether this is such a pointer, and no run's folder.
pub fn is_pointer(storage: &dyn StorageBackend, path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == LATEST) && storage.pointed(path).is_ok_and(|to| to.is_some())
}

/// The path with a pointer in it replaced by what that points to: what is done then is done to one run, and is said of that,
/// wherever the pointer leads meanwhile.
pub fn followed(storage: &dyn StorageBackend, path: &Path) -> PathBuf {
    for pointer in path.ancestors().filter(|part| part.file_name().is_some_and(|name| name == LATEST)) {
        if let (Ok(Some(name)), Ok(rest)) = (storage.pointed(pointer), path.strip_prefix(pointer)) {
            let run = pointer.with_file_name(name);
            // Joined to nothing, a path would end with a slash.
            return if rest.as_os_str().is_empty() { run } else { run.join(rest) };
        }
    }
    path.to_owned()
}

/// Follows the pointer where a command names it as a run.
pub fn follow(command: &mut Command, storage: &dyn StorageBackend) {
    let path = match command {
        Command::Run(args) | Command::Train(args) => &mut args.manifest.manifest,
        Command::Eval(args) => &mut args.manifest.manifest,
        Command::TuneLr(args) => &mut args.manifest.manifest,
        Command::Predict(args) => &mut args.model,
        Command::Export(args) => &mut args.model,
        Command::Infer(args) => &mut args.model,
        Command::Serve(args) => {
            args.models.iter_mut().for_each(|model| *model = model_followed(storage, model));
            return;
        }
        _ => return,
    };
    *path = followed(storage, path);
}

/// The same for `[NAME=]MODEL`.
fn model_followed(storage: &dyn StorageBackend, model: &str) -> String {
    let path = |path: &str| followed(storage, Path::new(path)).to_string_lossy().into_owned();
    match model.split_once('=') {
        Some((name, of)) if path(model) == model => format!("{name}={}", path(of)),
        _ => path(model),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_env::{LocalStorage, SimStorage};

    /// By a link, and by a file where there are no links.
    #[test]
    fn the_pointer_is_followed_wherever_it_stands() {
        let temporary = tempfile::tempdir().unwrap();
        let (real, sim): (LocalStorage, SimStorage) = (LocalStorage::new(), SimStorage::new(1));
        let places: [(&dyn StorageBackend, &Path); 2] = [(&real, temporary.path()), (&sim, Path::new("/p"))];
        for (storage, folder) in places {
            let runs = folder.join("runs");
            storage.create_folder(&runs.join("a-2").join("model")).unwrap();
            let latest = runs.join(LATEST);
            assert_eq!(followed(storage, &latest), latest);
            storage.point(&latest, "a-2").unwrap();
            for (path, expect) in [
                (latest.clone(), runs.join("a-2")),
                (latest.join("model"), runs.join("a-2").join("model")),
                (runs.join("a-2"), runs.join("a-2")),
                (folder.join(LATEST), folder.join(LATEST)),
            ] {
                assert_eq!(followed(storage, &path), expect);
            }
            let named = format!("m={}", latest.display());
            assert_eq!(model_followed(storage, &named), format!("m={}", runs.join("a-2").display()));
        }
    }
}

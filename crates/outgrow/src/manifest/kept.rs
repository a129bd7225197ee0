//! Manifests that runs keep: where the run is, and where it looked for its data. With that they work from where they lie.

use std::path::{Path, PathBuf};

use outgrow_store::package::{INDEX, Index};
use serde_json::Value as Json;

/// The file by which a folder is known as one of a run.
pub const RUN: &str = "run.json";
/// Its key for the folders in which relative data paths were looked for.
pub const ROOTS: &str = "data_roots";
/// The manifest's name, beside `run.json` and in the model's package.
pub const MANIFEST: &str = "manifest.toml";

/// Where the manifest is in a folder: in that of a package, the file that its index names.
pub(super) fn file_in(folder: &Path) -> PathBuf {
    let index = std::fs::read(folder.join(INDEX)).ok();
    let index = index.and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
    let part = index.iter().flat_map(|index| &index.parts).find(|part| part.name == MANIFEST);
    // Whatever an index says, the file is in the folder.
    let file = part.and_then(|part| Path::new(&part.file).file_name());
    folder.join(file.unwrap_or(MANIFEST.as_ref()))
}

/// What a manifest that a run keeps belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The run's folder, or that of a package without a run.
    pub folder: PathBuf,
    /// The folders in which its data was looked for.
    pub roots: Vec<PathBuf>,
}

impl Kept {
    /// For a manifest in this folder, if a run or a package is there.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let is_package = folder.join(INDEX).is_file();
        let around = is_package.then(|| folder.parent()).flatten();
        let mut runs = [Some(folder), around].into_iter().flatten();
        if let Some(run) = runs.find(|run| run.join(RUN).is_file()) {
            let run = if run.as_os_str().is_empty() { Path::new(".") } else { run };
            return Some(Self { folder: run.to_owned(), roots: roots(run) });
        }
        is_package.then(|| Self { folder: folder.to_owned(), roots: Vec::new() })
    }
}

/// The folders that a run notes; none where it does not say.
fn roots(run: &Path) -> Vec<PathBuf> {
    let json =
        std::fs::read(run.join(RUN)).ok().and_then(|bytes| serde_json::from_slice::<Json>(&bytes).ok());
    let listed = json.as_ref().and_then(|json| json[ROOTS].as_array());
    listed.into_iter().flatten().filter_map(|root| root.as_str().map(PathBuf::from)).collect()
}

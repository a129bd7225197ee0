//! Where the versions of a model come from: one path, or a folder of a repository, `NAME/VERSION/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use outgrow_ir::Diagnostic;
use outgrow_predict::MODEL_FOLDER;

use crate::raw::SUFFIX;
use crate::watch::{Looks, looks};

/// The file that a version's folder holds if it is of another framework, where it holds several.
const ONNX_FILE: &str = "model.onnx";
/// The file that makes a folder a package.
const PACKAGE_FILE: &str = "package.json";

/// The version of a model that is not in a repository of versions.
pub const VERSION: u64 = 1;

/// Where the versions of one model come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A run's folder, a package or an ONNX file: the one version.
    Path(PathBuf),
    /// The folder of a model in a repository, which is the other.
    Folder(PathBuf, PathBuf),
}

/// The versions that there are, each with what is to be opened for it, or why it cannot be.
pub type Found = BTreeMap<u64, Result<PathBuf, Diagnostic>>;

impl Source {
    /// What is there now.
    pub fn versions(&self) -> Found {
        match self {
            Self::Path(path) => BTreeMap::from([(VERSION, Ok(path.clone()))]),
            Self::Folder(folder, repository) => folders(folder)
                .into_iter()
                .filter_map(|(name, path)| Some((number(&name)?, model_in(&path, repository))))
                .collect(),
        }
    }

    /// What the versions in its folder look like.
    ///
    /// # Errors
    /// When the folder is there, or perhaps, and cannot be read.
    pub(crate) fn looks(&self) -> std::io::Result<Looks> {
        match self {
            Self::Path(_) => Ok(Looks::new()),
            Self::Folder(folder, _) => looks(folder),
        }
    }
}

/// The models of a repository: folders that hold folders with numbers.
pub fn models(repository: &Path) -> Vec<(String, Source)> {
    let named = folders(repository).into_iter().filter(|(name, path)| {
        is_name(name) && folders(path).iter().any(|(version, _)| number(version).is_some())
    });
    named.map(|(name, path)| (name, Source::Folder(path, repository.to_owned()))).collect()
}

/// Whether a model can have this name: names are part of paths, and of file names.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let taken = name == "stats" || name.ends_with(SUFFIX);
    !name.is_empty() && !name.starts_with('.') && !taken && name.chars().all(fits)
}

/// A version's number: digits, as they would be written.
pub(crate) fn number(name: &str) -> Option<u64> {
    name.parse().ok().filter(|number: &u64| *number > 0 && number.to_string() == name)
}

/// The folders in a folder, by name. What cannot be read holds none: what was there is said when it is asked for.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut folders: Vec<_> =
        folders.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect();
    folders.sort();
    folders
}

/// What is to be opened of a version's folder. Nothing in it may lie outside the repository, by whatever links.
fn model_in(folder: &Path, repository: &Path) -> Result<PathBuf, Diagnostic> {
    let problem = |problem: String, path: &Path| Diagnostic::new("serve.repository", problem).file(path);
    let real = |path: &Path| {
        path.canonicalize().map_err(|error| {
            problem(format!("it cannot be looked at: {error}"), path).hint("see what the system says")
        })
    };
    let root = real(repository)?;
    let mut files = Vec::new();
    for folder in [folder, &folder.join(MODEL_FOLDER)] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !real(&path)?.starts_with(&root) {
                return Err(problem("the path leaves the repository".to_owned(), &path)
                    .expected("files within the repository")
                    .hint("copy them into it, in place of links"));
            }
            files.push(path);
        }
    }
    let is_there = |folder: &Path| folder.join(PACKAGE_FILE).is_file();
    if is_there(folder) || is_there(&folder.join(MODEL_FOLDER)) {
        return Ok(folder.to_owned());
    }
    let onnx =
        |path: &PathBuf| path.extension().is_some_and(|e| e == "onnx") && path.parent() == Some(folder);
    let mut onnx: Vec<PathBuf> = files.into_iter().filter(onnx).collect();
    if onnx.len() > 1 {
        onnx.retain(|path| path.ends_with(ONNX_FILE));
    }
    onnx.pop().ok_or_else(|| {
        problem("there is no model in it".to_owned(), folder)
            .expected(format!("a package, a run's folder that has one, or `{ONNX_FILE}`"))
            .hint("a package is written last of all: perhaps it is not finished")
    })
}

//! Weights in files beside the model. Only files inside the model's own folder are read.

use outgrow_ir::Diagnostic;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Where the elements of tensors that lie outside the model's file come from.
pub trait ExternalData {
    /// `length` bytes (all that follow, where it says nothing) from byte `offset` of the file `location`.
    ///
    /// # Errors
    /// When the location is not allowed or the file does not hold those bytes.
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, Diagnostic>;
}

/// For models that must hold all their weights themselves.
#[derive(Clone, Copy, Debug)]
pub struct NoExternalData;

impl ExternalData for NoExternalData {
    fn read(&self, location: &str, _: u64, _: Option<u64>) -> Result<Vec<u8>, Diagnostic> {
        let problem = format!("weights lie in the file `{location}`, but no folder was given");
        Err(Diagnostic::new("onnx.external", problem).expected("a model that holds its weights"))
    }
}

/// Files in the model's folder and below; neither `..`, absolute paths nor links lead out of it.
#[derive(Clone, Debug)]
pub struct FolderData {
    folder: PathBuf,
}

impl FolderData {
    /// The folder of a model.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

fn refused(location: &str, why: &str) -> Diagnostic {
    let problem = format!("the weights' file `{location}` {why}");
    Diagnostic::new("onnx.external", problem).expected("a file in the model's own folder")
}

impl ExternalData for FolderData {
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, Diagnostic> {
        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !plain || location.is_empty() || location.contains('\\') {
            return Err(refused(location, "leaves the model's folder"));
        }
        let failed = |e: std::io::Error| refused(location, &format!("cannot be read: {e}"));
        let folder = self.folder.canonicalize().map_err(failed)?;
        let path = folder.join(relative).canonicalize().map_err(failed)?;
        if !path.starts_with(&folder) {
            return Err(refused(location, "is a link that leaves the model's folder"));
        }
        let mut file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(refused(location, "is no regular file"));
        }
        let rest = metadata.len().checked_sub(offset);
        let length = match (rest, length) {
            (Some(rest), None) => rest,
            (Some(rest), Some(length)) if length <= rest => length,
            _ => return Err(refused(location, &format!("has only {} bytes", metadata.len()))),
        };
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 != length {
            return Err(refused(location, "became shorter while it was read"));
        }
        Ok(bytes)
    }
}

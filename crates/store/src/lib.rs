//! What is kept of a run, as durable files that are verified on every read: tensors in the safetensors format,
//! checkpoints of the whole training state, model packages, metrics as JSON lines and for TensorBoard, and NumPy arrays.
//!
//! The formats know nothing of trainers and graphs: a checkpoint holds named tensors, whole or in pieces, and named JSON, a package
//! named parts of bytes. Whatever is read may be hostile or damaged; it gets diagnostics, never a panic, and never
//! makes more memory be allocated than a small multiple of the file's size. Files are reached only through
//! [`outgrow_env::StorageBackend`].

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod appender;
pub mod checkpoint;
pub mod checkpoint_store;
pub mod event_file;
pub mod json_lines;
pub mod npy;
pub mod package;
pub mod safetensors;
pub mod sha256;

pub use checkpoint_store::{CheckpointStore, Loaded, Saved};
pub use event_file::EventFile;
pub use json_lines::JsonLines;
pub use package::ModelPackage;

use outgrow_env::StorageError;
use outgrow_ir::Diagnostics;
use std::path::Path;

/// Why something could not be kept or brought back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was read, or was to be written, is not valid.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

impl StoreError {
    /// The same as diagnostics, for who collects them.
    pub fn into_diagnostics(self) -> Diagnostics {
        match self {
            Self::Invalid(diagnostics) => diagnostics,
            Self::Storage(error) => {
                let path = error.path().to_path_buf();
                let hint = "look at the disk, its room, and who may write there";
                outgrow_ir::Diagnostic::new("store.storage", error.to_string()).file(path).hint(hint).into()
            }
        }
    }
}

/// Names the file in every diagnostic that names none.
fn in_file(mut diagnostics: Diagnostics, path: &Path) -> Diagnostics {
    for diagnostic in &mut diagnostics.0 {
        diagnostic.place.file.get_or_insert_with(|| path.to_path_buf());
    }
    diagnostics
}

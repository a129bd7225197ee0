//! Places that data is kept in for long and by many: a folder of a disk, or a bucket. A place knows less than
//! [`StorageBackend`]: it keeps whole files under keys, as an object store does, and has no locks that a process holds.

#[cfg(feature = "cloud")]
mod bucket;

#[cfg(feature = "cloud")]
pub use bucket::BucketPlace;

use crate::{StorageBackend, StorageError};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Keeps files under keys such as `mnist/shards/4f2a.safetensors`.
pub trait Place: Debug + Send + Sync {
    /// How people call it: its folder or address.
    fn name(&self) -> &str;

    /// The whole file.
    fn read(&self, key: &str) -> Result<Vec<u8>, StorageError>;

    /// Exactly `length` bytes from `offset` on.
    fn read_range(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError>;

    /// The file's length in bytes; `None` when there is none.
    fn length(&self, key: &str) -> Result<Option<u64>, StorageError>;

    /// Replaces the file atomically and durably.
    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError>;

    /// Writes the file atomically and durably unless there is one; says whether it was written. Of several that try at
    /// once, one succeeds.
    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, StorageError>;

    /// The names of the files under `folder`, those of its folders left out, in order; none when there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError>;
}

/// A folder as a place.
#[derive(Debug)]
pub struct FolderPlace {
    storage: Arc<dyn StorageBackend>,
    folder: PathBuf,
    name: String,
}

impl FolderPlace {
    /// The place `folder`, which is created when something is first written.
    pub fn new(storage: Arc<dyn StorageBackend>, folder: &Path) -> Self {
        Self { storage, folder: folder.to_path_buf(), name: folder.display().to_string() }
    }

    /// The path of a key whose folder is there.
    fn made(&self, key: &str) -> Result<PathBuf, StorageError> {
        let path = self.folder.join(key);
        self.storage.create_folder(path.parent().unwrap_or(&self.folder))?;
        Ok(path)
    }
}

impl Place for FolderPlace {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        self.storage.read(&self.folder.join(key))
    }

    fn read_range(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.storage.read_range(&self.folder.join(key), offset, length)
    }

    fn length(&self, key: &str) -> Result<Option<u64>, StorageError> {
        let entry = self.storage.entry(&self.folder.join(key))?;
        Ok(entry.filter(|entry| !entry.is_folder).map(|entry| entry.bytes))
    }

    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.write(&self.made(key)?, bytes)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, StorageError> {
        let path = self.made(key)?;
        // The folder's lock stands between the look and the write; whoever comes meanwhile is told that it is locked.
        let _lock = self.storage.lock(path.parent().unwrap_or(&self.folder))?;
        if self.storage.entry(&path)?.is_some() {
            return Ok(false);
        }
        self.storage.write(&path, bytes)?;
        Ok(true)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        match self.storage.list(&self.folder.join(folder)) {
            Ok(entries) => Ok(entries.into_iter().filter(|e| !e.is_folder).map(|e| e.name).collect()),
            Err(e) if e.is_not_found() => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}

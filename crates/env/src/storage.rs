//! Storage: folders and files as the rest of the system sees them, with durability as part of the contract.
//!
//! [`StorageBackend`] is what everybody uses. For file systems it is built once, in [`OnDisk`], upon the raw
//! operations of a [`Disk`]; so the simulated disk, which loses whatever was not synced, runs the very code that
//! the real one runs. Every backend passes the conformance suite in `tests/storage.rs`.

mod disk;
mod local;
mod map;
mod sim;

pub use disk::{Disk, OnDisk};
pub use local::{LocalStorage, RealDisk};
pub use sim::{SimDisk, SimStorage};

use bytes::Bytes;
use std::any::Any;
use std::fmt::{self, Debug};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A place where files are kept. All methods take whole paths; a backend has no current folder of its own.
///
/// Names that start with `.tmp-` and the name `.lock` belong to the backend: they are never listed.
pub trait StorageBackend: Debug + Send + Sync {
    /// The whole file.
    fn read(&self, path: &Path) -> Result<Vec<u8>, StorageError>;

    /// Exactly `length` bytes from `offset` on. Asking for bytes beyond the end is
    /// [`StorageError::OutOfRange`], found before anything is allocated.
    fn read_range(&self, path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, StorageError>;

    /// The whole file as bytes that can be shared. A backend that can do so maps them: they cost no memory of this
    /// process, and only what is looked at is read from the disk. The others read the file.
    ///
    /// Only for files that nobody changes in place, as those are that were written by [`StorageBackend::write_with`]:
    /// replacing or removing the file leaves the mapped bytes as they were. If another process cuts the file short all
    /// the same, the system kills this one (SIGBUS on Unix) as soon as it looks at what is gone; so files that users
    /// keep and may rewrite are read, not mapped.
    fn map(&self, path: &Path) -> Result<Bytes, StorageError> {
        self.read(path).map(Bytes::from)
    }

    /// Replaces the file by what `content` writes, atomically and durably: whatever happens, at every later moment
    /// the path holds either all of the old or all of the new content, and once this has returned `Ok`, the new one,
    /// even after a loss of power. On an error, also one from `content` itself, the old content stays and nothing
    /// else is left behind. The folder must exist.
    fn write_with(
        &self,
        path: &Path,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StorageError>;

    /// [`StorageBackend::write_with`] of bytes in memory.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        self.write_with(path, &mut |out| out.write_all(bytes))
    }

    /// Adds bytes at the end of a file, which is created when missing, and makes them durable. On an error the file
    /// is as before. A crash meanwhile may leave any part of the new bytes: readers must accept a torn end.
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError>;

    /// Creates a folder durably, with those above it. One that exists already is fine.
    fn create_folder(&self, path: &Path) -> Result<(), StorageError>;

    /// What the folder holds, ordered by name.
    fn list(&self, path: &Path) -> Result<Vec<Entry>, StorageError>;

    /// What is at the path: `None` when there is nothing.
    fn entry(&self, path: &Path) -> Result<Option<Entry>, StorageError>;

    /// Removes a file. One that does not exist is fine. The removal may be undone by a crash.
    fn remove_file(&self, path: &Path) -> Result<(), StorageError>;

    /// Removes a folder with everything in it, locks included. One that does not exist is fine. The removal may be
    /// undone, wholly or partly, by a crash.
    fn remove_tree(&self, path: &Path) -> Result<(), StorageError>;

    /// Makes `pointer` say which of the things beside it is meant: a symbolic link where the system has them and grants
    /// one, so that other programs follow it too; else a file with the name. What `pointer` said before is replaced in
    /// one step; anything but a pointer or a file is left as it is, which is an error. Only for who holds the folder's
    /// lock: what others left who were interrupted in the middle of this goes, and looks like what somebody makes now.
    fn point(&self, pointer: &Path, name: &str) -> Result<(), StorageError> {
        self.write(pointer, name.as_bytes())
    }

    /// The name that [`StorageBackend::point`] has left here; `None` where there is nothing, or something else.
    fn pointed(&self, pointer: &Path) -> Result<Option<String>, StorageError> {
        pointed_by_file(self, pointer)
    }

    /// Removes the temporary files that interrupted writers left in the folder, and returns how many there were.
    /// Only for who holds the folder's lock: a file that is being written looks the same.
    fn sweep(&self, folder: &Path) -> Result<usize, StorageError>;

    /// Takes the folder for this process alone, without waiting: [`StorageError::Locked`] when somebody has it. The
    /// lock ends with the guard, or with the process, however it dies. It binds only those who ask for it.
    fn lock(&self, folder: &Path) -> Result<FolderLock, StorageError>;

    /// Whether somebody has the folder's lock. Nothing is written for that; but whoever asks for the lock at this very
    /// moment may be told that it is taken.
    fn is_locked(&self, folder: &Path) -> Result<bool, StorageError>;
}

/// Longest name of a file, in bytes, on all usual file systems.
const NAME_BYTES_MAX: u64 = 255;

/// What a file says that holds nothing but the name of something beside it.
fn pointed_by_file<S: StorageBackend + ?Sized>(
    storage: &S,
    pointer: &Path,
) -> Result<Option<String>, StorageError> {
    match storage.entry(pointer)? {
        Some(entry) if !entry.is_folder && entry.bytes <= NAME_BYTES_MAX => {
            let bytes = storage.read(pointer)?;
            Ok(std::str::from_utf8(&bytes).ok().and_then(plain_name))
        }
        _ => Ok(None),
    }
}

/// The text, if it is a name and no path.
fn plain_name(text: &str) -> Option<String> {
    let name = text.trim_end();
    let plain = !["", ".", ".."].contains(&name) && !name.contains(['/', '\\', '\n', '\0']);
    plain.then(|| name.to_owned())
}

/// One file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of its path.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Bytes of a file; 0 for a folder.
    pub bytes: u64,
}

/// Holds a folder's lock until it is dropped.
#[must_use = "the lock ends as soon as this is dropped"]
pub struct FolderLock {
    _held: Box<dyn Any + Send + Sync>,
}

impl FolderLock {
    /// Wraps whatever releases the lock when it is dropped.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl Debug for FolderLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FolderLock")
    }
}

/// What was being done when storage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading a file.
    Read,
    /// Writing or appending to a file.
    Write,
    /// Creating a folder.
    CreateFolder,
    /// Looking at a folder or at what is at a path.
    List,
    /// Removing a file or folder.
    Remove,
    /// Locking a folder.
    Lock,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::CreateFolder => "create folder",
            Self::List => "list",
            Self::Remove => "remove",
            Self::Lock => "lock",
        })
    }
}

/// What can go wrong with storage. Every variant names the path and the operation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// There is nothing at the path (or, for a write, no folder to write into).
    #[error("cannot {operation} {}: no such file or folder", path.display())]
    NotFound {
        /// What was being done.
        operation: Operation,
        /// To what.
        path: PathBuf,
    },
    /// The disk, or the user's quota on it, is full. What was there before is unharmed.
    #[error("cannot {operation} {}: no space left on the disk", path.display())]
    NoSpace {
        /// What was being done.
        operation: Operation,
        /// To what.
        path: PathBuf,
    },
    /// Bytes beyond the end of a file were asked for.
    #[error("cannot read {}: bytes {offset} to {} asked for, the file has {available}",
        path.display(), offset.saturating_add(*length))]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        length: u64,
        /// Length of the file in bytes.
        available: u64,
    },
    /// Somebody else holds the folder.
    #[error("cannot lock {}: it is in use by {}", path.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, where it could be told.
        holder: Option<u32>,
    },
    /// Anything else.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was being done.
        operation: Operation,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StorageError {
    /// Sorts an error of the system into its variant.
    pub fn from_io(operation: Operation, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { operation, path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { operation, path },
            _ => Self::Io { operation, path, source },
        }
    }

    /// Whether there was nothing at the path.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    /// The path that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::NotFound { path, .. }
            | Self::NoSpace { path, .. }
            | Self::OutOfRange { path, .. }
            | Self::Locked { path, .. }
            | Self::Io { path, .. } => path,
        }
    }
}

//! Durable storage upon a disk: the one implementation of the [`StorageBackend`] contract for file systems.
//!
//! A file is replaced by writing a temporary file beside it, syncing that, renaming it over the target and syncing
//! the folder. Leaving out any of the four steps loses data after a crash; the simulated disk shows it.

use super::{Entry, FolderLock, Operation, StorageBackend, StorageError, plain_name, pointed_by_file};
use bytes::Bytes;
use std::fmt::Debug;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Start of the names of files that are being written.
pub(super) const TEMPORARY: &str = ".tmp-";
/// Name of the file in a folder that carries its lock.
pub(super) const LOCK: &str = ".lock";

const BUFFER_BYTES: usize = 1 << 18;
/// A name that is taken is left by a dead process with the same id; more than a few of them are a fault.
const NAME_ATTEMPTS: usize = 100;

/// The raw operations of a file system, as it offers them: nothing is durable before it is synced.
pub trait Disk: Debug + Send + Sync + 'static {
    /// An open file. Writing to it appends.
    type File: Write;

    /// Creates a file that must not exist.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for appending, creating it when missing.
    fn open_append(&self, path: &Path) -> io::Result<Self::File>;
    /// Makes the content of a file durable (not its name).
    fn sync(&self, file: &mut Self::File) -> io::Result<()>;
    /// Cuts a file to `length` bytes.
    fn truncate(&self, file: &mut Self::File, length: u64) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing the target in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Up to `length` bytes of a file from `offset` on.
    fn read(&self, path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>>;
    /// The first `length` bytes of a file, mapped where that can be done; else they are read.
    fn map(&self, path: &Path, length: u64) -> io::Result<Bytes> {
        self.read(path, 0, length).map(Bytes::from)
    }
    /// What is at a path.
    fn entry(&self, path: &Path) -> io::Result<Entry>;
    /// What is in a folder, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// The names of what is in a folder and is no folder itself, whatever it is.
    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = self.list(path)?;
        Ok(entries.into_iter().filter(|entry| !entry.is_folder).map(|entry| entry.name).collect())
    }
    /// Creates one folder.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with everything in it.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
    /// Makes a symbolic link to what lies beside it, where this disk has such links.
    fn link(&self, _name: &str, _link: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Where a symbolic link leads; `None` for anything else.
    fn linked(&self, _link: &Path) -> io::Result<Option<PathBuf>> {
        Ok(None)
    }
    /// Locks through the file at `path`, or says who has it.
    fn lock(&self, path: &Path) -> io::Result<Result<FolderLock, Option<u32>>>;
    /// Whether somebody has the lock through the file at `path`.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;
}

/// A [`StorageBackend`] upon a [`Disk`].
#[derive(Debug)]
pub struct OnDisk<D> {
    disk: D,
    /// Numbers the temporary files of this process.
    next: AtomicU64,
}

impl<D: Disk> OnDisk<D> {
    /// Storage on this disk.
    pub fn on(disk: D) -> Self {
        Self { disk, next: AtomicU64::new(0) }
    }

    /// The disk itself, through which a simulated one is told of its faults.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Makes something new of a temporary name beside `path`.
    fn create_temporary<T>(
        &self,
        path: &Path,
        create: impl Fn(&Path) -> io::Result<T>,
    ) -> io::Result<(PathBuf, T)> {
        let Some(name) = path.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
        };
        let mut taken = None;
        for _ in 0..NAME_ATTEMPTS {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let mut temporary =
                std::ffi::OsString::from(format!("{TEMPORARY}{}-{number}-", std::process::id()));
            temporary.push(name);
            let temporary = path.with_file_name(temporary);
            match create(&temporary) {
                Ok(made) => return Ok((temporary, made)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => taken = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(taken.unwrap_or_else(|| io::Error::other("no free temporary name")))
    }

    fn fill(
        &self,
        file: &mut D::File,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, &mut *file);
        let written = content(&mut buffered).and_then(|()| buffered.flush());
        // Dropping a BufWriter would write what is left: after an error nothing more may go to the file.
        let _ = buffered.into_parts();
        written?;
        self.disk.sync(file)
    }

    fn replace(
        &self,
        path: &Path,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Ok(entry) = self.disk.entry(path)
            && entry.is_folder
        {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
        }
        let (temporary, mut file) =
            self.create_temporary(path, |temporary| self.disk.create_new(temporary))?;
        let written = self.fill(&mut file, content);
        drop(file);
        self.put(written, &temporary, path)
    }

    /// Puts what was written under a temporary name in its place.
    fn put(&self, written: io::Result<()>, temporary: &Path, path: &Path) -> io::Result<()> {
        let renamed = written.and_then(|()| self.disk.rename(temporary, path));
        if let Err(e) = renamed {
            // The first error is the one to report; a temporary file that cannot be removed is swept later.
            let _ = self.disk.remove_file(temporary);
            return Err(e);
        }
        self.disk.sync_folder(parent(path))
    }

    fn extend(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let before = match self.disk.entry(path) {
            Ok(entry) => Some(entry.bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let mut file = self.disk.open_append(path)?;
        if let Err(e) = file.write_all(bytes).and_then(|()| self.disk.sync(&mut file)) {
            let _ = match before {
                Some(length) => self.disk.truncate(&mut file, length),
                None => self.disk.remove_file(path),
            };
            return Err(e);
        }
        if before.is_none() { self.disk.sync_folder(parent(path)) } else { Ok(()) }
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|p| !p.as_os_str().is_empty())
            .take_while(|p| !self.disk.entry(p).is_ok_and(|e| e.is_folder))
            .collect();
        for folder in missing.into_iter().rev() {
            match self.disk.create_folder(folder) {
                // Somebody else may have made it meanwhile; a file of that name is an error.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.disk.entry(folder)?.is_folder => {}
                result => result?,
            }
            self.disk.sync_folder(parent(folder))?;
        }
        Ok(())
    }

    /// The length of a regular file.
    fn length(&self, path: &Path) -> io::Result<u64> {
        let entry = self.disk.entry(path)?;
        if entry.is_folder {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
        }
        Ok(entry.bytes)
    }
}

/// Whether a name is one under which something was written that was to be called `name`.
fn is_temporary_of(temporary: &str, name: &str) -> bool {
    let Some(rest) = temporary.strip_prefix(TEMPORARY) else { return false };
    let mut parts = rest.splitn(3, '-');
    let mut is_number = || parts.next().is_some_and(|part| part.parse::<u64>().is_ok());
    is_number() && is_number() && parts.next() == Some(name)
}

/// The folder that holds `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Turns "there is nothing" into `Ok`.
fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl<D: Disk> StorageBackend for OnDisk<D> {
    fn read(&self, path: &Path) -> Result<Vec<u8>, StorageError> {
        self.length(path)
            .and_then(|length| self.disk.read(path, 0, length))
            .map_err(|e| StorageError::from_io(Operation::Read, path, e))
    }

    fn read_range(&self, path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let failed = |e| StorageError::from_io(Operation::Read, path, e);
        let out_of_range = |available| StorageError::OutOfRange {
            path: path.to_path_buf(),
            offset,
            length: length as u64,
            available,
        };
        let available = self.length(path).map_err(failed)?;
        if offset.checked_add(length as u64).is_none_or(|end| end > available) {
            return Err(out_of_range(available));
        }
        let bytes = self.disk.read(path, offset, length as u64).map_err(failed)?;
        // The file may have become shorter between the two calls.
        if bytes.len() == length { Ok(bytes) } else { Err(out_of_range(offset + bytes.len() as u64)) }
    }

    fn map(&self, path: &Path) -> Result<Bytes, StorageError> {
        self.length(path)
            .and_then(|length| self.disk.map(path, length))
            .map_err(|e| StorageError::from_io(Operation::Read, path, e))
    }

    fn write_with(
        &self,
        path: &Path,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        self.replace(path, content).map_err(|e| StorageError::from_io(Operation::Write, path, e))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        self.extend(path, bytes).map_err(|e| StorageError::from_io(Operation::Write, path, e))
    }

    fn create_folder(&self, path: &Path) -> Result<(), StorageError> {
        self.make_folder(path).map_err(|e| StorageError::from_io(Operation::CreateFolder, path, e))
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, StorageError> {
        let mut entries =
            self.disk.list(path).map_err(|e| StorageError::from_io(Operation::List, path, e))?;
        entries.retain(|e| !e.name.starts_with(TEMPORARY) && e.name != LOCK);
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn entry(&self, path: &Path) -> Result<Option<Entry>, StorageError> {
        match self.disk.entry(path) {
            Ok(entry) => Ok(Some(entry)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StorageError::from_io(Operation::List, path, e)),
        }
    }

    fn remove_file(&self, path: &Path) -> Result<(), StorageError> {
        missing_is_fine(self.disk.remove_file(path))
            .map_err(|e| StorageError::from_io(Operation::Remove, path, e))
    }

    fn remove_tree(&self, path: &Path) -> Result<(), StorageError> {
        missing_is_fine(self.disk.remove_tree(path))
            .map_err(|e| StorageError::from_io(Operation::Remove, path, e))
    }

    fn point(&self, pointer: &Path, name: &str) -> Result<(), StorageError> {
        if let (Some(of), Ok(names)) =
            (pointer.file_name().and_then(|n| n.to_str()), self.disk.names(parent(pointer)))
        {
            for left in names.iter().filter(|left| is_temporary_of(left, of)) {
                // What cannot be removed is in nobody's way.
                let _ = self.disk.remove_file(&pointer.with_file_name(left));
            }
        }
        match self.create_temporary(pointer, |temporary| self.disk.link(name, temporary)) {
            Ok((temporary, ())) => self
                .put(Ok(()), &temporary, pointer)
                .map_err(|e| StorageError::from_io(Operation::Write, pointer, e)),
            // No links here, or none for this user.
            Err(_) => self.write(pointer, name.as_bytes()),
        }
    }

    fn pointed(&self, pointer: &Path) -> Result<Option<String>, StorageError> {
        let failed = |e| StorageError::from_io(Operation::Read, pointer, e);
        match self.disk.linked(pointer).map_err(failed)? {
            Some(to) => Ok(to.to_str().and_then(plain_name)),
            None => pointed_by_file(self, pointer),
        }
    }

    fn sweep(&self, folder: &Path) -> Result<usize, StorageError> {
        let entries =
            self.disk.list(folder).map_err(|e| StorageError::from_io(Operation::List, folder, e))?;
        let mut removed = 0;
        for entry in entries.iter().filter(|e| !e.is_folder && e.name.starts_with(TEMPORARY)) {
            self.remove_file(&folder.join(&entry.name))?;
            removed += 1;
        }
        Ok(removed)
    }

    fn lock(&self, folder: &Path) -> Result<FolderLock, StorageError> {
        match self.disk.lock(&folder.join(LOCK)) {
            Ok(Ok(lock)) => Ok(lock),
            Ok(Err(holder)) => Err(StorageError::Locked { path: folder.to_path_buf(), holder }),
            Err(e) => Err(StorageError::from_io(Operation::Lock, folder, e)),
        }
    }

    fn is_locked(&self, folder: &Path) -> Result<bool, StorageError> {
        self.disk.is_locked(&folder.join(LOCK)).map_err(|e| StorageError::from_io(Operation::Lock, folder, e))
    }
}

//! The file systems of this machine.

use super::disk::{Disk, OnDisk};
use super::{Entry, FolderLock, map};
use bytes::Bytes;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Storage in local files and folders.
pub type LocalStorage = OnDisk<RealDisk>;

impl LocalStorage {
    /// Storage in local files and folders.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self::on(RealDisk)
    }
}

/// The operating system's file operations.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

/// Bytes of a lock file that are read to find out who wrote it: a process id has ten digits at most.
const HOLDER_BYTES: u64 = 16;
/// Shorter files are read instead of mapped: a mapping costs more than copying a few pages.
const MAPPED_BYTES_MIN: u64 = 1 << 16;

fn to_entry(name: &std::ffi::OsStr, metadata: &fs::Metadata) -> io::Result<Entry> {
    if !metadata.is_file() && !metadata.is_dir() {
        // A pipe or device may never end.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a regular file nor a folder"));
    }
    let is_folder = metadata.is_dir();
    Ok(Entry {
        name: name.to_string_lossy().into_owned(),
        is_folder,
        bytes: if is_folder { 0 } else { metadata.len() },
    })
}

impl Disk for RealDisk {
    type File = File;

    fn create_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    fn open_append(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(path)
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn truncate(&self, file: &mut File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Only Unix lets a folder be opened and synced; elsewhere a rename is as durable as the system makes it.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn read(&self, path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length as usize).map_err(|_| io::ErrorKind::OutOfMemory)?;
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn map(&self, path: &Path, length: u64) -> io::Result<Bytes> {
        if length < MAPPED_BYTES_MIN {
            return self.read(path, 0, length).map(Bytes::from);
        }
        map::map(&File::open(path)?, length)
    }

    fn entry(&self, path: &Path) -> io::Result<Entry> {
        to_entry(path.file_name().unwrap_or_default(), &fs::metadata(path)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for item in fs::read_dir(path)? {
            let item = item?;
            // What vanishes meanwhile, a link to nowhere and devices are not content.
            if let Ok(entry) = fs::metadata(item.path()).and_then(|m| to_entry(&item.file_name(), &m)) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in fs::read_dir(path)? {
            let item = item?;
            // A link is a link, also one to a folder or to nowhere.
            if item.file_type().is_ok_and(|kind| !kind.is_dir()) {
                names.push(item.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn link(&self, name: &str, link: &Path) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::symlink(name, link);
        #[cfg(windows)]
        return std::os::windows::fs::symlink_dir(name, link);
        #[cfg(not(any(unix, windows)))]
        return Err(io::ErrorKind::Unsupported.into());
    }

    fn linked(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        match fs::symlink_metadata(link) {
            Ok(metadata) if metadata.is_symlink() => fs::read_link(link).map(Some),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The lock belongs to the open file, so the system drops it when the process dies. The file itself stays:
    /// removing it would let two processes lock two files of the same name.
    fn lock(&self, path: &Path) -> io::Result<Result<FolderLock, Option<u32>>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = file.take(HOLDER_BYTES).read_to_string(&mut text);
                return Ok(Err(holder.ok().and_then(|_| text.trim().parse().ok())));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // The process id is for people only, so a full disk does not matter here.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Ok(FolderLock::new(file)))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        // Shared, so that several may ask at the same time.
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

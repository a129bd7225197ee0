//! The file that the workers of a group map: what stands in it, and how a worker gets its place there. Beside it lies a
//! small file for each worker, which its process holds locked: when the lock is free, the process has ended, however.
//!
//! Everything is read back with suspicion: another program, or one of another version, may have written it. What no
//! check can find out is that somebody cuts the file short while it is mapped: the system then ends the process. The
//! files are for their owner alone.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use super::super::memory::Memory;
use super::super::ring::{Ends, LINE, Layout};
use super::super::threads::{GroupError, checked};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use thiserror::Error;

/// The first word of the file.
const MAGIC: u64 = u64::from_le_bytes(*b"og-links");
/// Changes whenever what follows does.
const VERSION: u64 = 1;
/// The words of the header: the magic, which is written last, version, workers, bytes of a ring, workers that have joined.
const HEADER: usize = LINE;
/// Bytes of a worker's seat: whether it sleeps, on a line of its own; then its state, and why it failed.
const SEAT: usize = 2 * LINE + REASON_MAX;
const STATE: usize = LINE;
const REASON_BYTES: usize = LINE + 8;
const REASON: usize = 2 * LINE;
/// The longest reason that is told, in bytes.
pub(super) const REASON_MAX: usize = 256;

/// A worker that is yet to join.
pub(super) const EXPECTED: u64 = 0;
pub(super) const HERE: u64 = 1;
pub(super) const LEFT: u64 = 2;
pub(super) const FAILED: u64 = 3;
pub(super) const GONE: u64 = 4;

/// Links in shared memory that cannot be made, or joined.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SharedMemoryError {
    /// The group is no possible one.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The system refused something.
    #[error("cannot {doing} {}: {problem}", path.display())]
    System {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        problem: String,
    },
    /// The file is not what a worker of this version makes.
    #[error("{} holds no links of this version: {problem}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such worker.
    #[error("no worker {worker} in a group of {workers}")]
    Worker {
        /// The number asked for.
        worker: usize,
        /// How many workers there are.
        workers: usize,
    },
    /// Somebody else is, or was, this worker.
    #[error("worker {worker} has joined already")]
    Taken {
        /// The number asked for.
        worker: usize,
    },
}

fn refused(doing: &'static str, path: &Path, error: &io::Error) -> SharedMemoryError {
    SharedMemoryError::System { doing, path: path.to_owned(), problem: error.to_string() }
}

/// A worker's place in the file.
pub(super) struct Place {
    memory: Arc<Memory>,
    layout: Layout,
    worker: usize,
    path: PathBuf,
    /// By worker, what each process holds locked; this worker's own is held here.
    locks: Vec<File>,
}

impl Place {
    /// A new file in this folder, with the first worker's place.
    pub(super) fn create(folder: &Path, workers: usize, capacity: usize) -> Result<Self, SharedMemoryError> {
        let layout = Layout { workers, capacity, at: HEADER + workers.saturating_mul(SEAT) };
        let bytes = checked(layout)?;
        let (path, mut file) = create_new(folder)?;
        // From here on the files are removed when something fails.
        let unfinished = Unfinished { path: &path, workers };
        // Written, not only declared, so that a full disk is found out now and not by who touches the memory.
        let zeros = [0; 1 << 16];
        let mut left = bytes;
        while left > 0 {
            let count = left.min(zeros.len());
            file.write_all(&zeros[..count]).map_err(|error| refused("fill", &path, &error))?;
            left -= count;
        }
        for worker in 0..workers {
            let lock = lock_path(&path, worker);
            exclusive(&lock).map_err(|error| refused("create", &lock, &error))?;
        }
        let memory = Memory::of_file(&file, bytes).map_err(|error| refused("map", &path, &error))?;
        memory.word(8).store(VERSION, Ordering::Relaxed);
        memory.word(16).store(workers as u64, Ordering::Relaxed);
        memory.word(24).store(capacity as u64, Ordering::Relaxed);
        memory.word(0).store(MAGIC, Ordering::Release);
        let place = Self::claim(memory, layout, 0, path.clone())?;
        std::mem::forget(unfinished);
        Ok(place)
    }

    /// A place in the file that another worker has created.
    pub(super) fn join(path: &Path, worker: usize) -> Result<Self, SharedMemoryError> {
        let unfit = |problem: String| SharedMemoryError::Unfit { path: path.to_owned(), problem };
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| refused("open", path, &error))?;
        let length = file.metadata().map_err(|error| refused("look at", path, &error))?.len();
        let bytes = usize::try_from(length).map_err(|_| unfit(format!("it has {length} bytes")))?;
        if bytes < HEADER {
            return Err(unfit(format!("it has {bytes} bytes, fewer than a header")));
        }
        let memory = Memory::of_file(&file, bytes).map_err(|error| refused("map", path, &error))?;
        if memory.word(0).load(Ordering::Acquire) != MAGIC {
            return Err(unfit("it does not begin as such a file does, or is not finished".to_owned()));
        }
        let word = |at| memory.word(at).load(Ordering::Relaxed);
        if word(8) != VERSION {
            return Err(unfit(format!("its layout is version {}, not {VERSION}", word(8))));
        }
        let (workers, capacity) = (usize::try_from(word(16)), usize::try_from(word(24)));
        let (Ok(workers), Ok(capacity)) = (workers, capacity) else {
            return Err(unfit("its numbers are too large".to_owned()));
        };
        let layout = Layout { workers, capacity, at: HEADER + workers.saturating_mul(SEAT) };
        let expected = checked(layout).map_err(|error| unfit(error.to_string()))?;
        if bytes != expected {
            return Err(unfit(format!("it has {bytes} bytes, not {expected}")));
        }
        if worker >= workers {
            return Err(SharedMemoryError::Worker { worker, workers });
        }
        Self::claim(memory, layout, worker, path.to_owned())
    }

    fn claim(
        memory: Memory,
        layout: Layout,
        worker: usize,
        path: PathBuf,
    ) -> Result<Self, SharedMemoryError> {
        let open = |worker| {
            let path = lock_path(&path, worker);
            let file = OpenOptions::new().read(true).write(true).open(&path);
            file.map_err(|error| refused("open", &path, &error))
        };
        let locks = (0..layout.workers).map(open).collect::<Result<Vec<_>, _>>()?;
        locks[worker].try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SharedMemoryError::Taken { worker },
            TryLockError::Error(error) => refused("lock", &lock_path(&path, worker), &error),
        })?;
        let place = Self { memory: Arc::new(memory), layout, worker, path, locks };
        // A process that has ended has let go of its lock, but its place stays taken.
        let first =
            place.state(worker).compare_exchange(EXPECTED, HERE, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !first {
            return Err(SharedMemoryError::Taken { worker });
        }
        let joined = place.memory.word(32).fetch_add(1, Ordering::AcqRel) + 1;
        if joined == layout.workers as u64 {
            remove(&place.path, layout.workers);
        }
        Ok(place)
    }

    /// This worker's ends of the rings. Called once.
    pub(super) fn ends(&self) -> Ends {
        // SAFETY: the layout was checked against the file's length when it was created or joined; it gives each ring a place
        // of its own behind the seats, and the file was created full of zeros. A worker's place is taken once, by exchange,
        // in all processes, and its owner calls this once.
        unsafe { self.layout.ends(&self.memory, self.worker) }
    }

    pub(super) fn worker(&self) -> usize {
        self.worker
    }

    pub(super) fn workers(&self) -> usize {
        self.layout.workers
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn seat(&self, worker: usize) -> usize {
        assert!(worker < self.layout.workers, "invariant: every worker has a seat, and no other");
        HEADER + worker * SEAT
    }

    /// Whether a worker sleeps, or is about to: 1 if so.
    pub(super) fn asleep(&self, worker: usize) -> &AtomicU32 {
        self.memory.half_word(self.seat(worker))
    }

    /// What a worker has said of itself.
    pub(super) fn state(&self, worker: usize) -> &AtomicU64 {
        self.memory.word(self.seat(worker) + STATE)
    }

    /// Why a worker failed, once its state says that it did.
    pub(super) fn reason(&self, worker: usize) -> String {
        let seat = self.seat(worker);
        let bytes =
            self.memory.word(seat + REASON_BYTES).load(Ordering::Relaxed).min(REASON_MAX as u64) as usize;
        let word = |at| self.memory.word(seat + REASON + at).load(Ordering::Relaxed).to_le_bytes();
        let text: Vec<u8> = (0..REASON_MAX).step_by(8).flat_map(word).take(bytes).collect();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Notes why this worker failed, as far as there is room for it.
    pub(super) fn set_reason(&self, reason: &str) {
        let seat = self.seat(self.worker);
        let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_MAX)];
        for (number, part) in reason.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            let at = self.memory.word(seat + REASON + 8 * number);
            at.store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        self.memory.word(seat + REASON_BYTES).store(reason.len() as u64, Ordering::Relaxed);
    }

    /// Whether the process of a worker that has joined has ended.
    pub(super) fn has_ended(&self, worker: usize) -> bool {
        // Held for a moment only: another who asks meanwhile takes the process for alive, and asks again.
        let free = self.locks[worker].try_lock().is_ok();
        if free {
            let _ = self.locks[worker].unlock();
        }
        free
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Those who have not joined yet find nothing to join any more.
        if self.worker == 0 && self.memory.word(32).load(Ordering::Acquire) < self.layout.workers as u64 {
            remove(&self.path, self.layout.workers);
        }
    }
}

/// Files to be removed because their maker did not come to an end.
struct Unfinished<'a> {
    path: &'a Path,
    workers: usize,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        remove(self.path, self.workers);
    }
}

/// Removes the names of the files: those who have them open or mapped keep them. What cannot be removed stays.
fn remove(path: &Path, workers: usize) {
    let _ = std::fs::remove_file(path);
    for worker in 0..workers {
        let _ = std::fs::remove_file(lock_path(path, worker));
    }
}

fn lock_path(path: &Path, worker: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{worker}"));
    name.into()
}

/// A new file with a name that no other has.
fn create_new(folder: &Path) -> Result<(PathBuf, File), SharedMemoryError> {
    let process = std::process::id();
    for number in 0_u32.. {
        let path = folder.join(format!("outgrow-{process}-{number}"));
        match exclusive(&path) {
            // Of this process, or of one of the same number elsewhere that left it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1_000 => {}
            Err(error) => return Err(refused("create", &path, &error)),
            Ok(file) => return Ok((path, file)),
        }
    }
    unreachable!("invariant: the last number is an error")
}

/// Creates a file that does not exist, for its owner alone.
fn exclusive(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

//! A simulated disk in memory that forgets like a real one: whatever was not synced may be lost, torn or half there
//! after a crash. It fills up, crashes at a chosen operation and flips bits, all from a seed.
//!
//! Model: a file has live content, which readers see, and durable content, which its sync makes equal. A change of
//! names (create, rename, remove) is live at once and durable when its folder is synced. A crash keeps the durable
//! state, plus some of the unsynced changes of names (the first ones, or any: file systems reorder them) and random
//! parts of the unsynced content. What is in a folder whose own creation was lost is lost too.

use super::disk::{Disk, OnDisk};
use super::{Entry, FolderLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Storage on a simulated disk; [`OnDisk::disk`] reaches its faults.
pub type SimStorage = OnDisk<SimDisk>;

impl SimStorage {
    /// An empty simulated disk whose faults are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::on(SimDisk(Arc::new(Mutex::new(State { random: seed, ..State::default() }))))
    }
}

/// A disk in memory with seeded faults.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

/// Bytes that a disk writes as one: after a crash one such block may read as zeros.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct State {
    random: u64,
    inodes: Vec<Inode>,
    /// What every path names now.
    live: BTreeMap<PathBuf, Node>,
    /// What every path would name after a crash that loses all that can be lost.
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names that no sync has made durable yet, oldest first.
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    crash_at: Option<u64>,
    crashed: bool,
    /// Counts restarts: open files and locks of an earlier life are void.
    life: u64,
    capacity: Option<u64>,
    flip_on_read: bool,
}

#[derive(Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Put(PathBuf, Node),
    /// With what is renamed: that may be kept although the old name never was.
    Rename(PathBuf, PathBuf, Node),
    Remove(PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Put(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
            Self::Remove(path) => names.retain(|p, _| !p.starts_with(path)),
        }
    }

    fn is_in(&self, folder: &Path) -> bool {
        match self {
            Self::Put(path, _) | Self::Remove(path) | Self::Rename(_, path, _) => {
                path.parent() == Some(folder)
            }
        }
    }
}

fn crash() -> io::Error {
    io::Error::other("the simulated disk has crashed")
}

impl State {
    /// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Counts an operation that changes the disk. `Ok(false)` at the operation at which the disk crashes.
    fn operation(&mut self) -> io::Result<bool> {
        if self.crashed {
            return Err(crash());
        }
        self.operations += 1;
        self.crashed = self.crash_at.is_some_and(|at| self.operations >= at);
        Ok(!self.crashed)
    }

    /// Changes names; at the operation that crashes, the change may or may not happen.
    fn change(&mut self, change: NameChange) -> io::Result<()> {
        let alive = self.operation()?;
        if alive || self.next().is_multiple_of(2) {
            change.apply(&mut self.live);
            self.pending.push(change);
        }
        if alive { Ok(()) } else { Err(crash()) }
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        if self.crashed {
            return Err(crash());
        }
        if path.parent().is_none() || path == Path::new(".") {
            return Ok(Node::Folder);
        }
        self.live.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.node(path)? {
            Node::File(inode) => Ok(inode),
            Node::Folder => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn parent_must_exist(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match self.node(parent)? {
            Node::Folder => Ok(()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        self.parent_must_exist(path)?;
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.change(NameChange::Put(path.to_path_buf(), Node::File(inode)))?;
        Ok(inode)
    }

    fn used(&self) -> u64 {
        let bytes = |node: &Node| match node {
            Node::File(inode) => self.inodes[*inode].live.len() as u64,
            Node::Folder => 0,
        };
        self.live.values().map(bytes).sum()
    }

    fn entry(&self, path: &Path, node: Node) -> Entry {
        Entry {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            is_folder: node == Node::Folder,
            bytes: match node {
                Node::Folder => 0,
                Node::File(inode) => self.inodes[inode].live.len() as u64,
            },
        }
    }

    /// Forgets durable names in folders that are not there. Folders come before what they hold.
    fn drop_orphans(&mut self) {
        let mut reachable: BTreeMap<PathBuf, Node> = BTreeMap::new();
        for (path, node) in std::mem::take(&mut self.durable) {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty() && p.parent().is_some());
            if parent.is_none_or(|p| p == Path::new(".") || reachable.get(p) == Some(&Node::Folder)) {
                reachable.insert(path, node);
            }
        }
        self.durable = reachable;
    }

    /// What is left of a file of which not everything was synced. Synced bytes at its start stay.
    fn after_crash(&mut self, inode: usize) -> Vec<u8> {
        let durable = std::mem::take(&mut self.inodes[inode].durable);
        let mut live = std::mem::take(&mut self.inodes[inode].live);
        if live == durable {
            return durable;
        }
        let safe = if live.starts_with(&durable) { durable.len() } else { 0 };
        let torn = safe + self.below(live.len() - safe + 1);
        match self.below(4) {
            0 => return durable,
            1 => {}
            2 => live.truncate(torn),
            _ => {
                // The length has reached the disk, one block of the content has not.
                let start = (torn / SECTOR * SECTOR).clamp(safe, live.len());
                let end = (start + SECTOR).min(live.len());
                live[start..end].fill(0);
            }
        }
        live
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations that changed or synced something so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Crashes the disk at its `n`-th next operation, counted from 1: that one may be done wholly, partly or not at
    /// all, and everything fails from then on until [`SimDisk::restart`]. `None` takes it back.
    pub fn crash_at_operation(&self, n: Option<u64>) {
        let mut state = self.state();
        state.crash_at = n.map(|n| state.operations.saturating_add(n));
    }

    /// Whether the disk has crashed and not been restarted.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Crashes the disk, if it has not crashed yet, and brings it back with what survived. Locks are gone.
    pub fn restart(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        for inode in 0..state.inodes.len() {
            let content = state.after_crash(inode);
            state.inodes[inode] = Inode { live: content.clone(), durable: content };
        }
        let pending = std::mem::take(&mut state.pending);
        // Half of all crashes lose everything that was not synced; the others keep the first changes, or any.
        let kind = state.below(4);
        let first = state.below(pending.len() + 1);
        for (n, change) in pending.iter().enumerate() {
            let kept = match kind {
                0 | 1 => false,
                2 => n < first,
                _ => state.next().is_multiple_of(2),
            };
            if kept {
                change.apply(&mut state.durable);
            }
        }
        state.drop_orphans();
        state.live = state.durable.clone();
        state.locks.clear();
        state.crashed = false;
        state.crash_at = None;
        state.life += 1;
    }

    /// Limits the bytes of all files together; writing beyond fails as on a full disk.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Flips one random bit in whatever is read from now on, leaving the stored bytes as they are.
    pub fn flip_on_read(&self, on: bool) {
        self.state().flip_on_read = on;
    }

    /// Changes stored bytes behind everybody's back: a fault of the medium.
    ///
    /// # Panics
    /// When there is no such file: simulations name files that they wrote.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.live.get(path).copied() else {
            panic!("no simulated file {}", path.display());
        };
        let inode = &mut state.inodes[inode];
        change(&mut inode.live);
        inode.durable.clone_from(&inode.live);
    }
}

/// An open file on a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
}

impl SimFile {
    fn check<'a>(&self, state: MutexGuard<'a, State>) -> io::Result<MutexGuard<'a, State>> {
        if state.life == self.life { Ok(state) } else { Err(crash()) }
    }
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.check(self.disk.state())?;
        let alive = state.operation()?;
        let free = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let mut taken = bytes.len().min(usize::try_from(free).unwrap_or(usize::MAX));
        if !alive {
            taken = state.below(taken + 1);
        }
        state.inodes[self.inode].live.extend_from_slice(&bytes[..taken]);
        match (alive, taken) {
            (false, _) => Err(crash()),
            (true, 0) if !bytes.is_empty() => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Releases a simulated lock.
#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create_new(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        if state.node(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.create(path)?;
        Ok(SimFile { disk: self.clone(), inode, life: state.life })
    }

    fn open_append(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        let inode = match state.file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => state.create(path)?,
            inode => inode?,
        };
        Ok(SimFile { disk: self.clone(), inode, life: state.life })
    }

    fn sync(&self, file: &mut SimFile) -> io::Result<()> {
        let mut state = file.check(self.state())?;
        let alive = state.operation()?;
        if alive || state.next().is_multiple_of(2) {
            let inode = &mut state.inodes[file.inode];
            inode.durable.clone_from(&inode.live);
        }
        if alive { Ok(()) } else { Err(crash()) }
    }

    fn truncate(&self, file: &mut SimFile, length: u64) -> io::Result<()> {
        let mut state = file.check(self.state())?;
        if !state.operation()? {
            return Err(crash());
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        state.inodes[file.inode].live.truncate(length);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let alive = state.operation()?;
        if alive || state.next().is_multiple_of(2) {
            let in_folder =
                |c: &NameChange| c.is_in(path) || (path == Path::new(".") && c.is_in(Path::new("")));
            let (synced, rest) = std::mem::take(&mut state.pending).into_iter().partition(in_folder);
            let synced: Vec<NameChange> = synced;
            synced.iter().for_each(|change| change.apply(&mut state.durable));
            state.pending = rest;
        }
        if alive { Ok(()) } else { Err(crash()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = Node::File(state.file(from)?);
        state.parent_must_exist(to)?;
        state.change(NameChange::Rename(from.to_path_buf(), to.to_path_buf(), node))
    }

    fn read(&self, path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let inode = state.file(path)?;
        let content = &state.inodes[inode].live;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(content.len());
        let mut bytes = content[start..end].to_vec();
        if state.flip_on_read && !bytes.is_empty() {
            let (byte, bit) = (state.below(bytes.len()), state.below(8));
            bytes[byte] ^= 1 << bit;
        }
        Ok(bytes)
    }

    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let state = self.state();
        Ok(state.entry(path, state.node(path)?))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        if state.node(path)? != Node::Folder {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let inside = state.live.iter().filter(|(p, _)| p.parent() == Some(path));
        Ok(inside.map(|(p, node)| state.entry(p, *node)).collect())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.parent_must_exist(path)?;
        if state.node(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change(NameChange::Put(path.to_path_buf(), Node::Folder))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.file(path)?;
        state.change(NameChange::Remove(path.to_path_buf()))
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.node(path)? != Node::Folder {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        // One name after the other, what a folder holds before the folder.
        let inside: Vec<PathBuf> = state.live.keys().filter(|p| p.starts_with(path)).cloned().collect();
        inside.into_iter().rev().try_for_each(|name| state.change(NameChange::Remove(name)))
    }

    fn lock(&self, path: &Path) -> io::Result<Result<FolderLock, Option<u32>>> {
        let mut state = self.state();
        state.parent_must_exist(path)?;
        if !state.locks.insert(path.to_path_buf()) {
            return Ok(Err(Some(std::process::id())));
        }
        let (path, life) = (path.to_path_buf(), state.life);
        Ok(Ok(FolderLock::new(SimLock { disk: self.clone(), path, life })))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state().locks.contains(path))
    }
}

//! What the thread pool is built from: the standard library's threads, or under `--cfg loom` those of the model checker
//! that tries every order in which threads can run (`tests/loom.rs`). Nothing else runs in a build of that kind.
//!
//! The checker takes sequentially consistent accesses for acquiring and releasing ones, which allows more than there
//! is: a sleeping worker may go unnoticed there. Jobs are finished all the same, by their caller.

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    hint,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

/// A cell that is read and written in closures, as the model checker's is, which notices accesses at the same time.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

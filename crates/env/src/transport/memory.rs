//! Memory that several threads, or several processes, look at: words that are read and written as a whole, and bytes.
//! Who may touch which bytes at a time is for others to know (`ring.rs`).
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use super::sync::AtomicU64;
use std::io;

/// Memory that is shared, at first full of zeros, beginning with a page.
#[cfg(not(loom))]
pub(super) struct Memory(memmap2::MmapRaw);

#[cfg(not(loom))]
impl Memory {
    /// Memory of this process alone. The system gives pages when they are first touched.
    pub(super) fn of_process(bytes: usize) -> io::Result<Self> {
        Ok(Self(memmap2::MmapOptions::new().len(bytes.max(1)).map_anon()?.into()))
    }

    /// The first bytes of a file, which must be that long, mapped for reading and writing, with all their pages at hand.
    pub(super) fn of_file(file: &std::fs::File, bytes: usize) -> io::Result<Self> {
        Ok(Self(memmap2::MmapOptions::new().len(bytes).populate().map_raw(file)?))
    }

    fn at(&self, at: usize, bytes: usize) -> *mut u8 {
        let inside = at.checked_add(bytes).is_some_and(|end| end <= self.0.len());
        assert!(inside, "invariant: {bytes} bytes at {at} lie within the {} that there are", self.0.len());
        // SAFETY: the place lies within the mapping, as was just checked.
        unsafe { self.0.as_mut_ptr().add(at) }
    }

    /// The word at this place, a multiple of 8.
    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8), "invariant: words lie at multiples of 8");
        // SAFETY: the word lies within the mapping, which begins with a page and lives as long as this; `write` and `read`
        // are never called for it, so all its accesses are atomic ones.
        unsafe { AtomicU64::from_ptr(self.at(at, 8).cast()) }
    }

    /// The word of half the size at this place, a multiple of 8.
    pub(super) fn half_word(&self, at: usize) -> &std::sync::atomic::AtomicU32 {
        assert!(at.is_multiple_of(8), "invariant: words lie at multiples of 8");
        // SAFETY: as for `word`.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(self.at(at, 4).cast()) }
    }

    /// Writes bytes.
    ///
    /// # Safety
    /// Nobody reads or writes them meanwhile, and none is part of a word.
    pub(super) unsafe fn write(&self, at: usize, bytes: &[u8]) {
        // SAFETY: as this function demands; what is written from is a borrow, and so lies elsewhere.
        unsafe { self.at(at, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Shows bytes.
    ///
    /// # Safety
    /// Nobody writes them while they are borrowed, and none is part of a word.
    pub(super) unsafe fn read(&self, at: usize, bytes: usize) -> &[u8] {
        // SAFETY: as this function demands; memory that was mapped is initialised.
        unsafe { std::slice::from_raw_parts(self.at(at, bytes), bytes) }
    }
}

/// The model checker's kind of memory: it notices accesses that are not ordered one after the other.
#[cfg(loom)]
pub(super) struct Memory {
    words: Vec<AtomicU64>,
    bytes: Vec<super::sync::UnsafeCell<u8>>,
    /// What is shown of `bytes`, which cannot be borrowed as a slice.
    shown: std::cell::UnsafeCell<Vec<u8>>,
}

// SAFETY: under the checker threads take turns, and its cells find accesses to bytes that are not ordered.
#[cfg(loom)]
unsafe impl Sync for Memory {}
// SAFETY: numbers may go from thread to thread.
#[cfg(loom)]
unsafe impl Send for Memory {}

#[cfg(loom)]
impl Memory {
    pub(super) fn of_process(bytes: usize) -> io::Result<Self> {
        Ok(Self {
            words: (0..bytes.div_ceil(super::ring::LINE)).map(|_| AtomicU64::new(0)).collect(),
            bytes: (0..bytes).map(|_| super::sync::UnsafeCell::new(0)).collect(),
            shown: std::cell::UnsafeCell::new(vec![0; bytes]),
        })
    }

    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[at / super::ring::LINE]
    }

    pub(super) unsafe fn write(&self, at: usize, bytes: &[u8]) {
        for (cell, &byte) in self.bytes[at..].iter().zip(bytes) {
            // SAFETY: the checker fails the test when somebody else is at the cell.
            cell.with_mut(|cell| unsafe { *cell = byte });
        }
    }

    pub(super) unsafe fn read(&self, at: usize, bytes: usize) -> &[u8] {
        // SAFETY: threads take turns, and each place has one reader at a time.
        let shown = unsafe { &mut (&mut *self.shown.get())[at..][..bytes] };
        for (cell, byte) in self.bytes[at..].iter().zip(&mut *shown) {
            // SAFETY: as for writing.
            *byte = cell.with(|cell| unsafe { *cell });
        }
        shown
    }
}

//! A queue of bytes in shared memory with one sender and one receiver, without locks. What was received is looked at
//! where it lies.
//!
//! Two counters say how many bytes were ever sent and ever taken; each is written by one side, on a cache line of its own,
//! and the other keeps a copy of what it last saw, so that lines go back and forth only when something is to be learnt.
//! The bytes between the two counters belong to the receiver, all others to the sender. Each side goes by its own counter
//! as it remembers it, and trusts the other's only as far as it makes sense: nothing that is written there can lead
//! outside the ring.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use super::memory::Memory;
use super::sync::{Arc, AtomicU64, Ordering};
use std::io;

/// How far apart things lie that different threads write: processors fetch cache lines in pairs.
pub(super) const LINE: usize = 128;
/// Bytes of a ring before the first that is sent: the count of what was sent, and that of what was taken.
pub(super) const COUNTERS: usize = 2 * LINE;
/// A sender tells of bytes at the latest after so many, so that the receiver works at the same time.
const PIECE: usize = 32 << 10;

/// The other side's counter says what cannot be.
#[derive(Debug)]
pub(super) struct Nonsense;

/// Where the rings between so many workers lie in memory, from `at` on, and how many bytes each holds, a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) workers: usize,
    pub(super) capacity: usize,
    pub(super) at: usize,
}

impl Layout {
    /// The bytes up to the end of the last ring; `None` when they cannot be counted.
    pub(super) fn bytes(&self) -> Option<usize> {
        let rings = self.workers.checked_mul(self.workers)?.checked_sub(self.workers)?;
        let each = COUNTERS.checked_add(self.capacity)?.checked_next_multiple_of(LINE)?;
        rings.checked_mul(each)?.checked_add(self.at)
    }

    /// Where the ring from one worker to another lies.
    fn ring(&self, from: usize, to: usize) -> usize {
        let number = from * (self.workers - 1) + to - usize::from(to > from);
        self.at + number * (COUNTERS + self.capacity).next_multiple_of(LINE)
    }

    /// The rings' ends that are one worker's, by the other worker; none to itself.
    ///
    /// # Safety
    /// In the memory nothing but these rings lies where they lie, and they were zero at first. In all processes, nobody
    /// else makes the ends of this worker.
    pub(super) unsafe fn ends(&self, memory: &Arc<Memory>, worker: usize) -> Ends {
        let ring =
            |from, to| Ring { memory: Arc::clone(memory), at: self.ring(from, to), capacity: self.capacity };
        let both = |other| (Sender::new(ring(worker, other)), Receiver::new(ring(other, worker)));
        (0..self.workers).map(|other| (other != worker).then(|| both(other))).collect()
    }
}

/// The ends of one worker's rings, by the other worker; none to itself.
pub(super) type Ends = Vec<Option<(Sender, Receiver)>>;

/// Rings in memory of this process: their ends, by worker.
pub(super) fn of_process(layout: Layout, bytes: usize) -> io::Result<Vec<Ends>> {
    assert!(layout.bytes().is_some_and(|needed| needed <= bytes), "invariant: the rings fit");
    assert!(
        layout.capacity.is_power_of_two() && layout.at.is_multiple_of(LINE),
        "invariant: rings are aligned"
    );
    let memory = Arc::new(Memory::of_process(bytes)?);
    // SAFETY: nobody else has this new memory; each worker's ends are made once.
    Ok((0..layout.workers).map(|worker| unsafe { layout.ends(&memory, worker) }).collect())
}

/// Where a ring lies: its counters and then its bytes.
struct Ring {
    memory: Arc<Memory>,
    at: usize,
    capacity: usize,
}

impl Ring {
    fn sent(&self) -> &AtomicU64 {
        self.memory.word(self.at)
    }

    fn taken(&self) -> &AtomicU64 {
        self.memory.word(self.at + LINE)
    }

    /// The place of the byte with this number, and how many lie in one piece from there on.
    fn place(&self, number: u64) -> (usize, usize) {
        let offset = number as usize & (self.capacity - 1);
        (self.at + COUNTERS + offset, self.capacity - offset)
    }

    /// How far `later` lies behind `earlier`: at most a ring's length.
    fn between(&self, earlier: u64, later: u64) -> Result<usize, Nonsense> {
        let bytes = later.wrapping_sub(earlier);
        if bytes > self.capacity as u64 { Err(Nonsense) } else { Ok(bytes as usize) }
    }
}

/// The end of a ring that bytes are put in.
pub(super) struct Sender {
    ring: Ring,
    sent: u64,
    /// What the receiver had taken when its counter was last read.
    taken: u64,
}

impl Sender {
    fn new(ring: Ring) -> Self {
        Self { ring, sent: 0, taken: 0 }
    }

    /// Puts in some of the first of these bytes: none only when there is no room.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<usize, Nonsense> {
        let (at, in_a_row) = self.ring.place(self.sent);
        let wanted = bytes.len().min(in_a_row).min(PIECE);
        if self.room()? < wanted {
            self.look()?;
        }
        let count = wanted.min(self.room()?);
        if count > 0 {
            // SAFETY: the bytes from `sent` on, as many as there is room for, are the sender's, of which there is one: the
            // receiver has told, by the counter that was read with Acquire, that it is done with them.
            unsafe { self.ring.memory.write(at, &bytes[..count]) };
            self.sent = self.sent.wrapping_add(count as u64);
            self.ring.sent().store(self.sent, Ordering::Release);
        }
        Ok(count)
    }

    /// Whether there is more room than was known.
    pub(super) fn look(&mut self) -> Result<bool, Nonsense> {
        let taken = self.ring.taken().load(Ordering::Acquire);
        let more = self.ring.between(self.taken, taken)?;
        // No more can have been taken than was sent.
        self.ring.between(taken, self.sent)?;
        self.taken = taken;
        Ok(more > 0)
    }

    fn room(&self) -> Result<usize, Nonsense> {
        Ok(self.ring.capacity - self.ring.between(self.taken, self.sent)?)
    }
}

/// The end of a ring that bytes are taken from.
pub(super) struct Receiver {
    ring: Ring,
    taken: u64,
    /// What the sender had sent when its counter was last read.
    sent: u64,
    /// How many bytes were last shown and are not taken.
    shown: usize,
    /// Whether all that was shown is taken, and there is more that was not.
    rest: bool,
}

impl Receiver {
    fn new(ring: Ring) -> Self {
        Self { ring, taken: 0, sent: 0, shown: 0, rest: false }
    }

    /// Whether more has come than was known, or would be shown now and was not.
    pub(super) fn look(&mut self) -> Result<bool, Nonsense> {
        let sent = self.ring.sent().load(Ordering::Acquire);
        self.ring.between(self.taken, sent)?;
        let more = self.ring.between(self.sent, sent)?;
        self.sent = sent;
        Ok(std::mem::take(&mut self.rest) || more > 0)
    }

    /// How many bytes are known to be here.
    pub(super) fn known(&self) -> usize {
        self.sent.wrapping_sub(self.taken) as usize
    }

    /// What is known to be here, as far as it lies in one piece.
    pub(super) fn show(&mut self) -> &[u8] {
        let (at, in_a_row) = self.ring.place(self.taken);
        self.shown = self.known().min(in_a_row);
        // SAFETY: the bytes from `taken` to `sent`, which was read with Acquire, are the receiver's, of which there is one,
        // until it tells that it has taken them, for which it must be borrowed anew.
        unsafe { self.ring.memory.read(at, self.shown) }
    }

    /// Gives back the first bytes of what was shown.
    pub(super) fn take(&mut self, bytes: usize) {
        assert!(bytes <= self.shown, "{bytes} bytes taken of the {} that were shown", self.shown);
        self.shown -= bytes;
        self.taken = self.taken.wrapping_add(bytes as u64);
        self.rest = self.shown == 0 && self.known() > 0;
        self.ring.taken().store(self.taken, Ordering::Release);
    }
}

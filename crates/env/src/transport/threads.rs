//! Links between threads of one process: rings of bytes in its memory, and threads that park.

use super::LinkProblem;
use super::mesh::{Bell, Mesh};
use super::ring::{self, Layout};
use super::sync::{Arc, AtomicBool, Mutex, Ordering, fence, thread};
use std::sync::{OnceLock, PoisonError};
use std::time::Duration;
use thiserror::Error;

/// The most workers of a group.
pub const WORKERS_MAX: usize = 256;
/// Bytes of a link in one direction, so many that most messages fit and nobody waits for room half way, and so few that
/// they stay in the caches. Longer messages than 64 KiB go through links of 1 MiB twice to four times as fast as through
/// those of 256 KiB, if both send at once.
const CAPACITY: usize = 1 << 20;
/// The fewest bytes of a link.
const CAPACITY_MIN: usize = 4 << 10;
/// With many workers each link has fewer, so that all have no more than this, as far as the former allows.
const TOTAL_MAX: usize = 64 << 20;

/// One worker's end, to be moved to its thread. When it is dropped, also by a panic, the others find the worker gone
/// after they have taken what it has sent.
pub type ThreadLinks = Mesh<Parking>;

/// Links that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GroupError {
    /// There is no group of this size.
    #[error("a group has between 1 and {WORKERS_MAX} workers, not {0}")]
    Workers(usize),
    /// Links hold numbers of bytes that are powers of two.
    #[error("a link holds a power of two of bytes, not {0}")]
    Capacity(usize),
    /// The system does not give the memory.
    #[error("no {bytes} bytes for the links between {workers} workers: {problem}")]
    Memory {
        /// How many workers there are to be.
        workers: usize,
        /// The bytes of all links.
        bytes: usize,
        /// The system's words.
        problem: String,
    },
}

/// Links between so many threads: one end each, in the order of their numbers.
///
/// # Errors
/// When there are none or too many, or the system has no memory for them.
pub fn group(workers: usize) -> Result<Vec<ThreadLinks>, GroupError> {
    group_with(workers, capacity(workers))
}

/// The bytes that each link between so many workers holds.
pub(super) fn capacity(workers: usize) -> usize {
    let links = workers.saturating_mul(workers).max(1);
    let share = (TOTAL_MAX / links).max(1);
    (1 << share.ilog2()).clamp(CAPACITY_MIN, CAPACITY)
}

/// Links that hold so many bytes in each direction, a power of two.
///
/// # Errors
/// As [`group`].
pub fn group_with(workers: usize, capacity: usize) -> Result<Vec<ThreadLinks>, GroupError> {
    let layout = Layout { workers, capacity, at: 0 };
    let bytes = checked(layout)?;
    let ends = ring::of_process(layout, bytes).map_err(|error| GroupError::Memory {
        workers,
        bytes,
        problem: error.to_string(),
    })?;
    let seats: Arc<Vec<Seat>> = Arc::new((0..workers).map(|_| Seat::new()).collect());
    let end = |(worker, ends)| Mesh::new(worker, ends, Parking { worker, seats: Arc::clone(&seats) });
    Ok(ends.into_iter().enumerate().map(end).collect())
}

/// The bytes that a layout takes, if it is a possible one.
pub(super) fn checked(layout: Layout) -> Result<usize, GroupError> {
    let Layout { workers, capacity, .. } = layout;
    if !(1..=WORKERS_MAX).contains(&workers) {
        return Err(GroupError::Workers(workers));
    }
    if !capacity.is_power_of_two() {
        return Err(GroupError::Capacity(capacity));
    }
    layout.bytes().ok_or_else(|| GroupError::Memory {
        workers,
        bytes: usize::MAX,
        problem: "so many cannot be counted".to_owned(),
    })
}

/// What the others know of a worker.
#[repr(align(128))]
struct Seat {
    /// Whether it sleeps, or is about to.
    asleep: AtomicBool,
    left: AtomicBool,
    /// How it left: there before it is said that it has.
    parting: OnceLock<LinkProblem>,
    thread: Mutex<Option<thread::Thread>>,
}

impl Seat {
    fn new() -> Self {
        Self {
            asleep: AtomicBool::new(false),
            left: AtomicBool::new(false),
            parting: OnceLock::new(),
            thread: Mutex::new(None),
        }
    }

    fn thread(&self) -> impl std::ops::DerefMut<Target = Option<thread::Thread>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workers that are threads, and park.
pub struct Parking {
    worker: usize,
    seats: Arc<Vec<Seat>>,
}

impl Bell for Parking {
    const NAME: &'static str = "threads";

    fn ring(&self, worker: usize) {
        let seat = &self.seats[worker];
        // Either this sees that the worker lies down, or the worker sees, looking once more, what was done before this.
        fence(Ordering::SeqCst);
        if seat.asleep.load(Ordering::Relaxed)
            && seat.asleep.swap(false, Ordering::Relaxed)
            && let Some(thread) = &*seat.thread()
        {
            thread.unpark();
        }
    }

    fn lie_down(&self) {
        let seat = &self.seats[self.worker];
        *seat.thread() = Some(thread::current());
        seat.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn sleep(&self, at_most: Duration) {
        #[cfg(not(loom))]
        thread::park_timeout(at_most);
        #[cfg(loom)]
        {
            let _ = at_most;
            thread::park();
        }
    }

    fn get_up(&self) {
        self.seats[self.worker].asleep.store(false, Ordering::Relaxed);
    }

    fn has_left(&self, worker: usize) -> bool {
        self.seats[worker].left.load(Ordering::Acquire)
    }

    fn parting(&self, worker: usize) -> LinkProblem {
        self.seats[worker].parting.get().cloned().unwrap_or(LinkProblem::Gone)
    }

    fn leave(&self, how: LinkProblem) {
        let seat = &self.seats[self.worker];
        seat.parting.get_or_init(|| how);
        seat.left.store(true, Ordering::Release);
        for other in (0..self.seats.len()).filter(|&other| other != self.worker) {
            self.ring(other);
        }
    }
}

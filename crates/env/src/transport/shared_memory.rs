//! Links between processes of one machine: rings of bytes in a file that all of them map, and whose name is removed as
//! soon as they have. A process that ends, or is killed, is noticed by those who wait for something.

mod file;

pub use file::SharedMemoryError;
use file::{EXPECTED, FAILED, GONE, HERE, LEFT, Place};

use super::LinkProblem;
use super::mesh::{Bell, Mesh};
use super::threads::capacity;
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// A sleeping worker looks so often whether the others' processes are still there.
const CHECK_AFTER: Duration = Duration::from_millis(20);
/// One that does not sleep does so every so many times that it finds nothing.
const DOUBTS: u32 = 1_000;
/// How long a worker sleeps where the system cannot wake one process for another.
#[cfg(not(target_os = "linux"))]
const NAP: Duration = Duration::from_micros(100);

/// One worker's end, for one thread of its process. When it is dropped, or the process ends in any way, the others find
/// the worker gone after they have taken what it has sent.
pub type SharedMemoryLinks = Mesh<Process>;

/// Links between so many workers, and the end of the first. The others [`join`] by the path of the file in this folder,
/// which is best one in memory (`/dev/shm`).
///
/// # Errors
/// When the number is not possible, or the folder has no room for the file.
pub fn create(folder: &Path, workers: usize) -> Result<SharedMemoryLinks, SharedMemoryError> {
    create_with(folder, workers, capacity(workers))
}

/// As [`create`], with links that hold so many bytes in each direction, a power of two.
///
/// # Errors
/// As [`create`].
pub fn create_with(
    folder: &Path,
    workers: usize,
    capacity: usize,
) -> Result<SharedMemoryLinks, SharedMemoryError> {
    Ok(links(Place::create(folder, workers, capacity)?))
}

/// The end of a worker other than the first.
///
/// # Errors
/// When the file is not there (any more) or not what [`create`] makes, or the worker is none of its group or has joined
/// before.
pub fn join(path: &Path, worker: usize) -> Result<SharedMemoryLinks, SharedMemoryError> {
    Ok(links(Place::join(path, worker)?))
}

fn links(place: Place) -> SharedMemoryLinks {
    let lost = (0..place.workers()).map(|_| Cell::new(false)).collect();
    let (worker, ends) = (place.worker(), place.ends());
    Mesh::new(worker, ends, Process { place, lost, checked: Cell::new(Instant::now()), doubts: Cell::new(0) })
}

impl SharedMemoryLinks {
    /// The file that the others join by. Its name is removed when all have.
    pub fn path(&self) -> &Path {
        self.bell().place.path()
    }

    /// Whether a worker has joined, if only to leave again. Until then it cannot be known whether it ever will: who starts
    /// processes must watch those that have not.
    pub fn has_joined(&self, worker: usize) -> bool {
        self.bell().place.state(worker).load(Ordering::Acquire) != EXPECTED
    }
}

/// Workers that are processes.
pub struct Process {
    place: Place,
    /// By worker, whether its process was found to have ended.
    lost: Vec<Cell<bool>>,
    /// When that was last looked after.
    checked: Cell<Instant>,
    /// How often nothing was found since.
    doubts: Cell<u32>,
}

impl Process {
    /// Looks whether others have ended without a word.
    fn check(&self) {
        if self.checked.get().elapsed() < CHECK_AFTER / 2 {
            return;
        }
        for (worker, lost) in self.lost.iter().enumerate() {
            let here = self.place.state(worker).load(Ordering::Acquire) == HERE;
            if worker != self.place.worker() && here && !lost.get() && self.place.has_ended(worker) {
                // Who leaves says so before it ends.
                lost.set(self.place.state(worker).load(Ordering::Acquire) == HERE);
            }
        }
        self.checked.set(Instant::now());
    }
}

impl Bell for Process {
    const NAME: &'static str = "shared memory";

    fn ring(&self, worker: usize) {
        let asleep = self.place.asleep(worker);
        // Either this sees that the worker lies down, or the worker sees, looking once more, what was done before this.
        fence(Ordering::SeqCst);
        if asleep.load(Ordering::Relaxed) != 0 && asleep.swap(0, Ordering::Relaxed) != 0 {
            #[cfg(target_os = "linux")]
            let _ = rustix::thread::futex::wake(asleep, rustix::thread::futex::Flags::empty(), 1);
        }
    }

    fn lie_down(&self) {
        self.place.asleep(self.place.worker()).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    #[cfg(target_os = "linux")]
    fn sleep(&self, at_most: Duration) {
        use rustix::thread::futex::{Flags, Timespec, wait};
        let nap = at_most.min(CHECK_AFTER);
        let nap = Timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos().into() };
        // Woken, too late or for no reason: whoever waits looks at the links next.
        let woken = wait(self.place.asleep(self.place.worker()), Flags::empty(), 1, Some(&nap));
        if woken.is_err() {
            self.check();
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn sleep(&self, at_most: Duration) {
        std::thread::sleep(at_most.min(NAP));
        self.check();
    }

    fn doubt(&self) {
        self.doubts.set(self.doubts.get() + 1);
        if self.doubts.get() >= DOUBTS {
            self.doubts.set(0);
            self.check();
        }
    }

    fn get_up(&self) {
        self.place.asleep(self.place.worker()).store(0, Ordering::Relaxed);
    }

    fn has_left(&self, worker: usize) -> bool {
        self.lost[worker].get()
            || !matches!(self.place.state(worker).load(Ordering::Acquire), EXPECTED | HERE)
    }

    fn parting(&self, worker: usize) -> LinkProblem {
        match self.place.state(worker).load(Ordering::Acquire) {
            EXPECTED | HERE | GONE => LinkProblem::Gone,
            LEFT => LinkProblem::Left,
            FAILED => LinkProblem::Failed(self.place.reason(worker)),
            state => LinkProblem::Garbled(format!("there is no state {state}")),
        }
    }

    fn leave(&self, how: LinkProblem) {
        let state = match how {
            LinkProblem::Left => LEFT,
            LinkProblem::Failed(reason) => {
                self.place.set_reason(&reason);
                FAILED
            }
            _ => GONE,
        };
        self.place.state(self.place.worker()).store(state, Ordering::Release);
        for other in (0..self.place.workers()).filter(|&other| other != self.place.worker()) {
            self.ring(other);
        }
    }
}

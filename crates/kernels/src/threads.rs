//! A pool of threads that divides tasks statically: thread `t` of `T` gets the `t`-th of `T` contiguous runs of
//! nearly equal length. A run that its worker has not begun when the caller is through with its own is run by the
//! caller: on a busy machine nobody waits for a worker that has no processor. Since kernels give every output (or every
//! fixed-size partial sum) to one task, results depend neither on the number of threads nor on who ran what.
//!
//! Any number of callers may share a pool. It runs one job at a time, and the others wait for their turn; jobs are single
//! kernels, so turns are short, and no more threads are at work than the pool has.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicU64 as Nanoseconds;
use std::sync::{PoisonError, TryLockError};
use std::time::Instant;

use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, UnsafeCell, hint,
    thread::{self, JoinHandle},
};

/// Rounds of the spin loop before a waiting worker goes to sleep: about a hundred microseconds, which covers the gaps
/// between the kernels of a step and yet leaves the processor to others when there is nothing to do.
const SPINS_BEFORE_SLEEP: u32 = if cfg!(loom) { 1 } else { 1_500 };
/// Rounds of the spin loop before the caller starts to yield its processor to a worker that has not finished.
const SPINS_BEFORE_YIELD: u32 = if cfg!(loom) { 0 } else { 4_000 };

/// Starts a worker of this number.
type Spawn = dyn Fn(usize, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// What a worker is to do: called with its number.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// Something on its own cache line, so that threads do not slow each other down.
#[repr(align(128))]
struct Apart<T>(T);

/// Time spent. It tells nobody what to do, so the model checker need not try its orders.
type Tally = Apart<Nanoseconds>;

fn tally() -> Tally {
    Apart(Nanoseconds::new(0))
}

struct Shared {
    /// Counts jobs published; a worker that sees a new number runs `job`.
    epoch: AtomicU64,
    /// Runs of the current job, the caller's own not counted, that are yet to be finished.
    pending: AtomicUsize,
    /// For each thread, the last epoch whose run somebody has taken on.
    taken: Vec<Apart<AtomicU64>>,
    /// The current job. Written only while `pending` is zero, under the pool's `turn`.
    job: UnsafeCell<Option<Job<'static>>>,
    /// Whether each worker sleeps (or is about to) and must be woken.
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    /// The first panic of a worker, handed to the caller.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Nanoseconds of work: per worker, its jobs; for thread 0, what callers report.
    busy: Vec<Tally>,
    /// Nanoseconds that callers have waited for workers, and for their turn.
    waited: Tally,
}

// SAFETY: `job` is the only part that is not already Sync. It is written by the one thread that holds the pool's
// `turn` lock while no worker runs (`pending` is zero), and read by workers only after they have seen, with Acquire,
// the epoch that the writer stored with Release.
unsafe impl Sync for Shared {}
// SAFETY: a `Job` is a shared reference to a Sync closure, which may be sent to other threads.
unsafe impl Send for Shared {}

/// Threads started once that run the parts of each job; the calling thread takes part as thread 0.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whose job is running.
    turn: Mutex<()>,
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadPool").field("threads", &self.threads()).finish()
    }
}

/// The part of `0..tasks` that thread `thread` of `threads` runs.
pub fn share(tasks: usize, thread: usize, threads: usize) -> Range<usize> {
    let at = |t: usize| (tasks as u128 * t as u128 / threads as u128) as usize;
    at(thread)..at(thread + 1)
}

impl ThreadPool {
    /// A pool of `threads` threads, the caller included; zero counts as one. When the system refuses to start a
    /// thread, the pool has fewer.
    pub fn new(threads: usize) -> Self {
        Self::start(threads.max(1), &|number, work| {
            thread::Builder::new().name(format!("kernels-{number}")).spawn(work)
        })
    }

    /// A pool whose workers `spawn` starts, as far as it does.
    fn start(threads: usize, spawn: &Spawn) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            asleep: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            taken: (0..threads).map(|_| Apart(AtomicU64::new(0))).collect(),
            busy: (0..threads).map(|_| tally()).collect(),
            waited: tally(),
        });
        let workers = (1..threads)
            .map_while(|number| {
                let shared = Arc::clone(&shared);
                spawn(number, Box::new(move || work(&shared, number))).ok()
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)` to `task(tasks - 1)`, divided over the threads, and returns when all are done.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.split(tasks, &|_, range| range.for_each(task));
    }

    /// Calls `part(thread, range)` once per thread with its run of `0..tasks`, and returns when all are done.
    /// Threads without tasks are not called. When the pool is busy with a job of another thread, waits for its turn. Only
    /// a part of another pool's job waits for no turn, because somebody may wait for it: there the calling thread runs
    /// everything, as thread 0.
    ///
    /// # Panics
    /// When called by a part of a job of this pool: it would run as thread 0 beside the thread that is that one, with
    /// the same scratch memory.
    pub fn split(&self, tasks: usize, part: &(dyn Fn(usize, Range<usize>) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 {
            return self.alone(tasks, part);
        }
        self.refuse_nested();
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Who waits is within no job and holds no turn, so that nobody waits in a circle.
            Err(TryLockError::WouldBlock) if within_a_job() => return self.alone(tasks, part),
            Err(TryLockError::WouldBlock) => self.wait_for_turn(),
        };
        // A worker's panic of an earlier job whose caller unwound by itself is of no interest any more.
        self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        let threads = self.threads();
        self.broadcast(&|thread| {
            let range = share(tasks, thread, threads);
            if !range.is_empty() {
                let _inside = Inside::of(self);
                part(thread, range);
            }
        });
        let panic = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Waits until no other thread's job is running.
    fn wait_for_turn(&self) -> MutexGuard<'_, ()> {
        let start = Instant::now();
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.waited.0.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        turn
    }

    /// Calls `part` for all of `0..tasks` on the calling thread, as thread 0.
    ///
    /// # Panics
    /// As [`ThreadPool::split`].
    pub(crate) fn alone(&self, tasks: usize, part: &(dyn Fn(usize, Range<usize>) + Sync)) {
        self.refuse_nested();
        if tasks > 0 {
            let _inside = Inside::of(self);
            part(0, 0..tasks);
        }
    }

    /// What tells this pool from all others while it lives.
    fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    fn refuse_nested(&self) {
        let nested = INSIDE.with(|pools| pools.borrow().contains(&self.identity()));
        assert!(!nested, "invariant: a part of a pool's job gives the same pool no job");
    }

    /// Publishes `job`, runs the caller's part, and waits for the workers. The caller holds `turn`.
    fn broadcast(&self, job: Job<'_>) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is changed. Workers use the reference only between taking a run on and counting it
        // as finished in `pending`, and `Wait` below keeps this function from returning (or unwinding) before that.
        let job_static: Job<'static> = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: the caller holds `turn` and `pending` is zero, so nobody reads the cell.
        shared.job.with_mut(|cell| unsafe { *cell = Some(job_static) });
        shared.pending.store(self.workers.len(), Ordering::Relaxed);
        let epoch = shared.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep[1..]) {
            if asleep.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        let _wait = Wait { shared, epoch, workers: self.workers.len() };
        job(0);
        for number in 1..=self.workers.len() {
            if shared.take(number, epoch) {
                let _done = Done(shared);
                job(number);
            }
        }
    }

    /// Nanoseconds that each thread has worked so far. Thread 0 stands for the callers: the time their programs ran,
    /// less the time they waited for other threads.
    pub fn busy_ns(&self) -> Vec<u64> {
        let mut busy: Vec<u64> = self.shared.busy.iter().map(|c| c.0.load(Ordering::Relaxed)).collect();
        busy[0] = busy[0].saturating_sub(self.shared.waited.0.load(Ordering::Relaxed));
        busy.truncate(self.threads());
        busy
    }

    /// Adds to the time of thread 0 what a caller has measured from outside, its waiting included.
    pub(crate) fn count_caller(&self, nanoseconds: u64) {
        self.shared.busy[0].0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches its jobs' panics, so joining cannot fail in a way worth reporting.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Takes on the run of thread `number` in `epoch`; says whether nobody had done so before. Who has taken a run on
    /// may use the current job until the run is counted as finished, since the job is not replaced before.
    fn take(&self, number: usize, epoch: u64) -> bool {
        self.taken[number].0.fetch_max(epoch, Ordering::AcqRel) < epoch
    }
}

// The pools for which this thread is running a part of a job, the innermost last.
#[cfg(not(loom))]
thread_local! {
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}
#[cfg(loom)]
loom::thread_local! {
    static INSIDE: RefCell<Vec<usize>> = RefCell::new(Vec::new());
}

/// Whether this thread is running a part of some pool's job.
fn within_a_job() -> bool {
    INSIDE.with(|pools| !pools.borrow().is_empty())
}

/// Marks the thread as running a part of a pool's job, until it is dropped.
struct Inside;

impl Inside {
    fn of(pool: &ThreadPool) -> Self {
        INSIDE.with(|pools| pools.borrow_mut().push(pool.identity()));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|pools| pools.borrow_mut().pop());
    }
}

/// Counts a run as finished on drop, also while unwinding.
struct Done<'a>(&'a Shared);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Release);
    }
}

/// Waits on drop until all runs of the current job are finished. While unwinding, runs that nobody has begun are left
/// out.
struct Wait<'a> {
    shared: &'a Shared,
    epoch: u64,
    workers: usize,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        for number in 1..=self.workers {
            if shared.take(number, self.epoch) {
                drop(Done(shared));
            }
        }
        if shared.pending.load(Ordering::Acquire) == 0 {
            return;
        }
        let start = Instant::now();
        let mut spins = 0;
        while shared.pending.load(Ordering::Acquire) != 0 {
            if spins < SPINS_BEFORE_YIELD {
                spins += 1;
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        shared.waited.0.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

/// The life of worker `number`.
fn work(shared: &Shared, number: usize) {
    let mut seen = 0;
    loop {
        seen = next_epoch(shared, number, seen);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if !shared.take(number, seen) {
            continue;
        }
        let _done = Done(shared);
        let start = Instant::now();
        // SAFETY: this epoch was published after `job` was written, and `job` is not written again before this run,
        // which this worker has taken on, is counted as finished.
        let job = shared.job.with(|cell| unsafe { *cell });
        if let Some(job) = job
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(number)))
        {
            shared.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        shared.busy[number].0.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Waits for an epoch other than `seen`: spins for a while, then sleeps.
fn next_epoch(shared: &Shared, number: usize, seen: u64) -> u64 {
    for _ in 0..SPINS_BEFORE_SLEEP {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != seen {
            return epoch;
        }
        hint::spin_loop();
    }
    // Sequential consistency between `asleep` and `epoch` on both sides: either this worker sees the new epoch, or
    // the publisher sees that it sleeps and wakes it.
    shared.asleep[number].store(true, Ordering::SeqCst);
    let epoch = loop {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            break epoch;
        }
        thread::park();
    };
    shared.asleep[number].store(false, Ordering::SeqCst);
    epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 3, 5] {
            let pool = ThreadPool::new(threads);
            for tasks in [0, 1, 2, 3, 7, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|t| {
                    counts[t].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_up() {
        let pool = ThreadPool::new(3);
        for pause_ms in [0, 1, 5, 0, 3] {
            thread::sleep(std::time::Duration::from_millis(pause_ms));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|t| {
                sum.fetch_add(t, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 4950);
        }
    }

    #[test]
    fn concurrent_jobs_finish() {
        let pool = ThreadPool::new(2);
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(4, &|_| {
                            sum.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 3 * 50 * 4);
    }

    /// A caller that came while the pool was busy ran everything on its own thread, and nobody was told.
    #[test]
    fn a_busy_pool_is_waited_for() {
        let pool = ThreadPool::new(2);
        let (busy, done) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                pool.split(2, &|thread, _| {
                    busy.fetch_or(thread == 0, Ordering::SeqCst);
                    while thread == 0 && !done.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                });
            });
            while !busy.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let second = scope.spawn(|| {
                let parts = Mutex::new(Vec::new());
                pool.split(4, &|_, range| parts.lock().unwrap().push(range));
                parts.into_inner().unwrap()
            });
            // It comes in the meantime, or (which shows nothing) later.
            thread::sleep(std::time::Duration::from_millis(50));
            done.store(true, Ordering::SeqCst);
            let mut parts = second.join().unwrap();
            parts.sort_by_key(|range| range.start);
            assert_eq!(parts, [0..2, 2..4], "both threads had a part");
        });
    }

    /// Parts of two pools' jobs that give each other's pool a job: were they to wait, it would be for ever.
    #[test]
    fn parts_of_jobs_wait_for_no_turn() {
        let pools = [ThreadPool::new(2), ThreadPool::new(2)];
        let (both, sum) = (std::sync::Barrier::new(2), AtomicUsize::new(0));
        thread::scope(|scope| {
            for (mine, other) in [(&pools[0], &pools[1]), (&pools[1], &pools[0])] {
                let (both, sum) = (&both, &sum);
                scope.spawn(move || {
                    mine.split(2, &|thread, _| {
                        if thread == 0 {
                            both.wait();
                            other.run(3, &|_| {
                                sum.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    });
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 6);
    }

    /// A part that gave its own pool a job ran it as thread 0, beside the thread that is: with several workers at the
    /// same time, and with their common scratch memory.
    #[test]
    fn a_job_within_a_job_is_refused() {
        for threads in [1, 2, 3] {
            let pool = ThreadPool::new(threads);
            for (tasks, inner) in [(1, 1), (1, 4), (2, 1), (8, 4)] {
                let ran = AtomicUsize::new(0);
                let result = catch_unwind(AssertUnwindSafe(|| {
                    pool.run(tasks, &|_| {
                        pool.run(inner, &|_| {
                            ran.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }));
                assert!(result.is_err(), "{threads} threads, {tasks} tasks, {inner} within");
                assert_eq!(ran.load(Ordering::Relaxed), 0);
            }
            let sum = AtomicUsize::new(0);
            pool.run(10, &|t| {
                // Another pool is another matter.
                ThreadPool::new(1).run(2, &|_| {
                    sum.fetch_add(t, Ordering::Relaxed);
                });
            });
            assert_eq!(sum.load(Ordering::Relaxed), 90);
        }
    }

    /// As under `ulimit -u`: only the first threads start.
    #[test]
    fn threads_that_cannot_start_are_done_without() {
        for started in [0, 1, 3] {
            let pool = ThreadPool::start(8, &move |number, work| {
                if number > started {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                thread::Builder::new().spawn(work)
            });
            assert_eq!((pool.threads(), pool.busy_ns().len()), (started + 1, started + 1));
            for tasks in [1, 2, 9, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.split(tasks, &|thread, range| {
                    assert!(thread <= started);
                    range.for_each(|t| assert!(counts[t].fetch_add(1, Ordering::Relaxed) == 0));
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{started} workers, {tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = ThreadPool::new(2);
        for bad in [0, 1] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(2, &|t| assert!(t != bad, "task {bad} fails"));
            }));
            assert!(result.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(10, &|t| {
            sum.fetch_add(t, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 45);
    }
}

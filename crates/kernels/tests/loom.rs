//! The thread pool's protocol, in every order in which its threads can run (with at most as many switches away from a
//! thread that could go on as said), under the C11 memory model: `RUSTFLAGS='--cfg loom' cargo test --release -p
//! outgrow-kernels --test loom`. Parts write cells that the caller reads afterwards: an access at the same time, or
//! one that is not ordered after the other, fails, and so does a thread that waits for ever.
#![cfg(loom)]
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use outgrow_kernels::ThreadPool;

/// What the tasks of a job write, each its own.
struct Cells(Vec<UnsafeCell<u32>>);

// SAFETY: loom's cells find accesses at the same time by themselves: that is what they are here for.
unsafe impl Sync for Cells {}
// SAFETY: numbers may go from thread to thread.
unsafe impl Send for Cells {}

impl Cells {
    fn new(len: usize) -> Self {
        Self((0..len).map(|_| UnsafeCell::new(0)).collect())
    }

    fn count(&self, task: usize) {
        // SAFETY: the checker fails the test when somebody else is at the cell.
        self.0[task].with_mut(|cell| unsafe { *cell += 1 });
    }

    /// How often each task ran.
    fn counts(&self) -> Vec<u32> {
        // SAFETY: as above.
        self.0.iter().map(|cell| cell.with(|cell| unsafe { *cell })).collect()
    }
}

/// A job of `tasks` tasks: all have run once when it returns.
fn job(pool: &ThreadPool, tasks: usize) {
    let cells = Cells::new(tasks);
    pool.run(tasks, &|task| cells.count(task));
    assert_eq!(cells.counts(), vec![1; tasks]);
}

fn check(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

#[test]
fn jobs_in_a_row() {
    check(3, || {
        let pool = ThreadPool::new(2);
        job(&pool, 2);
        job(&pool, 3);
    });
}

#[test]
fn two_workers() {
    check(2, || {
        let pool = ThreadPool::new(3);
        job(&pool, 3);
        job(&pool, 3);
    });
}

#[test]
fn a_pool_without_jobs_ends() {
    check(3, || drop(ThreadPool::new(3)));
}

#[test]
fn two_callers() {
    check(3, || {
        let pool = Arc::new(ThreadPool::new(2));
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || job(&pool, 2))
        };
        job(&pool, 2);
        other.join().expect("no panic");
    });
}

#[test]
fn a_panic_of_any_part() {
    for bad in [0, 1] {
        check(3, move || {
            let pool = ThreadPool::new(2);
            let cells = Cells::new(2);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(2, &|task| {
                    cells.count(task);
                    if task == bad {
                        std::panic::resume_unwind(Box::new("bad"));
                    }
                });
            }));
            assert!(result.is_err());
            // The checker's locks cannot be taken again after a panic, as the pool's can: no further job here.
            assert_eq!(cells.counts()[bad], 1);
        });
    }
}

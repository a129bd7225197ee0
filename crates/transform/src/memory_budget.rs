//! Memory that threads share: each says how much its next piece of work takes, and waits while the others have it.

use std::sync::{Condvar, Mutex, PoisonError};

/// So many bytes, and how many of them are taken.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    bytes: usize,
    taken: Mutex<usize>,
    given_back: Condvar,
}

/// A part of a budget, given back when it is dropped. A thread that waits for a part must hold no other.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    budget: &'a MemoryBudget,
    bytes: usize,
}

impl MemoryBudget {
    pub const fn new(bytes: usize) -> Self {
        Self { bytes, taken: Mutex::new(0), given_back: Condvar::new() }
    }

    /// Waits until so many bytes are free. What is larger than all of the budget gets all of it, and so works alone.
    pub fn take(&self, bytes: usize) -> Share<'_> {
        let bytes = bytes.min(self.bytes);
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = |taken: &mut usize| *taken + bytes > self.bytes;
        let mut taken = self.given_back.wait_while(taken, free).unwrap_or_else(PoisonError::into_inner);
        *taken += bytes;
        Share { budget: self, bytes }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.budget.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_is_out_than_there_is_and_everybody_gets_a_share() {
        let budget = MemoryBudget::new(100);
        let (out, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (budget, out, most, done) = (&budget, &out, &most, &done);
                scope.spawn(move || {
                    for i in 0..200 {
                        // Some are larger than the budget, and some take nothing.
                        let bytes = (thread * 31 + i * 17) % 130;
                        let share = budget.take(bytes);
                        let now = out.fetch_add(bytes.min(100), Ordering::SeqCst) + bytes.min(100);
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        out.fetch_sub(bytes.min(100), Ordering::SeqCst);
                        drop(share);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 800);
        assert!(most.into_inner() <= 100);
        assert_eq!(*budget.taken.lock().unwrap(), 0);
    }
}

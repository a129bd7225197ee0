//! Panics of libraries that read outside input. Whatever is in a file, it must end in a diagnostic: neither the process
//! nor a message on stderr may come of a decoder that gave up.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    /// How many shields this thread is under.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

struct Raised;

impl Drop for Raised {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Runs `work` on outside input; `None` when it panicked. What it was working on must not be used again then.
pub fn shielded<T>(work: impl FnOnce() -> T) -> Option<T> {
    DEPTH.set(DEPTH.get() + 1);
    let raised = Raised;
    let result = catch_unwind(AssertUnwindSafe(work));
    drop(raised);
    result.ok()
}

/// Makes the process's panic hook say nothing about panics that [`shielded`] catches. For programs: once, at their start.
pub fn quiet_shielded_panics() {
    let usual = take_hook();
    set_hook(Box::new(move |info| {
        if DEPTH.get() == 0 {
            usual(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_end_at_the_shield() {
        assert_eq!(shielded(|| 3), Some(3));
        assert_eq!(shielded(|| shielded(|| -> usize { [1][DEPTH.get() + 7] })), Some(None));
        assert_eq!(DEPTH.get(), 0);
    }
}

//! Work that is divided over threads. Which thread does what changes nothing but the time: where the system starts none,
//! the calling thread does all of it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` on consecutive pieces of `0..count`, at most one for each of `threads`, and gives what became of them in
/// their order: nothing for a piece whose work panicked. The calling thread does the first piece, and every piece that
/// the system refuses a thread for.
pub(crate) fn in_pieces<R: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(Range<usize>) -> R + Sync,
) -> Vec<Option<R>> {
    let piece = count.div_ceil(threads.max(1)).max(1);
    let range = |from: usize| from..(from + piece).min(count);
    let caught = |range| catch_unwind(AssertUnwindSafe(|| work(range))).ok();
    if count <= piece {
        return vec![caught(range(0))];
    }
    std::thread::scope(|scope| {
        let caught = &caught;
        let start = |from| std::thread::Builder::new().spawn_scoped(scope, move || caught(range(from)));
        let others: Vec<_> = (piece..count).step_by(piece).map(|from| (from, start(from).ok())).collect();
        let mut done = vec![caught(range(0))];
        for (from, thread) in others {
            done.push(match thread {
                Some(thread) => thread.join().ok().flatten(),
                None => caught(range(from)),
            });
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_their_order_whatever_the_threads() {
        for (count, threads) in [(0, 3), (1, 3), (7, 1), (7, 3), (7, 0), (7, 50), (100, 4)] {
            let pieces = in_pieces(count, threads, |range| range.collect::<Vec<_>>());
            let all: Vec<usize> = pieces.iter().flatten().flatten().copied().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>(), "{count} over {threads}");
            assert!(pieces.len() <= threads.max(1));
        }
    }
}

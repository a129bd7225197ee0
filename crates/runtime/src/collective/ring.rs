//! The ring (Patarasu and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", JPDC 2009): in
//! `n - 1` rounds each worker passes on to the next one a part to which it has added its own. A sum begins with another
//! worker for each part and has the order of the ring, so its bits depend on the workers: the measure of what the
//! canonical order costs, and for sums whose order is of no matter.

use super::gather;
use super::schedule::{Round, Schedule, Transfer};
use std::ops::Range;

/// Part `p` of the sum of all workers' first vectors comes to worker `p`.
pub fn reduce_scatter(parts: &[Range<usize>]) -> Schedule {
    let workers = parts.len();
    let mut schedule = Schedule::empty(workers);
    for step in 1..workers {
        let mut round = Round::default();
        for from in 0..workers {
            let range = parts[(from + workers - step) % workers].clone();
            let to = (from + 1) % workers;
            round.transfers.push(Transfer { from, to, source: 0, target: 0, range, add: true });
        }
        schedule.push(round);
    }
    schedule
}

/// The sum of all workers' first vectors, at all of them: `2 (n - 1)` messages from each, and `2 (n - 1) / n` of a vector.
pub fn all_reduce(parts: &[Range<usize>]) -> Schedule {
    reduce_scatter(parts).then(gather::ring(parts))
}

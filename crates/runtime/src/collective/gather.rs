//! All-gather: everybody gets everybody's part of the first vector.

use super::schedule::{Round, Schedule, Transfer};
use std::ops::Range;

fn transfer(from: usize, to: usize, range: Range<usize>) -> Transfer {
    Transfer { from, to, source: 0, target: 0, range, add: false }
}

/// Each sends its part to all others at once: one round, `n - 1` messages from each, `(n - 1) / n` of a vector.
pub fn direct(parts: &[Range<usize>]) -> Schedule {
    let workers = parts.len();
    let mut round = Round::default();
    for (from, range) in parts.iter().enumerate() {
        let others = (1..workers).map(|distance| (from + distance) % workers);
        round.transfers.extend(others.map(|to| transfer(from, to, range.clone())));
    }
    let mut schedule = Schedule::empty(workers);
    schedule.push(round);
    schedule
}

/// Recursive doubling (Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH",
/// IJHPCA 2005, section 4.1): at distance 1, 2, 4, … two workers exchange all that they have. `log2 n` rounds with a
/// message each; for powers of two, elsewhere [`direct`].
pub fn doubling(parts: &[Range<usize>]) -> Schedule {
    let workers = parts.len();
    if !workers.is_power_of_two() {
        return direct(parts);
    }
    let mut schedule = Schedule::empty(workers);
    for distance in (0..workers.ilog2()).map(|bit| 1usize << bit) {
        let mut round = Round::default();
        for from in 0..workers {
            let first = from & !(distance - 1);
            let all = first..first + distance;
            round.transfers.extend(all.map(|part| transfer(from, from ^ distance, parts[part].clone())));
        }
        schedule.push(round);
    }
    schedule
}

/// Around a ring: in each of `n - 1` rounds everybody passes on to the next worker what came from the one before.
pub fn ring(parts: &[Range<usize>]) -> Schedule {
    let workers = parts.len();
    let mut schedule = Schedule::empty(workers);
    for step in 1..workers {
        let mut round = Round::default();
        for from in 0..workers {
            let part = (from + workers + 1 - step) % workers;
            round.transfers.push(transfer(from, (from + 1) % workers, parts[part].clone()));
        }
        schedule.push(round);
    }
    schedule
}

/// Everybody's part to one worker, in one round.
pub fn to_one(root: usize, parts: &[Range<usize>]) -> Schedule {
    let mut round = Round::default();
    let others = parts.iter().enumerate().filter(|(from, _)| *from != root);
    round.transfers.extend(others.map(|(from, range)| transfer(from, root, range.clone())));
    let mut schedule = Schedule::empty(parts.len());
    schedule.push(round);
    schedule
}

//! Between two workers of a group: send and receive, and both ways at once. The others have no part in it, and need not
//! take one.

use super::schedule::{Round, Schedule, Transfer};
use std::ops::Range;

fn transfer([from, to]: [usize; 2], [source, target]: [usize; 2], range: Range<usize>) -> Transfer {
    Transfer { from, to, source, target, range, add: false }
}

/// These bytes of the first vector of `from` become those of the first vector of `to`: one message.
pub fn send(from: usize, to: usize, workers: usize, range: Range<usize>) -> Schedule {
    let mut schedule = Schedule::empty(workers);
    let transfers = if from == to { Vec::new() } else { vec![transfer([from, to], [0, 0], range)] };
    schedule.push(Round { transfers, locals: Vec::new() });
    schedule
}

/// These bytes of the first vector of each of two workers become those of the other's second vector: a message from each,
/// at the same time.
pub fn swap(one: usize, other: usize, workers: usize, range: Range<usize>) -> Schedule {
    let mut schedule = Schedule::empty(workers);
    let both = [[one, other], [other, one]].map(|ends| transfer(ends, [0, 1], range.clone()));
    let transfers = if one == other { Vec::new() } else { both.to_vec() };
    schedule.push(Round { transfers, locals: Vec::new() });
    schedule
}

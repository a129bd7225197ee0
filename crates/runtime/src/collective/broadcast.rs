//! Broadcast: all get the root's first vector.

use super::gather;
use super::schedule::{Round, Schedule, Transfer};
use super::tree::runs;
use std::ops::Range;

/// By a binomial tree: in each round all who have it send it to one more. `log2 n` rounds, of a whole vector each: for
/// short messages.
pub fn tree(root: usize, workers: usize, range: Range<usize>) -> Schedule {
    let mut schedule = Schedule::empty(workers);
    let worker = |rank: usize| (root + rank) % workers;
    let mut have = 1;
    while have < workers {
        let mut round = Round::default();
        for rank in (have..workers).take(have) {
            let (from, to) = (worker(rank - have), worker(rank));
            round.transfers.push(Transfer {
                from,
                to,
                source: 0,
                target: 0,
                range: range.clone(),
                add: false,
            });
        }
        schedule.push(round);
        have *= 2;
    }
    schedule
}

/// A part to each, which then go around to all (van de Geijn): nobody sends more than twice a vector.
pub fn scattered(root: usize, workers: usize, range: Range<usize>) -> Schedule {
    let cut = |part: Range<usize>| range.start + part.start..range.start + part.end;
    let parts: Vec<Range<usize>> = runs(range.len(), workers).map(cut).collect();
    let mut round = Round::default();
    for (to, range) in parts.iter().enumerate().filter(|(to, _)| *to != root) {
        round.transfers.push(Transfer {
            from: root,
            to,
            source: 0,
            target: 0,
            range: range.clone(),
            add: false,
        });
    }
    let mut schedule = Schedule::empty(workers);
    schedule.push(round);
    // The root has all parts already, and sends only its own.
    let mut around = gather::direct(&parts);
    for round in &mut around.rounds {
        round.transfers.retain(|transfer| transfer.to != root);
    }
    schedule.then(around)
}

//! For workers of which some share a machine: inside machines, and as little as can be between them. `machines` has, by
//! worker, the machine that it is on.

use super::schedule::{Round, Schedule, Transfer};
use super::tree::Tree;
use super::{broadcast as flat, canonical};
use std::collections::BTreeMap;
use std::ops::Range;

/// The workers of each machine, in their order.
fn members(machines: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    machines
        .iter()
        .enumerate()
        .for_each(|(worker, machine)| members.entry(*machine).or_default().push(worker));
    members
}

/// [`canonical::reduce_scatter`], with the same bits: additions are where the fewest vectors go between machines, and among
/// such places where the fewest move at all.
pub fn reduce_scatter(tree: &Tree, parts: &[Range<usize>], machines: &[usize]) -> Schedule {
    // More than all moves inside machines together: a node is moved once at most.
    let far = 4 * tree.leaves();
    canonical::reduce_scatter_by(tree, parts, &|from, to| {
        if machines[from] == machines[to] { 1 } else { far }
    })
}

/// All-gather: everybody gets everybody's part of the first vector, in two rounds. Each part goes to one worker of each
/// other machine, the workers of a machine taking turns, and that one passes it on to those beside it.
pub fn all_gather(parts: &[Range<usize>], machines: &[usize]) -> Schedule {
    let members = members(machines);
    let (mut out, mut on) = (Round::default(), Round::default());
    let send = |round: &mut Round, from: usize, to: usize, part: usize| {
        let range = parts[part].clone();
        round.transfers.push(Transfer { from, to, source: 0, target: 0, range, add: false });
    };
    for (home, own) in &members {
        for (rank, part) in own.iter().copied().enumerate() {
            own.iter().filter(|to| **to != part).for_each(|to| send(&mut out, part, *to, part));
            for (_, others) in members.iter().filter(|(machine, _)| *machine != home) {
                let first = others[rank % others.len()];
                send(&mut out, part, first, part);
                others.iter().filter(|to| **to != first).for_each(|to| send(&mut on, first, *to, part));
            }
        }
    }
    let mut schedule = Schedule::empty(machines.len());
    schedule.push(out);
    schedule.push(on);
    schedule
}

/// The sum in the order of the tree at all workers: [`reduce_scatter`] and [`all_gather`].
pub fn all_reduce(tree: &Tree, parts: &[Range<usize>], machines: &[usize]) -> Schedule {
    reduce_scatter(tree, parts, machines).then(all_gather(parts, machines))
}

/// All get these bytes of the root's first vector: one worker of each machine first, and from that one the others.
pub fn broadcast(root: usize, range: Range<usize>, machines: &[usize]) -> Schedule {
    let (workers, members) = (machines.len(), members(machines));
    let leader = |own: &Vec<usize>| if own.contains(&root) { root } else { own[0] };
    let leaders: Vec<usize> = members.values().map(leader).collect();
    let rank = |of: &[usize], worker: usize| of.iter().position(|one| *one == worker).unwrap_or(0);
    let between = flat::tree(rank(&leaders, root), leaders.len(), range.clone()).among(workers, &leaders);
    let inside = members
        .values()
        .zip(&leaders)
        .map(|(own, leader)| flat::tree(rank(own, *leader), own.len(), range.clone()).among(workers, own));
    between.then(inside.fold(Schedule::empty(workers), Schedule::beside))
}

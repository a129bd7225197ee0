//! The sum of all workers' leaves by the one fixed tree, computed by each of them for itself: everybody's terms go to
//! everybody in one round. As many messages as a barrier, and no second latency: for short vectors, and for links whose
//! latency is long.

use super::schedule::{Local, Round, Schedule, Transfer};
use super::tree::{Node, Tree};
use std::ops::Range;

/// These bytes of the sum of all leaves come to every worker, in its first vector, with the bits of
/// [`super::canonical::reduce_scatter`]. A worker's vectors are first the sums of its largest subtrees, in their order, and
/// behind them as many as the others have together, in which anything may be.
pub fn all_reduce(tree: &Tree, range: Range<usize>) -> Schedule {
    let workers = tree.workers();
    let mut round = Round::default();
    for from in 0..workers {
        for (source, node) in tree.subtrees(from).enumerate() {
            for to in (0..workers).filter(|to| *to != from) {
                let target = slot(tree, to, node);
                let range = range.clone();
                round.transfers.push(Transfer { from, to, source, target, range, add: false });
            }
        }
    }
    for worker in 0..workers {
        let mut put = |source, target, add| {
            round.locals.push(Local { worker, source, target, range: range.clone(), add });
        };
        let at = sum(tree, worker, Node::ROOT, &mut put);
        if at != 0 {
            put(at, 0, false);
        }
    }
    let mut schedule = Schedule::empty(workers);
    schedule.push(round);
    schedule
}

/// In which of a worker's vectors a largest subtree of some worker is: its own ones first, then the others' from left to
/// right.
fn slot(tree: &Tree, worker: usize, node: Node) -> usize {
    let before = |own: &Node| *own != node;
    if tree.is_of(worker, node) {
        return tree.subtrees(worker).take_while(before).count();
    }
    let others = (0..tree.workers()).filter(|other| *other != worker).flat_map(|other| tree.subtrees(other));
    tree.subtrees(worker).count() + others.take_while(before).count()
}

/// Adds what a node is the sum of, the right child to the left one; says in which vector it is then.
fn sum(tree: &Tree, worker: usize, node: Node, put: &mut impl FnMut(usize, usize, bool)) -> usize {
    if tree.owner(node).is_some() {
        return slot(tree, worker, node);
    }
    let [left, right] = node.children().map(|child| sum(tree, worker, child, put));
    put(right, left, true);
    left
}

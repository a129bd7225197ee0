//! Which algorithm to take: the cheapest on given links, among those that give the same bits. What is chosen is thus never
//! seen in a result, only in its time. All workers of a group must know the same links, since all of them must choose the
//! same.

use super::cost::Links;
use super::schedule::Schedule;
use super::tree::{Tree, runs};
use super::{broadcast, canonical, everywhere, gather, hierarchical};
use std::ops::Range;

/// Into how many pieces a vector is cut at most, which go through their rounds one after the other.
const PIECES: [usize; 4] = [1, 2, 4, 8];

/// All-gather: everybody gets everybody's part of the first vector.
pub fn all_gather(parts: &[Range<usize>], links: &Links) -> Schedule {
    let flat = [gather::direct(parts), gather::doubling(parts), gather::ring(parts)];
    let deep = links.are_deep().then(|| hierarchical::all_gather(parts, &links.machines));
    best(links, parts.len(), flat.into_iter().chain(deep))
}

/// Broadcast: all get these bytes of the root's first vector.
pub fn broadcast(root: usize, range: Range<usize>, links: &Links) -> Schedule {
    let workers = links.machines.len();
    let all = [broadcast::tree, broadcast::scattered].map(|of| of(root, workers, range.clone()));
    let deep = links.are_deep().then(|| hierarchical::broadcast(root, range, &links.machines));
    best(links, workers, all.into_iter().chain(deep))
}

/// All-reduce in the order of the tree: these elements of the sum of all leaves come to every worker, in its first vector.
/// A worker's other vectors are those of [`everywhere::all_reduce`], of which the schedule needs no more than
/// [`super::Part::slots`] says.
pub fn all_reduce(tree: &Tree, elements: Range<usize>, links: &Links) -> Schedule {
    let workers = tree.workers();
    let at_once = everywhere::all_reduce(tree, 4 * elements.start..4 * elements.end);
    let in_pieces = PIECES.into_iter().map(|pieces| {
        let pieces = runs(elements.len(), pieces).map(|piece| {
            let start = elements.start + piece.start;
            let part = |part: Range<usize>| 4 * (start + part.start)..4 * (start + part.end);
            let parts: Vec<Range<usize>> = runs(piece.len(), workers).map(part).collect();
            let reduced = if links.are_deep() {
                hierarchical::reduce_scatter(tree, &parts, &links.machines)
            } else {
                canonical::reduce_scatter(tree, &parts)
            };
            reduced.then(all_gather(&parts, links))
        });
        Schedule::staggered(workers, pieces)
    });
    best(links, workers, std::iter::once(at_once).chain(in_pieces))
}

fn best(links: &Links, workers: usize, schedules: impl IntoIterator<Item = Schedule>) -> Schedule {
    links.cheapest(schedules).unwrap_or_else(|| Schedule::empty(workers))
}

//! Who does what in a step: which worker computes which leaves of the tree, and which one combines which range of the
//! vector.

use crate::flat::{block_ranges, blocks};
use outgrow_ir::{Diagnostic, counted};
use outgrow_kernels::SUM_BLOCK;
use outgrow_runtime::collective::{
    Links, Schedule, Tree, canonical, choose, everywhere, gather, hierarchical,
};
use std::ops::Range;

/// Bytes of each worker's range that are exchanged at a time: little enough to be in the caches still when they are used.
const PIECE: usize = 128 << 10;

/// The same between machines: the longer the latency, the more of them, since a piece waits for the one before.
const PIECES: [usize; 4] = [PIECE, 1 << 20, 8 << 20, usize::MAX];

/// Shorter vectors than this many elements are updated by all workers alike: their exchange is a matter of latency.
const SHORT: usize = 1 << 16;

/// A bucket has at least so many bytes, but for the last one: less is a matter of latency.
const BUCKET: usize = 1 << 20;

/// There are about so many buckets at most: each costs its messages.
const BUCKETS: usize = 8;

/// The vector that a step combines: gradients, laid out as the parameters, and behind them sums over the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combined {
    /// How many elements are gradients.
    pub gradients: usize,
    /// How many elements there are.
    pub elements: usize,
    /// After how many steps of the program that computes a leaf these elements are final: all that there are, in order.
    pub finals: Vec<(Range<usize>, usize)>,
}

impl Combined {
    /// After how many steps the last of these elements is final.
    fn after(&self, elements: &Range<usize>) -> usize {
        let first = self.finals.partition_point(|(own, _)| own.end <= elements.start);
        let meeting = self.finals[first..].iter().take_while(|(own, _)| own.start < elements.end);
        meeting.map(|(_, after)| *after).max().unwrap_or(0)
    }

    /// The vector cut into stretches that are exchanged apart, in the order in which they are there. From its end, where
    /// gradients are final first, blocks that are final at different times are put together until there are enough.
    fn buckets(&self, workers: usize) -> Vec<Bucket> {
        let least = if workers > 1 { (self.gradients / BUCKETS).max(BUCKET / 4) } else { usize::MAX };
        let mut buckets: Vec<Bucket> = Vec::new();
        let all = self.gradients.div_ceil(SUM_BLOCK).max(1);
        for start in (0..all).rev().map(|block| block * SUM_BLOCK) {
            let end = if start / SUM_BLOCK + 1 == all { self.elements } else { start + SUM_BLOCK };
            let after = self.after(&(start..end));
            match buckets.last_mut().filter(|last| last.after == after || last.elements.len() < least) {
                Some(last) => {
                    last.elements.start = start;
                    last.after = last.after.max(after);
                }
                None => buckets.push(Bucket { elements: start..end, after, ranges: Vec::new() }),
            }
        }
        for Bucket { elements, ranges, .. } in &mut buckets {
            let Range { start, end } = *elements;
            let own = block_ranges(end.min(self.gradients) - start, workers);
            *ranges = own.into_iter().map(|range| start + range.start..start + range.end).collect();
        }
        buckets.sort_by_key(|bucket| bucket.after);
        buckets
    }
}

/// A stretch of the combined vector that the workers exchange by itself, as soon as each has computed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its elements: gradients, and at the end of the vector sums over the batch, which the last worker combines.
    pub elements: Range<usize>,
    /// After how many steps of the program that computes a leaf it is final.
    pub after: usize,
    /// The gradients in it that each worker combines.
    ranges: Vec<Range<usize>>,
}

/// Who does what in a step. The numbers that come out depend on the number of leaves alone.
#[derive(Clone, Debug, PartialEq)]
pub struct StepPlan {
    /// The leaves, and whose they are.
    pub tree: Tree,
    /// Whether each worker updates its own ranges of the parameters, rather than all of them all.
    pub sharded: bool,
    /// What is exchanged, in this order.
    buckets: Vec<Bucket>,
    /// How many elements are gradients, and how many there are.
    gradients: usize,
    elements: usize,
    /// By what they cost it is chosen how.
    links: Links,
}

impl StepPlan {
    /// A plan for the workers of these links. The vector is cut into buckets between blocks, as [`crate::Layout::ranges`] cuts, and
    /// so is each bucket among the workers; what they have to combine of a bucket differs by a block at most. Whether ranges
    /// of the parameters can be updated apart, `cut` says. How it is exchanged hangs on what the links cost, which must be the
    /// same for all workers.
    ///
    /// # Errors
    /// When the leaves are no power of two, or fewer than the workers.
    pub fn new(leaves: usize, vector: &Combined, cut: bool, links: Links) -> Result<Self, Diagnostic> {
        let workers = links.machines.len();
        check(leaves, workers)?;
        let Combined { gradients, elements, .. } = *vector;
        let sharded = cut && workers > 1 && gradients >= SHORT;
        let (tree, buckets) = (Tree::new(leaves, workers), vector.buckets(workers));
        Ok(Self { tree, sharded, buckets, gradients, elements, links })
    }

    /// What is exchanged, in this order.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// The elements of the gradients that a worker combines, in their order.
    pub fn combined(&self, worker: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<_> = self.buckets.iter().map(|bucket| bucket.ranges[worker].clone()).collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    /// The elements of the parameters that a worker updates, in their order.
    pub fn updated(&self, worker: usize) -> Vec<Range<usize>> {
        let all = 0..self.gradients;
        if self.sharded { self.combined(worker) } else { Vec::from([all]) }
    }

    /// How many elements are gradients.
    pub fn gradients(&self) -> usize {
        self.gradients
    }

    /// What stands behind the gradients: sums over the batch, which the last worker combines.
    pub fn sums(&self) -> Range<usize> {
        self.gradients..self.elements
    }

    /// How a bucket of the workers' sums of their largest subtrees becomes that of the whole sum, a piece of each range
    /// after the other: with each worker its own range of it, or if it is not sharded, with all of them all of it.
    pub fn reduce(&self, bucket: &Bucket) -> Schedule {
        let last = bucket.ranges.len() - 1;
        let end = |worker: usize| {
            let range = &bucket.ranges[worker];
            // What lies behind the last range of the gradients belongs to it.
            if worker == last { bucket.elements.end } else { range.end }
        };
        let all: Vec<Range<usize>> =
            bucket.ranges.iter().enumerate().map(|(w, range)| 4 * range.start..4 * end(w)).collect();
        let machines = &self.links.machines;
        let pieces = if machines.iter().all(|own| own == &machines[0]) { &PIECES[..1] } else { &PIECES };
        let in_pieces = pieces.iter().map(|piece| self.in_pieces(&all, *piece));
        // Each worker has as many vectors more as there are subtrees with others.
        let at_once = (!self.sharded && self.elements < SHORT)
            .then(|| everywhere::all_reduce(&self.tree, 4 * bucket.elements.start..4 * bucket.elements.end));
        let cheapest = self.links.cheapest(in_pieces.chain(at_once));
        cheapest.unwrap_or_else(|| Schedule::empty(self.tree.workers()))
    }

    /// How these bytes, which each worker combines some of, become those of the whole sum, so many of each range at a time.
    fn in_pieces(&self, all: &[Range<usize>], piece: usize) -> Schedule {
        let longest = all.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let piece = piece.min(longest).max(4);
        let part = |number: usize| {
            let cut = |range: &Range<usize>| {
                let at = |number: usize| (range.start + number * piece).min(range.end);
                at(number)..at(number + 1)
            };
            let parts: Vec<Range<usize>> = all.iter().map(cut).collect();
            let reduced = match self.links.are_deep() {
                true => hierarchical::reduce_scatter(&self.tree, &parts, &self.links.machines),
                false => canonical::reduce_scatter(&self.tree, &parts),
            };
            if self.sharded { reduced } else { reduced.then(choose::all_gather(&parts, &self.links)) }
        };
        Schedule::staggered(self.tree.workers(), (0..longest.div_ceil(piece)).map(part))
    }

    /// How each worker's ranges of a vector that is laid out as the parameters come to all.
    pub fn share(&self) -> Schedule {
        self.gathered(|ranges| choose::all_gather(ranges, &self.links))
    }

    /// How they come to the first worker.
    pub fn collect(&self) -> Schedule {
        self.gathered(|ranges| gather::to_one(0, ranges))
    }

    /// All buckets at once.
    fn gathered(&self, gather: impl Fn(&[Range<usize>]) -> Schedule) -> Schedule {
        let buckets = self.buckets.iter().map(|bucket| gather(&bytes(&bucket.ranges)));
        buckets.fold(Schedule::empty(self.tree.workers()), Schedule::beside)
    }

    /// By bucket, the numbers of the blocks of the gradients that each worker combines.
    pub fn blocks(&self) -> impl Iterator<Item = Vec<Range<usize>>> {
        let block = |range: &Range<usize>| {
            let start = range.start / SUM_BLOCK;
            start..start + blocks(range.len())
        };
        self.buckets.iter().map(move |bucket| bucket.ranges.iter().map(block).collect())
    }
}

fn bytes(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    ranges.iter().map(|range| 4 * range.start..4 * range.end).collect()
}

/// Whether so many workers can share so many micro-shards.
///
/// # Errors
/// When they cannot: with how they could.
pub fn check(leaves: usize, workers: usize) -> Result<(), Diagnostic> {
    if !leaves.is_power_of_two() {
        return Err(Diagnostic::new("train.micro-shards", format!("{leaves} micro-shards make no tree"))
            .item("train.micro_shards")
            .expected("a power of two"));
    }
    if !(1..=leaves).contains(&workers) {
        let problem = format!("{workers} workers cannot share {}", counted(leaves, "micro-shard"));
        let enough = workers.clamp(1, 1 << 20).next_power_of_two();
        return Err(Diagnostic::new("train.micro-shards", problem)
            .item("train.micro_shards")
            .expected("at least one micro-shard for each worker")
            .hint(format!("--set train.micro_shards={enough}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_runtime::collective::Link;

    /// A vector of so many gradients, the last half of which is final after 3 steps, all of it after 7.
    fn vector(gradients: usize) -> Combined {
        let (half, elements) = (gradients / 2, gradients + 50);
        Combined {
            gradients,
            elements,
            finals: vec![(0..half, 7), (half..gradients, 3), (gradients..elements, 2)],
        }
    }

    /// Links within a machine.
    fn near(workers: usize) -> Links {
        Links::usual("threads", workers)
    }

    #[test]
    fn every_element_has_one_owner() {
        for leaves in [1usize, 2, 4, 8, 16] {
            for workers in 1..=leaves {
                for gradients in [0, 1, 4096, 4097, 5 * 4096, 100_000, 3_000_000] {
                    let plan = StepPlan::new(leaves, &vector(gradients), true, near(workers)).unwrap();
                    let mut all: Vec<_> = (0..workers).flat_map(|worker| plan.combined(worker)).collect();
                    all.sort_by_key(|range| (range.start, range.end));
                    assert_eq!((all[0].start, all.last().unwrap().end), (0, gradients));
                    for two in all.windows(2) {
                        assert_eq!(two[0].end, two[1].start);
                        assert!(two[1].start.is_multiple_of(SUM_BLOCK) || two[1].start == gradients);
                    }
                    for bucket in plan.buckets() {
                        plan.reduce(bucket).check(4 * (gradients + 50)).unwrap();
                    }
                    plan.share().check(4 * gradients).unwrap();
                    plan.collect().check(4 * gradients).unwrap();
                    assert_eq!(plan.sharded, workers > 1 && gradients >= 100_000);
                }
            }
        }
    }

    #[test]
    fn buckets_cover_the_vector_and_come_when_they_are_final() {
        let plan = StepPlan::new(2, &vector(3_000_000), true, near(2)).unwrap();
        // The half that is final first, with the sums behind it, up to the block in the middle.
        let found: Vec<_> = plan.buckets().iter().map(|b| (b.after, b.elements.clone())).collect();
        let middle = 1_500_000usize.next_multiple_of(SUM_BLOCK);
        assert_eq!(found, [(3, middle..3_000_050), (7, 0..middle)]);
        // Layers that are final one after the other, of a block each and of many.
        let finals =
            (0..2000).map(|i| (i * 4096..(i + 1) * 4096, 2000 - i)).chain([(2000 * 4096..9_000_000, 1)]);
        let deep = Combined { gradients: 9_000_000, elements: 9_000_010, finals: finals.collect() };
        let plan = StepPlan::new(2, &deep, true, near(2)).unwrap();
        assert!(plan.buckets().len() <= BUCKETS + 1, "{:?}", plan.buckets());
        let mut next = 9_000_010;
        for bucket in plan.buckets() {
            assert_eq!((bucket.elements.end, bucket.after), (next, deep.after(&bucket.elements)));
            next = bucket.elements.start;
        }
        assert_eq!(next, 0);
        for vector in [vector(3_000_000), vector(1000)] {
            let alone = StepPlan::new(2, &vector, true, near(1)).unwrap();
            assert_eq!(alone.buckets().len(), 1, "nobody to exchange with");
        }
    }

    /// Links between machines, with so many workers on each.
    fn far(workers: usize, on_each: usize, latency_s: f64) -> Links {
        let between = Link { latency_s, byte_s: 1e-9, gap_s: 1e-6 };
        let machines = (0..workers).map(|worker| worker / on_each).collect();
        Links { machines, between, ..near(workers) }
    }

    #[test]
    fn the_longer_the_latency_the_fewer_the_rounds() {
        let rounds = |links: Links, gradients: usize, cut: bool| {
            let plan = StepPlan::new(8, &vector(gradients), cut, links).unwrap();
            let checked = |schedule: Schedule| {
                schedule.check(4 * (gradients + 50)).unwrap();
                schedule.rounds.len()
            };
            let reduced = plan.buckets().iter().map(|bucket| checked(plan.reduce(bucket))).sum::<usize>();
            (reduced, checked(plan.share()))
        };
        for workers in [3, 4, 8] {
            for on_each in [1, 2] {
                // Short vectors go to everybody at once.
                assert_eq!(rounds(far(workers, on_each, 0.01), 1000, true).0, 1);
                let (near, _) = rounds(near(workers), 3_000_000, true);
                let (quick, _) = rounds(far(workers, on_each, 1e-5), 3_000_000, true);
                let (slow, shared) = rounds(far(workers, on_each, 0.01), 3_000_000, true);
                assert!(
                    slow <= quick && slow < near,
                    "{slow} rounds, {quick} and {near} with short latencies"
                );
                assert!(shared <= 2, "{shared}");
                // What is not cut among the workers comes to all of them.
                assert!(rounds(far(workers, on_each, 0.01), 3_000_000, false).0 >= slow);
            }
        }
    }

    #[test]
    fn what_cannot_be_shared_says_how_it_could() {
        let vector = vector(0);
        assert!(StepPlan::new(6, &vector, true, near(1)).unwrap_err().to_string().contains("power of two"));
        let text = StepPlan::new(4, &vector, true, near(5)).unwrap_err().to_string();
        assert!(text.contains("--set train.micro_shards=8"), "{text}");
        assert!(StepPlan::new(4, &vector, true, near(0)).is_err());
    }
}

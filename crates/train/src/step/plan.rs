//! Who does what in a step: which worker computes which leaves of the tree, and which one combines which range of the
//! vector.

use crate::flat::block_ranges;
use outgrow_ir::Diagnostic;
use outgrow_runtime::collective::{Schedule, Tree, canonical, gather};
use std::ops::Range;

/// Bytes of each worker's range that are exchanged at a time: little enough to be in the caches still when they are used.
const PIECE: usize = 128 << 10;

/// Shorter vectors than this many elements are updated by all workers alike: their exchange is a matter of latency.
const SHORT: usize = 1 << 16;

/// Who does what in a step. The numbers that come out depend on the number of leaves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPlan {
    /// The leaves, and whose they are.
    pub tree: Tree,
    /// Whether each worker updates its own range of the parameters, rather than all of them all.
    pub sharded: bool,
    /// The elements of the gradients that each worker answers for.
    ranges: Vec<Range<usize>>,
    /// Elements of the combined vector: gradients, and then sums over the batch.
    elements: usize,
}

impl StepPlan {
    /// A plan for `workers` workers and a combined vector that begins with `gradients` elements, which are cut as
    /// [`crate::Layout::ranges`] cuts. Runs of leaves, and ranges, differ by one leaf, or block, at most. Whether ranges of
    /// the parameters can be updated apart, `cut` says.
    ///
    /// # Errors
    /// When the leaves are no power of two, or fewer than the workers.
    pub fn new(
        leaves: usize,
        workers: usize,
        gradients: usize,
        elements: usize,
        cut: bool,
    ) -> Result<Self, Diagnostic> {
        check(leaves, workers)?;
        let sharded = cut && workers > 1 && gradients >= SHORT;
        let ranges = block_ranges(gradients, workers);
        Ok(Self { tree: Tree::new(leaves, workers), sharded, ranges, elements })
    }

    /// The elements of the gradients that each worker combines.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// The elements of the parameters that a worker updates.
    pub fn updated(&self, worker: usize) -> Range<usize> {
        if self.sharded { self.ranges[worker].clone() } else { 0..self.gradients() }
    }

    fn gradients(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// What stands behind the gradients: sums over the batch, which the last worker combines.
    pub fn sums(&self) -> Range<usize> {
        self.gradients()..self.elements
    }

    /// How the workers' sums of their largest subtrees become the whole sum, a piece of each range after the other: with
    /// each worker its own range of it, or if it is not sharded, with all of them all of it.
    pub fn reduce(&self) -> Schedule {
        let last = self.ranges.len() - 1;
        let end = |worker: usize| if worker == last { self.elements } else { self.ranges[worker].end };
        let all: Vec<Range<usize>> =
            self.ranges.iter().enumerate().map(|(w, range)| 4 * range.start..4 * end(w)).collect();
        let longest = all.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let piece = |number: usize| {
            let cut = |range: &Range<usize>| {
                let at = |number: usize| (range.start + number * PIECE).min(range.end);
                at(number)..at(number + 1)
            };
            let parts: Vec<Range<usize>> = all.iter().map(cut).collect();
            let reduced = canonical::reduce_scatter(&self.tree, &parts);
            if self.sharded { reduced } else { reduced.then(gather::doubling(&parts)) }
        };
        Schedule::staggered(self.tree.workers(), (0..longest.div_ceil(PIECE)).map(piece))
    }

    /// How each worker's range of a vector that is laid out as the parameters comes to all.
    pub fn share(&self) -> Schedule {
        gather::doubling(&bytes(&self.ranges))
    }

    /// How it comes to the first worker.
    pub fn collect(&self) -> Schedule {
        gather::to_one(0, &bytes(&self.ranges))
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
        let problem = format!("{workers} workers cannot share {leaves} micro-shards");
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
    use outgrow_kernels::SUM_BLOCK;

    #[test]
    fn every_element_has_one_owner() {
        for leaves in [1usize, 2, 4, 8, 16] {
            for workers in 1..=leaves {
                for gradients in [0, 1, 4096, 4097, 5 * 4096, 100_000] {
                    let plan = StepPlan::new(leaves, workers, gradients, gradients + 50, true).unwrap();
                    let ranges = plan.ranges();
                    assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
                    assert_eq!((ranges[0].start, ranges[workers - 1].end), (0, gradients));
                    assert!(
                        ranges[1..].iter().all(|r| r.start.is_multiple_of(SUM_BLOCK) || r.start == gradients)
                    );
                    plan.reduce().check(4 * (gradients + 50)).unwrap();
                    plan.share().check(4 * gradients).unwrap();
                    plan.collect().check(4 * gradients).unwrap();
                    assert_eq!(plan.sharded, workers > 1 && gradients == 100_000);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_shared_says_how_it_could() {
        assert!(StepPlan::new(6, 1, 0, 0, true).unwrap_err().to_string().contains("power of two"));
        let text = StepPlan::new(4, 5, 0, 0, true).unwrap_err().to_string();
        assert!(text.contains("--set train.micro_shards=8"), "{text}");
        assert!(StepPlan::new(4, 0, 0, 0, true).is_err());
    }
}

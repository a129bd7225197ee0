//! Who does what in a step: which worker computes which leaves of the tree, and which one combines which range of the
//! vector.

use crate::flat::block_ranges;
use outgrow_ir::Diagnostic;
use outgrow_runtime::collective::{Schedule, Tree, canonical, gather};
use std::ops::Range;

/// Bytes of each worker's range that are exchanged at a time: little enough to be in the caches still when they are used.
const PIECE: usize = 128 << 10;

/// Who does what in a step. The numbers that come out depend on the number of leaves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPlan {
    /// The leaves, and whose they are.
    pub tree: Tree,
    /// The elements of the combined vector that each worker answers for.
    ranges: Vec<Range<usize>>,
}

impl StepPlan {
    /// A plan for `workers` workers and a combined vector of `elements` elements, which is cut as [`crate::Layout::ranges`]
    /// cuts. Runs of leaves, and ranges, differ by one leaf, or block, at most.
    ///
    /// # Errors
    /// When the leaves are no power of two, or fewer than the workers.
    pub fn new(leaves: usize, workers: usize, elements: usize) -> Result<Self, Diagnostic> {
        check(leaves, workers)?;
        Ok(Self { tree: Tree::new(leaves, workers), ranges: block_ranges(elements, workers) })
    }

    /// The elements that a worker combines.
    pub fn range(&self, worker: usize) -> Range<usize> {
        self.ranges[worker].clone()
    }

    /// How the workers' sums of their largest subtrees become the whole sum, at all of them: a piece of each range after
    /// the other.
    pub fn all_reduce(&self) -> Schedule {
        let bytes = |range: &Range<usize>| 4 * range.start..4 * range.end;
        let longest = self.ranges.iter().map(|range| 4 * range.len()).max().unwrap_or(0);
        let piece = |number: usize| {
            let cut = |range: &Range<usize>| {
                let range = bytes(range);
                let at = |number: usize| (range.start + number * PIECE).min(range.end);
                at(number)..at(number + 1)
            };
            let parts: Vec<Range<usize>> = self.ranges.iter().map(cut).collect();
            canonical::reduce_scatter(&self.tree, &parts).then(gather::doubling(&parts))
        };
        Schedule::staggered(self.tree.workers(), (0..longest.div_ceil(PIECE)).map(piece))
    }
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
                for elements in [0, 1, 4096, 4097, 5 * 4096, 100_000] {
                    let plan = StepPlan::new(leaves, workers, elements).unwrap();
                    assert!((1..workers).all(|w| plan.range(w).start == plan.range(w - 1).end));
                    assert_eq!((plan.range(0).start, plan.range(workers - 1).end), (0, elements));
                    assert!(
                        (1..workers).all(|w| plan.range(w).start.is_multiple_of(SUM_BLOCK)
                            || plan.range(w).start == elements)
                    );
                    plan.all_reduce().check(4 * elements).unwrap();
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_shared_says_how_it_could() {
        assert!(StepPlan::new(6, 1, 0).unwrap_err().to_string().contains("power of two"));
        let text = StepPlan::new(4, 5, 0).unwrap_err().to_string();
        assert!(text.contains("--set train.micro_shards=8"), "{text}");
        assert!(StepPlan::new(4, 0, 0).is_err());
    }
}

//! Who does what in a step: which worker computes which leaves of the tree, and which one combines and updates which
//! range of the parameters.

use crate::flat::{block_ranges, runs};
use outgrow_ir::Diagnostic;
use std::ops::Range;

/// A node of the binary tree over a step's leaves, by its number: 1 is the root, `2 n` and `2 n + 1` are the children of
/// `n`, and the last `leaves` numbers are the leaves in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub usize);

impl Node {
    /// The whole step.
    pub const ROOT: Self = Self(1);

    /// The node that this one is a child of; none for the root.
    pub fn parent(self) -> Option<Self> {
        (self != Self::ROOT).then_some(Self(self.0 / 2))
    }

    /// The other child of the parent.
    pub fn sibling(self) -> Self {
        Self(self.0 ^ 1)
    }

    /// The two nodes whose sum this is, the left one first.
    pub fn children(self) -> [Self; 2] {
        [Self(2 * self.0), Self(2 * self.0 + 1)]
    }

    /// How far it is from the root.
    pub fn depth(self) -> u32 {
        self.0.ilog2()
    }
}

/// Who does what in a step. The numbers that come out depend on the number of leaves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPlan {
    leaves: usize,
    /// The leaves of each worker: runs in their order.
    runs: Vec<Range<usize>>,
    /// The elements of the combined vector that each worker answers for.
    ranges: Vec<Range<usize>>,
}

impl StepPlan {
    /// A plan for `workers` workers and a combined vector of `elements` elements, which is cut as [`crate::Layout::ranges`] cuts. Runs of leaves, and ranges, differ by one leaf, or block, at most.
    ///
    /// # Errors
    /// When the leaves are no power of two, or fewer than the workers.
    pub fn new(leaves: usize, workers: usize, elements: usize) -> Result<Self, Diagnostic> {
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
        let (runs, ranges) = (runs(leaves, workers).collect(), block_ranges(elements, workers));
        Ok(Self { leaves, runs, ranges })
    }

    /// Leaves of the tree.
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// How many workers share the step.
    pub fn workers(&self) -> usize {
        self.runs.len()
    }

    /// The leaves that a worker computes.
    pub fn run(&self, worker: usize) -> Range<usize> {
        self.runs[worker].clone()
    }

    /// The elements that a worker combines and updates.
    pub fn range(&self, worker: usize) -> Range<usize> {
        self.ranges[worker].clone()
    }

    /// The node of a leaf.
    pub fn leaf(&self, leaf: usize) -> Node {
        Node(self.leaves + leaf)
    }

    /// The leaves whose sum a node is.
    pub fn leaves_of(&self, node: Node) -> Range<usize> {
        let width = self.leaves >> node.depth();
        let first = (node.0 << (self.leaves.ilog2() - node.depth())) - self.leaves;
        first..first + width
    }

    /// Whether a worker computes all leaves of a node by itself.
    pub fn is_of(&self, worker: usize, node: Node) -> bool {
        let (leaves, run) = (self.leaves_of(node), &self.runs[worker]);
        run.start <= leaves.start && leaves.end <= run.end
    }

    /// The largest nodes that a worker computes by itself, from left to right: what the others need of it.
    pub fn subtrees(&self, worker: usize) -> impl Iterator<Item = Node> {
        let largest = move |leaf: usize| {
            let mut node = self.leaf(leaf);
            while let Some(parent) = node.parent().filter(|parent| self.is_of(worker, *parent)) {
                node = parent;
            }
            node
        };
        let mut at = self.runs[worker].start;
        let end = self.runs[worker].end;
        std::iter::from_fn(move || {
            let node = (at < end).then(|| largest(at))?;
            at = self.leaves_of(node).end;
            Some(node)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_kernels::SUM_BLOCK;

    #[test]
    fn every_leaf_and_element_has_one_owner() {
        for leaves in [1usize, 2, 4, 8, 16] {
            for workers in 1..=leaves {
                for elements in [0, 1, 4096, 4097, 5 * 4096, 100_000] {
                    let plan = StepPlan::new(leaves, workers, elements).unwrap();
                    let all: Vec<usize> = (0..workers).flat_map(|w| plan.run(w)).collect();
                    assert_eq!(all, (0..leaves).collect::<Vec<_>>());
                    assert!((0..workers).all(|w| !plan.run(w).is_empty()));
                    assert!((1..workers).all(|w| plan.range(w).start == plan.range(w - 1).end));
                    assert_eq!((plan.range(0).start, plan.range(workers - 1).end), (0, elements));
                    assert!(
                        (1..workers).all(|w| plan.range(w).start.is_multiple_of(SUM_BLOCK)
                            || plan.range(w).start == elements)
                    );
                }
            }
        }
    }

    #[test]
    fn subtrees_are_the_largest_and_cover_the_run() {
        let plan = StepPlan::new(8, 3, 0).unwrap();
        let of = |w: usize| plan.subtrees(w).flat_map(|n| [plan.leaves_of(n).start, plan.leaves_of(n).end]);
        assert_eq!(of(0).collect::<Vec<_>>(), [0, 2, 2, 3]);
        assert_eq!(of(1).collect::<Vec<_>>(), [3, 4, 4, 6]);
        assert_eq!(of(2).collect::<Vec<_>>(), [6, 8]);
        let alone = StepPlan::new(8, 1, 0).unwrap();
        assert_eq!(alone.subtrees(0).collect::<Vec<_>>(), [Node::ROOT]);
    }

    #[test]
    fn what_cannot_be_shared_says_how_it_could() {
        assert!(StepPlan::new(6, 1, 0).unwrap_err().to_string().contains("power of two"));
        let text = StepPlan::new(4, 5, 0).unwrap_err().to_string();
        assert!(text.contains("--set train.micro_shards=8"), "{text}");
        assert!(StepPlan::new(4, 0, 0).is_err());
    }
}

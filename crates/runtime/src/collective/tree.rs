//! The binary tree over the terms of a sum, and who holds which of them.

use std::ops::Range;

/// A node of the binary tree over a sum's terms, by its number: 1 is the root, `2 n` and `2 n + 1` are the children of
/// `n`, and the last `leaves` numbers are the leaves in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub usize);

impl Node {
    /// The whole sum.
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

/// `0..items` cut into so many runs, one after the other, of which the first ones have one item more than the others.
pub fn runs(items: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = parts.max(1);
    let first = move |part: usize| part * (items / parts) + part.min(items % parts);
    (0..parts).map(move |part| first(part)..first(part + 1))
}

/// A tree over a power of two of leaves, of which each worker holds a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    leaves: usize,
    runs: Vec<Range<usize>>,
}

impl Tree {
    /// A tree whose leaves `workers` workers share in their order: runs differ by one leaf at most.
    ///
    /// # Panics
    /// When the leaves are no power of two, or fewer than the workers.
    pub fn new(leaves: usize, workers: usize) -> Self {
        assert!(leaves.is_power_of_two(), "invariant: the leaves of a tree are a power of two");
        assert!((1..=leaves).contains(&workers), "invariant: each worker has a leaf");
        Self { leaves, runs: runs(leaves, workers).collect() }
    }

    /// How many leaves there are.
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// How many workers share them.
    pub fn workers(&self) -> usize {
        self.runs.len()
    }

    /// The leaves of a worker.
    pub fn run(&self, worker: usize) -> Range<usize> {
        self.runs[worker].clone()
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

    /// Whether a worker holds all leaves of a node.
    pub fn is_of(&self, worker: usize, node: Node) -> bool {
        let (leaves, run) = (self.leaves_of(node), &self.runs[worker]);
        run.start <= leaves.start && leaves.end <= run.end
    }

    /// The worker that holds all leaves of a node, if one does.
    pub fn owner(&self, node: Node) -> Option<usize> {
        let first = self.leaves_of(node).start;
        let worker = self.runs.partition_point(|run| run.end <= first);
        self.is_of(worker, node).then_some(worker)
    }

    /// The largest nodes whose leaves a worker holds, from left to right: what the others need of it.
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

    #[test]
    fn every_leaf_has_one_owner() {
        for leaves in [1usize, 2, 4, 8, 16] {
            for workers in 1..=leaves {
                let tree = Tree::new(leaves, workers);
                let all: Vec<usize> = (0..workers).flat_map(|w| tree.run(w)).collect();
                assert_eq!(all, (0..leaves).collect::<Vec<_>>());
                assert!((0..workers).all(|w| !tree.run(w).is_empty()));
                assert!((0..workers).all(|w| tree.subtrees(w).all(|node| tree.owner(node) == Some(w))));
            }
        }
    }

    #[test]
    fn subtrees_are_the_largest_and_cover_the_run() {
        let tree = Tree::new(8, 3);
        let of = |w: usize| tree.subtrees(w).flat_map(|n| [tree.leaves_of(n).start, tree.leaves_of(n).end]);
        assert_eq!(of(0).collect::<Vec<_>>(), [0, 2, 2, 3]);
        assert_eq!(of(1).collect::<Vec<_>>(), [3, 4, 4, 6]);
        assert_eq!(of(2).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(Tree::new(8, 1).subtrees(0).collect::<Vec<_>>(), [Node::ROOT]);
        assert_eq!(tree.owner(Node(2)), None);
    }
}

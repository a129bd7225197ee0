//! The fixed binary tree that combines the micro-shards of a batch. Leaf `i` always stands at place `i`, so the sum has
//! the same bits whoever computes which leaves.

use crate::memory::filled;
use outgrow_ir::Diagnostic;
use outgrow_kernels::{ThreadPool, add_assign};

/// Sums leaves that come in order, holding one partial sum per level of the tree.
#[derive(Debug, Default)]
pub struct TreeSum {
    /// The sum of a full subtree of `2^level` leaves that waits for its right neighbour.
    waiting: Vec<Option<Vec<f32>>>,
    /// Vectors that can be used again.
    spare: Vec<Vec<f32>>,
}

impl TreeSum {
    /// A vector of `elements` elements to compute the next leaf into.
    pub fn leaf(&mut self, elements: usize) -> Result<Vec<f32>, Diagnostic> {
        self.spare.pop().map_or_else(|| filled(elements, 0.0), Ok)
    }

    /// Adds the next leaf.
    pub fn push(&mut self, pool: &ThreadPool, leaf: Vec<f32>) {
        let mut sum = leaf;
        for level in 0.. {
            if level == self.waiting.len() {
                self.waiting.push(None);
            }
            match self.waiting[level].take() {
                None => {
                    self.waiting[level] = Some(sum);
                    return;
                }
                Some(mut left) => {
                    add_assign(pool, &mut left, &sum);
                    self.spare.push(sum);
                    sum = left;
                }
            }
        }
    }

    /// The root, after a power of two of leaves. Give it back with [`TreeSum::recycle`].
    pub fn finish(&mut self) -> Vec<f32> {
        let mut sums = self.waiting.iter_mut().filter_map(Option::take);
        let root = sums.next().expect("invariant: a batch has at least one micro-shard");
        assert!(sums.next().is_none(), "invariant: a batch has a power of two of micro-shards");
        root
    }

    /// Keeps a vector for the next leaf.
    pub fn recycle(&mut self, vector: Vec<f32>) {
        self.spare.push(vector);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_balanced() {
        let pool = ThreadPool::new(1);
        let leaves = [1.0e8f32, 1.0, -1.0e8, 1.0];
        let mut tree = TreeSum::default();
        for leaf in leaves {
            tree.push(&pool, vec![leaf]);
        }
        // (1e8 + 1) + (-1e8 + 1): both ones are lost. From left to right the last one would survive.
        assert_eq!(tree.finish(), [(leaves[0] + leaves[1]) + (leaves[2] + leaves[3])]);
    }
}

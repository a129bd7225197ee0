//! The fixed binary tree that combines the leaves of a step. A node is always the sum of its left and its right child,
//! so it has the same bits whoever computes which leaves, and in whatever order they come.

use super::plan::{Node, StepPlan};
use crate::memory::filled;
use outgrow_ir::Diagnostic;
use outgrow_kernels::{ThreadPool, add_assign};

/// Vectors at the nodes of a step's tree: sums that wait for their siblings. Vectors are used again from step to step.
#[derive(Debug)]
pub struct TreeSum {
    elements: usize,
    /// By the number of the node.
    nodes: Vec<Option<Vec<f32>>>,
    spare: Vec<Vec<f32>>,
}

impl TreeSum {
    /// An empty tree over the leaves of a plan, of vectors of so many elements.
    pub fn new(plan: &StepPlan, elements: usize) -> Self {
        let nodes = (0..2 * plan.leaves()).map(|_| None).collect();
        Self { elements, nodes, spare: Vec::with_capacity(plan.leaves().ilog2() as usize + 2) }
    }

    /// A vector to compute a leaf into, or to receive a subtree in.
    ///
    /// # Errors
    /// When there is none to be used again, and the system does not give the memory.
    pub fn vector(&mut self) -> Result<Vec<f32>, Diagnostic> {
        self.spare.pop().map_or_else(|| filled(self.elements, 0.0), Ok)
    }

    /// Puts a sum at its node.
    ///
    /// # Panics
    /// When something is there, or the vector has another length.
    pub fn put(&mut self, node: Node, sum: Vec<f32>) {
        assert_eq!(sum.len(), self.elements);
        let before = self.nodes[node.0].replace(sum);
        assert!(before.is_none(), "invariant: a node is computed once in a step");
    }

    /// Adds the two children of a node, which are there.
    pub fn combine(&mut self, pool: &ThreadPool, node: Node) {
        let [left, right] = node.children().map(|child| self.take(child));
        let mut sum = left;
        add_assign(pool, &mut sum, &right);
        self.spare.push(right);
        self.put(node, sum);
    }

    /// The sum at a node.
    ///
    /// # Panics
    /// When it is not there.
    pub fn at(&self, node: Node) -> &[f32] {
        self.nodes[node.0].as_deref().expect("invariant: a node is used after it was computed")
    }

    /// Takes the sum away from a node. Give it back with [`TreeSum::recycle`].
    pub fn take(&mut self, node: Node) -> Vec<f32> {
        self.nodes[node.0].take().expect("invariant: a node is used after it was computed")
    }

    /// Keeps a vector for another leaf.
    pub fn recycle(&mut self, vector: Vec<f32>) {
        self.spare.push(vector);
    }

    /// Forgets a step that was broken off.
    pub fn clear(&mut self) {
        for node in &mut self.nodes {
            self.spare.extend(node.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_balanced_in_whatever_order_leaves_come() {
        let pool = ThreadPool::new(1);
        let leaves = [1.0e8f32, 1.0, -1.0e8, 1.0];
        let plan = StepPlan::new(4, 1, 1).unwrap();
        for order in [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]] {
            let mut tree = TreeSum::new(&plan, 1);
            for leaf in order {
                tree.put(plan.leaf(leaf), vec![leaves[leaf]]);
            }
            for node in [Node(3), Node(2), Node::ROOT] {
                tree.combine(&pool, node);
            }
            // (1e8 + 1) + (-1e8 + 1): both ones are lost. From left to right the last one would survive.
            assert_eq!(tree.at(Node::ROOT), [(leaves[0] + leaves[1]) + (leaves[2] + leaves[3])]);
        }
    }
}

//! The fixed binary tree that combines the leaves of a step. A node is always the sum of its left and its right child,
//! so it has the same bits whoever computes which leaves, and in whatever order they come.

use outgrow_ir::Diagnostic;
use outgrow_runtime::collective::{Node, Tree};
use outgrow_runtime::{Backend, Buffer};
use std::sync::Arc;

/// Vectors at the nodes of a step's tree: sums that wait for their siblings. Vectors are used again from step to step.
#[derive(Debug)]
pub struct TreeSum {
    backend: Arc<dyn Backend>,
    bytes: usize,
    /// By the number of the node.
    nodes: Vec<Option<Box<dyn Buffer>>>,
    spare: Vec<Box<dyn Buffer>>,
}

impl TreeSum {
    /// An empty tree over these leaves, of vectors of so many bytes.
    pub fn new(tree: &Tree, bytes: usize, backend: &Arc<dyn Backend>) -> Self {
        let nodes = (0..2 * tree.leaves()).map(|_| None).collect();
        let spare = Vec::with_capacity(tree.leaves().ilog2() as usize + 2);
        Self { backend: backend.clone(), bytes, nodes, spare }
    }

    /// A vector to compute a leaf into, or to receive a subtree in.
    ///
    /// # Errors
    /// When there is none to be used again, and the device has not the memory.
    pub fn vector(&mut self) -> Result<Box<dyn Buffer>, Diagnostic> {
        self.spare.pop().map_or_else(|| self.backend.allocate(self.bytes), Ok)
    }

    /// Puts a sum at its node.
    ///
    /// # Panics
    /// When something is there, or the vector has another length.
    pub fn put(&mut self, node: Node, sum: Box<dyn Buffer>) {
        assert_eq!(sum.bytes(), self.bytes);
        let before = self.nodes[node.0].replace(sum);
        assert!(before.is_none(), "invariant: a node is computed once in a step");
    }

    /// Adds the two children of a node, which are there: `add(left, right)` adds the right one to the left one.
    ///
    /// # Errors
    /// When that fails.
    pub fn combine(
        &mut self,
        node: Node,
        add: impl FnOnce(&mut dyn Buffer, &dyn Buffer) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let [mut sum, right] = node.children().map(|child| self.take(child));
        let added = add(&mut *sum, &*right);
        self.spare.push(right);
        self.put(node, sum);
        added
    }

    /// Takes the sum away from a node. Give it back with [`TreeSum::recycle`].
    ///
    /// # Panics
    /// When it is not there.
    pub fn take(&mut self, node: Node) -> Box<dyn Buffer> {
        self.nodes[node.0].take().expect("invariant: a node is used after it was computed")
    }

    /// Keeps a vector for another leaf.
    pub fn recycle(&mut self, vector: Box<dyn Buffer>) {
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
    use outgrow_runtime::ReferenceBackend;

    fn number(buffer: &dyn Buffer) -> f32 {
        bytemuck::cast_slice(buffer.host().unwrap())[0]
    }

    #[test]
    fn the_tree_is_balanced_in_whatever_order_leaves_come() {
        let backend: Arc<dyn Backend> = Arc::new(ReferenceBackend);
        let leaves = [1.0e8f32, 1.0, -1.0e8, 1.0];
        let shape = Tree::new(4, 1);
        for order in [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]] {
            let mut tree = TreeSum::new(&shape, 4, &backend);
            for leaf in order {
                let mut vector = tree.vector().unwrap();
                backend.upload(&leaves[leaf].to_ne_bytes(), &mut *vector, 0).unwrap();
                tree.put(shape.leaf(leaf), vector);
            }
            for node in [Node(3), Node(2), Node::ROOT] {
                let add = |left: &mut dyn Buffer, right: &dyn Buffer| {
                    let sum = number(left) + number(right);
                    backend.upload(&sum.to_ne_bytes(), left, 0)
                };
                tree.combine(node, add).unwrap();
            }
            // (1e8 + 1) + (-1e8 + 1): both ones are lost. From left to right the last one would survive.
            let sum = number(&*tree.take(Node::ROOT));
            assert_eq!(sum, (leaves[0] + leaves[1]) + (leaves[2] + leaves[3]));
        }
    }
}

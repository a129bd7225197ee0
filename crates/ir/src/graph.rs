//! The graph: nodes in topological order, each with one value, named regions, and named outputs.

use crate::{Cost, Op, Output, Region, RegionId, Sizes, Symbol, TensorType};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A value: the result of the node of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

impl Value {
    /// The number of the node that makes this value.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of a fusion group: nodes that a backend should run as one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// One operation of the graph and the type of its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// From which values; all of smaller number.
    pub inputs: Vec<Value>,
    /// The type of the result.
    pub ty: TensorType,
    /// Where the node comes from: the path of the layer, as `layer1.0.conv1`, with `grad/` before it for gradients.
    pub origin: Arc<str>,
    /// The innermost composite this node is part of.
    pub region: Option<RegionId>,
    /// The fusion group this node is in.
    pub group: Option<GroupId>,
}

/// A typed dataflow graph in static single assignment form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// A name for people.
    pub name: String,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// The composites that nodes refer to.
    pub regions: Vec<Region>,
    /// The inputs in the order in which a caller gives them.
    pub inputs: Vec<Value>,
    /// The outputs in the order in which a caller gets them.
    pub outputs: Vec<Output>,
}

impl Graph {
    /// The node that makes `value`.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.index()]
    }

    /// The type of `value`.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.node(value).ty
    }

    /// Every value with its node, in topological order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Value, &Node)> {
        self.nodes.iter().enumerate().map(|(i, node)| (Value(i as u32), node))
    }

    /// For each node, whether one of `values` depends on it.
    pub fn needed(&self, values: impl IntoIterator<Item = Value>) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        values.into_iter().for_each(|v| needed[v.index()] = true);
        for i in (0..self.nodes.len()).rev() {
            if needed[i] {
                self.nodes[i].inputs.iter().for_each(|v| needed[v.index()] = true);
            }
        }
        needed
    }

    /// How many nodes (and outputs) read each value.
    pub fn uses(&self) -> Vec<u32> {
        let mut uses = vec![0; self.nodes.len()];
        let outputs = self.outputs.iter().map(|output| &output.value);
        let reads = self.nodes.iter().flat_map(|n| n.inputs.iter()).chain(outputs);
        for value in reads {
            uses[value.index()] += 1;
        }
        uses
    }

    /// The same graph with symbols bound; a number alone is the batch size. Every shape is static when all are.
    #[must_use]
    pub fn bind(&self, sizes: impl Into<Sizes>) -> Self {
        let (sizes, mut graph) = (sizes.into(), self.clone());
        for node in &mut graph.nodes {
            node.op.map_dims(&mut |d| d.bind(&sizes));
            node.ty.dims.iter_mut().for_each(|d| *d = d.bind(&sizes));
        }
        graph
    }

    /// The symbols that are not bound, in alphabetical order.
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        let dims = self.nodes.iter().flat_map(|node| &node.ty.dims);
        dims.flat_map(|dim| dim.parts().1.factors()).collect()
    }

    /// The cost of one node; a symbol counts as 1.
    pub fn node_cost(&self, value: Value) -> Cost {
        let node = self.node(value);
        let inputs: Vec<_> = node.inputs.iter().map(|v| self.ty(*v)).collect();
        node.op.rule().cost(&inputs, &node.ty)
    }

    /// The cost of the whole graph; a symbol counts as 1.
    pub fn cost(&self) -> Cost {
        (0..self.nodes.len()).map(|i| self.node_cost(Value(i as u32))).sum()
    }
}

//! Rebuilding a graph node by node: the frame in which passes rewrite. Names, origins and regions are kept; a region
//! inside which something was rewritten loses its mark, since it is no longer the composite it was built as.

use crate::ops::input::Input;
use crate::{Builder, Diagnostics, Graph, Node, Op, Output, Region, RegionId, Value};

/// The graph without nodes that no output depends on, and without such inputs where `removable` accepts them.
///
/// # Errors
/// None for a graph that verifies.
pub fn prune(graph: &Graph, removable: impl Fn(&Input) -> bool) -> Result<Graph, Diagnostics> {
    let needed = graph.needed(graph.outputs.iter().map(|output| output.value));
    let mut rewriter = Rewriter::new(graph);
    for (value, node) in graph.iter() {
        if needed[value.index()] || matches!(&node.op, Op::Input(input) if !removable(input)) {
            rewriter.keep(value);
        }
    }
    rewriter.finish()
}

/// Rebuilds a graph from front to back.
pub struct Rewriter<'a> {
    source: &'a Graph,
    /// The graph being built; a pass may add nodes to it.
    pub b: Builder,
    map: Vec<Option<Value>>,
    dissolved: Vec<bool>,
}

impl<'a> Rewriter<'a> {
    /// Starts to rebuild `source`.
    pub fn new(source: &'a Graph) -> Self {
        let empty = Graph { name: source.name.clone(), regions: source.regions.clone(), ..Graph::default() };
        Self {
            source,
            b: Builder::extend(empty),
            map: vec![None; source.nodes.len()],
            dissolved: vec![false; source.regions.len()],
        }
    }

    /// What an old value has become; it must have been rebuilt before.
    pub fn new_value(&self, old: Value) -> Value {
        self.map[old.index()].expect("invariant: a pass rebuilds nodes from front to back")
    }

    /// What the inputs of an old node have become.
    pub fn new_inputs(&self, node: &Node) -> Vec<Value> {
        node.inputs.iter().map(|v| self.new_value(*v)).collect()
    }

    /// Copies an old node.
    pub fn keep(&mut self, old: Value) -> Value {
        let node = self.source.node(old);
        let inputs = self.new_inputs(node);
        let new = self.b.copy(node, &inputs);
        self.map[old.index()] = Some(new);
        new
    }

    /// Uses an equal value that exists already in place of an old node (the region keeps its mark).
    pub fn share(&mut self, old: Value, new: Value) {
        self.map[old.index()] = Some(new);
    }

    /// Puts another value in place of an old node, which dissolves its regions.
    pub fn replace(&mut self, old: Value, new: Value) {
        self.map[old.index()] = Some(new);
        let mut region = self.source.node(old).region;
        while let Some(id) = region {
            self.dissolved[id.0 as usize] = true;
            region = self.source.regions[id.0 as usize].parent;
        }
    }

    /// The rebuilt graph, with the outputs of the old one.
    pub fn finish(mut self) -> Result<Graph, Diagnostics> {
        for Output { name, role, value } in &self.source.outputs {
            let new = self.new_value(*value);
            self.b.output_as(name, role.clone(), new);
        }
        let mut graph = self.b.finish()?;
        // What each region becomes: itself, or what it lay in.
        let mut becomes: Vec<Option<RegionId>> = Vec::new();
        let mut standing = Vec::new();
        for (region, dissolved) in self.source.regions.iter().zip(&self.dissolved) {
            let new =
                |values: &[Value]| values.iter().map(|v| self.map[v.index()]).collect::<Option<Vec<_>>>();
            let parent = region.parent.and_then(|parent| becomes[parent.0 as usize]);
            // Where an operand or a result is gone, nobody asks for the whole.
            let whole = new(&region.operands).zip(new(&region.results)).filter(|_| !dissolved);
            becomes.push(match whole {
                Some((operands, results)) => {
                    standing.push(Region { operands, results, parent, ..region.clone() });
                    Some(RegionId(standing.len() as u32 - 1))
                }
                None => parent,
            });
        }
        // What was built anew knows the new values already.
        for region in graph.regions.drain(self.source.regions.len()..) {
            let parent = region.parent.and_then(|parent| becomes[parent.0 as usize]);
            standing.push(Region { parent, ..region });
            becomes.push(Some(RegionId(standing.len() as u32 - 1)));
        }
        graph.regions = standing;
        for node in &mut graph.nodes {
            node.region = node.region.and_then(|id| becomes[id.0 as usize]);
        }
        Ok(graph)
    }
}

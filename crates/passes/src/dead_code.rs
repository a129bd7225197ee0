//! Removes nodes that no output depends on. Inputs stay, since they are part of the graph's interface.

use crate::Pass;
use outgrow_ir::{Diagnostics, Graph, Op, Rewriter};

/// Removes nodes that no output depends on.
#[derive(Debug)]
pub struct DeadCode;

/// For each node, whether some output depends on it.
fn live(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    graph.outputs.iter().for_each(|(_, v)| live[v.index()] = true);
    for i in (0..graph.nodes.len()).rev() {
        if live[i] {
            graph.nodes[i].inputs.iter().for_each(|v| live[v.index()] = true);
        }
    }
    live
}

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        "dead_code"
    }

    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        let live = live(graph);
        let mut rewriter = Rewriter::new(graph);
        for (value, node) in graph.iter() {
            if live[value.index()] || matches!(node.op, Op::Input(_)) {
                rewriter.keep(value);
            }
        }
        rewriter.finish()
    }
}

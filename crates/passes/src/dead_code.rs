//! Removes nodes that no output depends on. Inputs stay, since they are part of the graph's interface.

use crate::Pass;
use outgrow_ir::{Diagnostics, Graph, Op, Rewriter};

/// Removes nodes that no output depends on.
#[derive(Debug)]
pub struct DeadCode;

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        "dead_code"
    }

    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        let live = graph.needed(graph.outputs.iter().map(|output| output.value));
        let mut rewriter = Rewriter::new(graph);
        for (value, node) in graph.iter() {
            if live[value.index()] || matches!(node.op, Op::Input(_)) {
                rewriter.keep(value);
            }
        }
        rewriter.finish()
    }
}

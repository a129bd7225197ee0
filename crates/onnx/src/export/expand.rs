//! Operations that ONNX (of the opset that is written) has only in parts.

use outgrow_ir::{Diagnostics, Graph, Op, Rewriter};
use std::borrow::Cow;

/// The graph with attention by products and a softmax.
pub(super) fn expand(graph: &Graph) -> Result<Cow<'_, Graph>, Diagnostics> {
    if !graph.nodes.iter().any(|node| matches!(node.op, Op::Attention(_))) {
        return Ok(Cow::Borrowed(graph));
    }
    let mut rewriter = Rewriter::new(graph);
    for (old, node) in graph.iter() {
        let Op::Attention(op) = &node.op else {
            rewriter.keep(old);
            continue;
        };
        let inputs = rewriter.new_inputs(node);
        let new = rewriter.b.with_origin(node.origin.clone(), |b| {
            b.attention_by_products(inputs[0], inputs[1], inputs[2], op.causal)
        });
        rewriter.replace(old, new);
    }
    rewriter.finish().map(Cow::Owned)
}

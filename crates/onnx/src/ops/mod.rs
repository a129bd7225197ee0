//! The operators of ONNX: a file for each family, in it one line and one function for each operator. The list of
//! families below registers them; nothing else needs to know of a new operator.

use crate::cx::{Cx, Lowered};
use crate::model::{label, standard};
use crate::proto::{FunctionProto, NodeProto};
use outgrow_ir::Diagnostic;
use std::collections::HashMap;
use std::sync::LazyLock;

mod activation;
mod arithmetic;
mod attention;
mod bits;
mod compare;
mod constant;
mod conv;
mod gather;
mod loss;
mod math;
mod matmul;
pub(crate) mod movement;
mod norm;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod scan;
mod shape;
mod softmax;
mod space;

/// How an operator is lowered, in every version of the standard operators that is read.
pub(crate) struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Its lowering, which looks at `Cx::opset` where versions differ.
    pub lower: fn(&mut Cx<'_>) -> Lowered,
}

/// A line of a family's list.
const fn op(name: &'static str, lower: fn(&mut Cx<'_>) -> Lowered) -> Rule {
    Rule { name, lower }
}

const FAMILIES: &[&[Rule]] = &[
    activation::RULES,
    arithmetic::RULES,
    attention::RULES,
    bits::RULES,
    compare::RULES,
    constant::RULES,
    conv::RULES,
    gather::RULES,
    loss::RULES,
    matmul::RULES,
    math::RULES,
    movement::RULES,
    norm::RULES,
    pool::RULES,
    quantize::RULES,
    recurrent::RULES,
    reduce::RULES,
    resize::RULES,
    scan::RULES,
    shape::RULES,
    space::RULES,
    softmax::RULES,
];

static TABLE: LazyLock<HashMap<&'static str, &'static Rule>> = LazyLock::new(|| {
    FAMILIES.iter().flat_map(|family| family.iter()).map(|rule| (rule.name, rule)).collect()
});

/// The rule of a node's operator.
pub(crate) fn rule(node: &NodeProto) -> Option<&'static Rule> {
    TABLE.get(node.op_type.as_str()).copied().filter(|_| standard(&node.domain))
}

/// The names of all operators that are supported, in alphabetical order. `If` is besides, with a known condition.
pub fn supported_operators() -> Vec<&'static str> {
    let mut names: Vec<_> = TABLE.keys().copied().collect();
    names.sort_unstable();
    names
}

/// What is said of an operator that has no rule.
pub(crate) fn no_rule(node: &NodeProto) -> Diagnostic {
    let short = |text: &str| text.chars().take(80).collect::<String>();
    let (op, domain) = (short(&node.op_type), short(&node.domain));
    if !standard(&node.domain) {
        let problem = format!("operator `{op}` of domain `{domain}` is not supported");
        return Diagnostic::new("onnx.unsupported-operator", problem)
            .item(label(node))
            .expected("standard operators, or functions that the file defines");
    }
    let diagnostic =
        Diagnostic::new("onnx.unsupported-operator", format!("operator `{op}` is not supported"))
            .item(label(node));
    match op.as_str() {
        "Loop" | "Scan" => diagnostic
            .expected("a graph without loops")
            .hint("export the model with fixed lengths, so that loops are written out"),
        _ => match nearest(&op) {
            Some(name) => diagnostic.expected(format!("for instance `{name}`")),
            None => diagnostic.expected("one of the operators of docs/onnx.md"),
        },
    }
}

/// A supported operator whose name contains the given one or is contained in it.
fn nearest(op: &str) -> Option<&'static str> {
    let related = |name: &&&str| op.len() > 2 && (name.contains(op) || op.contains(**name));
    TABLE.keys().filter(related).max_by_key(|name| (name.len(), **name)).copied()
}

/// Every node whose operator is not supported.
pub(crate) fn unsupported(
    nodes: &[NodeProto],
    functions: &HashMap<(String, String), FunctionProto>,
) -> Vec<Diagnostic> {
    let bodies = functions.values().flat_map(|f| &f.node);
    let missing = nodes.iter().chain(bodies).filter(|node| {
        let is_function = functions.contains_key(&(node.domain.clone(), node.op_type.clone()));
        !is_function && rule(node).is_none() && (node.op_type != "If" || !standard(&node.domain))
    });
    missing.map(no_rule).collect()
}

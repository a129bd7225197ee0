//! Values that follow from constants alone are computed while a graph is built, by the reference interpreter: shapes,
//! masks and the like. What is large or expensive stays in the graph.

use crate::cx::{Cx, Lowered, Refusal};
use crate::datum::{Datum, Kind};
use crate::ops::Rule;
use outgrow_ir::{Builder, interpret};
use std::sync::Arc;

/// Most elements of a constant that is computed with or made.
const ELEMENTS_MAX: usize = 1 << 16;
/// Most operations that are done for a constant.
const OPERATIONS_MAX: u64 = 1 << 22;

/// Whether everything that the node reads is known and small.
pub(crate) fn applies(inputs: &[Option<Datum>]) -> bool {
    inputs.iter().flatten().all(|datum| match &datum.kind {
        Kind::Known(tensor) => tensor.elements() <= ELEMENTS_MAX,
        _ => false,
    })
}

/// The results as constants, unless they are too large or too expensive.
pub(crate) fn fold(rule: &Rule, cx: &mut Cx<'_>) -> Option<Lowered> {
    let mut scratch = Builder::new("constant");
    std::mem::swap(cx.b, &mut scratch);
    let lowered = (rule.lower)(cx);
    std::mem::swap(cx.b, &mut scratch);
    let data = match lowered {
        Ok(data) => data,
        Err(refusal) => return Some(Err(refusal)),
    };
    for datum in &data {
        if let Kind::Value(value) = datum.kind {
            scratch.output("", value);
        }
    }
    let graph = match scratch.finish() {
        Ok(graph) => graph,
        Err(found) => {
            let problem = found.0.into_iter().next().map(|d| d.problem).unwrap_or_default();
            return Some(Err(Refusal::Invalid(problem)));
        }
    };
    let large = |n: &outgrow_ir::Node| n.ty.unit_elements() > 4 * ELEMENTS_MAX;
    if graph.nodes.iter().any(large) || graph.cost().flops > OPERATIONS_MAX {
        return None;
    }
    let mut tensors = match interpret(&graph, &[]) {
        Ok(tensors) => tensors.into_iter(),
        Err(found) => return Some(Err(Refusal::Invalid(found.problem))),
    };
    let known = |datum: Datum| match datum.kind {
        Kind::Value(_) => match tensors.next() {
            Some(tensor) => Datum { elem: datum.elem, kind: Kind::Known(Arc::new(tensor)) },
            None => Datum { elem: datum.elem, kind: Kind::Missing },
        },
        _ => datum,
    };
    Some(Ok(data.into_iter().map(known).collect()))
}

//! What a graph computes of weights alone is computed once, when it is first compiled with them, and is a weight itself
//! as long as a program reads it: weights that are rounded to bf16, scales of normalisations, rows of a table at fixed
//! places. Programs for other sizes find it again, where it does not hang on these.

use crate::backend::{Backend, Work};
use crate::buffer::no_memory;
use crate::weights::Derived;
use crate::{Bindings, Weights, run_tensors};
use outgrow_ir::{Diagnostics, Graph, InputRole, Node, Op, Output, OutputRole, Rewriter, Value, prune};
use outgrow_kernels::Weight;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A value of weights alone may have this many bytes, or as many as the weights that it is computed from: repeating is
/// left to programs.
const SMALL_BYTES: usize = 4096;

/// The work with inputs, and weights for them, in place of what depends on weights alone. Where that cannot be computed
/// (there is not the memory, an index is outside its table), the work stays as it is, and says so itself.
///
/// # Errors
/// None for a graph that verifies.
pub(crate) fn folded(backend: &dyn Backend, work: Work) -> Result<Work, Diagnostics> {
    let values = foldable(&work.graph, &work.weights);
    if values.is_empty() {
        return Ok(work);
    }
    let Ok(found) = computed(backend, &work, &values) else { return Ok(work) };
    let mut weights = work.weights.tensors().clone();
    let mut rewriter = Rewriter::new(&work.graph);
    for (old, node) in work.graph.iter() {
        let Some(weight) = found.get(&old) else {
            rewriter.keep(old);
            continue;
        };
        let free = |name: &String| !work.graph.inputs.iter().any(|v| work.graph.input_name(*v) == name);
        let mut names = (weights.len()..).map(|n| format!("folded/{n}"));
        let name = names.find(|name| free(name) && !weights.contains_key(name)).unwrap_or_default();
        let new = rewriter
            .b
            .with_origin(node.origin.clone(), |b| b.input(&name, InputRole::Buffer, node.ty.clone()));
        rewriter.replace(old, new);
        weights.insert(name, Arc::clone(weight));
    }
    let graph = rewriter.finish()?;
    // Weights of which only others are computed are no operands any more.
    let graph = prune(&graph, |input| weights.contains_key(&*input.name))?;
    Ok(Work { graph, weights: Arc::new(Weights::sharing(weights)), ..work })
}

/// The values that are worth to be computed once: the last ones that depend on weights alone, without what only arranges
/// them anew.
fn foldable(graph: &Graph, weights: &Weights) -> Vec<Value> {
    // Bytes of the weights that each value depends on, where it depends on nothing else.
    let mut bytes: Vec<Option<usize>> = Vec::with_capacity(graph.nodes.len());
    for (value, node) in graph.iter() {
        let all =
            || node.inputs.iter().try_fold(0usize, |sum, v| Some(sum.saturating_add(bytes[v.index()]?)));
        bytes.push(match &node.op {
            Op::Input(_) => weights.bound(graph, value).map(|weight| weight.tensor().bytes()),
            Op::RandomUniform(_) => None,
            _ => all(),
        });
    }
    let mut read = vec![false; graph.nodes.len()];
    graph.outputs.iter().for_each(|output| read[output.value.index()] = true);
    let open = graph.iter().filter(|(value, _)| bytes[value.index()].is_none());
    open.flat_map(|(_, node)| &node.inputs).for_each(|v| read[v.index()] = true);
    let mut values = Vec::new();
    for (value, node) in graph.iter().rev().filter(|(value, _)| bytes[value.index()].is_some_and(|n| n > 0)) {
        if !read[value.index()] || matches!(node.op, Op::Input(_)) {
            continue;
        }
        let most = bytes[value.index()].unwrap_or_default().max(SMALL_BYTES);
        if node.op.is_view() || node.ty.unit_bytes() > most {
            node.inputs.iter().for_each(|v| read[v.index()] = true);
        } else {
            values.push(value);
        }
    }
    values.sort_unstable();
    values
}

/// The weights that these values are, found or computed.
///
/// # Errors
/// When there is not the memory for them, or they cannot be computed.
fn computed(
    backend: &dyn Backend,
    work: &Work,
    values: &[Value],
) -> Result<BTreeMap<Value, Arc<Weight>>, Diagnostics> {
    let mut derived = work.weights.derived();
    derived.retain(|known| known.weight.strong_count() > 0);
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for value in values {
        let alone = part(&work.graph, &[*value]);
        let known = derived.iter().find(|known| known.products == work.products && known.graph == alone);
        match known.and_then(|known| known.weight.upgrade()) {
            Some(weight) => {
                found.insert(*value, weight);
            }
            None => missing.push((*value, alone)),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let values: Vec<Value> = missing.iter().map(|(value, _)| *value).collect();
    let graph = part(&work.graph, &values);
    // What the run writes and the tensors read back from that are there at the same time.
    let bytes = values.iter().map(|value| work.graph.ty(*value).unit_bytes() as u64);
    let bytes = bytes.fold(0, u64::saturating_add).saturating_mul(2);
    let left = |there: u64| {
        there.checked_sub(bytes).ok_or_else(|| {
            no_memory(format!(
                "what weights alone decide takes {bytes} bytes of memory, and may take {there}"
            ))
        })
    };
    let memory = work.memory.map(left).transpose()?;
    let bindings = Bindings::separate(&graph, &work.weights, &[]);
    let (weights, products) = (Arc::clone(&work.weights), work.products);
    let once = Work { graph, bindings, weights, memory, fit: None, products };
    let tensors = run_tensors(backend, &backend.compile(once)?, &[])?;
    for ((value, alone), tensor) in missing.into_iter().zip(tensors) {
        let weight = Arc::new(Weight::new(tensor));
        derived.push(Derived { graph: alone, products, weight: Arc::downgrade(&weight) });
        found.insert(value, weight);
    }
    Ok(found)
}

/// What these values are computed by, and nothing else: the same for the same values, in whatever graph.
fn part(graph: &Graph, values: &[Value]) -> Graph {
    let (mut open, mut needed) = (values.to_vec(), BTreeSet::new());
    while let Some(value) = open.pop() {
        if needed.insert(value) {
            open.extend(&graph.node(value).inputs);
        }
    }
    let new: BTreeMap<Value, Value> = needed.iter().copied().zip((0..).map(Value)).collect();
    let node = |old: &Value| {
        let node = graph.node(*old);
        let inputs = node.inputs.iter().map(|v| new[v]).collect();
        Node { inputs, region: None, group: None, ..node.clone() }
    };
    let output =
        |(i, v): (usize, &Value)| Output { name: i.to_string(), role: OutputRole::Result, value: new[v] };
    let is_input = |old: &&Value| matches!(graph.node(**old).op, Op::Input(_));
    Graph {
        name: graph.name.clone(),
        nodes: needed.iter().map(node).collect(),
        regions: Vec::new(),
        inputs: needed.iter().filter(is_input).map(|old| new[old]).collect(),
        outputs: values.iter().enumerate().map(output).collect(),
    }
}

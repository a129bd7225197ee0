//! What constants of a graph are: numbers, and masks of scores.

use super::Mask;
use crate::simplify::splat;
use outgrow_ir::{Graph, Op, Value};
use outgrow_tensor::Tensor;
use std::collections::{BTreeSet, HashMap};

/// A constant is computed if it, and all it is computed from, have at most this many elements: a mask of 1,024 tokens.
const ELEMENTS_MAX: usize = 1 << 20;
/// Most operations that it may take.
const FLOPS_MAX: u64 = 1 << 26;

/// The constants of a graph: whatever depends on no input.
pub(super) struct Constants<'a> {
    pub graph: &'a Graph,
    is_constant: Vec<bool>,
    /// One node for all that compute the same: layers have a mask each, and they are often the same one.
    same: HashMap<(&'a Op, Vec<Value>), Value>,
    known: HashMap<Value, Option<Tensor>>,
}

impl<'a> Constants<'a> {
    pub fn of(graph: &'a Graph) -> Self {
        let mut is_constant = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let constant =
                !matches!(node.op, Op::Input(_)) && node.inputs.iter().all(|v| is_constant[v.index()]);
            is_constant.push(constant);
        }
        Self { graph, is_constant, same: HashMap::new(), known: HashMap::new() }
    }

    /// The number that all elements of a value are, if it is such a constant.
    pub fn number(&mut self, value: Value) -> Option<f64> {
        splat(self.graph, value).or_else(|| {
            let tensor = self.tensor(self.unrepeated(value))?;
            let first = (tensor.elements() > 0).then(|| tensor.get_f64(0))?;
            (1..tensor.elements()).all(|i| tensor.get_f64(i) == first).then_some(first)
        })
    }

    /// A value that is another one times a number above zero: that, and the number.
    pub fn scaled(&mut self, value: Value) -> Option<(Value, f64)> {
        let node = self.graph.node(value);
        let &[a, b] = node.inputs.as_slice() else { return None };
        let (of, by) = match &node.op {
            Op::Mul(_) => match self.number(b) {
                Some(by) => (a, by),
                None => (b, self.number(a)?),
            },
            Op::Div(_) => (a, 1.0 / self.number(b)?),
            _ => return None,
        };
        (by > 0.0 && by.is_finite()).then_some((of, by))
    }

    /// What a constant does to scores `[.., queries, keys]` of as many keys as queries, where `leaves` says of an element
    /// whether it leaves the score as it is or takes it out, if it does either.
    pub fn mask(&mut self, value: Value, leaves: &dyn Fn(f64) -> Option<bool>) -> Option<Mask> {
        if let Some(all) = splat(self.graph, value) {
            return leaves(all)?.then_some(Mask::None);
        }
        let source = self.unrepeated(value);
        let (from, to) = (&self.graph.ty(source).dims, &self.graph.ty(value).dims);
        // Repeated over what comes before queries and keys, and not over these.
        let matrices = from.len() >= 2 && to.len() >= 2 && from[from.len() - 2..] == to[to.len() - 2..];
        let tensor = self.tensor(if matrices { source } else { value })?;
        let keys = *tensor.shape().dims().last()?;
        let queries = *tensor.shape().dims().iter().nth_back(1)?;
        let (mut causal, mut none) = (keys == queries, true);
        for i in 0..tensor.elements() {
            let left = leaves(tensor.get_f64(i))?;
            causal &= left == (i % keys <= i / keys % queries);
            none &= left;
        }
        // One token sees itself in either way.
        if none { Some(Mask::None) } else { causal.then_some(Mask::Causal) }
    }

    /// What a value repeats, where that keeps the order of dimensions and puts none behind the last.
    fn unrepeated(&self, mut value: Value) -> Value {
        while let Op::Broadcast(op) = &self.graph.node(value).op {
            let before = self.graph.node(value).inputs[0];
            let (rank, from) = (self.graph.ty(value).rank(), self.graph.ty(before).rank());
            if !op.axes.iter().copied().eq(rank - from..rank) {
                break;
            }
            value = before;
        }
        value
    }

    /// The value of a constant, if it is one and computing it takes little.
    fn tensor(&mut self, value: Value) -> Option<Tensor> {
        if !self.is_constant[value.index()] {
            return None;
        }
        let (graph, mut stack, mut needed) = (self.graph, vec![value], BTreeSet::new());
        while let Some(at) = stack.pop() {
            if needed.insert(at) {
                stack.extend(&graph.node(at).inputs);
            }
        }
        // What each of them is the same as; inputs come before who reads them.
        let mut same: HashMap<Value, Value> = HashMap::new();
        for at in needed {
            let node = graph.node(at);
            let inputs: Vec<Value> = node.inputs.iter().map(|v| same[v]).collect();
            let first = *self.same.entry((&node.op, inputs.clone())).or_insert(at);
            same.insert(at, first);
            if !self.known.contains_key(&first) {
                let tensor = self.evaluated(first, &inputs);
                self.known.insert(first, tensor);
            }
        }
        self.known[&same[&value]].clone()
    }

    fn evaluated(&self, value: Value, inputs: &[Value]) -> Option<Tensor> {
        let node = self.graph.node(value);
        let shape = node.ty.static_shape().filter(|shape| shape.elements() <= ELEMENTS_MAX)?;
        if self.graph.node_cost(value).flops > FLOPS_MAX {
            return None;
        }
        let inputs = inputs.iter().map(|v| self.known.get(v)?.as_ref()).collect::<Option<Vec<_>>>()?;
        Some(node.op.rule().eval(&inputs, node.ty.dtype, &shape))
    }
}

//! Recomputation: cheap elementwise values that other kernels read are computed again there, from what these kernels
//! read instead, and are not kept in memory in between.
//!
//! Values may be computed again if all kernels that read them can do so (they are elementwise, or reductions), and if
//! all that is large in what they are computed from is one value in memory, no larger than they are: then no kernel reads
//! more than before, and they are never written. It is done if the arithmetic costs less than the memory traffic that it
//! saves. What takes up memory between the forward and the backward pass is mostly such values: GELU's and its
//! derivative's parts come from the product before, what is normalised from what is not.

use crate::fuse::{is_map, unit_of, units};
use crate::{Fuse, Pass};
use outgrow_ir::{Diagnostics, Graph, Op, Rewriter, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Computes cheap values again instead of keeping them.
#[derive(Debug)]
pub struct Recompute {
    /// Values of fewer bytes are left alone.
    bytes_min: usize,
}

/// How much [`effort`] for each element a byte of it is worth that is neither written nor read, and not kept.
const EFFORT_PER_BYTE: usize = 4;
/// What is at most this part of a value is small beside it.
const SMALL: usize = 4;

impl Default for Recompute {
    /// What is smaller stays in the first caches, and costs next to nothing.
    fn default() -> Self {
        Self { bytes_min: 64 << 10 }
    }
}

impl Pass for Recompute {
    fn name(&self) -> &'static str {
        "recompute"
    }

    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        // What is one kernel now will be one later: only what is read across kernels is looked at.
        let fused = Fuse.run(graph)?;
        let kernel_of = unit_of(graph, &units(&fused));
        let plan = Plan::new(graph, &fused, kernel_of, self.bytes_min);
        let mut rebuilt = Rebuilt { rewriter: Rewriter::new(graph), copies: HashMap::new() };
        for (old, node) in graph.iter() {
            let kernel = plan.kernel_of[old.index()];
            if !node.inputs.iter().any(|v| plan.is_elsewhere(*v, kernel)) {
                rebuilt.rewriter.keep(old);
                continue;
            }
            let inputs: Vec<Value> =
                node.inputs.iter().map(|v| plan.value(&mut rebuilt, *v, kernel)).collect();
            let rewriter = &mut rebuilt.rewriter;
            let new = rewriter.b.with_origin(node.origin.clone(), |b| b.push(node.op.clone(), &inputs));
            rewriter.replace(old, new);
        }
        rebuilt.rewriter.finish()
    }
}

/// The graph as far as it is rebuilt.
struct Rebuilt<'a> {
    rewriter: Rewriter<'a>,
    /// What kernels compute again, by the kernel and the old value.
    copies: HashMap<(usize, Value), Value>,
}

/// What is computed again.
struct Plan<'a> {
    graph: &'a Graph,
    kernel_of: Vec<usize>,
    /// The other kernels that read each value.
    readers: Vec<BTreeSet<usize>>,
    /// Whether each value is computed again by other kernels that read it.
    again: Vec<bool>,
}

/// What a value is computed from, as far as that is in memory, and what that takes.
#[derive(Clone, Default)]
struct Origin {
    /// What is large of it.
    large: BTreeSet<usize>,
    effort: usize,
}

/// How long an elementwise op takes, where that of a sum is one.
fn effort(op: &Op) -> usize {
    match op {
        Op::Exp(_) => 3,
        Op::Tanh(_) => 5,
        Op::Log(_) | Op::Sin(_) | Op::Cos(_) => 8,
        Op::Erf(_) => 10,
        Op::Pow(_) => 30,
        Op::Div(_) | Op::Sqrt(_) => 2,
        _ => 1,
    }
}

impl<'a> Plan<'a> {
    fn new(graph: &'a Graph, fused: &Graph, kernel_of: Vec<usize>, bytes_min: usize) -> Self {
        let count = graph.nodes.len();
        let mut readers = vec![BTreeSet::new(); count];
        // Whether all kernels that read a value can compute it, and whether a kernel reduces something.
        let (mut can, mut reduces) = (vec![true; count], vec![false; count]);
        for (reader, node) in graph.iter() {
            let kernel = kernel_of[reader.index()];
            reduces[kernel] |= !is_map(graph, reader.index());
            for input in node.inputs.iter().filter(|v| kernel_of[v.index()] != kernel) {
                readers[input.index()].insert(kernel);
                can[input.index()] &= fused.node(reader).group.is_some();
            }
        }
        graph.outputs.iter().for_each(|output| can[output.value.index()] = false);
        let mut plan = Self { graph, kernel_of, readers, again: vec![false; count] };
        let mut origins: Vec<Origin> = Vec::with_capacity(count);
        // What does not pay alone may with others of the same kernel, from the same origin.
        let mut others: BTreeMap<(usize, Option<usize>), Vec<usize>> = BTreeMap::new();
        for (value, _) in graph.iter() {
            let (i, kernel) = (value.index(), plan.kernel_of[value.index()]);
            let mut origin = Origin::default();
            if is_map(graph, i) {
                origin = plan.origin(&origins, value);
                let small = |of: &usize| plan.bytes(*of) <= plan.bytes(i);
                let may = !plan.readers[i].is_empty() && can[i] && !reduces[kernel];
                let large = plan.bytes(i) >= bytes_min;
                if may && large && origin.large.len() <= 1 && origin.large.iter().all(small) {
                    plan.again[i] = plan.pays(&[i], origin.effort);
                    others.entry((kernel, origin.large.first().copied())).or_default().push(i);
                }
            }
            origins.push(origin);
        }
        for values in others.values() {
            let left: Vec<usize> = values.iter().copied().filter(|i| !plan.again[*i]).collect();
            let effort = left.iter().map(|i| origins[*i].effort).max().unwrap_or(0);
            if left.len() > 1 && plan.pays(&left, effort) {
                left.iter().for_each(|i| plan.again[*i] = true);
            }
        }
        plan
    }

    /// Whether it pays that all kernels that read some of these values, of one shape, compute them, which takes so much
    /// effort for each element.
    fn pays(&self, values: &[usize], effort: usize) -> bool {
        let bytes = |i: &usize| self.graph.nodes[*i].ty.dtype.bytes();
        let kernels: BTreeSet<usize> = values.iter().flat_map(|i| &self.readers[*i]).copied().collect();
        let written: usize = values.iter().map(bytes).sum();
        // Each kernel reads the origin in place of what it has read of these values.
        let read: usize = values.iter().map(|i| self.readers[*i].len() * bytes(i)).sum();
        let origin = kernels.len() * values.first().map_or(0, bytes);
        effort.saturating_mul(kernels.len()) <= EFFORT_PER_BYTE * (written + read.saturating_sub(origin))
    }

    /// What an elementwise value is computed from.
    fn origin(&self, origins: &[Origin], value: Value) -> Origin {
        let node = self.graph.node(value);
        let mut origin = Origin { effort: effort(&node.op), ..Origin::default() };
        for input in node.inputs.iter().map(|v| v.index()) {
            if self.again[input] || self.is_inner(input) {
                origin.large.extend(&origins[input].large);
                origin.effort = origin.effort.saturating_add(origins[input].effort);
            } else if self.bytes(input).saturating_mul(SMALL) > self.bytes(value.index()) {
                origin.large.insert(input);
            }
        }
        origin
    }

    /// Whether a value is known to the kernel alone that computes it.
    fn is_inner(&self, value: usize) -> bool {
        is_map(self.graph, value) && self.readers[value].is_empty()
    }

    /// Bytes of what a value is a view of.
    fn bytes(&self, value: usize) -> usize {
        let node = &self.graph.nodes[value];
        match node.op {
            Op::Broadcast(_) => self.bytes(node.inputs[0].index()),
            Op::Constant(_) => 0,
            _ => node.ty.unit_bytes(),
        }
    }

    /// Whether `kernel` computes a value of another kernel for itself.
    fn is_elsewhere(&self, value: Value, kernel: usize) -> bool {
        self.again[value.index()] && self.kernel_of[value.index()] != kernel
    }

    /// What an old value is for `kernel`: a copy, where it computes that for itself, of which it has one.
    fn value(&self, rebuilt: &mut Rebuilt<'_>, value: Value, kernel: usize) -> Value {
        if !self.is_elsewhere(value, kernel) {
            return rebuilt.rewriter.new_value(value);
        }
        self.copy(rebuilt, value, kernel)
    }

    fn copy(&self, rebuilt: &mut Rebuilt<'_>, value: Value, kernel: usize) -> Value {
        if let Some(copy) = rebuilt.copies.get(&(kernel, value)) {
            return *copy;
        }
        let node = self.graph.node(value);
        let inputs = node.inputs.iter().map(|v| match self.is_inner(v.index()) {
            true => self.copy(rebuilt, *v, kernel),
            false => self.value(rebuilt, *v, kernel),
        });
        let inputs: Vec<Value> = inputs.collect();
        let copy = rebuilt.rewriter.b.with_origin(node.origin.clone(), |b| b.push(node.op.clone(), &inputs));
        rebuilt.copies.insert((kernel, value), copy);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{add_gradients, prepare};
    use outgrow_ir::{Builder, Dim, InputRole, OutputRole, TensorType, interpret};
    use outgrow_tensor::{DType, RngKey, Tensor};

    fn feed(b: &mut Builder, name: &str, dims: &[usize]) -> Value {
        b.input(name, InputRole::Data, TensorType::new(DType::F32, dims.iter().copied()))
    }

    /// The values that are in memory when the prepared graph runs: read by another kernel than their own, or results; mere
    /// views aside.
    fn kept(graph: &Graph) -> usize {
        let graph = prepare().run(graph).unwrap();
        let kernel_of = unit_of(&graph, &units(&graph));
        let mut kept: BTreeSet<Value> = graph.outputs.iter().map(|output| output.value).collect();
        for (reader, node) in graph.iter() {
            let read = node.inputs.iter().filter(|v| kernel_of[v.index()] != kernel_of[reader.index()]);
            kept.extend(read);
        }
        let computed = |v: &&Value| {
            !matches!(
                graph.node(**v).op,
                Op::Input(_) | Op::Constant(_) | Op::Broadcast(_) | Op::Transpose(_) | Op::Reshape(_)
            )
        };
        kept.iter().filter(computed).count()
    }

    fn same_results(graph: &Graph, inputs: &[Tensor]) {
        let again = Recompute { bytes_min: 0 }.run(graph).unwrap();
        again.verify().unwrap();
        assert_eq!(interpret(graph, inputs).unwrap(), interpret(&again, inputs).unwrap(), "{graph}");
    }

    #[test]
    fn of_a_gelu_only_what_it_is_made_of_is_kept() {
        let mut b = Builder::new("gelu");
        let x = feed(&mut b, "x", &[64, 64]);
        let up = b.param("up", DType::F32, &[64, 256]);
        let bias = b.param("bias", DType::F32, &[256]);
        let down = b.param("down", DType::F32, &[256, 64]);
        let h = b.matmul(x, up);
        let bias = b.broadcast(bias, &[Dim::Fixed(64), Dim::Fixed(256)], &[1]);
        let h = b.add(h, bias);
        let y = b.gelu_tanh(h);
        let y = b.matmul(y, down);
        let square = b.mul(y, y);
        let loss = b.sum_all(square);
        b.output_as("loss", OutputRole::Loss, loss);
        let graph = add_gradients(&b.finish().unwrap()).unwrap();
        // The two products, GELU's result, the loss, the gradients of y, of GELU's result and of h, and three weights.
        assert_eq!(kept(&graph), 10);
    }

    /// What two large values are made into is read as they would be, with one more write but fewer reads.
    #[test]
    fn sums_of_large_values_are_kept() {
        let mut b = Builder::new("sum");
        let (x, y) = (feed(&mut b, "x", &[128, 128]), feed(&mut b, "y", &[128, 128]));
        let sum = b.add(x, y);
        let (first, second) = (b.reduce_sum(sum, &[0]), b.reduce_sum(sum, &[1]));
        b.output("first", first);
        b.output("second", second);
        let graph = b.finish().unwrap();
        assert_eq!(Recompute::default().run(&graph).unwrap().nodes.len(), graph.nodes.len());
        assert_eq!(kept(&graph), 3);
    }

    /// Neither is what takes long, nor what a product reads anyway.
    #[test]
    fn what_is_dear_or_there_anyway_is_read() {
        let mut b = Builder::new("dear");
        let (x, y) = (feed(&mut b, "x", &[128, 128]), feed(&mut b, "y", &[128, 128]));
        let dear = b.pow(x, x);
        let (first, second) = (b.reduce_sum(dear, &[0]), b.reduce_sum(dear, &[1]));
        let there = b.exp(y);
        let (third, fourth) = (b.matmul(there, there), b.reduce_sum(there, &[0]));
        for (i, value) in [first, second, third, fourth].into_iter().enumerate() {
            b.output(&i.to_string(), value);
        }
        let graph = b.finish().unwrap();
        assert_eq!(Recompute::default().run(&graph).unwrap().nodes.len(), graph.nodes.len());
        assert_eq!(kept(&graph), 6);
    }

    #[test]
    fn random_graphs_keep_what_they_compute() {
        for seed in 0..60 {
            let mut stream = RngKey::new(seed).stream();
            let mut b = Builder::new("random");
            let mut values = vec![feed(&mut b, "x", &[4, 4]), feed(&mut b, "y", &[4, 4])];
            for _ in 0..40 {
                let last = values.len() as u64;
                let mut any = || values[stream.below(last) as usize];
                let (x, y) = (any(), any());
                let value = match stream.below(6) {
                    0 => b.matmul(x, y),
                    1 => {
                        let sum = b.reduce_sum(x, &[1]);
                        b.broadcast(sum, &[Dim::Fixed(4), Dim::Fixed(4)], &[0])
                    }
                    2 => b.tanh(x),
                    3 => b.mul(x, y),
                    4 => b.neg(x),
                    _ => b.sub(x, y),
                };
                // So that numbers stay small.
                values.push(b.tanh(value));
            }
            for (i, value) in values.iter().skip(3).step_by(7).enumerate() {
                b.output(&i.to_string(), *value);
            }
            let graph = b.finish().unwrap();
            let input = || Tensor::from_f64(DType::F32, [4, 4], |i| (i as f64 - 7.5) / 8.0);
            same_results(&graph, &[input(), input()]);
        }
    }
}

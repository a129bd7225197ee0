//! Fusion: marks nodes that a backend should run as one kernel.
//!
//! A group is either a *map* (elementwise nodes of one shape, any of which may be read from outside) or a *reduction*
//! (elementwise nodes of a full shape that nobody else reads, reductions of them over the same axes, and elementwise
//! nodes of the reduced shape). Nodes are visited from back to front, and each joins the group of those that read it
//! when that makes no cycle among groups.

use crate::Pass;
use crate::reach::Reach;
use outgrow_ir::{Diagnostics, Dim, Graph, GroupId, Op, Value};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};

/// Marks nodes to be run as one kernel.
#[derive(Debug)]
pub struct Fuse;

/// A kernel should not hold more nodes than this: registers of a block program are not free.
const GROUP_NODES: usize = 64;

/// Of the groups that reduce a value, those last formed are looked at for more of its reductions: others are far away, and
/// a value that everybody reads would have everybody looked at for everybody.
const SIBLINGS: usize = 8;

/// A group being formed.
#[derive(Debug)]
struct Group {
    /// The shape before the reduction, and its axes.
    full: Option<(Vec<Dim>, Vec<usize>)>,
    /// The shape of a map, or after the reduction.
    kept: Vec<Dim>,
    nodes: Vec<usize>,
    /// The large values that its reductions are of.
    leaves: BTreeSet<usize>,
}

#[derive(Debug)]
struct Fuser<'a> {
    graph: &'a Graph,
    groups: Vec<Group>,
    group_of: Vec<Option<usize>>,
    users: &'a [Vec<usize>],
    is_output: Vec<bool>,
    reach: Reach<'a>,
    /// The groups whose reductions are of each large value, the last of them.
    readers: HashMap<usize, VecDeque<usize>>,
}

impl Pass for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        let count = graph.nodes.len();
        let mut users = vec![Vec::new(); count];
        for (value, node) in graph.iter() {
            node.inputs.iter().for_each(|v| users[v.index()].push(value.index()));
        }
        let mut is_output = vec![false; count];
        graph.outputs.iter().for_each(|output| is_output[output.value.index()] = true);
        let (users, reach) = (users.as_slice(), Reach::new(graph, &users));
        let (groups, group_of, readers) = (Vec::new(), vec![None; count], HashMap::new());
        let mut fuser = Fuser { graph, groups, group_of, users, is_output, reach, readers };
        for i in (0..count).rev() {
            fuser.place(i);
        }
        Ok(fuser.finish())
    }
}

/// Whether a node is computed element by element (constants are written into kernels, and need no group).
pub(crate) fn is_map(graph: &Graph, i: usize) -> bool {
    let node = &graph.nodes[i];
    node.op.rule().elementwise() || matches!(node.op, Op::Iota(_))
}

/// Whether a value is a smaller one, or a number, again and again.
fn is_repeated(graph: &Graph, i: usize) -> bool {
    matches!(graph.nodes[i].op, Op::Broadcast(_) | Op::Constant(_))
}

fn reduced_axes(op: &Op) -> Option<&[usize]> {
    match op {
        Op::ReduceSum(r) => Some(&r.axes),
        Op::ReduceMax(r) => Some(&r.axes),
        _ => None,
    }
}

impl Fuser<'_> {
    fn place(&mut self, i: usize) {
        let node = &self.graph.nodes[i];
        let reduced = reduced_axes(&node.op).map(<[usize]>::to_vec).filter(|axes| !axes.is_empty());
        if !is_map(self.graph, i) && reduced.is_none() {
            return self.reach.place(i, None);
        }
        let mut candidates: Vec<usize> = self.users[i].iter().filter_map(|u| self.group_of[*u]).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let leaves = reduced.as_ref().map_or_else(BTreeSet::new, |_| self.leaves(i));
        candidates.extend(self.siblings(&leaves));
        let found =
            candidates.into_iter().find(|g| self.fits(i, *g, reduced.as_deref()) && !self.cycle(i, *g));
        self.reach.place(i, found.map(|g| self.groups[g].nodes[0]));
        let g = found.unwrap_or_else(|| {
            let (kept, nodes) = (node.ty.dims.clone(), Vec::new());
            self.groups.push(Group { full: None, kept, nodes, leaves: BTreeSet::new() });
            self.groups.len() - 1
        });
        for leaf in &leaves {
            let readers = self.readers.entry(*leaf).or_default();
            if !readers.contains(&g) {
                readers.push_back(g);
            }
            if readers.len() > SIBLINGS {
                readers.pop_front();
            }
        }
        self.groups[g].leaves.extend(leaves);
        if let Some(axes) = reduced {
            let full = self.graph.ty(node.inputs[0]).dims.clone();
            self.groups[g].full = Some((full, axes));
        }
        self.groups[g].nodes.push(i);
        self.group_of[i] = Some(g);
    }

    /// The values of a reduction's full shape that a kernel of its own would read: what it is of, or what that is computed
    /// from, as far as nobody else has any use for it.
    fn leaves(&self, i: usize) -> BTreeSet<usize> {
        let full = &self.graph.ty(self.graph.nodes[i].inputs[0]).dims;
        let (mut inner, mut leaves) = (BTreeSet::from([i]), BTreeSet::new());
        let mut next = BTreeSet::from([self.graph.nodes[i].inputs[0].index()]);
        // Readers come before what they read.
        while let Some(node) = next.pop_last() {
            if inner.len() > GROUP_NODES {
                break;
            }
            let own = !self.is_output[node] && self.users[node].iter().all(|u| inner.contains(u));
            if is_map(self.graph, node) && own {
                inner.insert(node);
                next.extend(self.graph.nodes[node].inputs.iter().map(|v| v.index()));
            } else if self.graph.nodes[node].ty.dims == *full && !is_repeated(self.graph, node) {
                leaves.insert(node);
            }
        }
        leaves
    }

    /// The groups that reduce some of these values, those first that have most in common with them.
    fn siblings(&self, leaves: &BTreeSet<usize>) -> Vec<usize> {
        let mut found: Vec<usize> =
            leaves.iter().filter_map(|leaf| self.readers.get(leaf)).flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        found.sort_by_key(|g| Reverse(self.groups[*g].leaves.intersection(leaves).count()));
        found
    }

    /// Whether node `i` may be one of the nodes of group `g`, as far as shapes go.
    fn fits(&self, i: usize, g: usize, reduced: Option<&[usize]>) -> bool {
        let (node, group) = (&self.graph.nodes[i], &self.groups[g]);
        if group.nodes.len() >= GROUP_NODES {
            return false;
        }
        if let Some(axes) = reduced {
            let full = &self.graph.ty(node.inputs[0]).dims;
            let same = group.full.as_ref().is_none_or(|(f, a)| f == full && a == axes);
            return same && node.ty.dims == group.kept && self.shallow(i, g);
        }
        match &group.full {
            None => node.ty.dims == group.kept,
            // In front of the reduction nothing can be stored, so nobody else may read it.
            Some((full, _)) if node.ty.dims == *full && *full != group.kept => {
                let inside = |u: &usize| self.group_of[*u] == Some(g) && !self.in_kept_part(*u, g);
                !self.is_output[i] && self.users[i].iter().all(inside)
            }
            Some(_) => {
                node.ty.dims == group.kept && self.users[i].iter().all(|u| self.after_reduction(*u, g))
            }
        }
    }

    /// Whether a member of group `g` is computed after its reduction.
    fn in_kept_part(&self, i: usize, g: usize) -> bool {
        let node = &self.graph.nodes[i];
        reduced_axes(&node.op).is_none()
            && self.groups[g].full.as_ref().is_some_and(|_| node.ty.dims == self.groups[g].kept)
    }

    /// Whether a reader is outside group `g` or in its part after the reduction.
    fn after_reduction(&self, u: usize, g: usize) -> bool {
        self.group_of[u] != Some(g) || self.in_kept_part(u, g)
    }

    /// A reduction joins a map only if none of the map's nodes would have to come before a reduction of the group:
    /// a reduction reads nothing that the group computes after another reduction. Depth is checked by shapes: what
    /// it reads has the full shape, and the group's other nodes have the kept one.
    fn shallow(&self, i: usize, g: usize) -> bool {
        let node = &self.graph.nodes[i];
        self.graph.ty(node.inputs[0]).dims != self.groups[g].kept
    }

    /// Whether adding node `i` to group `g` would let a path leave the group and come back.
    fn cycle(&mut self, i: usize, g: usize) -> bool {
        let found = self.reach.leads(i, self.groups[g].nodes[0]);
        #[cfg(test)]
        assert_eq!(found, tests::cycle_by_search(self, i, g), "node {i} and group {g}");
        found
    }

    /// The graph with its groups marked, numbered from the front.
    fn finish(self) -> Graph {
        let mut graph = self.graph.clone();
        let mut numbers = vec![None; self.groups.len()];
        let mut next = 0;
        for (i, node) in graph.nodes.iter_mut().enumerate() {
            node.group = self.group_of[i].map(|g| {
                let number = *numbers[g].get_or_insert_with(|| {
                    next += 1;
                    next - 1
                });
                GroupId(number)
            });
        }
        graph
    }
}

/// The nodes of each fusion group of a graph, in topological order; nodes without a group stand alone.
pub fn units(graph: &Graph) -> Vec<Vec<Value>> {
    let mut of_group = HashMap::new();
    let mut units: Vec<Vec<Value>> = Vec::new();
    for (value, node) in graph.iter() {
        match node.group {
            None => units.push(vec![value]),
            Some(group) => {
                let unit = *of_group.entry(group).or_insert_with(|| {
                    units.push(Vec::new());
                    units.len() - 1
                });
                units[unit].push(value);
            }
        }
    }
    units
}

/// The unit that each node is in, of [`units`].
pub fn unit_of(graph: &Graph, units: &[Vec<Value>]) -> Vec<usize> {
    let mut unit_of = vec![0; graph.nodes.len()];
    units.iter().enumerate().for_each(|(u, nodes)| nodes.iter().for_each(|v| unit_of[v.index()] = u));
    unit_of
}

/// The order in which [`units`] run: each after those it reads, otherwise as early as its first node stands in the graph.
pub fn schedule(graph: &Graph, units: &[Vec<Value>]) -> Vec<usize> {
    let unit_of = unit_of(graph, units);
    let mut waits = vec![0usize; units.len()];
    let mut readers = vec![Vec::new(); units.len()];
    for (u, nodes) in units.iter().enumerate() {
        let inputs = nodes.iter().flat_map(|v| &graph.node(*v).inputs);
        let mut from: Vec<usize> = inputs.map(|v| unit_of[v.index()]).filter(|f| *f != u).collect();
        from.sort_unstable();
        from.dedup();
        waits[u] = from.len();
        from.into_iter().for_each(|f| readers[f].push(u));
    }
    let key = |u: usize| Reverse((units[u][0], u));
    let mut ready: BinaryHeap<_> = (0..units.len()).filter(|u| waits[*u] == 0).map(key).collect();
    let mut order = Vec::new();
    while let Some(Reverse((_, u))) = ready.pop() {
        order.push(u);
        for reader in &readers[u] {
            waits[*reader] -= 1;
            if waits[*reader] == 0 {
                ready.push(key(*reader));
            }
        }
    }
    assert_eq!(order.len(), units.len(), "invariant: fusion groups form no cycle");
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::add_gradients;
    use outgrow_ir::{Builder, InputRole, OutputRole, TensorType};
    use outgrow_tensor::DType;
    use outgrow_tensor::RngKey;

    /// The same by walking all that the node leads to: what [`Reach`] says is checked against this in every test.
    pub fn cycle_by_search(fuser: &Fuser<'_>, i: usize, g: usize) -> bool {
        let mut seen_groups = vec![false; fuser.groups.len()];
        let mut seen = std::collections::HashSet::new();
        let mut stack: Vec<usize> =
            fuser.users[i].iter().copied().filter(|u| fuser.group_of[*u] != Some(g)).collect();
        while let Some(node) = stack.pop() {
            match fuser.group_of[node] {
                Some(group) if group == g => return true,
                Some(group) if !seen_groups[group] => {
                    seen_groups[group] = true;
                    let next = fuser.groups[group].nodes.iter().flat_map(|n| &fuser.users[*n]);
                    stack.extend(next.filter(|u| fuser.group_of[**u] != Some(group)));
                }
                Some(_) => {}
                None if seen.insert(node) => stack.extend(&fuser.users[node]),
                None => {}
            }
        }
        false
    }

    /// Random graphs of maps, reductions and products, in which values are read far behind where they are made.
    #[test]
    fn random_graphs_fuse_as_by_search() {
        for seed in 0..60 {
            let mut stream = RngKey::new(seed).stream();
            let mut b = Builder::new("random");
            let mut values = vec![feed(&mut b, "x", &[4, 4]), feed(&mut b, "y", &[4, 4])];
            for _ in 0..80 {
                let last = values.len() as u64;
                let mut any = |near: bool| {
                    let low = if near { last.saturating_sub(6) } else { 0 };
                    values[(low + stream.below(last - low)) as usize]
                };
                let (near, far, kind) = (any(true), any(false), any(true).0 as u64 + last);
                let value = match kind % 7 {
                    0 => b.matmul(near, far),
                    1 => b.transpose(near, &[1, 0]),
                    2 => {
                        let sum = b.reduce_sum(near, &[1]);
                        b.broadcast(sum, &[Dim::Fixed(4), Dim::Fixed(4)], &[0])
                    }
                    3 | 4 => b.tanh(near),
                    _ => b.add(near, far),
                };
                values.push(value);
            }
            let all = values.iter().skip(2).step_by(9).copied().chain(values.last().copied());
            let square = all.collect::<Vec<_>>().into_iter().reduce(|x, y| b.mul(x, y)).unwrap();
            let loss = b.sum_all(square);
            b.output_as("loss", OutputRole::Loss, loss);
            crate::prepare().run(&b.finish().unwrap()).unwrap();
        }
    }

    /// Gradients make values wait for the whole way there and back; fusion must not walk it for each of them.
    #[test]
    fn networks_with_shortcuts_fuse_as_by_search() {
        let mut b = Builder::new("deep");
        let mut x = feed(&mut b, "x", &[6, 5]);
        let first = x;
        for i in 0..20 {
            let w = b.param(&format!("w{i}"), DType::F32, &[5, 5]);
            let bias = b.param(&format!("b{i}"), DType::F32, &[5]);
            let h = b.matmul(x, w);
            let bias = b.broadcast(bias, &[Dim::Fixed(6), Dim::Fixed(5)], &[1]);
            let h = b.add(h, bias);
            let t = if i % 2 == 0 { b.relu(h) } else { b.tanh(h) };
            x = if i % 5 == 4 { b.add(t, first) } else { b.add(x, t) };
        }
        let square = b.mul(x, x);
        let loss = b.sum_all(square);
        b.output_as("loss", OutputRole::Loss, loss);
        let graph = add_gradients(&b.finish().unwrap()).unwrap();
        crate::prepare().run(&graph).unwrap();
    }

    /// The ops of each unit of a graph after fusion, leaving out inputs, constants and mere views.
    fn kernels(graph: &Graph) -> Vec<String> {
        let fused = crate::prepare().run(graph).unwrap();
        let work = |v: &&Value| {
            let op = &fused.node(**v).op;
            !matches!(
                op,
                Op::Input(_) | Op::Constant(_) | Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_)
            )
        };
        let name = |unit: Vec<Value>| {
            let names: Vec<_> = unit.iter().filter(work).map(|v| fused.node(*v).op.rule().name()).collect();
            names.join("+")
        };
        units(&fused).into_iter().map(name).filter(|n| !n.is_empty()).collect()
    }

    fn feed(b: &mut Builder, name: &str, dims: &[usize]) -> Value {
        b.input(name, InputRole::Data, TensorType::new(DType::F32, dims.iter().copied()))
    }

    #[test]
    fn a_chain_is_one_kernel_and_softmax_two() {
        let mut b = Builder::new("softmax");
        let x = feed(&mut b, "x", &[8, 10]);
        let x = b.mul_scalar(x, 0.5);
        let max = b.reduce_max(x, &[1]);
        let max = b.broadcast(max, &[Dim::Fixed(8), Dim::Fixed(10)], &[0]);
        let shifted = b.sub(x, max);
        let e = b.exp(shifted);
        let sum = b.reduce_sum(e, &[1]);
        let log = b.log(sum);
        b.output("log", log);
        let graph = b.finish().unwrap();
        // The scaled input is read by both reductions, so it is kept; exp is computed inside the second.
        assert_eq!(kernels(&graph), ["mul", "reduce_max", "sub+exp+reduce_sum+log"]);
    }

    #[test]
    fn reductions_of_the_same_values_are_one_kernel() {
        let mut b = Builder::new("moments");
        let (x, y) = (feed(&mut b, "x", &[8, 10]), feed(&mut b, "y", &[8, 10]));
        let product = b.mul(x, y);
        let [sum, other, rows] = [(x, 0), (product, 0), (x, 1)].map(|(v, axis)| b.reduce_sum(v, &[axis]));
        // This waits for the first sum, and is with the second, which it does not wait for.
        let shift = b.broadcast(sum, &[Dim::Fixed(8), Dim::Fixed(10)], &[1]);
        let shifted = b.sub(x, shift);
        let square = b.mul(shifted, shifted);
        let squares = b.reduce_sum(square, &[0]);
        for (name, value) in [("sum", sum), ("other", other), ("rows", rows), ("squares", squares)] {
            b.output(name, value);
        }
        let expected = ["mul+reduce_sum+sub+mul+reduce_sum", "reduce_sum", "reduce_sum"];
        let mut found = kernels(&b.finish().unwrap());
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_never_form_cycles() {
        // y = exp(x); z = y . w; out = y + z: y and out may not be one kernel, since z comes in between.
        let mut b = Builder::new("cycle");
        let (x, w) = (feed(&mut b, "x", &[4, 4]), feed(&mut b, "w", &[4, 4]));
        let y = b.exp(x);
        let z = b.matmul(y, w);
        let out = b.add(y, z);
        b.output("out", out);
        assert_eq!(kernels(&b.finish().unwrap()), ["exp", "dot", "add"]);
    }

    #[test]
    fn gradients_of_a_deep_network_fuse_soundly() {
        let mut b = Builder::new("deep");
        let mut x = feed(&mut b, "x", &[6, 5]);
        for i in 0..12 {
            let w = b.param(&format!("w{i}"), DType::F32, &[5, 5]);
            let h = b.matmul(x, w);
            let t = b.tanh(h);
            x = b.add(x, t);
        }
        let square = b.mul(x, x);
        let loss = b.sum_all(square);
        b.output_as("loss", OutputRole::Loss, loss);
        let graph = add_gradients(&b.finish().unwrap()).unwrap();
        // The verifier, which runs inside, refuses groups that are left and entered again.
        let count = kernels(&graph).len();
        assert!(count <= 12 * 5 + 2, "{count} kernels");
    }
}

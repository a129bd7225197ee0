//! Lowering: walks the graph's units (fusion groups and single nodes) in an order in which their inputs are ready,
//! gives every value a place, and emits steps.

use super::location::{Location, reshape};
use super::storage::{Home, Lowered, Make, Step, Storage};
use crate::backend::StepInfo;
use crate::{Bindings, Place, Weights};
use outgrow_ir::{Cost, Diagnostics, Graph, Op, Output, Value};
use outgrow_kernels::{Instr, KernelPath, Literal, Map, Slot, Transpose, View, Weight, copy};
use outgrow_tensor::{DType, Tensor};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The state of lowering.
pub struct Lowering<'a> {
    pub graph: &'a Graph,
    /// The path that kernels are to run on.
    pub path: KernelPath,
    pub places: Vec<Option<Location>>,
    pub storages: Vec<Storage>,
    pub steps: Vec<Step>,
    weights: Vec<Arc<Weight>>,
    /// The fusion groups (and single nodes), each in topological order, and which of them each node is in.
    pub units: Vec<Vec<Value>>,
    pub unit_of: Vec<usize>,
    /// Which values something outside their unit reads.
    pub exported: Vec<bool>,
    /// The nodes that read each value, each once.
    pub users: Vec<Vec<Value>>,
    /// What is rounded to bf16 by those that read it, and the f32 that they read.
    pub wide: HashMap<Value, Value>,
    /// Which units have been lowered.
    done: Vec<bool>,
    /// For a value that is to be written straight to where the caller wants an output: which place.
    output_of: Vec<Option<Place>>,
    /// By output, the storage of the input that it is to be written over, if it is.
    over: Vec<Option<usize>>,
    /// What the step being emitted computes.
    info: StepInfo,
}

/// Lowers a prepared graph with static shapes for a path, with weights and bindings that fit the graph.
pub fn lower(
    graph: &Graph,
    bindings: &Bindings,
    weights: &Weights,
    path: KernelPath,
) -> Result<Lowered, Diagnostics> {
    let units = outgrow_passes::units(graph);
    let unit_of = outgrow_passes::unit_of(graph, &units);
    let (mut exported, mut users) = (vec![false; graph.nodes.len()], vec![Vec::new(); graph.nodes.len()]);
    for (value, node) in graph.iter() {
        for input in &node.inputs {
            let of: &mut Vec<Value> = &mut users[input.index()];
            if of.last() != Some(&value) {
                of.push(value);
            }
        }
        let outside = node.inputs.iter().filter(|v| unit_of[v.index()] != unit_of[value.index()]);
        outside.for_each(|v| exported[v.index()] = true);
    }
    graph.outputs.iter().for_each(|output| exported[output.value.index()] = true);
    let mut lowering = Lowering {
        graph,
        path,
        places: vec![None; graph.nodes.len()],
        storages: Vec::new(),
        steps: Vec::new(),
        weights: Vec::new(),
        output_of: vec![None; graph.nodes.len()],
        over: Vec::new(),
        info: StepInfo::default(),
        done: vec![false; units.len()],
        units,
        unit_of,
        exported,
        users,
        wide: HashMap::new(),
    };
    lowering.declare(bindings, weights);
    let order = outgrow_passes::schedule(graph, &lowering.units);
    lowering.round_where_read();
    for unit in order {
        if !lowering.done[unit] {
            lowering.unit(unit)?;
        }
    }
    let targets = lowering.finish_outputs(bindings);
    let Lowering { storages, steps, weights, .. } = lowering;
    let externals = bindings.bytes.iter().copied().zip(bindings.written()).collect();
    let mut lowered = Lowered { storages, steps, externals, weights };
    for (input, output) in lowered.overwrite(targets) {
        lowered.steps.push(copy_back(&lowered.storages, input, output));
    }
    lowered.reuse_inputs();
    Ok(lowered)
}

/// The step that moves an output over the input it belongs to, after everything that reads the input.
fn copy_back(storages: &[Storage], input: usize, output: usize) -> Step {
    let bytes = storages[input].bytes;
    let view = |storage: usize| View::whole(storage as u32, DType::U8, [bytes]);
    let info = StepInfo { kernel: "map".into(), ops: "copy".into(), ..StepInfo::default() };
    let (reads, writes) = (vec![view(output)], vec![view(input)]);
    Step { reads, writes, in_place: true, make: make_copy(), info }
}

/// Makes the copy of the one view that is read to the one that is written.
fn is_bf16(view: &View) -> bool {
    view.dtype == DType::BF16
}

fn make_copy() -> Make {
    Box::new(|mut reads, mut writes| copy(reads.swap_remove(0), writes.swap_remove(0)))
}

impl Lowering<'_> {
    /// Declares inputs and outputs.
    fn declare(&mut self, bindings: &Bindings, weights: &Weights) {
        let mut places = bindings.inputs.iter();
        let mut given = Vec::new();
        for (i, value) in self.graph.inputs.iter().enumerate() {
            let ty = self.graph.ty(*value);
            let home = match weights.bound(self.graph, *value) {
                Some(weight) => {
                    self.weights.push(Arc::clone(weight));
                    Home::Weight(self.weights.len() - 1)
                }
                None => Home::External(*places.next().expect("invariant: bindings fit their graph")),
            };
            let external = matches!(home, Home::External(_));
            let storage = self.storage(format!("input {i}"), ty.unit_bytes(), home);
            if external {
                given.push(storage);
            }
            let view = View::whole(storage as u32, ty.dtype, self.dims(*value));
            self.places[value.index()] = Some(Location::View(view));
        }
        self.over =
            bindings.overwritten(self.graph).into_iter().map(|input| input.map(|i| given[i])).collect();
        for (o, Output { value, .. }) in self.graph.outputs.iter().enumerate() {
            // The first output of a value is where it is computed; others are copies.
            let free = self.over[o].is_none() && self.output_of[value.index()].is_none();
            if free {
                self.output_of[value.index()] = Some(bindings.outputs[o]);
            }
        }
    }

    fn unit(&mut self, unit: usize) -> Result<(), Diagnostics> {
        let nodes = self.units[unit].clone();
        self.done[unit] = true;
        self.describe(&nodes);
        let first = nodes[0];
        if self.graph.node(first).group.is_some() {
            return self.group(&nodes);
        }
        let place = match &self.graph.node(first).op {
            Op::Input(_) => return Ok(()),
            Op::Constant(c) => Some(self.constant(&c.0)),
            op => self.rearranged(first, op),
        };
        match place {
            Some(place) => self.places[first.index()] = Some(place),
            None => self.node(first)?,
        }
        Ok(())
    }

    /// Leaves the first nodes of a group out of it, since they are lowered with another unit.
    pub fn without(&mut self, nodes: &[Value]) {
        let Some(unit) = nodes.first().map(|first| self.unit_of[first.index()]) else { return };
        self.units[unit].retain(|node| !nodes.contains(node));
        self.done[unit] = self.units[unit].is_empty();
    }

    /// Whether a value has its place, or gets it by lowering only constants and views.
    pub fn is_ready(&self, value: Value) -> bool {
        let node = self.graph.node(value);
        self.places[value.index()].is_some()
            || node.group.is_none()
                && (node.op.is_view() || matches!(node.op, Op::Constant(_)))
                && node.inputs.iter().all(|input| self.is_ready(*input))
    }

    /// Gives a value that is ready its place.
    pub fn make_ready(&mut self, value: Value) -> Result<(), Diagnostics> {
        if self.places[value.index()].is_some() {
            return Ok(());
        }
        self.graph.node(value).inputs.iter().try_for_each(|input| self.make_ready(*input))?;
        self.unit(self.unit_of[value.index()])
    }

    pub fn describe(&mut self, nodes: &[Value]) {
        let names = nodes.iter().map(|v| self.graph.node(*v).op.rule().name());
        let mut ops: Vec<&str> = names.collect();
        ops.dedup();
        let node = self.graph.node(nodes[0]);
        let cost = nodes.iter().map(|v| self.graph.node_cost(*v)).sum();
        self.info = StepInfo { ops: ops.join("+"), origin: node.origin.clone(), cost, ..StepInfo::default() };
    }

    fn constant(&mut self, tensor: &Tensor) -> Location {
        let constant = outgrow_ir::ops::constant::Constant(Arc::new(tensor.clone()));
        match constant.splat() {
            // Large integers do not survive the way through f64; they are kept as they are.
            Some(x) if tensor.dtype() != DType::I64 || x.abs() < 9.0e15 => {
                Location::Splat(Literal::from_f64(tensor.dtype(), x))
            }
            _ => {
                let bytes = tensor.as_bytes().to_vec();
                let storage = self.storage("constant".into(), bytes.len(), Home::Constant(bytes));
                Location::View(View::whole(storage as u32, tensor.dtype(), tensor.shape().dims()))
            }
        }
    }

    /// The place of a value that is only another view of its input, or nothing if it must be computed.
    fn rearranged(&mut self, value: Value, op: &Op) -> Option<Location> {
        let node = self.graph.node(value);
        let input = *node.inputs.first()?;
        let dims = self.dims(value);
        if !op.is_view() {
            return None;
        }
        let view = match self.place(input) {
            Location::Splat(number) => return Some(Location::Splat(number)),
            Location::View(view) => view,
        };
        Some(Location::View(match op {
            Op::Broadcast(b) => view.broadcast(&dims, &b.axes),
            Op::Transpose(t) => view.permuted(&t.axes),
            Op::Slice(s) => view.sliced(s.axis, s.start, dims[s.axis], s.stride as isize),
            Op::Reverse(r) => view.reversed(r.axis),
            Op::Reshape(_) => match reshape(&view, &dims) {
                Some(view) => view,
                None => View::contiguous(self.copied(&view).slot, view.dtype, dims),
            },
            _ => view,
        }))
    }

    /// Static extents of a value.
    pub fn dims(&self, value: Value) -> Vec<usize> {
        self.graph.ty(value).dims.iter().map(|d| d.unit()).collect()
    }

    pub fn place(&self, value: Value) -> Location {
        self.places[value.index()].clone().expect("invariant: units are lowered after those they read")
    }

    fn storage(&mut self, name: String, bytes: usize, home: Home) -> usize {
        self.storages.push(Storage { name, bytes, home });
        self.storages.len() - 1
    }

    /// A row-major view of fresh memory in the arena.
    pub fn fresh(&mut self, dtype: DType, dims: &[usize]) -> View {
        let bytes = dims.iter().product::<usize>() * dtype.bytes();
        let name = format!("{} at {}", self.info.ops, self.info.origin);
        let storage = self.storage(name, bytes, Home::Arena);
        View::contiguous(Slot::new(storage as u32, 0, bytes), dtype, dims)
    }

    /// Where a value is to be computed: straight in the external output if it is one. Notes it as the value's place.
    pub fn result(&mut self, value: Value) -> View {
        let (dtype, dims) = (self.graph.ty(value).dtype, self.dims(value));
        let mut view = self.fresh(dtype, &dims);
        if let Some(external) = self.output_of[value.index()].take() {
            self.storages[view.slot.buffer as usize].home = Home::External(external);
        }
        view.slot.bytes = self.storages[view.slot.buffer as usize].bytes;
        self.places[value.index()] = Some(Location::View(view.clone()));
        view
    }

    /// Emits a step.
    pub fn emit(&mut self, kernel: &str, reads: Vec<View>, writes: Vec<View>, in_place: bool, make: Make) {
        let bf16 = !reads.is_empty() && reads.iter().all(is_bf16);
        let info = StepInfo { bf16, ..self.info.clone() };
        self.push(kernel, Step { reads, writes, in_place, make, info });
    }

    /// Emits a step that sums products of its first two operands. What limits it is how it multiplies: an operand of
    /// another type is rounded, and what else it reads is added to the sums.
    pub fn emit_sums(&mut self, kernel: &str, reads: Vec<View>, out: View, make: Make) {
        let bf16 = reads.iter().take(2).any(is_bf16);
        let info = StepInfo { bf16, ..self.info.clone() };
        self.push(kernel, Step { reads, writes: vec![out], in_place: false, make, info });
    }

    fn push(&mut self, kernel: &str, mut step: Step) {
        // A fused op reads and writes no memory of its own: what the step does is in its views.
        let bytes = |views: &[View]| views.iter().map(View::distinct_bytes).fold(0, u64::saturating_add);
        let (bytes_read, bytes_written) = (bytes(&step.reads), bytes(&step.writes));
        step.info.kernel = kernel.into();
        step.info.cost = Cost { bytes_read, bytes_written, ..self.info.cost };
        // What is computed once must not be counted for the copies around it.
        self.info.cost = Cost::default();
        self.steps.push(step);
    }

    /// Emits a copy of `from` to `to`, of the same extents.
    pub fn copy(&mut self, from: View, to: View) {
        let kernel = if Transpose::of(&from, &to).is_some() { "transpose" } else { "map" };
        self.emit(kernel, vec![from], vec![to], true, make_copy());
    }

    /// Emits a step that sets every element of `to`.
    pub fn fill(&mut self, number: Literal, to: View) {
        let make: Make =
            Box::new(move |_, mut writes| Ok(Box::new(Map::fill(number, writes.swap_remove(0))?)));
        self.emit("map", Vec::new(), vec![to], false, make);
    }

    /// A row-major copy of a view in fresh memory.
    pub fn copied(&mut self, view: &View) -> View {
        let copy = self.fresh(view.dtype, &view.dims);
        self.copy(view.clone(), copy.clone());
        copy
    }

    /// Emits a conversion of `from` to the type of `to`, of the same extents. Its cost belongs to the step it serves.
    pub fn convert(&mut self, from: View, to: View) {
        let (dims, dtype) = (to.dims.clone(), to.dtype);
        let make: Make = Box::new(move |reads, writes| {
            let outputs = writes.into_iter().map(|w| (1, w)).collect();
            Ok(Box::new(Map::new(&dims, &[Instr::Load(0), Instr::Cast(0, dtype)], reads, outputs)?))
        });
        let cost = std::mem::take(&mut self.info.cost);
        self.emit("map", vec![from], vec![to], false, make);
        self.info.cost = cost;
    }

    /// A value as a view, filled first if it is a number.
    pub fn view(&mut self, value: Value) -> View {
        match self.place(value) {
            Location::View(view) => view,
            Location::Splat(number) => {
                let view = self.fresh(number.dtype(), &self.dims(value));
                self.fill(number, view.clone());
                self.places[value.index()] = Some(Location::View(view.clone()));
                view
            }
        }
    }

    /// Copies outputs to where the caller wants them, unless they are there; gives the pairs of storages (input,
    /// output) of what is to be written in place.
    fn finish_outputs(&mut self, bindings: &Bindings) -> Vec<(usize, usize)> {
        let (mut pairs, mut taken) = (Vec::new(), HashSet::new());
        self.info = StepInfo { ops: "copy".into(), ..StepInfo::default() };
        for (o, Output { value, .. }) in self.graph.outputs.iter().enumerate() {
            if let Some(input) = self.over[o] {
                let mut result = self.output_copy(*value);
                // One value over two inputs: what is moved into the first must still be there for the second.
                if !taken.insert(result) {
                    let view = self.view(*value);
                    result = self.copied(&view).slot.buffer as usize;
                    taken.insert(result);
                }
                pairs.push((input, result));
                continue;
            }
            let home = Home::External(bindings.outputs[o]);
            let there = matches!(&self.places[value.index()], Some(Location::View(v))
                if self.storages[v.slot.buffer as usize].home == home);
            if there {
                continue;
            }
            let (dtype, dims) = (self.graph.ty(*value).dtype, self.dims(*value));
            let target = self.fresh(dtype, &dims);
            self.storages[target.slot.buffer as usize].home = home;
            match self.place(*value) {
                Location::View(view) => self.copy(view, target),
                Location::Splat(number) => self.fill(number, target),
            }
        }
        pairs
    }

    /// The storage that holds all of an output that is to be written in place, and nothing else.
    fn output_copy(&mut self, value: Value) -> usize {
        let view = self.view(value);
        let storage = view.slot.buffer as usize;
        let whole =
            view.is_row_major() && view.start == 0 && view.elements() * view.dtype.bytes() == view.slot.bytes;
        if whole && self.storages[storage].home == Home::Arena {
            return storage;
        }
        self.copied(&view).slot.buffer as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_ir::{Builder, GroupId};

    /// A backend need not have every elementwise op: what it cannot put into a group is told, as any other op is.
    #[test]
    fn an_op_that_no_group_can_compute_is_a_diagnostic() {
        let mut b = Builder::new("product");
        let (x, y) = (b.param("x", DType::F32, &[2, 3]), b.param("y", DType::F32, &[3, 4]));
        let product = b.matmul(x, y);
        b.output("product", product);
        let mut graph = outgrow_passes::prepare().run(&b.finish().unwrap()).unwrap();
        let dot = graph.nodes.iter().position(|node| matches!(node.op, Op::Dot(_))).unwrap();
        graph.nodes[dot].group = Some(GroupId(u32::MAX));
        let weights = Weights::default();
        let found = lower(&graph, &Bindings::separate(&graph, &weights, &[]), &weights, KernelPath::Portable)
            .unwrap_err();
        assert_eq!(found.0[0].code, "runtime.unsupported");
        assert!(found.to_string().contains("no kernel for `dot`"), "{found}");
    }
}

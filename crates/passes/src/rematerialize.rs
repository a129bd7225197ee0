//! Rematerialisation: values that would take too much memory between two of their uses are forgotten after the first one
//! and computed again before the second.
//!
//! Memory is looked at as it will be when the fused graph runs, one kernel after the other. As long as more is alive at
//! some kernel than may be, what is alive there and not used by it is a candidate; those are forgotten first that give
//! back the most bytes for the time that it takes to compute them again (as XLA's rematerialisation does, after Jain et
//! al., "Checkmate", 2020, whose optimum a solver would find). What a value is computed from is kept a little longer where
//! it is small or there anyway, else taken from another copy that is computed earlier for that, else computed again
//! itself: a chain of values is so computed again from the last one that was kept, once.
//!
//! Results keep their bits: the same operations run on the same numbers.

use crate::fuse::{schedule, unit_of, units};
use crate::{DeadCode, Fuse, Pass};
use outgrow_ir::{Diagnostics, Graph, Op, Rewriter, Value};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

/// Computes values again where too much would have to be kept.
#[derive(Debug)]
pub struct Rematerialize {
    /// So many bytes of intermediate values may be alive at once; where that cannot be reached, as few as can be.
    pub live_bytes_max: u64,
}

/// Values of fewer bytes are not worth a kernel of their own.
const BYTES_MIN: u64 = 4 << 10;
/// What is at most this part of a value is small beside it.
const SMALL: u64 = 4;
/// So many operations take as long as a byte of memory traffic.
const OPERATIONS_PER_BYTE: u64 = 16;
/// At most so many values are computed again, one from the other, to get one of them.
const DEPTH: usize = 12;
/// This part of what is alive at most is to be saved first; where that cannot be, half as much, down to the least.
const STEP: u64 = 8;
const STEP_LEAST: u64 = 64;
/// At most so many times as many versions as there are values.
const FORGET: usize = 4;

impl Pass for Rematerialize {
    fn name(&self) -> &'static str {
        "rematerialize"
    }

    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        let mut life = Life::new(graph, &Fuse.run(graph)?);
        let before = life.peak().1;
        life.shrink(self.live_bytes_max);
        if life.versions.iter().all(|version| !version.copy) {
            return Ok(graph.clone());
        }
        let rebuilt = DeadCode.run(&Rebuild::new(&life).graph()?)?;
        // Copies may fall into other kernels than the nodes that they are copies of.
        let after = Life::new(&rebuilt, &Fuse.run(&rebuilt)?).peak().1;
        Ok(if after < before { rebuilt } else { graph.clone() })
    }
}

/// Who reads a value: the kernel that runs at this time, or the computation of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Reader {
    Kernel,
    Version(usize),
}

/// Who reads a version, and when.
type Uses = BTreeSet<(usize, Reader)>;

/// A value while it is in memory without a break: as it is first computed, or again.
#[derive(Debug)]
struct Version {
    /// The node that it is a version of.
    base: usize,
    /// The time from which it is there: it is computed by the kernel of this time, or (`copy`) before it.
    from: usize,
    uses: Uses,
    copy: bool,
}

impl Version {
    fn last(&self) -> usize {
        self.uses.last().map_or(self.from, |(time, _)| (*time).max(self.from))
    }

    /// The time of the first use after `time`.
    fn next(&self, time: usize) -> Option<usize> {
        self.uses.range((time + 1, Reader::Kernel)..).next().map(|(time, _)| *time)
    }
}

/// The values that a graph keeps in memory, over the time that it runs: one kernel after the other.
#[derive(Debug)]
struct Life<'a> {
    graph: &'a Graph,
    unit_of: Vec<usize>,
    /// When each unit runs.
    time_of: Vec<usize>,
    /// The nodes that are kept, as far as they are a matter of this memory.
    kept: BTreeMap<usize, Kept>,
    versions: Vec<Version>,
    /// The versions of each node.
    of: BTreeMap<usize, Vec<usize>>,
    /// Bytes that are alive at each time, without what is only there to compute others at that time.
    live: Vec<u64>,
    /// The bytes of each value that is.
    passing: Vec<Vec<u64>>,
    /// What versions were before they were changed.
    journal: Vec<(usize, usize, Uses)>,
}

/// What is known of a node that is kept in memory.
#[derive(Debug, Default)]
struct Kept {
    bytes: u64,
    /// The kept nodes of other units that it is computed from.
    inputs: BTreeSet<usize>,
    /// How long it takes to compute it again.
    effort: u64,
}

/// A value that could be forgotten.
#[derive(Debug)]
struct Candidate {
    version: usize,
    /// The bytes that are given back at the peak.
    saved: u64,
    effort: u64,
}

/// The most bytes for the least effort are the greatest, by crosswise products; of equals, the first version.
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let worth = |x: &Self, y: &Self| u128::from(x.saved) * u128::from(y.effort);
        worth(self, other).cmp(&worth(other, self)).then(other.version.cmp(&self.version))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Where a value that is computed at some time can be read.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// It is there.
    There(usize),
    /// It has been there, and is kept until then.
    Keep(usize),
    /// It is computed again later, and can be then.
    Earlier(usize),
    /// It has to be computed again.
    Again,
}

impl<'a> Life<'a> {
    fn new(graph: &'a Graph, fused: &Graph) -> Self {
        let units = units(fused);
        let unit_of = unit_of(graph, &units);
        let mut time_of = vec![0; units.len()];
        schedule(fused, &units).into_iter().enumerate().for_each(|(time, unit)| time_of[unit] = time);
        let (live, passing) = (vec![0; units.len()], vec![Vec::new(); units.len()]);
        let (kept, versions, of, journal) = (BTreeMap::new(), Vec::new(), BTreeMap::new(), Vec::new());
        let mut life = Self { graph, unit_of, time_of, kept, versions, of, live, passing, journal };
        let mut uses: BTreeMap<usize, Uses> = BTreeMap::new();
        for (value, _) in graph.iter().filter(|(_, node)| !node.op.is_view()) {
            let unit = life.unit_of[value.index()];
            for base in life.read_by(value, unit) {
                uses.entry(base).or_default().insert((life.time_of[unit], Reader::Kernel));
            }
        }
        let outputs: BTreeSet<usize> = graph.outputs.iter().map(|o| life.base(o.value).index()).collect();
        // Results lie where the caller wants them.
        let inside = |base: &usize| {
            !matches!(graph.nodes[*base].op, Op::Input(_) | Op::Constant(_)) && !outputs.contains(base)
        };
        uses.retain(|base, _| inside(base));
        for base in uses.keys() {
            let kept = Kept { bytes: graph.nodes[*base].ty.unit_bytes() as u64, ..Kept::default() };
            life.kept.insert(*base, kept);
        }
        for (base, uses) in uses {
            let inputs = life.inputs(base);
            let effort = life.effort(base, &inputs);
            life.kept.insert(base, Kept { bytes: life.bytes(base), inputs, effort });
            life.add(Version { base, from: life.time_of[life.unit_of[base]], uses, copy: false });
        }
        life
    }

    /// What a value is a view of.
    fn base(&self, mut value: Value) -> Value {
        while self.graph.node(value).op.is_view() {
            value = self.graph.node(value).inputs[0];
        }
        value
    }

    /// The nodes of other units that a node of a unit reads, whatever view it has of them.
    fn read_by(&self, value: Value, unit: usize) -> impl Iterator<Item = usize> + '_ {
        let bases = self.graph.node(value).inputs.iter().map(|v| self.base(*v).index());
        bases.filter(move |base| self.unit_of[*base] != unit)
    }

    /// The nodes of its own unit from which a node is computed, itself among them.
    fn made_by(&self, base: usize) -> BTreeSet<usize> {
        let (mut found, mut next) = (BTreeSet::new(), vec![base]);
        while let Some(node) = next.pop() {
            if found.insert(node) {
                let inputs = self.graph.nodes[node].inputs.iter().map(|v| v.index());
                next.extend(inputs.filter(|v| self.unit_of[*v] == self.unit_of[base]));
            }
        }
        found
    }

    /// The kept nodes of other units that a node is computed from.
    fn inputs(&self, base: usize) -> BTreeSet<usize> {
        let nodes = self.made_by(base);
        let read = nodes.iter().flat_map(|i| self.read_by(Value(*i as u32), self.unit_of[base]));
        read.filter(|of| self.kept.contains_key(of)).collect()
    }

    fn bytes(&self, base: usize) -> u64 {
        self.kept[&base].bytes
    }

    /// How long it takes to compute a node again from these.
    fn effort(&self, base: usize, inputs: &BTreeSet<usize>) -> u64 {
        let nodes = self.made_by(base);
        let flops = nodes.iter().map(|i| self.graph.node_cost(Value(*i as u32)).flops);
        let moved = inputs.iter().map(|of| self.bytes(*of)).fold(self.bytes(base), u64::saturating_add);
        let traffic = OPERATIONS_PER_BYTE.saturating_mul(moved);
        flops.fold(traffic, u64::saturating_add)
    }

    /// Adds a version, with all that this takes of memory.
    fn add(&mut self, version: Version) -> usize {
        let id = self.versions.len();
        self.of.entry(version.base).or_default().push(id);
        self.versions.push(version);
        self.count(id, true);
        id
    }

    /// Adds the bytes of a version to what is alive, or takes them away.
    fn count(&mut self, id: usize, alive: bool) {
        let version = &self.versions[id];
        let (bytes, from, last) = (self.bytes(version.base), version.from, version.last());
        if version.copy && from == last {
            let passing = &mut self.passing[from];
            match passing.iter().position(|other| *other == bytes).filter(|_| !alive) {
                Some(at) => drop(passing.swap_remove(at)),
                None => passing.push(bytes),
            }
            return;
        }
        for live in &mut self.live[from..=last] {
            *live = if alive { live.saturating_add(bytes) } else { live.saturating_sub(bytes) };
        }
    }

    /// Bytes that are alive at some time. Of what passes, each is there until the next one is computed from it.
    fn alive(&self, time: usize) -> u64 {
        let (mut first, mut second) = (0, 0);
        for bytes in &self.passing[time] {
            (first, second) = (first.max(*bytes), second.max(*bytes.min(&first)));
        }
        self.live[time].saturating_add(first).saturating_add(second)
    }

    /// Changes a version, and what is alive with it.
    fn change(&mut self, id: usize, change: impl FnOnce(&mut Version)) {
        self.count(id, false);
        let version = &mut self.versions[id];
        self.journal.push((id, version.from, version.uses.clone()));
        change(version);
        self.count(id, true);
    }

    /// Adds a use to a version.
    fn read(&mut self, id: usize, by: (usize, Reader)) {
        self.change(id, |version| {
            version.uses.insert(by);
        });
    }

    /// When the most bytes are alive, and how many.
    fn peak(&self) -> (usize, u64) {
        let alive = (0..self.live.len()).map(|time| (time, self.alive(time)));
        alive.max_by_key(|(time, alive)| (*alive, *time)).unwrap_or((0, 0))
    }

    /// Forgets values until at no time more than `most` bytes are alive, or no more can be done. It goes there in steps: what
    /// is computed again must fit at its time too, and there will be room for it as long as little has been forgotten.
    fn shrink(&mut self, most: u64) {
        let mut part = STEP;
        while part <= STEP_LEAST {
            let (_, peak) = self.peak();
            if peak <= most {
                return;
            }
            let next = most.max(peak - peak.div_ceil(part));
            if self.shrink_to(next) { part = STEP } else { part *= 2 }
        }
    }

    /// Forgets values until at no time more than `most` bytes are alive; says whether that was reached.
    fn shrink_to(&mut self, most: u64) -> bool {
        // What is kept longer for one value may be forgotten for another one, but not for ever.
        let versions_max = FORGET * self.of.len();
        loop {
            let (time, peak) = self.peak();
            if peak <= most {
                return true;
            }
            let mut candidates: BinaryHeap<Candidate> =
                (0..self.versions.len()).filter_map(|id| self.candidate(id, time, most)).collect();
            while self.alive(time) > most {
                let Some(best) = candidates.pop().filter(|_| self.versions.len() <= versions_max) else {
                    return false;
                };
                // What was forgotten since may have made it dearer: then it waits.
                let Some(now) = self.candidate(best.version, time, most) else { continue };
                if candidates.peek().is_some_and(|next| *next > now) {
                    candidates.push(now);
                } else {
                    self.forget(now.version, time, most);
                }
            }
        }
    }

    /// What it would bring and take to forget a version around this time.
    fn candidate(&self, id: usize, time: usize, most: u64) -> Option<Candidate> {
        let version = &self.versions[id];
        let bytes = self.bytes(version.base);
        let used = version.uses.range((time, Reader::Kernel)..).next().is_some_and(|(at, _)| *at == time);
        if bytes < BYTES_MIN || version.from >= time || used {
            return None;
        }
        let again = version.next(time)?;
        let (kept, effort) = self.price(version.base, again, (time, most), DEPTH, &mut BTreeSet::new())?;
        let saved = bytes.checked_sub(kept).filter(|saved| *saved > 0)?;
        Some(Candidate { version: id, saved, effort: effort.max(1) })
    }

    /// What it takes to compute a node again at `again`: the bytes that are kept across `time` for it, and effort. What was
    /// `met` on the way is kept or computed once, however many read it.
    fn price(
        &self,
        base: usize,
        again: usize,
        (time, most): (usize, u64),
        depth: usize,
        met: &mut BTreeSet<usize>,
    ) -> Option<(u64, u64)> {
        let of = &self.kept[&base];
        let (mut kept, mut effort) = (0u64, of.effort);
        for input in of.inputs.iter().copied() {
            match self.source(input, again, (time, most), self.bytes(base)) {
                Source::There(_) | Source::Earlier(_) => {}
                Source::Keep(version) => {
                    if self.versions[version].last() < time && met.insert(input) {
                        kept = kept.saturating_add(self.bytes(input));
                    }
                }
                Source::Again => {
                    if met.insert(input) {
                        let less = depth.checked_sub(1)?;
                        let (more_kept, more) = self.price(input, again, (time, most), less, met)?;
                        (kept, effort) = (kept.saturating_add(more_kept), effort.saturating_add(more));
                    }
                }
            }
        }
        Some((kept, effort))
    }

    /// Where a node can be read at `again`, for something of `bytes` that is forgotten around `time`.
    fn source(&self, input: usize, again: usize, (time, most): (usize, u64), bytes: u64) -> Source {
        let versions = || self.of[&input].iter().copied();
        let before = |id: &usize| {
            let version = &self.versions[*id];
            if version.copy { version.from <= again } else { version.from < again }
        };
        if let Some(there) = versions().filter(before).find(|id| self.versions[*id].last() >= again) {
            return Source::There(there);
        }
        let own = self.bytes(input);
        let room =
            |from: usize, to: usize| (from..=to).all(|time| self.alive(time).saturating_add(own) <= most);
        if let Some(latest) = versions().filter(before).max_by_key(|id| self.versions[*id].last()) {
            let last = self.versions[latest].last();
            if own.saturating_mul(SMALL) <= bytes || (last >= time && room(last + 1, again)) {
                return Source::Keep(latest);
            }
        }
        let later = versions().filter(|id| self.versions[*id].from > again);
        match later.min_by_key(|id| self.versions[*id].from) {
            Some(later) if room(again, self.versions[later].from) => Source::Earlier(later),
            _ => Source::Again,
        }
    }

    /// Forgets a version around `time`, unless more than `most` bytes would then be alive where there were fewer.
    fn forget(&mut self, id: usize, time: usize, most: u64) {
        let Some(again) = self.versions[id].next(time) else { return };
        self.journal.clear();
        let versions = self.versions.len();
        let before: Vec<u64> = (0..self.live.len()).map(|time| self.alive(time)).collect();
        let base = self.versions[id].base;
        let mut uses = BTreeSet::new();
        self.change(id, |version| uses = version.uses.split_off(&(again, Reader::Kernel)));
        self.compute(base, again, (time, most), uses);
        let fits = |(time, before): (usize, &u64)| self.alive(time) <= most.max(*before);
        if self.alive(time) < before[time] && before.iter().enumerate().all(fits) {
            return;
        }
        while let Some((id, from, uses)) = self.journal.pop() {
            self.count(id, false);
            (self.versions[id].from, self.versions[id].uses) = (from, uses);
            self.count(id, true);
        }
        while self.versions.len() > versions {
            let last = self.versions.len() - 1;
            self.count(last, false);
            self.of.entry(self.versions[last].base).or_default().retain(|id| *id != last);
            self.versions.pop();
        }
    }

    /// Adds a version that is computed before the kernel of `again`, for these uses.
    fn compute(&mut self, base: usize, again: usize, at: (usize, u64), uses: Uses) {
        // A stack of its own: chains of values are as long as networks are deep.
        let mut open = Vec::new();
        self.add_copy(base, again, uses, &mut open);
        while let Some((id, input)) = open.pop() {
            let reads = (again, Reader::Version(id));
            match self.source(input, again, at, self.bytes(self.versions[id].base)) {
                Source::There(there) | Source::Keep(there) => self.read(there, reads),
                Source::Earlier(later) => {
                    self.advance(later, again);
                    self.read(later, reads);
                }
                Source::Again => self.add_copy(input, again, BTreeSet::from([reads]), &mut open),
            }
        }
    }

    /// Adds a copy, and with its number puts on top of `open` what it is computed from, the first one last.
    fn add_copy(&mut self, base: usize, again: usize, uses: Uses, open: &mut Vec<(usize, usize)>) {
        let id = self.add(Version { base, from: again, uses, copy: true });
        open.extend(self.kept[&base].inputs.iter().rev().map(|input| (id, *input)));
    }

    /// Computes a copy at an earlier time, with all that it is computed from.
    fn advance(&mut self, id: usize, to: usize) {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let from = self.versions[id].from;
            if from <= to {
                continue;
            }
            let read = |input: &usize| self.versions[*input].uses.contains(&(from, Reader::Version(id)));
            let inputs = self.kept[&self.versions[id].base].inputs.iter().flat_map(|base| &self.of[base]);
            let inputs: Vec<usize> = inputs.copied().filter(read).collect();
            for input in inputs {
                self.change(input, |version| {
                    version.uses.remove(&(from, Reader::Version(id)));
                    version.uses.insert((to, Reader::Version(id)));
                });
                open.push(input);
            }
            self.change(id, |version| version.from = to);
        }
    }
}

/// The graph as it is rebuilt, with what is computed again.
struct Rebuild<'a> {
    life: &'a Life<'a>,
    rewriter: Rewriter<'a>,
    /// Which version of a node a kernel (by its time) or a version reads, where it is a copy.
    version_of: HashMap<(usize, Reader, usize), usize>,
    /// The nodes of each version, its views among them.
    copies: HashMap<(usize, Value), Value>,
}

impl<'a> Rebuild<'a> {
    fn new(life: &'a Life<'a>) -> Self {
        let mut version_of = HashMap::new();
        for (id, version) in life.versions.iter().enumerate().filter(|(_, version)| version.copy) {
            for (time, reader) in &version.uses {
                version_of.insert((*time, *reader, version.base), id);
            }
        }
        Self { life, rewriter: Rewriter::new(life.graph), version_of, copies: HashMap::new() }
    }

    fn graph(mut self) -> Result<Graph, Diagnostics> {
        for (old, node) in self.life.graph.iter() {
            let unit = self.life.unit_of[old.index()];
            let reader = (self.life.time_of[unit], Reader::Kernel);
            let copied = |v: &Value| self.copy_of(*v, unit, reader).is_some();
            if node.op.is_view() || !node.inputs.iter().any(copied) {
                self.rewriter.keep(old);
                continue;
            }
            let inputs: Vec<Value> = node.inputs.iter().map(|v| self.value(*v, unit, reader)).collect();
            let b = &mut self.rewriter.b;
            let new = b.with_origin(node.origin.clone(), |b| b.push(node.op.clone(), &inputs));
            self.rewriter.replace(old, new);
        }
        self.rewriter.finish()
    }

    /// The copy that a reader of a unit reads an old value of.
    fn copy_of(&self, value: Value, unit: usize, (time, reader): (usize, Reader)) -> Option<usize> {
        let base = self.life.base(value).index();
        let other = self.life.unit_of[base] != unit;
        self.version_of.get(&(time, reader, base)).copied().filter(|_| other)
    }

    /// What an old value has become for a reader of a unit.
    fn value(&mut self, value: Value, unit: usize, reader: (usize, Reader)) -> Value {
        match self.copy_of(value, unit, reader) {
            Some(version) => self.copy(value, version),
            None => self.rewriter.new_value(value),
        }
    }

    /// An old value as this version has it: of its own node, of what that is computed from in the node's kernel, or a view.
    fn copy(&mut self, value: Value, version: usize) -> Value {
        // A stack of its own: chains of values are as long as networks are deep.
        let mut open = vec![(version, value)];
        while let Some(wanted) = open.last().copied() {
            if self.copies.contains_key(&wanted) {
                open.pop();
                continue;
            }
            let (version, value) = wanted;
            let inputs = self.inputs(value, version);
            let (before, missing) = (open.len(), |copy: &(usize, Value)| !self.copies.contains_key(copy));
            open.extend(inputs.iter().rev().filter_map(|(of, v)| Some(((*of)?, *v))).filter(missing));
            if open.len() > before {
                continue;
            }
            let new = |(of, v): (Option<usize>, Value)| match of {
                Some(of) => self.copies[&(of, v)],
                None => self.rewriter.new_value(v),
            };
            let inputs: Vec<Value> = inputs.into_iter().map(new).collect();
            let node = self.life.graph.node(value);
            let b = &mut self.rewriter.b;
            let copy = b.with_origin(node.origin.clone(), |b| b.push(node.op.clone(), &inputs));
            self.copies.insert(wanted, copy);
            open.pop();
        }
        self.copies[&(version, value)]
    }

    /// What an old value is computed from, as this version has it: each with the version that is read, where that is a
    /// copy.
    fn inputs(&self, value: Value, version: usize) -> Vec<(Option<usize>, Value)> {
        let life = self.life;
        let Version { base, from, .. } = life.versions[version];
        let (node, unit) = (life.graph.node(value), life.unit_of[base]);
        let is_base_view = node.op.is_view() && life.base(value).index() == base;
        let of = |v: &Value| match is_base_view || life.unit_of[v.index()] == unit {
            true => Some(version),
            false => self.copy_of(*v, unit, (from, Reader::Version(version))),
        };
        node.inputs.iter().map(|v| (of(v), *v)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeadCode, add_gradients};
    use outgrow_ir::{Builder, Dim, InputRole, OutputRole, TensorType, interpret};
    use outgrow_tensor::{DType, RngKey, Tensor};

    fn feed(b: &mut Builder, name: &str, dims: &[usize]) -> Value {
        b.input(name, InputRole::Data, TensorType::new(DType::F32, dims.iter().copied()))
    }

    /// The most bytes that are alive at once.
    fn live(graph: &Graph) -> u64 {
        let graph = DeadCode.run(graph).unwrap();
        Life::new(&graph, &Fuse.run(&graph).unwrap()).peak().1
    }

    /// Layers of a product and tanh on top of each other, with the gradients of all of their weights.
    fn layers(count: usize) -> Graph {
        let mut b = Builder::new("layers");
        let mut x = feed(&mut b, "x", &[256, 16]);
        for i in 0..count {
            let w = b.param(&format!("w{i}"), DType::F32, &[16, 16]);
            let h = b.matmul(x, w);
            x = b.tanh(h);
        }
        let square = b.mul(x, x);
        let loss = b.sum_all(square);
        b.output_as("loss", OutputRole::Loss, loss);
        DeadCode.run(&add_gradients(&b.finish().unwrap()).unwrap()).unwrap()
    }

    fn inputs(graph: &Graph) -> Vec<Tensor> {
        let tensor = |value: &Value| {
            let dims: Vec<usize> = graph.ty(*value).dims.iter().map(|dim| dim.unit()).collect();
            Tensor::from_f64(DType::F32, dims, |i| ((i * 7 + value.index()) % 13) as f64 / 20.0 - 0.3)
        };
        graph.inputs.iter().map(tensor).collect()
    }

    fn products(graph: &Graph) -> usize {
        graph.nodes.iter().filter(|node| matches!(node.op, Op::Dot(_))).count()
    }

    #[test]
    fn as_much_is_forgotten_as_is_asked_for() {
        let graph = layers(16);
        let (before, inputs) = (live(&graph), inputs(&graph));
        let expect = interpret(&graph, &inputs).unwrap();
        let mut work = products(&graph);
        for part in [1, 2, 3] {
            let most = before / part;
            let less = Rematerialize { live_bytes_max: most }.run(&graph).unwrap();
            less.verify().unwrap();
            // Fused anew, one value more may be alive here or there.
            let value = 256 * 16 * 4;
            assert!(live(&less) <= most + value, "{} of {before} bytes, {most} allowed", live(&less));
            assert_eq!(interpret(&less, &inputs).unwrap(), expect);
            assert_eq!(products(&less) > work, part > 1, "more is computed again");
            work = products(&less);
        }
        // Each layer's product once more at most: a chain is computed again from its first value on once.
        assert!(work <= products(&graph) + 16, "{work} products, and {} before", products(&graph));
    }

    #[test]
    fn where_there_is_enough_nothing_changes() {
        let graph = layers(4);
        let same = Rematerialize { live_bytes_max: live(&graph) }.run(&graph).unwrap();
        assert_eq!(same.to_string(), graph.to_string());
    }

    /// Chains of values that are computed again are as long as networks are deep; the stacks of threads are not.
    #[test]
    fn deep_networks_need_no_deep_stack() {
        let graph = layers(600);
        let most = live(&graph) / 3;
        let nodes = graph.nodes.len();
        let run = move || Rematerialize { live_bytes_max: most }.run(&graph).unwrap().nodes.len();
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap();
        assert!(thread.join().unwrap() > nodes, "something is computed again");
    }

    /// What cannot be reached is come near to, and ends.
    #[test]
    fn the_impossible_is_tried() {
        let graph = layers(9);
        let less = Rematerialize { live_bytes_max: 0 }.run(&graph).unwrap();
        assert!(live(&less) < live(&graph));
        let inputs = inputs(&graph);
        assert_eq!(interpret(&less, &inputs).unwrap(), interpret(&graph, &inputs).unwrap());
    }

    /// Values of all kinds, read far behind where they are made, some through views.
    #[test]
    fn random_graphs_compute_the_same() {
        for seed in 0..24 {
            let mut stream = RngKey::new(seed).stream();
            let mut b = Builder::new("random");
            let mut values = vec![feed(&mut b, "x", &[40, 40]), feed(&mut b, "y", &[40, 40])];
            for _ in 0..50 {
                let last = values.len() as u64;
                let mut any = || values[stream.below(last) as usize];
                let (x, y) = (any(), any());
                let value = match stream.below(8) {
                    0 | 1 => b.matmul(x, y),
                    2 => {
                        let sum = b.reduce_sum(x, &[1]);
                        b.broadcast(sum, &[Dim::Fixed(40), Dim::Fixed(40)], &[0])
                    }
                    3 => b.transpose(x, &[1, 0]),
                    4 => b.mul(x, y),
                    5 => {
                        let flat = b.reshape(x, &[Dim::Fixed(1600)]);
                        let half = b.reshape(flat, &[Dim::Fixed(40), Dim::Fixed(40)]);
                        b.neg(half)
                    }
                    _ => b.sub(x, y),
                };
                // So that numbers stay small.
                values.push(b.tanh(value));
            }
            for (i, value) in values.iter().skip(3).step_by(11).enumerate() {
                b.output(&i.to_string(), *value);
            }
            let graph = DeadCode.run(&b.finish().unwrap()).unwrap();
            let inputs = inputs(&graph);
            let expect = interpret(&graph, &inputs).unwrap();
            for part in [1, 2, 3, 1000] {
                let less = Rematerialize { live_bytes_max: live(&graph) / part }.run(&graph).unwrap();
                less.verify().unwrap();
                assert!(live(&less) <= live(&graph));
                assert_eq!(interpret(&less, &inputs).unwrap(), expect, "{graph}");
            }
        }
    }
}

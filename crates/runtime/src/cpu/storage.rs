//! Storages and steps: the lowered program before memory is planned, and what turns it into a program.

use crate::backend::StepInfo;
use crate::memory::{Lifetime, MemoryPlan, plan_memory};
use crate::{Bindings, Place};
use outgrow_kernels::{Kernel, KernelError, KernelPath, Program, ProgramBuilder, Slot, View, Weight};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Who owns the bytes of a storage.
#[derive(Clone, Debug, PartialEq)]
pub enum Home {
    /// The caller: at this place in the buffers that a run is given.
    External(Place),
    /// An instance, in its arena.
    Arena,
    /// The program: filled when compiled, only read.
    Constant(Vec<u8>),
    /// The weight of this number.
    Weight(usize),
}

/// Bytes that one or more values live in.
#[derive(Clone, Debug)]
pub struct Storage {
    pub name: String,
    pub bytes: usize,
    pub home: Home,
}

/// Makes a kernel from its views once they point into the program's buffers.
pub type Make = Box<dyn FnOnce(Vec<View>, Vec<View>) -> Result<Box<dyn Kernel>, KernelError>>;

/// One kernel to be, over views whose slots name storages.
pub struct Step {
    pub reads: Vec<View>,
    pub writes: Vec<View>,
    /// Whether a written view may be the very same as a read one.
    pub in_place: bool,
    pub make: Make,
    pub info: StepInfo,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A lowered graph.
#[derive(Debug)]
pub struct Lowered {
    pub storages: Vec<Storage>,
    pub steps: Vec<Step>,
    /// Bytes of the external buffers in order, and whether each is written.
    pub externals: Vec<(usize, bool)>,
    pub weights: Vec<Arc<Weight>>,
}

/// Whether two views are the same elements of two storages of the same length.
pub fn same_place(a: &View, b: &View) -> bool {
    let slot = Slot { buffer: 0, ..a.slot };
    View { slot, ..a.clone() } == View { slot: Slot { buffer: 0, ..b.slot }, ..b.clone() }
}

impl Lowered {
    /// The steps that touch each storage, in order. One walk over the steps serves all storages: programs of deep
    /// networks have tens of thousands of both.
    fn users(&self) -> Vec<Vec<usize>> {
        let mut users = vec![Vec::new(); self.storages.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for view in step.reads.iter().chain(&step.writes) {
                let of: &mut Vec<usize> = &mut users[view.slot.buffer as usize];
                if of.last() != Some(&i) {
                    of.push(i);
                }
            }
        }
        users
    }

    /// By output, after how many steps nothing is written any more to where it lies, nor read from there: who gets it may
    /// write over it.
    pub fn finals(&self, bindings: &Bindings) -> Vec<usize> {
        let mut last: BTreeMap<Place, usize> = BTreeMap::new();
        for (i, step) in self.steps.iter().enumerate() {
            for view in step.reads.iter().chain(&step.writes) {
                if let Home::External(place) = self.storages[view.slot.buffer as usize].home {
                    last.insert(place, i + 1);
                }
            }
        }
        // What has no elements is written by no step.
        bindings.outputs.iter().map(|place| last.get(place).copied().unwrap_or(0)).collect()
    }

    /// Moves everything in storage `from` to storage `to`, in these steps.
    fn rename(&mut self, from: usize, to: usize, steps: &[usize]) {
        for step in steps {
            let step = &mut self.steps[*step];
            for view in step.reads.iter_mut().chain(&mut step.writes) {
                if view.slot.buffer as usize == from {
                    view.slot.buffer = to as u32;
                }
            }
        }
    }

    /// Whether step `p` may write its view `out` over storage `input`: it reads that storage only through the very
    /// same view, and covers all of it.
    fn may_overwrite(&self, p: usize, out: &View, input: usize) -> bool {
        let step = &self.steps[p];
        let mut reads = step.reads.iter().filter(|r| r.slot.buffer as usize == input).peekable();
        let whole =
            out.is_row_major() && out.start == 0 && out.elements() * out.dtype.bytes() == out.slot.bytes;
        let free = step.writes.iter().all(|w| w.slot.buffer as usize != input);
        step.in_place && whole && free && reads.peek().is_some() && reads.all(|r| same_place(r, out))
    }

    /// For each of these pairs (input, output) in turn, writes storage `output` over storage `input` if nothing reads
    /// the input afterwards; gives the pairs for which it could not. No two pairs share a storage.
    pub fn overwrite(&mut self, pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        let mut users = self.users();
        let mut left = Vec::new();
        for (input, output) in pairs {
            if self.may_replace(input, output, &users) {
                let steps = std::mem::take(&mut users[output]);
                self.rename(output, input, &steps);
                users[input].extend(steps);
                users[input].sort_unstable();
                users[input].dedup();
            } else {
                left.push((input, output));
            }
        }
        left
    }

    /// Whether storage `output` is written once, as a whole, after (or in the place of) the last use of `input`.
    fn may_replace(&self, input: usize, output: usize, users: &[Vec<usize>]) -> bool {
        let Some(&first) = users[output].first() else { return false };
        let last = users[input].last().copied();
        let writes = |step: usize| self.steps[step].writes.iter().find(|w| w.slot.buffer as usize == output);
        let written_once = users[output].iter().skip(1).all(|step| writes(*step).is_none());
        let Some(out) = writes(first).filter(|_| written_once && last.is_none_or(|l| l <= first)) else {
            return false;
        };
        last != Some(first) || self.may_overwrite(first, out, input)
    }

    /// Lets elementwise steps write over inputs that nobody needs afterwards.
    pub fn reuse_inputs(&mut self) {
        let mut first = vec![usize::MAX; self.storages.len()];
        let mut last = vec![0; self.storages.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for view in step.reads.iter().chain(&step.writes) {
                let storage = view.slot.buffer as usize;
                first[storage] = first[storage].min(i);
                last[storage] = i;
            }
        }
        let arena = |s: &usize| self.storages[*s].home == Home::Arena;
        let mut moved: Vec<usize> = (0..self.storages.len()).collect();
        let mut renames = Vec::new();
        for p in 0..self.steps.len() {
            let outs = self.steps[p].writes.clone();
            let reads: Vec<usize> = self.steps[p].reads.iter().map(|r| r.slot.buffer as usize).collect();
            let mut taken = Vec::new();
            for out in outs {
                let output = out.slot.buffer as usize;
                if !arena(&output) || first[output] != p {
                    continue;
                }
                let found = reads.iter().copied().find(|input| {
                    let root = moved[*input];
                    arena(&root)
                        && last[root] == p
                        && !taken.contains(&root)
                        && self.may_overwrite(p, &out, *input)
                });
                if let Some(input) = found {
                    let root = moved[input];
                    moved[output] = root;
                    last[root] = last[output];
                    taken.push(root);
                    renames.push((output, root));
                }
            }
        }
        // In one walk, the last renaming first: what was renamed to a storage may be renamed with it.
        let mut final_name: Vec<usize> = (0..self.storages.len()).collect();
        for (from, to) in renames.into_iter().rev() {
            final_name[from] = final_name[to];
        }
        for step in &mut self.steps {
            for view in step.reads.iter_mut().chain(&mut step.writes) {
                view.slot.buffer = final_name[view.slot.buffer as usize] as u32;
            }
        }
    }

    /// Makes the kernels, over an arena as it was planned.
    pub fn build(self, memory: &MemoryPlan, path: KernelPath) -> Result<Program, KernelError> {
        let mut builder = ProgramBuilder::new(path);
        for (bytes, written) in &self.externals {
            if *written {
                builder.output(*bytes)
            } else {
                builder.input(*bytes)
            };
        }
        let mut slots: Vec<Option<Slot>> = vec![None; self.storages.len()];
        for (storage, slot) in self.storages.iter().zip(&mut slots) {
            match &storage.home {
                Home::External(Place { buffer, offset }) => {
                    *slot = Some(Slot::new(*buffer as u32, *offset, storage.bytes));
                }
                Home::Constant(bytes) => {
                    *slot = Some(Slot::new(builder.constant(bytes)?, 0, storage.bytes));
                }
                Home::Weight(n) => {
                    *slot = Some(Slot::new(builder.weight(&self.weights[*n]), 0, storage.bytes));
                }
                Home::Arena => {}
            }
        }
        let users = self.users();
        let arena = builder.arena(memory.planned_bytes);
        let mut planned = memory.offsets.iter();
        for (i, slot) in slots.iter_mut().enumerate() {
            if slot.is_none() && !users[i].is_empty() {
                let offset = planned.next().copied().unwrap_or_default();
                *slot = Some(Slot::new(arena, offset, self.storages[i].bytes));
            }
        }
        for step in self.steps {
            let settle = |mut view: View| {
                view.slot = slots[view.slot.buffer as usize].unwrap_or(view.slot);
                view
            };
            let (reads, writes) =
                (step.reads.into_iter().map(settle).collect(), step.writes.into_iter().map(settle).collect());
            builder.push_boxed((step.make)(reads, writes)?);
        }
        builder.build()
    }

    /// The plan of the program's memory on a path, before any of it is there: the arena's storages, in their order, without those
    /// that nothing uses.
    pub fn plan(&self, path: KernelPath) -> MemoryPlan {
        let users = self.users();
        let mut lifetimes = Vec::new();
        for (storage, steps) in self.storages.iter().zip(&users).filter(|(s, _)| s.home == Home::Arena) {
            if let (Some(&first), Some(&last)) = (steps.first(), steps.last()) {
                lifetimes.push(Lifetime { name: storage.name.clone(), bytes: storage.bytes, first, last });
            }
        }
        let constant = |storage: &Storage| match &storage.home {
            Home::Constant(bytes) => bytes.len(),
            _ => 0,
        };
        MemoryPlan {
            constant_bytes: self.storages.iter().map(constant).sum(),
            packed_bytes: self.weights.iter().map(|w| w.copy_bytes(path)).sum(),
            ..plan_memory(lifetimes)
        }
    }
}

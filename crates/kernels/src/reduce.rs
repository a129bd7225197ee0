//! `Reduce`: fused elementwise work followed by sums, products, maxima or minima over dimensions, and by more
//! elementwise work on the results.
//!
//! The order of summation is a function of the extents and the reduced dimensions alone. The loop space is walked as
//! `[outer kept, outer reduced, inner kept, inner reduced]` (any of them possibly of extent one; kinds that alternate
//! more often are brought to `[kept, reduced]`). The outer reduced rows are cut into chunks, as is an inner run
//! longer than a chunk. Within a chunk, element `p` of an inner run goes to lane `p % 32`, rows one after the other;
//! lanes are folded by halving, and chunks are combined by a binary tree over neighbours.

use crate::block::{
    BLOCK, BlockCode, BlockRun, BlockSource, Fold, Instr, LANES, ReduceOp, Reg, fill, register_bytes,
    round_bf16,
};
use crate::error::KernelError;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel, Scratch};
use crate::memory::align_up;
use crate::path::KernelPath;
use crate::view::{View, countable};
use outgrow_tensor::DType;

const NAME: &str = "reduce";
/// Elements that one lane accumulates one after the other within a chunk.
const CHAIN: usize = 512;
/// Elements of a chunk of an inner run.
const CHUNK: usize = CHAIN * LANES;

/// What a `Reduce` computes.
#[derive(Clone, Debug, Default)]
pub struct ReduceSpec {
    /// Extents of the full loop space.
    pub dims: Vec<usize>,
    /// The dimensions that are reduced, in any order.
    pub reduced: Vec<usize>,
    /// Runs once per element of the full space.
    pub code: Vec<Instr>,
    /// What `code` loads; extents `dims`.
    pub inputs: Vec<View>,
    /// Registers of `code` and how each is reduced.
    pub reductions: Vec<(Reg, ReduceOp)>,
    /// Runs once per element of the kept space, where `Instr::Reduced(i)` is the result of `reductions[i]`.
    pub epilogue: Vec<Instr>,
    /// What `epilogue` loads; extents of the kept dimensions, in order.
    pub epilogue_inputs: Vec<View>,
    /// Registers of `epilogue` and where they are stored; extents of the kept dimensions.
    pub outputs: Vec<(Reg, View)>,
}

/// The extents of the canonical loop nest, and how it is cut into tasks.
#[derive(Clone, Copy, Debug)]
struct Nest {
    outer: usize,
    rows: usize,
    width: usize,
    inner: usize,
    /// Accumulators per output: a power of two.
    lanes: usize,
    /// Rows per chunk, and chunks of rows.
    chunk_rows: usize,
    row_chunks: usize,
    /// Chunks of an inner run.
    run_chunks: usize,
    /// Outputs that one block of elements covers.
    block_width: usize,
    /// Rows that one block covers; more than one only when a block covers the whole width.
    block_rows: usize,
}

impl Nest {
    fn new(outer: usize, rows: usize, width: usize, inner: usize) -> Self {
        let lanes = inner.max(1).next_power_of_two().min(LANES);
        let chunk_rows = (CHUNK / inner.max(1).next_multiple_of(LANES)).max(1);
        let block_width = (BLOCK / inner.max(1)).clamp(1, width.max(1));
        let whole = inner > 0 && width > 0 && block_width == width;
        Self {
            outer,
            rows,
            width,
            inner,
            lanes,
            chunk_rows,
            row_chunks: rows.div_ceil(chunk_rows).max(1),
            run_chunks: inner.div_ceil(CHUNK).max(1),
            block_width,
            block_rows: if whole { (BLOCK / (width * inner)).clamp(1, rows.max(1)) } else { 1 },
        }
    }

    fn chunks(&self) -> usize {
        self.row_chunks * self.run_chunks
    }

    fn outputs(&self) -> usize {
        self.outer * self.width
    }

    fn width_blocks(&self) -> usize {
        self.width.div_ceil(self.block_width)
    }
}

/// A fused reduction; see [`ReduceSpec`].
#[derive(Debug)]
pub struct Reduce {
    nest: Nest,
    code: BlockCode,
    epilogue: BlockCode,
    reductions: Vec<(Reg, Fold)>,
    /// Registers of the epilogue that hold reduced values, with the reduction's number.
    reduced_registers: Vec<(Reg, usize)>,
    round: crate::block::OpFn,
    inputs: Vec<View>,
    outputs: Vec<View>,
}

/// The order in which dimensions are walked, and the extents of the canonical nest.
fn canonical(dims: &[usize], is_reduced: &[bool]) -> (Vec<usize>, Nest) {
    // Runs of dimensions of the same kind; extents of one belong to either kind.
    let mut groups: Vec<(bool, Vec<usize>)> = Vec::new();
    for (d, &reduced) in is_reduced.iter().enumerate() {
        match groups.last_mut() {
            Some((kind, members)) if *kind == reduced || dims[d] == 1 => members.push(d),
            _ => groups.push((reduced, vec![d])),
        }
    }
    let size = |group: &[usize]| group.iter().map(|&d| dims[d]).product::<usize>();
    let kinds: Vec<bool> = groups.iter().map(|(kind, _)| *kind).collect();
    let group = |i: usize| size(&groups[i].1);
    let nest = match kinds.as_slice() {
        [] => Nest::new(1, 1, 1, 1),
        [false] => Nest::new(1, 1, group(0), 1),
        [true] => Nest::new(1, 1, 1, group(0)),
        [false, true] => Nest::new(1, 1, group(0), group(1)),
        [true, false] => Nest::new(1, group(0), group(1), 1),
        [false, true, false] => Nest::new(group(0), group(1), group(2), 1),
        [true, false, true] => Nest::new(1, group(0), group(1), group(2)),
        [false, true, false, true] => Nest::new(group(0), group(1), group(2), group(3)),
        _ => {
            let (kept, reduced): (Vec<usize>, Vec<usize>) = (0..dims.len()).partition(|&d| !is_reduced[d]);
            let nest = Nest::new(1, 1, size(&kept), size(&reduced));
            return (kept.into_iter().chain(reduced).collect(), nest);
        }
    };
    ((0..dims.len()).collect(), nest)
}

impl Reduce {
    /// Compiles a reduction.
    ///
    /// # Errors
    /// When a dimension does not exist or is named twice, the code is not well typed, `bool`s are summed, or a view
    /// does not have the extents of its space.
    pub fn new(spec: ReduceSpec) -> Result<Self, KernelError> {
        let rank = spec.dims.len();
        // Before anything is multiplied: without inputs and outputs, no view bounds the extents.
        if !countable(&spec.dims) {
            return Err(KernelError::operand(NAME, format!("{:?} has too many elements", spec.dims)));
        }
        let mut is_reduced = vec![false; rank];
        for &d in &spec.reduced {
            if d >= rank || std::mem::replace(&mut is_reduced[d], true) {
                return Err(KernelError::operand(
                    NAME,
                    format!("reduced dimensions {:?} of {rank}", spec.reduced),
                ));
            }
        }
        let kept: Vec<usize> = (0..rank).filter(|&d| !is_reduced[d]).map(|d| spec.dims[d]).collect();
        if let Some(view) = spec.inputs.iter().find(|v| v.rank() != rank) {
            return Err(KernelError::operand(
                NAME,
                format!("{view} does not have the extents {:?}", spec.dims),
            ));
        }
        let (order, nest) = canonical(&spec.dims, &is_reduced);
        let permuted: Vec<View> = spec.inputs.iter().map(|v| v.permuted(&order)).collect();
        let code: Vec<Instr> = spec.code.iter().map(|&instr| renumber(instr, &order)).collect();
        let keep: Vec<Reg> = spec.reductions.iter().map(|&(reg, _)| reg).collect();
        let code = BlockCode::new(&BlockSource {
            kernel: NAME,
            dims: &order.iter().map(|&d| spec.dims[d]).collect::<Vec<_>>(),
            code: &code,
            inputs: &permuted,
            outputs: &[],
            reduced: &[],
            keep: &keep,
        })?;
        let types: Vec<DType> = keep.iter().map(|&reg| code.types()[reg]).collect();
        for (&(_, op), &dtype) in spec.reductions.iter().zip(&types) {
            if dtype == DType::Bool && matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
                return Err(KernelError::dtype(NAME, format!("{op:?}"), dtype, "a number"));
            }
        }
        let epilogue = BlockCode::new(&BlockSource {
            kernel: NAME,
            dims: &kept,
            code: &spec.epilogue,
            inputs: &spec.epilogue_inputs,
            outputs: &spec.outputs,
            reduced: &types,
            keep: &[],
        })?;
        let path = KernelPath::Portable;
        let folds = spec.reductions.iter().zip(&types).map(|(&(reg, op), &t)| (reg, Fold::new(op, t, path)));
        Ok(Self {
            nest,
            reductions: folds.collect(),
            reduced_registers: spec
                .epilogue
                .iter()
                .enumerate()
                .filter_map(|(reg, instr)| if let Instr::Reduced(i) = instr { Some((reg, *i)) } else { None })
                .filter(|&(reg, _)| epilogue.is_used(reg))
                .collect(),
            code,
            epilogue,
            round: round_bf16(path),
            inputs: spec.inputs.into_iter().chain(spec.epilogue_inputs).collect(),
            outputs: spec.outputs.into_iter().map(|(_, v)| v).collect(),
        })
    }

    /// A reduction of one input, elementwise unchanged, to one output.
    ///
    /// # Errors
    /// As [`Reduce::new`].
    pub fn simple(input: View, reduced: Vec<usize>, op: ReduceOp, output: View) -> Result<Self, KernelError> {
        Self::new(ReduceSpec {
            dims: input.dims.clone(),
            reduced,
            code: vec![Instr::Load(0)],
            inputs: vec![input],
            reductions: vec![(0, op)],
            epilogue: vec![Instr::Reduced(0)],
            epilogue_inputs: Vec::new(),
            outputs: vec![(0, output)],
        })
    }

    /// Bytes of one thread's accumulators of one reduction: the largest register type, for every output of a block.
    fn accumulator_bytes(&self) -> usize {
        align_up(self.nest.block_width * self.nest.lanes * 8)
    }

    /// Bytes of the partial results of one reduction.
    fn partial_bytes(&self) -> usize {
        align_up(self.nest.chunks() * self.nest.outputs() * 8)
    }

    /// The partial results of reduction `i` for chunk `chunk`, from output `output` on.
    fn partial(&self, cx: &Cx<'_>, i: usize, chunk: usize, output: usize) -> *mut u8 {
        let size = register_bytes(self.reductions[i].1.dtype);
        cx.shared().wrapping_add(i * self.partial_bytes() + (chunk * self.nest.outputs() + output) * size)
    }

    /// Accumulates chunk `chunk` of the outputs of width block `block` of outer index `outer`.
    ///
    /// # Safety
    /// Only one thread runs a task; `acc` is that thread's memory for accumulators.
    unsafe fn accumulate(
        &self,
        cx: &Cx<'_>,
        blocks: &mut BlockRun<'_>,
        acc: *mut u8,
        (outer, chunk, block): (usize, usize, usize),
    ) {
        let nest = &self.nest;
        let (row_chunk, run_chunk) = (chunk / nest.run_chunks, chunk % nest.run_chunks);
        let k = block * nest.block_width;
        let width = nest.block_width.min(nest.width - k);
        let run = (run_chunk * CHUNK).min(nest.inner)..((run_chunk + 1) * CHUNK).min(nest.inner);
        let each_acc = |i: usize| acc.wrapping_add(i * self.accumulator_bytes());
        for (i, (_, fold)) in self.reductions.iter().enumerate() {
            // SAFETY: an accumulator area holds `block_width * lanes` elements.
            unsafe { fill(each_acc(i), fold.identity(), width * nest.lanes) };
        }
        let last_row = ((row_chunk + 1) * nest.chunk_rows).min(nest.rows);
        let mut row = row_chunk * nest.chunk_rows;
        while row < last_row {
            let rows = nest.block_rows.min(last_row - row);
            let start = ((outer * nest.rows + row) * nest.width + k) * nest.inner;
            // A run is either shorter than a block, so that a block covers whole runs, or walked block by block.
            let (mut p, step) =
                if nest.inner <= BLOCK { (run.start, nest.inner) } else { (run.start, BLOCK) };
            while p < run.end {
                let length = step.min(run.end - p);
                // SAFETY: elements of this task, at most a block of them: `width * inner * rows <= BLOCK` by the
                // choice of the block's extents, or `length <= BLOCK` of a single run.
                unsafe { blocks.eval(start + p, rows * width * length) };
                for (i, (reg, fold)) in self.reductions.iter().enumerate() {
                    // SAFETY: the register holds the elements just computed.
                    unsafe {
                        (fold.accumulate)(each_acc(i), blocks.register(*reg), rows, width, length, nest.lanes)
                    };
                }
                p += length;
            }
            row += rows;
        }
        for (i, (_, fold)) in self.reductions.iter().enumerate() {
            let partial = self.partial(cx, i, chunk, outer * nest.width + k);
            // SAFETY: the partial results of this task's outputs are written by this task alone.
            unsafe { (fold.fold)(partial, each_acc(i), width, nest.lanes) };
        }
    }

    /// Combines the chunks of the outputs `first..first + n` and runs the epilogue on them.
    ///
    /// # Safety
    /// All partial results are there; only one thread works on these outputs.
    unsafe fn finish(&self, cx: &Cx<'_>, blocks: &mut BlockRun<'_>, first: usize, n: usize) {
        for (i, (_, fold)) in self.reductions.iter().enumerate() {
            let mut stride = 1;
            while stride < self.nest.chunks() {
                for chunk in (0..self.nest.chunks() - stride).step_by(2 * stride) {
                    let (a, b) =
                        (self.partial(cx, i, chunk, first), self.partial(cx, i, chunk + stride, first));
                    // SAFETY: `n` partial results each, of different chunks.
                    unsafe { (fold.accumulate)(a, b, 1, n, 1, 1) };
                }
                stride *= 2;
            }
            if fold.dtype == DType::BF16 {
                let null = std::ptr::null();
                // SAFETY: `n` registers of f32.
                unsafe { (self.round)(self.partial(cx, i, 0, first), null, null, null, n) };
            }
        }
        for &(reg, i) in &self.reduced_registers {
            let size = register_bytes(self.reductions[i].1.dtype);
            // SAFETY: a block of the register file and a part of the partial results, both good for `n` elements.
            unsafe {
                std::ptr::copy_nonoverlapping(self.partial(cx, i, 0, first), blocks.register(reg), n * size);
            }
        }
        // SAFETY: outputs of this thread alone, at most a block of them.
        unsafe { blocks.eval(first, n) };
    }
}

/// The instruction with its dimension counted in the new order.
fn renumber(instr: Instr, order: &[usize]) -> Instr {
    match instr {
        Instr::Iota { dim, dtype } => {
            Instr::Iota { dim: order.iter().position(|&d| d == dim).unwrap_or(usize::MAX), dtype }
        }
        other => other,
    }
}

impl Sealed for Reduce {}

impl Kernel for Reduce {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self, path: KernelPath) {
        self.code.prepare(path);
        self.epilogue.prepare(path);
        self.round = round_bf16(path);
        for (_, fold) in &mut self.reductions {
            *fold = Fold::new(fold.op, fold.dtype, path);
        }
    }

    fn scratch(&self) -> Scratch {
        let code = self.code.scratch_bytes().max(self.epilogue.scratch_bytes());
        Scratch {
            per_thread: align_up(code) + self.reductions.len() * self.accumulator_bytes(),
            shared: self.reductions.len().saturating_mul(self.partial_bytes()),
        }
    }

    fn reads(&self) -> Vec<&View> {
        self.inputs.iter().collect()
    }

    fn writes(&self) -> Vec<&View> {
        self.outputs.iter().collect()
    }

    fn flops(&self) -> u64 {
        let per_element = self.code.flops_per_element() + self.reductions.len() as u64;
        self.code.total() as u64 * per_element
            + self.epilogue.total() as u64 * self.epilogue.flops_per_element()
    }

    fn run(&self, cx: &Cx<'_>) {
        let nest = &self.nest;
        let (outputs, per_outer) = (nest.outputs(), nest.chunks() * nest.width_blocks());
        if outputs == 0 {
            return;
        }
        let cost = self.code.cost_ns(self.code.total());
        let accumulators = align_up(self.code.scratch_bytes().max(self.epilogue.scratch_bytes()));
        cx.parallel(nest.outer * per_outer, cost, &|thread, range| {
            let scratch = cx.scratch(thread);
            // SAFETY: this thread's scratch memory is large enough for the code and the accumulators behind it.
            let mut blocks = unsafe { BlockRun::start(&self.code, cx, scratch) };
            for task in range {
                let (outer, rest) = (task / per_outer, task % per_outer);
                let (chunk, block) = (rest / nest.width_blocks(), rest % nest.width_blocks());
                // SAFETY: each task is run by one thread.
                unsafe {
                    self.accumulate(
                        cx,
                        &mut blocks,
                        scratch.wrapping_add(accumulators),
                        (outer, chunk, block),
                    );
                }
            }
        });
        cx.parallel(outputs.div_ceil(BLOCK), self.epilogue.cost_ns(outputs), &|thread, range| {
            // SAFETY: as above.
            let mut blocks = unsafe { BlockRun::start(&self.epilogue, cx, cx.scratch(thread)) };
            for block in range {
                let first = block * BLOCK;
                // SAFETY: each block of outputs is finished by one thread, after all tasks above.
                unsafe { self.finish(cx, &mut blocks, first, BLOCK.min(outputs - first)) };
            }
        });
    }
}

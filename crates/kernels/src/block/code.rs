//! From a block program to steps over register blocks, and their execution.

use super::join::{Op, join};
use super::load::{MAX_RANK, Movers, Strided, iota, widen};
use super::ops::{is_exact, round_bf16};
use super::simd::OpFn;
use super::space::collapse;
use super::{Instr, Literal, Reg, check_code};
use crate::error::KernelError;
use crate::kernel::Cx;
use crate::memory::align_up;
use crate::path::KernelPath;
use crate::view::{View, countable, row_major};
use outgrow_tensor::DType;

/// Elements that an instruction works on at a time: registers of f32 are 2 KiB, so that some twenty live ones fit
/// the first-level cache.
pub(crate) const BLOCK: usize = 512;

/// Bytes of one element in a register: bf16 is held as f32.
pub(crate) const fn register_bytes(dtype: DType) -> usize {
    match dtype {
        DType::BF16 => 4,
        other => other.bytes(),
    }
}

/// Where a register's block is.
#[derive(Clone, Copy, Debug)]
enum RegisterHome {
    /// Never computed.
    Unused,
    /// At this byte of the register file.
    File(usize),
    /// The elements of input `.0` in place.
    Input(usize),
    /// The elements of output `.0` in place.
    Output(usize),
}

#[derive(Debug)]
enum Step {
    /// Gathers input `input` into `dst`.
    Load { input: usize, dst: Reg },
    /// Writes indices, given by their strides over the space.
    Iota { dtype: DType, strides: Vec<isize>, dst: Reg },
    /// Computes a register.
    Op { func: OpFn, dst: Reg, operands: [Reg; 3], op: Op },
    /// Rounds a register to bf16.
    Round { func: OpFn, dst: Reg },
}

/// A compiled block program over a loop space.
#[derive(Debug)]
pub(crate) struct BlockCode {
    /// Extents of the loop space after merging.
    dims: Vec<usize>,
    total: usize,
    types: Vec<DType>,
    homes: Vec<RegisterHome>,
    inputs: Vec<Strided>,
    outputs: Vec<(Reg, Strided)>,
    /// Which outputs must be copied from their registers.
    stores: Vec<usize>,
    constants: Vec<(Reg, Literal)>,
    /// Inputs that are one element for the whole space, with their registers.
    uniforms: Vec<(Reg, usize)>,
    steps: Vec<Step>,
    movers: Movers,
    file_bytes: usize,
    cost_ps: usize,
}

/// What a block program is compiled from. All views have the extents `dims`.
pub(crate) struct BlockSource<'a> {
    pub kernel: &'static str,
    pub dims: &'a [usize],
    pub code: &'a [Instr],
    pub inputs: &'a [View],
    pub outputs: &'a [(Reg, View)],
    /// Types of the values that `Instr::Reduced` stands for.
    pub reduced: &'a [DType],
    /// Registers that are read from outside after each block.
    pub keep: &'a [Reg],
}

impl BlockCode {
    pub fn new(source: &BlockSource<'_>) -> Result<Self, KernelError> {
        let kernel = source.kernel;
        let total = check_views(source)?;
        let input_types: Vec<DType> = source.inputs.iter().map(|v| v.dtype).collect();
        let types = check_code(kernel, source.code, &input_types, source.reduced, source.dims.len())?;
        for (reg, view) in source.outputs {
            match types.get(*reg) {
                Some(&t) if t == view.dtype => {}
                Some(&t) => {
                    return Err(KernelError::dtype(kernel, format!("register {reg}"), t, view.dtype.name()));
                }
                None => {
                    return Err(KernelError::operand(kernel, format!("there is no register {reg} to store")));
                }
            }
        }
        if let Some(reg) = source.keep.iter().find(|&&r| r >= types.len()) {
            return Err(KernelError::operand(kernel, format!("there is no register {reg} to reduce")));
        }
        // What is rounded to bf16 only to be stored is rounded by the store.
        let stored = |&(reg, ref view): &(Reg, View)| match source.code[reg] {
            Instr::Cast(from, DType::BF16) if types[from] == DType::F32 => (from, view.clone()),
            _ => (reg, view.clone()),
        };
        let outputs: Vec<(Reg, View)> = source.outputs.iter().map(stored).collect();
        let source = &BlockSource { outputs: &outputs, ..*source };
        // Indices count as operands of the space, so that dimensions are only merged when they allow it.
        let mut operands: Vec<Vec<isize>> = source.inputs.iter().map(|v| v.strides.clone()).collect();
        operands.extend(source.outputs.iter().map(|(_, v)| v.strides.clone()));
        for instr in source.code {
            if let Instr::Iota { dim, .. } = instr {
                operands.push((0..source.dims.len()).map(|d| isize::from(d == *dim)).collect());
            }
        }
        let (dims, mut strides) = collapse(source.dims, &operands);
        if dims.len() > MAX_RANK {
            return Err(KernelError::operand(
                kernel,
                format!("more than {MAX_RANK} dimensions that cannot be merged"),
            ));
        }
        let iotas = strides.split_off(source.inputs.len() + source.outputs.len());
        let output_strides = strides.split_off(source.inputs.len());
        let strided = |(v, s): (&View, Vec<isize>)| Strided { view: v.clone(), strides: s };
        let inputs = source.inputs.iter().zip(strides).map(strided).collect();
        let outputs = source
            .outputs
            .iter()
            .zip(output_strides)
            .map(|((reg, v), s)| (*reg, strided((v, s))))
            .collect::<Vec<_>>();
        let mut code = Self {
            homes: vec![RegisterHome::Unused; types.len()],
            dims,
            total,
            types,
            inputs,
            outputs,
            stores: Vec::new(),
            constants: Vec::new(),
            uniforms: Vec::new(),
            steps: Vec::new(),
            movers: Movers::new(KernelPath::Portable),
            file_bytes: 0,
            cost_ps: 0,
        };
        code.assign(source, iotas);
        Ok(code)
    }

    /// Number of elements of the loop space.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The element types of the registers.
    pub fn types(&self) -> &[DType] {
        &self.types
    }

    /// Whether register `reg` is computed or loaded.
    pub fn is_used(&self, reg: Reg) -> bool {
        !matches!(self.homes[reg], RegisterHome::Unused)
    }

    /// Estimated nanoseconds for `elements` elements on one thread.
    pub fn cost_ns(&self, elements: usize) -> usize {
        elements.saturating_mul(self.cost_ps) / 1000
    }

    /// Floating point operations per element.
    pub fn flops_per_element(&self) -> u64 {
        let flops = |step: &Step| if let Step::Op { op, .. } = step { op.flops() } else { 0 };
        self.steps.iter().map(flops).sum()
    }

    /// Bytes of scratch memory that a thread needs to run it.
    pub fn scratch_bytes(&self) -> usize {
        align_up(self.types.len() * size_of::<*mut u8>()) + self.file_bytes
    }

    /// Fixes the SIMD path.
    pub fn prepare(&mut self, path: KernelPath) {
        self.movers = Movers::new(path);
        for step in &mut self.steps {
            match step {
                Step::Op { func, op, .. } => *func = op.func(&self.types, path),
                Step::Round { func, .. } => *func = round_bf16(path),
                Step::Load { .. } | Step::Iota { .. } => {}
            }
        }
    }

    /// Whether the strides are those of row-major order over the merged space.
    fn is_flat(&self, strides: &[isize]) -> bool {
        strides == row_major(&self.dims)
    }

    /// Chooses a home for every register that is used, and makes the steps.
    fn assign(&mut self, source: &BlockSource<'_>, iotas: Vec<Vec<isize>>) {
        let kept = source.outputs.iter().map(|(reg, _)| reg).chain(source.keep).copied();
        let ops = join(source.code, &self.types, kept.clone());
        let last_use = last_uses(&ops, kept);
        self.direct_outputs(source);
        let mut files = Files::default();
        // Stores may overwrite inputs in place, so a value that is stored must not be read from an input by then.
        let in_place = source.outputs.iter().any(|(_, v)| source.inputs.contains(v));
        let stored = |reg: Reg| in_place && source.outputs.iter().any(|&(r, _)| r == reg);
        // Constants, uniform inputs and reduced values are there before the first step, so their blocks are never
        // reused.
        for (reg, instr) in source.code.iter().enumerate() {
            if last_use[reg].is_none() {
                continue;
            }
            match *instr {
                Instr::Const(literal) => {
                    self.homes[reg] = RegisterHome::File(files.take(register_bytes(self.types[reg])));
                    self.constants.push((reg, literal));
                }
                Instr::Reduced(_) => {
                    self.homes[reg] = RegisterHome::File(files.take(register_bytes(self.types[reg])))
                }
                Instr::Load(i) if self.inputs[i].strides.iter().all(|&s| s == 0) => {
                    self.homes[reg] = RegisterHome::File(files.take(register_bytes(self.types[reg])));
                    self.uniforms.push((reg, i));
                }
                Instr::Load(i)
                    if self.is_flat(&self.inputs[i].strides)
                        && self.types[reg] != DType::BF16
                        && !stored(reg) =>
                {
                    self.homes[reg] = RegisterHome::Input(i);
                }
                _ => {}
            }
        }
        let mut iotas = iotas.into_iter();
        for (reg, instr) in source.code.iter().enumerate() {
            let iota_strides = if let Instr::Iota { .. } = instr { iotas.next() } else { None };
            let (Some(op), Some(_)) = (ops[reg], last_use[reg]) else { continue };
            if matches!(self.homes[reg], RegisterHome::Unused) {
                self.homes[reg] = RegisterHome::File(files.take(register_bytes(self.types[reg])));
            } else if !matches!(self.homes[reg], RegisterHome::Output(_)) {
                continue;
            }
            let ty = self.types[reg];
            let (operands, count) = op.operands();
            match *instr {
                Instr::Load(input) => self.steps.push(Step::Load { input, dst: reg }),
                Instr::Iota { dtype, .. } => {
                    let strides = iota_strides.unwrap_or_default();
                    self.steps.push(Step::Iota { dtype, strides, dst: reg });
                }
                Instr::Const(_) | Instr::Reduced(_) => {}
                _ => {
                    let func = op.func(&self.types, KernelPath::Portable);
                    self.steps.push(Step::Op { func, dst: reg, operands, op });
                    if ty == DType::BF16 && !is_exact(instr) {
                        self.steps.push(Step::Round { func: round_bf16(KernelPath::Portable), dst: reg });
                    }
                }
            }
            // An operand's block is freed only after the result got its own: a result never overlaps an operand.
            for (i, &operand) in operands[..count].iter().enumerate() {
                let repeated = operands[..i].contains(&operand);
                if last_use[operand] == Some(reg)
                    && !repeated
                    && let RegisterHome::File(at) = self.homes[operand]
                    && !is_permanent(&source.code[operand], &self.uniforms, operand)
                {
                    files.give_back(register_bytes(self.types[operand]), at);
                }
            }
        }
        self.file_bytes = files.bytes;
        self.stores = (0..self.outputs.len())
            .filter(|&i| !matches!(self.homes[self.outputs[i].0], RegisterHome::Output(o) if o == i))
            .collect();
        self.cost_ps = self.estimate();
    }

    /// Lets registers that are stored in row-major order be computed where they are stored, unless that is where an
    /// input lies: then the block must be computed first and stored last.
    fn direct_outputs(&mut self, source: &BlockSource<'_>) {
        for (i, (reg, output)) in self.outputs.iter().enumerate() {
            let computed = match source.code[*reg] {
                Instr::Const(_) | Instr::Reduced(_) => false,
                Instr::Load(input) => {
                    let strides = &self.inputs[input].strides;
                    !strides.iter().all(|&s| s == 0) && !self.is_flat(strides)
                }
                _ => true,
            };
            let in_place = source.inputs.contains(&output.view);
            let flat = self.is_flat(&output.strides) && output.view.dtype != DType::BF16;
            if computed && flat && !in_place && matches!(self.homes[*reg], RegisterHome::Unused) {
                self.homes[*reg] = RegisterHome::Output(i);
            }
        }
    }

    /// Estimated picoseconds per element, roughly, from shapes and types alone.
    fn estimate(&self) -> usize {
        let moved: usize = self
            .inputs
            .iter()
            .chain(self.outputs.iter().map(|(_, o)| o))
            .map(|s| match s.strides.last() {
                Some(0) => 20,
                Some(1) => 25 * s.view.dtype.bytes(),
                _ => 400,
            })
            .sum();
        let computed: usize = self
            .steps
            .iter()
            .map(|s| match s {
                Step::Op { dst, op, .. } => op.cost_ps(self.types[*dst]),
                Step::Round { .. } => 50,
                Step::Load { .. } => 60,
                Step::Iota { .. } => 500,
            })
            .sum();
        moved + computed
    }
}

/// For every register, the last one whose computation reads it: `usize::MAX` when it is `kept`, read from outside;
/// `None` when it need not be there.
fn last_uses(ops: &[Option<Op>], kept: impl Iterator<Item = Reg>) -> Vec<Option<usize>> {
    let mut last = vec![None; ops.len()];
    for (at, op) in ops.iter().enumerate() {
        let Some(op) = op else { continue };
        let (operands, count) = op.operands();
        operands[..count].iter().for_each(|&operand| last[operand] = Some(at));
    }
    kept.for_each(|reg| last[reg] = Some(usize::MAX));
    last
}

fn is_permanent(instr: &Instr, uniforms: &[(Reg, usize)], reg: Reg) -> bool {
    matches!(instr, Instr::Const(_) | Instr::Reduced(_)) || uniforms.iter().any(|&(r, _)| r == reg)
}

/// Checks the views' extents; returns the number of elements of the space.
fn check_views(source: &BlockSource<'_>) -> Result<usize, KernelError> {
    let dims = source.dims;
    let views = source.inputs.iter().chain(source.outputs.iter().map(|(_, v)| v));
    for view in views {
        if view.dims != dims || view.strides.len() != dims.len() {
            return Err(KernelError::operand(
                source.kernel,
                format!("{view} does not have the extents {dims:?}"),
            ));
        }
    }
    if !countable(dims) {
        return Err(KernelError::operand(source.kernel, format!("{dims:?} has too many elements")));
    }
    Ok(dims.iter().product())
}

/// Hands out blocks of the register file, by element size.
#[derive(Default)]
struct Files {
    bytes: usize,
    free: Vec<(usize, usize)>,
}

impl Files {
    fn take(&mut self, size: usize) -> usize {
        if let Some(i) = self.free.iter().rposition(|&(s, _)| s == size) {
            return self.free.remove(i).1;
        }
        self.bytes += BLOCK * size;
        self.bytes - BLOCK * size
    }

    fn give_back(&mut self, size: usize, at: usize) {
        self.free.push((size, at));
    }
}

/// A block program being run by one thread.
pub(crate) struct BlockRun<'a> {
    code: &'a BlockCode,
    cx: &'a Cx<'a>,
    /// The block of every register.
    pointers: &'a mut [*mut u8],
}

impl<'a> BlockRun<'a> {
    /// Makes `code` ready in the scratch memory at `scratch` and fills what stays the same for all blocks.
    ///
    /// # Safety
    /// `scratch` is aligned to 64, good for [`BlockCode::scratch_bytes`] bytes and used by nobody else for `'a`;
    /// the code's views were checked against the buffers of `cx`.
    pub unsafe fn start(code: &'a BlockCode, cx: &'a Cx<'a>, scratch: *mut u8) -> Self {
        let count = code.types.len();
        let file = scratch.wrapping_add(align_up(count * size_of::<*mut u8>()));
        // SAFETY: the first part of the scratch memory is the table of pointers; any bytes are a valid pointer.
        let pointers = unsafe { std::slice::from_raw_parts_mut(scratch.cast::<*mut u8>(), count) };
        for (pointer, home) in pointers.iter_mut().zip(&code.homes) {
            *pointer = match *home {
                RegisterHome::File(at) => file.wrapping_add(at),
                RegisterHome::Unused | RegisterHome::Input(_) | RegisterHome::Output(_) => {
                    std::ptr::null_mut()
                }
            };
        }
        let n = BLOCK.min(code.total);
        for &(reg, literal) in &code.constants {
            // SAFETY: a constant's home is a block of the file.
            unsafe { fill(pointers[reg], literal, n) };
        }
        if n > 0 {
            for &(reg, input) in &code.uniforms {
                let input = &code.inputs[input];
                // SAFETY: as above; all strides are zero, so that a space of `n` elements is as good as any.
                unsafe { input.gather(cx, &code.movers, &[n], 0, n, pointers[reg]) };
            }
        }
        Self { code, cx, pointers }
    }

    /// The block of register `reg`: valid after [`BlockRun::eval`], or to be filled before it for `Instr::Reduced`.
    pub fn register(&self, reg: Reg) -> *mut u8 {
        self.pointers[reg]
    }

    /// Computes the elements `first..first + n` of the space, and stores the outputs.
    ///
    /// # Safety
    /// `n <= BLOCK`, `first + n` is within the space, and nobody else writes these elements.
    pub unsafe fn eval(&mut self, first: usize, n: usize) {
        let code = self.code;
        for (pointer, (home, dtype)) in self.pointers.iter_mut().zip(code.homes.iter().zip(&code.types)) {
            match *home {
                RegisterHome::Input(i) => {
                    *pointer = self.cx.origin(&code.inputs[i].view).wrapping_add(first * dtype.bytes())
                }
                RegisterHome::Output(i) => {
                    *pointer = self.cx.origin(&code.outputs[i].1.view).wrapping_add(first * dtype.bytes());
                }
                RegisterHome::File(_) | RegisterHome::Unused => {}
            }
        }
        for step in &code.steps {
            // SAFETY: registers' blocks hold `BLOCK >= n` elements of their types, or are the elements
            // `first..first + n` of a checked view; a result's block never overlaps an operand's; the loops are
            // those of a path that the program's builder found supported.
            unsafe {
                match step {
                    Step::Op { func, dst, operands, .. } => func(
                        self.pointers[*dst],
                        self.pointers[operands[0]],
                        self.pointers[operands[1]],
                        self.pointers[operands[2]],
                        n,
                    ),
                    Step::Round { func, dst } => {
                        func(self.pointers[*dst], std::ptr::null(), std::ptr::null(), std::ptr::null(), n);
                    }
                    Step::Load { input, dst } => {
                        code.inputs[*input].gather(
                            self.cx,
                            &code.movers,
                            &code.dims,
                            first,
                            n,
                            self.pointers[*dst],
                        );
                    }
                    Step::Iota { dtype, strides, dst } => {
                        iota(*dtype, &code.dims, strides, first, n, self.pointers[*dst]);
                    }
                }
            }
        }
        for &store in &code.stores {
            let (reg, output) = &code.outputs[store];
            // SAFETY: as above.
            unsafe { output.scatter(self.cx, &code.movers, &code.dims, first, n, self.pointers[*reg]) };
        }
    }
}

/// Fills a register's block.
///
/// # Safety
/// `dst` is good for `n` register elements of the literal's type.
pub(crate) unsafe fn fill(dst: *mut u8, literal: Literal, n: usize) {
    // SAFETY: the caller's contract.
    unsafe fn set<T: Copy>(dst: *mut u8, value: T, n: usize) {
        for i in 0..n {
            // SAFETY: `i < n`.
            unsafe { *dst.cast::<T>().add(i) = value };
        }
    }
    // SAFETY: the type is the register type of the literal.
    unsafe {
        match literal {
            Literal::Bool(x) => set(dst, u8::from(x), n),
            Literal::U8(x) => set(dst, x, n),
            Literal::I32(x) => set(dst, x, n),
            Literal::I64(x) => set(dst, x, n),
            Literal::BF16(x) => set(dst, widen(x.to_bits()), n),
            Literal::F32(x) => set(dst, x, n),
            Literal::F64(x) => set(dst, x, n),
        }
    }
}

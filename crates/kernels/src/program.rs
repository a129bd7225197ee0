//! Programs: kernels in order over numbered buffers, checked once when built and then only executed.

use crate::error::{KernelError, RunError};
use crate::kernel::{Cx, Fault, Kernel, Scratch};
use crate::memory::{ALIGN, AlignedBytes, align_up};
use crate::path::KernelPath;
use crate::threads::ThreadPool;
use crate::view::{View, countable};
use bytemuck::{NoUninit, Pod};
use std::time::Instant;

/// How a program uses a buffer, and where the memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Given by the caller at each run; only read.
    Read,
    /// Given by the caller at each run; read and written.
    Write,
    /// Owned by the program, aligned to 64 bytes, zero before the first run and kept between runs.
    Arena,
    /// Owned by the program and filled when it was declared; only read.
    Constant,
}

#[derive(Debug)]
struct Buffer {
    bytes: usize,
    access: Access,
    /// The largest element size of its views: what the caller's memory must be aligned to.
    align: usize,
    memory: Option<AlignedBytes>,
}

/// A buffer given to a run, in the order in which the external buffers were declared.
#[derive(Debug)]
pub enum BufferRef<'a> {
    /// For a buffer declared [`Access::Read`] (or one declared [`Access::Write`], never).
    Read(&'a [u8]),
    /// For a buffer declared [`Access::Write`]; good for [`Access::Read`] as well.
    Write(&'a mut [u8]),
}

impl<'a> BufferRef<'a> {
    /// A buffer of typed elements to read. `bool` is allowed.
    pub fn read<T: NoUninit>(elements: &'a [T]) -> Self {
        Self::Read(bytemuck::cast_slice(elements))
    }

    /// A buffer of typed elements to read and write. Truth values are written as `u8` that is 0 or 1.
    pub fn write<T: Pod>(elements: &'a mut [T]) -> Self {
        Self::Write(bytemuck::cast_slice_mut(elements))
    }
}

/// Collects buffers and kernels, and checks them all in [`ProgramBuilder::build`].
#[derive(Debug)]
pub struct ProgramBuilder {
    path: KernelPath,
    threads: usize,
    buffers: Vec<Buffer>,
    kernels: Vec<Box<dyn Kernel>>,
}

impl ProgramBuilder {
    /// A program for `path`, to be run by pools of up to `threads` threads.
    pub fn new(path: KernelPath, threads: usize) -> Self {
        Self { path, threads: threads.max(1), buffers: Vec::new(), kernels: Vec::new() }
    }

    fn declare(&mut self, bytes: usize, access: Access, memory: Option<AlignedBytes>) -> u32 {
        self.buffers.push(Buffer { bytes, access, align: 1, memory });
        u32::try_from(self.buffers.len() - 1).expect("a program has fewer than 2^32 buffers")
    }

    /// Declares a buffer that each run is given for reading; returns its number.
    pub fn input(&mut self, bytes: usize) -> u32 {
        self.declare(bytes, Access::Read, None)
    }

    /// Declares a buffer that each run is given for reading and writing; returns its number.
    pub fn output(&mut self, bytes: usize) -> u32 {
        self.declare(bytes, Access::Write, None)
    }

    /// Declares a buffer that the program owns; returns its number. It is aligned to 64 bytes.
    ///
    /// # Errors
    /// When the system does not give the memory.
    pub fn arena(&mut self, bytes: usize) -> Result<u32, KernelError> {
        let memory = AlignedBytes::new("arena", bytes)?;
        Ok(self.declare(bytes, Access::Arena, Some(memory)))
    }

    /// Declares a buffer that holds a copy of `elements` and is only read; returns its number.
    ///
    /// # Errors
    /// When the system does not give the memory.
    pub fn constant<T: NoUninit>(&mut self, elements: &[T]) -> Result<u32, KernelError> {
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        let memory = AlignedBytes::new("constants", bytes.len())?;
        // SAFETY: `memory` was just allocated with at least `bytes.len()` bytes, and nobody else knows it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.start(), bytes.len()) };
        Ok(self.declare(bytes.len(), Access::Constant, Some(memory)))
    }

    /// Appends a kernel; returns its position.
    pub fn push(&mut self, kernel: impl Kernel + 'static) -> usize {
        self.push_boxed(Box::new(kernel))
    }

    /// Appends a kernel; returns its position.
    pub fn push_boxed(&mut self, kernel: Box<dyn Kernel>) -> usize {
        self.kernels.push(kernel);
        self.kernels.len() - 1
    }

    /// Checks everything once: the path is supported, every view lies in its slot and every slot in its buffer,
    /// offsets are multiples of the element size, nothing writes to a read-only buffer, outputs have no two indices
    /// for one element, and outputs overlap neither each other nor inputs (save for exactly equal views where the
    /// kernel allows it).
    ///
    /// # Errors
    /// When a check fails, or the system does not give the memory for scratch.
    pub fn build(mut self) -> Result<Program, KernelError> {
        self.path.require()?;
        let mut scratch = Scratch::default();
        for (index, kernel) in self.kernels.iter_mut().enumerate() {
            check_kernel(&mut self.buffers, kernel.as_ref()).map_err(|what| KernelError::Memory {
                index,
                kernel: kernel.name(),
                what,
            })?;
            kernel.prepare(self.path);
            let needs = kernel.scratch();
            scratch.per_thread = scratch.per_thread.max(needs.per_thread);
            scratch.shared = scratch.shared.max(needs.shared);
        }
        // Threads' scratch areas are kept an odd number of cache lines apart, so that equal offsets in them do not
        // compete for the same cache sets.
        let stride = align_up(scratch.per_thread).saturating_add(3 * ALIGN);
        Ok(Program {
            path: self.path,
            threads: self.threads,
            bases: vec![BasePointer(std::ptr::null_mut()); self.buffers.len()],
            buffers: self.buffers,
            kernels: self.kernels,
            scratch: AlignedBytes::new("scratch", stride.saturating_mul(self.threads))?,
            scratch_stride: stride,
            shared: AlignedBytes::new("shared scratch", scratch.shared)?,
            fault: Fault::default(),
        })
    }
}

/// Checks the views of one kernel against the buffers; on success notes the alignment they need.
fn check_kernel(buffers: &mut [Buffer], kernel: &dyn Kernel) -> Result<(), String> {
    let (reads, writes) = (kernel.reads(), kernel.writes());
    for view in reads.iter().chain(&writes) {
        let Some(buffer) = buffers.get_mut(view.slot.buffer as usize) else {
            return Err(format!("{view}: there is no such buffer"));
        };
        let end = view.slot.offset.checked_add(view.slot.bytes);
        if end.is_none_or(|end| end > buffer.bytes) {
            return Err(format!("{view}: the slot reaches past the buffer's {} bytes", buffer.bytes));
        }
        if view.slot.offset % view.dtype.bytes() != 0 {
            return Err(format!(
                "{view}: the offset is not a multiple of the element's {} bytes",
                view.dtype.bytes()
            ));
        }
        if view.byte_range().is_none() {
            return Err(format!("{view}: elements lie outside the slot"));
        }
        // An empty view, or one that repeats elements, may have any extents and yet lie in its slot.
        if !countable(&view.dims) {
            return Err(format!("{view}: too many elements to count"));
        }
        buffer.align = buffer.align.max(view.dtype.bytes());
    }
    for (i, out) in writes.iter().enumerate() {
        if matches!(buffers[out.slot.buffer as usize].access, Access::Read | Access::Constant) {
            return Err(format!("{out}: the buffer is declared read-only"));
        }
        if !out.is_injective() {
            return Err(format!("{out}: two indices of an output share an element"));
        }
        if let Some(other) = writes[..i].iter().find(|other| overlap(out, other)) {
            return Err(format!("the outputs {out} and {other} overlap"));
        }
        if let Some(input) = reads.iter().find(|r| overlap(out, r) && !(kernel.in_place() && r == &out)) {
            return Err(format!("the output {out} overlaps the input {input}"));
        }
    }
    Ok(())
}

/// Whether the byte ranges of two views meet.
fn overlap(a: &View, b: &View) -> bool {
    match (a.byte_range(), b.byte_range()) {
        (Some(x), Some(y)) => a.slot.buffer == b.slot.buffer && x.start < y.end && y.start < x.end,
        _ => true,
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct BasePointer(*mut u8);
// SAFETY: an address only, set and used within one call of `run`, which has the program to itself.
unsafe impl Send for BasePointer {}
// SAFETY: as above.
unsafe impl Sync for BasePointer {}

/// A built program: its kernels run in order, with nothing allocated, looked up or decided in between.
#[derive(Debug)]
pub struct Program {
    path: KernelPath,
    threads: usize,
    buffers: Vec<Buffer>,
    kernels: Vec<Box<dyn Kernel>>,
    bases: Vec<BasePointer>,
    scratch: AlignedBytes,
    scratch_stride: usize,
    shared: AlignedBytes,
    fault: Fault,
}

impl Program {
    /// The SIMD path it was built for.
    pub fn path(&self) -> KernelPath {
        self.path
    }

    /// The kernels, in order.
    pub fn kernels(&self) -> impl ExactSizeIterator<Item = &dyn Kernel> {
        self.kernels.iter().map(|k| k.as_ref())
    }

    /// Bytes of the memory the program owns: arenas and constants, and scratch.
    pub fn owned_bytes(&self) -> (usize, usize) {
        let buffers = self.buffers.iter().filter_map(|b| b.memory.as_ref()).map(AlignedBytes::bytes).sum();
        (buffers, self.scratch.bytes() + self.shared.bytes())
    }

    /// Runs all kernels once over `buffers`, which stand for the external buffers in the order of declaration.
    pub fn run(&mut self, pool: &ThreadPool, buffers: &mut [BufferRef<'_>]) -> Result<(), RunError> {
        self.bind(pool, buffers)?;
        let start = Instant::now();
        let result = self.execute(pool, |_, kernel, cx| kernel.run(cx));
        pool.count_caller(start.elapsed().as_nanos() as u64);
        result
    }

    /// As [`Program::run`], and adds the nanoseconds that kernel `i` took to `nanoseconds[i]`.
    pub fn run_profiled(
        &mut self,
        pool: &ThreadPool,
        buffers: &mut [BufferRef<'_>],
        nanoseconds: &mut [u64],
    ) -> Result<(), RunError> {
        self.bind(pool, buffers)?;
        let first = Instant::now();
        let mut last = first;
        let result = self.execute(pool, |i, kernel, cx| {
            kernel.run(cx);
            let now = Instant::now();
            if let Some(total) = nanoseconds.get_mut(i) {
                *total += (now - last).as_nanos() as u64;
            }
            last = now;
        });
        pool.count_caller((last - first).as_nanos() as u64);
        result
    }

    fn execute(
        &self,
        pool: &ThreadPool,
        mut each: impl FnMut(usize, &dyn Kernel, &Cx<'_>),
    ) -> Result<(), RunError> {
        // SAFETY: `BasePointer` is a pointer in a struct of its own; both slices have the same layout.
        let bases =
            unsafe { std::slice::from_raw_parts(self.bases.as_ptr().cast::<*mut u8>(), self.bases.len()) };
        let cx = Cx {
            pool,
            bases,
            scratch: self.scratch.start(),
            scratch_stride: self.scratch_stride,
            shared: self.shared.start(),
            fault: &self.fault,
        };
        for (i, kernel) in self.kernels.iter().enumerate() {
            each(i, kernel.as_ref(), &cx);
            if self.fault.is_raised() {
                let (position, value, limit) = self.fault.take().unwrap_or_default();
                return Err(RunError::IndexOutOfRange { kernel: i, position, value, limit });
            }
        }
        Ok(())
    }

    /// Checks the buffers given and notes where they start.
    fn bind(&mut self, pool: &ThreadPool, given: &mut [BufferRef<'_>]) -> Result<(), RunError> {
        if pool.threads() > self.threads {
            return Err(RunError::Threads { built: self.threads, given: pool.threads() });
        }
        let mut externals = given.iter_mut();
        let mut index = 0;
        for (buffer, base) in self.buffers.iter().zip(&mut self.bases) {
            if let Some(memory) = &buffer.memory {
                base.0 = memory.start();
                continue;
            }
            let refused = |what: String| Err(RunError::Buffer { index, what });
            let Some(external) = externals.next() else {
                return refused("missing: fewer buffers were given than declared".into());
            };
            let (start, bytes) = match external {
                BufferRef::Write(slice) => (slice.as_mut_ptr(), slice.len()),
                // Never written through: `build` refuses kernels that write to a buffer declared `Read`.
                BufferRef::Read(slice) if buffer.access == Access::Read => {
                    (slice.as_ptr().cast_mut(), slice.len())
                }
                BufferRef::Read(_) => return refused("declared for writing and given for reading".into()),
            };
            if bytes != buffer.bytes {
                return refused(format!("declared with {} bytes and given {bytes}", buffer.bytes));
            }
            if bytes > 0 && start.align_offset(buffer.align) != 0 {
                return refused(format!("must be aligned to {} bytes", buffer.align));
            }
            base.0 = start;
            index += 1;
        }
        if externals.next().is_some() {
            return Err(RunError::Buffer { index, what: "more buffers were given than declared".into() });
        }
        Ok(())
    }
}

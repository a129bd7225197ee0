//! Programs: kernels in order over numbered buffers, checked once when built and then only executed.

use crate::error::{KernelError, RunError};
use crate::instance::{Instance, Needs};
use crate::kernel::{Cx, Kernel, Scratch};
use crate::memory::{ALIGN, AlignedBytes, align_up};
use crate::path::KernelPath;
use crate::threads::ThreadPool;
use crate::view::{View, countable};
use crate::weight::{Packer, Weight};
use bytemuck::{NoUninit, Pod};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// How a program uses a buffer, and where the memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Given by the caller at each run; only read.
    Read,
    /// Given by the caller at each run; read and written.
    Write,
    /// Owned by each instance, aligned to 64 bytes, zero before its first run and kept between its runs.
    Arena,
    /// There when it was declared; only read.
    Constant,
}

/// The elements of a constant.
#[derive(Debug)]
enum Constant {
    Owned(AlignedBytes),
    Shared(Arc<Weight>),
}

#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: usize,
    access: Access,
    /// The largest element size of its views: what memory that is not the program's must be aligned to.
    align: usize,
    constant: Option<Constant>,
}

impl Buffer {
    /// The weight that it is, if it is one.
    pub fn weight(&self) -> Option<&Weight> {
        match &self.constant {
            Some(Constant::Shared(weight)) => Some(weight),
            _ => None,
        }
    }

    /// Where a constant begins. It is never written through: `build` refuses kernels that would.
    fn start(&self) -> Option<*mut u8> {
        self.constant.as_ref().map(|constant| match constant {
            Constant::Owned(memory) => memory.start(),
            Constant::Shared(weight) => weight.bytes().as_ptr().cast_mut(),
        })
    }
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

    /// The same buffer, for one run of several.
    pub fn again(&mut self) -> BufferRef<'_> {
        match self {
            Self::Read(bytes) => BufferRef::Read(bytes),
            Self::Write(bytes) => BufferRef::Write(bytes),
        }
    }
}

/// Collects buffers and kernels, and checks them all in [`ProgramBuilder::build`].
#[derive(Debug)]
pub struct ProgramBuilder {
    path: KernelPath,
    buffers: Vec<Buffer>,
    kernels: Vec<Box<dyn Kernel>>,
}

impl ProgramBuilder {
    /// A program for `path`.
    pub fn new(path: KernelPath) -> Self {
        Self { path, buffers: Vec::new(), kernels: Vec::new() }
    }

    fn declare(&mut self, bytes: usize, access: Access, constant: Option<Constant>) -> u32 {
        self.buffers.push(Buffer { bytes, access, align: 1, constant });
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

    /// Declares a buffer that each instance of the program owns; returns its number. It is aligned to 64 bytes, and
    /// asked for by [`Program::instance`].
    pub fn arena(&mut self, bytes: usize) -> u32 {
        self.declare(bytes, Access::Arena, None)
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
        Ok(self.declare(bytes.len(), Access::Constant, Some(Constant::Owned(memory))))
    }

    /// Declares a buffer that is a weight's elements, which are only read and not copied; returns its number.
    pub fn weight(&mut self, weight: &Arc<Weight>) -> u32 {
        self.declare(weight.bytes().len(), Access::Constant, Some(Constant::Shared(Arc::clone(weight))))
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
    /// Then kernels take packed copies of weights.
    ///
    /// # Errors
    /// When a check fails, or the system does not give the memory for packed weights.
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
            kernel.pack(&Packer(&self.buffers))?;
            let needs = kernel.scratch();
            scratch.per_thread = scratch.per_thread.max(needs.per_thread);
            scratch.shared = scratch.shared.max(needs.shared);
        }
        let arenas = self.buffers.iter().filter(|b| b.access == Access::Arena).map(|b| b.bytes).collect();
        let needs = Needs {
            buffers: self.buffers.len(),
            arenas,
            // Threads' scratch areas are kept an odd number of cache lines apart, so that equal offsets in them do not
            // compete for the same cache sets.
            scratch_stride: align_up(scratch.per_thread).saturating_add(3 * ALIGN),
            shared: scratch.shared,
        };
        Ok(Program { path: self.path, buffers: self.buffers, kernels: self.kernels, needs: Arc::new(needs) })
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
        let aligned = |weight: &Weight| weight.bytes().as_ptr().align_offset(view.dtype.bytes()) == 0;
        if !buffer.weight().is_none_or(aligned) {
            return Err(format!("{view}: the weight has elements of another size"));
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

/// A built program: its kernels run in order, with nothing allocated, looked up or decided in between.
///
/// It never changes, so any number of threads may run it at once, each with an [`Instance`] of its own. They may share
/// one pool, whose jobs then take turns (see [`ThreadPool::split`]), or bring one each; a run's bits depend on neither.
#[derive(Debug)]
pub struct Program {
    path: KernelPath,
    buffers: Vec<Buffer>,
    kernels: Vec<Box<dyn Kernel>>,
    needs: Arc<Needs>,
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

    /// Bytes of its constants, which all instances read. Weights, which it shares with others, are not counted.
    pub fn constant_bytes(&self) -> usize {
        let bytes = |buffer: &Buffer| match &buffer.constant {
            Some(Constant::Owned(memory)) => memory.bytes(),
            _ => 0,
        };
        self.buffers.iter().map(bytes).sum()
    }

    /// The memory of one run at a time, with scratch for pools of up to `threads` threads. The first run on a larger
    /// pool asks for more.
    ///
    /// # Errors
    /// When the system does not give the memory.
    pub fn instance(&self, threads: usize) -> Result<Instance, KernelError> {
        Instance::new(&self.needs, threads)
    }

    /// Runs all kernels once over `buffers`, which stand for the external buffers in the order of declaration, with the
    /// threads of `pool`.
    ///
    /// # Errors
    /// When the instance is another program's, the buffers are not those declared, the instance needs scratch for more
    /// threads than it was made for and the system does not give it, or a kernel finds an index that is out of range.
    pub fn run<'a>(
        &self,
        instance: &mut Instance,
        pool: &ThreadPool,
        buffers: impl IntoIterator<Item = BufferRef<'a>>,
    ) -> Result<(), RunError> {
        self.run_part(instance, pool, buffers, 0..self.kernels.len())
    }

    /// As [`Program::run`], but these kernels only. Parts that follow each other, on the same buffers, are a run: between
    /// them the caller may look at what has been written, and write what the rest does not touch.
    ///
    /// # Errors
    /// As [`Program::run`].
    ///
    /// # Panics
    /// When there are fewer kernels.
    pub fn run_part<'a>(
        &self,
        instance: &mut Instance,
        pool: &ThreadPool,
        buffers: impl IntoIterator<Item = BufferRef<'a>>,
        kernels: Range<usize>,
    ) -> Result<(), RunError> {
        self.bind(instance, pool, buffers)?;
        let start = Instant::now();
        let result = self.execute(instance, pool, kernels, |_, kernel, cx| kernel.run(cx));
        pool.count_caller(start.elapsed().as_nanos() as u64);
        result
    }

    /// As [`Program::run`], and adds the nanoseconds that kernel `i` took to `nanoseconds[i]`.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run_profiled<'a>(
        &self,
        instance: &mut Instance,
        pool: &ThreadPool,
        buffers: impl IntoIterator<Item = BufferRef<'a>>,
        nanoseconds: &mut [u64],
    ) -> Result<(), RunError> {
        self.bind(instance, pool, buffers)?;
        let first = Instant::now();
        let mut last = first;
        let result = self.execute(instance, pool, 0..self.kernels.len(), |i, kernel, cx| {
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
        instance: &mut Instance,
        pool: &ThreadPool,
        kernels: Range<usize>,
        mut each: impl FnMut(usize, &dyn Kernel, &Cx<'_>),
    ) -> Result<(), RunError> {
        let cx = instance.context(pool);
        for (i, kernel) in kernels.clone().zip(&self.kernels[kernels]) {
            each(i, kernel.as_ref(), &cx);
            if cx.fault.is_raised() {
                let (position, value, limit) = cx.fault.take().unwrap_or_default();
                return Err(RunError::IndexOutOfRange { kernel: i, position, value, limit });
            }
        }
        Ok(())
    }

    /// Checks that the instance is this program's, and the buffers given, and notes where they start.
    fn bind<'a>(
        &self,
        instance: &mut Instance,
        pool: &ThreadPool,
        given: impl IntoIterator<Item = BufferRef<'a>>,
    ) -> Result<(), RunError> {
        instance.fit(&self.needs, pool.threads())?;
        let (mut arenas, mut externals) = (instance.arenas.iter(), given.into_iter());
        let mut index = 0;
        for (buffer, base) in self.buffers.iter().zip(&mut instance.bases) {
            let known = match buffer.access {
                Access::Arena => arenas.next().map(AlignedBytes::start),
                _ => buffer.start(),
            };
            if let Some(start) = known {
                base.0 = start;
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

//! What all kernels have in common: the trait, the context they run in, and how work is spread over threads.

use crate::path::KernelPath;
use crate::threads::ThreadPool;
use crate::view::{Slot, View};
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Memory a kernel needs while it runs, besides its operands. Sizes saturate: what cannot be counted cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// Bytes that each thread needs for itself.
    pub per_thread: usize,
    /// Bytes that all threads share.
    pub shared: usize,
}

/// Keeps [`Kernel`] to this crate.
pub(crate) mod sealed {
    use crate::error::KernelError;
    use crate::weight::Packer;

    /// Only kernels of this crate are kernels.
    pub trait Sealed {
        /// Takes packed copies of the operands that are weights. Called once, after `prepare` and after the views were
        /// checked.
        fn pack(&mut self, _packer: &Packer<'_>) -> Result<(), KernelError> {
            Ok(())
        }
    }
}

/// One compiled operation of a program. Operands were fixed and checked when it was made.
///
/// It is sealed: what a kernel reads and writes while it runs is checked by what it says of itself, so every kernel has
/// to stand where the `unsafe` code is.
///
/// ```compile_fail,E0277
/// # use outgrow_kernels::{Cx, Kernel, View};
/// #[derive(Debug)]
/// struct Foreign;
/// impl Kernel for Foreign {
///     fn name(&self) -> &'static str { "foreign" }
///     fn reads(&self) -> Vec<&View> { Vec::new() }
///     fn writes(&self) -> Vec<&View> { Vec::new() }
///     fn flops(&self) -> u64 { 0 }
///     fn run(&self, _: &Cx<'_>) {}
/// }
/// ```
pub trait Kernel: sealed::Sealed + Send + Sync + Debug {
    /// A short name for reports.
    fn name(&self) -> &'static str;

    /// Fixes the SIMD path. Called once, before weights are packed, `scratch` and `run`.
    fn prepare(&mut self, _path: KernelPath) {}

    /// Memory needed while running.
    fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    /// The views read.
    fn reads(&self) -> Vec<&View>;

    /// The views written.
    fn writes(&self) -> Vec<&View>;

    /// Whether a written view may be the very same view as a read one.
    fn in_place(&self) -> bool {
        false
    }

    /// Floating point operations of one run, a multiply-add counting as two.
    fn flops(&self) -> u64;

    /// Bytes of operands read and written in one run, each element once.
    fn bytes(&self) -> u64 {
        self.reads().iter().chain(&self.writes()).map(|view| view.distinct_bytes()).sum()
    }

    /// Computes the outputs.
    fn run(&self, cx: &Cx<'_>);
}

/// The first error of a run, set by the kernel that found it.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    raised: AtomicBool,
    /// Position, value and limit of an index out of range.
    bad_index: Mutex<Option<(usize, i64, usize)>>,
}

impl Fault {
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    pub fn take(&self) -> Option<(usize, i64, usize)> {
        self.raised.store(false, Ordering::Relaxed);
        self.bad_index.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    pub fn raise(&self, position: usize, value: i64, limit: usize) {
        let mut slot = self.bad_index.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *slot = Some((position, value, limit));
        self.raised.store(true, Ordering::Relaxed);
    }
}

/// What a running kernel sees. Only [`crate::Program`] makes one, after it has checked every view of every kernel
/// against the buffers behind `bases`.
pub struct Cx<'a> {
    pub(crate) pool: &'a ThreadPool,
    /// Start of each buffer of the program.
    pub(crate) bases: &'a [*mut u8],
    /// Start of thread 0's scratch memory; that of the others follows at `scratch_stride`.
    pub(crate) scratch: *mut u8,
    pub(crate) scratch_stride: usize,
    pub(crate) shared: *mut u8,
    pub(crate) fault: &'a Fault,
}

// SAFETY: the pointers are addresses only; kernels answer for how they use them (disjoint writes by task).
unsafe impl Sync for Cx<'_> {}

/// Work below this cost runs on the calling thread: waking and waiting for others costs a few microseconds.
/// Costs are estimates in nanoseconds from shapes alone.
const PARALLEL_NS: usize = 25_000;

impl Cx<'_> {
    /// The first byte of `slot`.
    pub(crate) fn slot(&self, slot: &Slot) -> *mut u8 {
        self.bases[slot.buffer as usize].wrapping_add(slot.offset)
    }

    /// The element of index zero of `view`.
    pub(crate) fn origin(&self, view: &View) -> *mut u8 {
        self.slot(&view.slot).wrapping_add(view.start * view.dtype.bytes())
    }

    /// The scratch memory of `thread`.
    pub(crate) fn scratch(&self, thread: usize) -> *mut u8 {
        self.scratch.wrapping_add(thread * self.scratch_stride)
    }

    /// The scratch memory shared by all threads.
    pub(crate) fn shared(&self) -> *mut u8 {
        self.shared
    }

    /// Calls `part(thread, range)` for each thread's run of `0..tasks`; on the calling thread alone when the whole
    /// is estimated to take less than some microseconds. Neither choice may change bits.
    pub(crate) fn parallel(&self, tasks: usize, cost_ns: usize, part: &(dyn Fn(usize, Range<usize>) + Sync)) {
        if tasks == 0 {
            return;
        }
        if cost_ns < PARALLEL_NS { self.pool.alone(tasks, part) } else { self.pool.split(tasks, part) }
    }
}

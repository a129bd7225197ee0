//! Instances: the memory that one run of a program at a time writes to.

use crate::error::{KernelError, RunError};
use crate::kernel::{Cx, Fault};
use crate::memory::AlignedBytes;
use crate::threads::ThreadPool;
use std::sync::Arc;

/// What an instance of a program is made of. Each program has one of its own, by which its instances are known.
#[derive(Debug)]
pub(crate) struct Needs {
    /// Number of buffers.
    pub buffers: usize,
    /// Bytes of each arena, in the order of declaration.
    pub arenas: Vec<usize>,
    /// Bytes from one thread's scratch memory to the next one's.
    pub scratch_stride: usize,
    /// Bytes of scratch memory that all threads share.
    pub shared: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct BasePointer(pub *mut u8);
// SAFETY: an address only, set and used within one run, which has the instance to itself.
unsafe impl Send for BasePointer {}
// SAFETY: as above.
unsafe impl Sync for BasePointer {}

/// What a program needs besides itself to be run by one thread at a time: arena, scratch, and where its buffers are.
/// Made by [`crate::Program::instance`].
#[derive(Debug)]
pub struct Instance {
    needs: Arc<Needs>,
    pub(crate) arenas: Vec<AlignedBytes>,
    pub(crate) bases: Vec<BasePointer>,
    /// Threads that there is scratch memory for.
    threads: usize,
    scratch: AlignedBytes,
    shared: AlignedBytes,
    fault: Fault,
}

fn scratch(needs: &Needs, threads: usize) -> Result<AlignedBytes, KernelError> {
    AlignedBytes::new("scratch", needs.scratch_stride.saturating_mul(threads))
}

impl Instance {
    pub(crate) fn new(needs: &Arc<Needs>, threads: usize) -> Result<Self, KernelError> {
        let threads = threads.max(1);
        let arenas = needs.arenas.iter().map(|bytes| AlignedBytes::new("arena", *bytes));
        Ok(Self {
            arenas: arenas.collect::<Result<_, _>>()?,
            bases: vec![BasePointer(std::ptr::null_mut()); needs.buffers],
            threads,
            scratch: scratch(needs, threads)?,
            shared: AlignedBytes::new("shared scratch", needs.shared)?,
            fault: Fault::default(),
            needs: Arc::clone(needs),
        })
    }

    /// Bytes of the arenas, and of scratch memory.
    pub fn bytes(&self) -> (usize, usize) {
        (self.arenas.iter().map(AlignedBytes::bytes).sum(), self.scratch.bytes() + self.shared.bytes())
    }

    /// Checks that this is an instance of the program that needs this, and makes room for the scratch memory of so many
    /// threads.
    pub(crate) fn fit(&mut self, needs: &Arc<Needs>, threads: usize) -> Result<(), RunError> {
        if !Arc::ptr_eq(&self.needs, needs) {
            return Err(RunError::Instance);
        }
        if threads > self.threads {
            let bytes = needs.scratch_stride.saturating_mul(threads);
            self.scratch = scratch(needs, threads).map_err(|_| RunError::Allocation { bytes })?;
            self.threads = threads;
        }
        Ok(())
    }

    /// What kernels see during a run on `pool`, which this instance fits and whose bases are set.
    pub(crate) fn context<'a>(&'a mut self, pool: &'a ThreadPool) -> Cx<'a> {
        // SAFETY: `BasePointer` is a pointer in a struct of its own; both slices have the same layout.
        let bases =
            unsafe { std::slice::from_raw_parts(self.bases.as_ptr().cast::<*mut u8>(), self.bases.len()) };
        Cx {
            pool,
            bases,
            scratch: self.scratch.start(),
            scratch_stride: self.needs.scratch_stride,
            shared: self.shared.start(),
            fault: &self.fault,
        }
    }
}

//! Memory that runs work on: buffers that a backend gives out, and what of them a run is given.

use bytemuck::NoUninit;
use outgrow_ir::Diagnostic;
use outgrow_kernels::{BufferRef, HostMemory, KernelError};
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

/// Memory of a backend's device.
pub trait Buffer: Any + Send + Sync + Debug {
    /// Its length.
    fn bytes(&self) -> usize;

    /// Its bytes, where the device's memory is the host's.
    fn host(&self) -> Option<&[u8]>;

    /// Its bytes to be written, where the device's memory is the host's.
    fn host_mut(&mut self) -> Option<&mut [u8]>;
}

impl Buffer for HostMemory {
    fn bytes(&self) -> usize {
        self.as_slice().len()
    }

    fn host(&self) -> Option<&[u8]> {
        Some(self.as_slice())
    }

    fn host_mut(&mut self) -> Option<&mut [u8]> {
        Some(self.as_mut_slice())
    }
}

/// A buffer of the host's memory.
///
/// # Errors
/// When the system does not give it.
pub(crate) fn host_buffer(bytes: usize) -> Result<Box<dyn Buffer>, Diagnostic> {
    let memory = HostMemory::new(bytes).map_err(|e: KernelError| no_memory(e.to_string()))?;
    Ok(Box::new(memory))
}

pub(crate) fn no_memory(problem: String) -> Diagnostic {
    Diagnostic::new("runtime.memory", problem)
        .expected("as much free memory, within the limits of this process (`ulimit -v`, container)")
        .hint("take a smaller batch or model, fewer threads, or a machine with more memory")
}

/// A part of a buffer that a run is given.
#[derive(Debug)]
pub enum Argument<'a> {
    /// Bytes of the host, which are only read. A device with memory of its own takes a copy before the run is submitted.
    Host(&'a [u8]),
    /// These bytes of a buffer, which are only read.
    Read(&'a dyn Buffer, Range<usize>),
    /// These bytes of a buffer, which are read and written.
    Write(&'a mut dyn Buffer, Range<usize>),
}

impl<'a> Argument<'a> {
    /// Elements of the host. `bool` is allowed.
    pub fn host<T: NoUninit>(elements: &'a [T]) -> Self {
        Self::Host(bytemuck::cast_slice(elements))
    }

    /// A whole buffer, only to be read.
    pub fn read(buffer: &'a dyn Buffer) -> Self {
        Self::Read(buffer, 0..buffer.bytes())
    }

    /// A whole buffer, to be read and written.
    pub fn write(buffer: &'a mut dyn Buffer) -> Self {
        let bytes = buffer.bytes();
        Self::Write(buffer, 0..bytes)
    }

    /// The bytes, where they are the host's and there.
    pub(crate) fn on_host(&mut self) -> Option<BufferRef<'_>> {
        match self {
            Self::Host(bytes) => Some(BufferRef::Read(bytes)),
            Self::Read(buffer, range) => buffer.host()?.get(range.clone()).map(BufferRef::Read),
            Self::Write(buffer, range) => buffer.host_mut()?.get_mut(range.clone()).map(BufferRef::Write),
        }
    }
}

/// Refuses arguments that are not the host's, or not there.
pub(crate) fn only_host(arguments: &mut [Argument<'_>]) -> Result<(), Diagnostic> {
    match arguments.iter_mut().position(|argument| argument.on_host().is_none()) {
        None => Ok(()),
        Some(i) => {
            let problem = format!("argument {i} is no part of a buffer that this backend gave out");
            Err(Diagnostic::fault("runtime.buffer", problem))
        }
    }
}

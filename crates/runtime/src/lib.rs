//! From a graph to something that runs: backends compile a graph with a fixed batch size to an executable, whose
//! memory is planned beforehand and which decides, allocates and looks up nothing while it runs.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod backend;
mod cpu;
mod memory;
mod null;
mod reference;
mod tensors;

pub use backend::{Backend, CompileOptions, Compiled, Executable, StepInfo, compile, plan};
pub use cpu::CpuBackend;
pub use memory::{Lifetime, MemoryPlan, plan_memory};
pub use null::NullBackend;
pub use outgrow_kernels::{BufferRef, KernelPath, ThreadPool};
pub use reference::ReferenceBackend;
pub use tensors::run_tensors;

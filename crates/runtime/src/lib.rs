//! From a graph to something that runs: backends compile a graph for fixed sizes to an executable, which decides,
//! allocates and looks up nothing while it runs. It is shared by all who run it; what they write to are instances, whose
//! memory is planned beforehand.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod backend;
mod bindings;
mod buffer;
pub mod collective;
mod cpu;
mod fold;
pub mod machine;
mod memory;
mod reference;
mod tensors;
mod weights;

pub use backend::{Backend, CompileOptions, Compiled, Executable, Instance, StepInfo, Work, compile, plan};
pub use bindings::{Bindings, Place};
pub use buffer::{Argument, Buffer};
pub use cpu::CpuBackend;
pub use memory::{Lifetime, MemoryPlan, plan_memory};
pub use outgrow_kernels::{HostMemory, KernelPath, Products, ThreadPool};
pub use reference::ReferenceBackend;
pub use tensors::run_tensors;
pub use weights::Weights;

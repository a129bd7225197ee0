//! The CPU backend: lowers a graph to kernels over one planned arena.

mod block;
mod lower;
mod ops;
mod place;
mod storage;

use crate::backend::{Backend, CompileOptions, Compiled, Executable, Instance};
use crate::reference::interface;
use crate::{BufferRef, MemoryPlan, ThreadPool};
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use outgrow_kernels::{self as kernels, KernelError, Program, RunError};
use std::sync::Arc;

/// Runs graphs on the CPU.
#[derive(Debug)]
pub struct CpuBackend;

#[derive(Debug)]
struct CpuExecutable {
    program: Program,
    /// The layer and ops of each kernel, for errors.
    labels: Vec<String>,
}

#[derive(Debug)]
struct CpuInstance {
    of: Arc<CpuExecutable>,
    memory: kernels::Instance,
    pool: Arc<ThreadPool>,
}

fn no_memory(problem: String) -> Diagnostic {
    Diagnostic::new("runtime.memory", problem)
        .expected("as much free memory, within the limits of this process (`ulimit -v`, container)")
        .hint("take a smaller batch or model, fewer threads, or a machine with more memory")
}

/// Memory that the system does not give is nobody's mistake; a kernel that refuses what the lowering gave it is one of
/// the lowering.
fn refusal(error: &KernelError) -> Diagnostic {
    if let KernelError::Allocation { what, bytes } = error {
        let problem =
            format!("the system does not give the {bytes} bytes of memory for the program's {what}");
        return no_memory(problem);
    }
    Diagnostic::fault(
        "runtime.lower",
        format!("invariant: kernels must accept what graphs are lowered to: {error}"),
    )
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn plan(&self, graph: &Graph, options: &CompileOptions) -> Result<MemoryPlan, Diagnostics> {
        Ok(lower::lower(graph, options)?.plan())
    }

    fn compile(&self, graph: Graph, options: &CompileOptions) -> Result<Compiled, Diagnostics> {
        let (inputs, outputs) = interface(&graph, &options.weights);
        let lowered = lower::lower(&graph, options)?;
        let memory = lowered.plan();
        if let Some(there) = options.memory.filter(|there| memory.bytes() > *there) {
            let problem =
                format!("the program needs {} bytes of memory, and may take {there}", memory.bytes());
            return Err(no_memory(problem).into());
        }
        let labels = lowered.steps.iter().map(|s| format!("{} at `{}`", s.info.ops, s.info.origin)).collect();
        let steps = lowered.steps.iter().map(|s| s.info.clone()).collect();
        let program = lowered.build(&memory, options.path).map_err(|e| refusal(&e))?;
        let executable = Arc::new(CpuExecutable { program, labels });
        Ok(Compiled { executable, pool: options.pool.clone(), inputs, outputs, memory, steps, graph })
    }
}

impl CpuExecutable {
    fn diagnose(&self, error: &RunError) -> Diagnostic {
        match error {
            RunError::IndexOutOfRange { kernel, position, value, limit } => {
                let label = self.labels.get(*kernel).map_or("", String::as_str);
                Diagnostic::new(
                    "runtime.index",
                    format!("index {value} at position {position} is outside the table"),
                )
                .item(label)
                .expected(format!("0 to {}", limit.saturating_sub(1)))
            }
            RunError::Allocation { .. } => no_memory(error.to_string()),
            other => Diagnostic::new("runtime.run", other.to_string())
                .expected("a buffer for each input and output, as they were compiled"),
        }
    }
}

impl Executable for CpuExecutable {
    fn instance(self: Arc<Self>, pool: &Arc<ThreadPool>) -> Result<Box<dyn Instance>, Diagnostic> {
        let memory = self.program.instance(pool.threads()).map_err(|e| refusal(&e))?;
        Ok(Box::new(CpuInstance { of: self, memory, pool: pool.clone() }))
    }
}

impl Instance for CpuInstance {
    fn run(&mut self, buffers: &mut [BufferRef<'_>]) -> Result<(), Diagnostic> {
        let ran = self.of.program.run(&mut self.memory, &self.pool, buffers);
        ran.map_err(|e| self.of.diagnose(&e))
    }

    fn run_profiled(
        &mut self,
        buffers: &mut [BufferRef<'_>],
        nanoseconds: &mut [u64],
    ) -> Result<(), Diagnostic> {
        let ran = self.of.program.run_profiled(&mut self.memory, &self.pool, buffers, nanoseconds);
        ran.map_err(|e| self.of.diagnose(&e))
    }
}

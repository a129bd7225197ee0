//! The CPU backend: lowers a graph to kernels over one planned arena.

mod block;
mod finish;
mod location;
mod lower;
mod ops;
mod storage;

use self::storage::Lowered;
use crate::MemoryPlan;
use crate::backend::{Backend, Compiled, Executable, Instance, Work, known};
use crate::buffer::{Argument, no_memory, only_host};
use crate::reference::interface;
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use outgrow_kernels::{
    self as kernels, BufferRef, KernelError, KernelPath, Products, Program, RunError, ThreadPool,
};
use std::ops::Range;
use std::sync::Arc;

/// Runs graphs on the CPU. What one has compiled, another with other threads may run: neither programs nor their results
/// hang on them.
#[derive(Clone, Debug)]
pub struct CpuBackend {
    /// The threads that instances run on. Backends may share a pool.
    pub pool: Arc<ThreadPool>,
    /// The SIMD path that programs are compiled for; results may differ in their last bits between paths, and only
    /// between them.
    pub path: KernelPath,
}

impl CpuBackend {
    /// On these threads, by the fastest path that this machine has.
    pub fn new(pool: Arc<ThreadPool>) -> Self {
        Self { pool, path: KernelPath::detect() }
    }
}

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

/// A graph that is ready to be built.
#[derive(Debug)]
struct Planned {
    graph: Graph,
    lowered: Lowered,
    memory: MemoryPlan,
}

/// A plan that leaves less than this part of the memory there is unused is not looked for a better one.
const UNUSED: u64 = 32;
/// So often it is tried how much must be computed again for a program to fit into the memory there is.
const TRIES: usize = 5;

impl Planned {
    fn new(work: &Work, path: KernelPath, live_bytes_max: Option<u64>) -> Result<Self, Diagnostics> {
        let graph = outgrow_passes::prepare_within(live_bytes_max).run(&work.graph)?;
        let lowered = lower::lower(&graph, &work.bindings, &work.weights, path)?;
        let memory = lowered.plan(path);
        Ok(Self { graph, lowered, memory })
    }

    /// As fast as it can be, or where that takes more memory than it is to fit into, with so much computed again that it
    /// does; if it cannot be made to fit, the least that was found.
    fn fitted(work: &Work, path: KernelPath) -> Result<Self, Diagnostics> {
        let mut best = Self::new(work, path, None)?;
        let Some(fit) = work.fit.filter(|fit| best.memory.bytes() > *fit) else { return Ok(best) };
        // What is alive is not yet what is planned: buffers have to be laid out, and may be written over.
        let mut live = fit.saturating_sub((best.memory.constant_bytes + best.memory.packed_bytes) as u64);
        for _ in 0..TRIES {
            let found = Self::new(work, path, Some(live))?;
            let (bytes, least) = (found.memory.bytes(), best.memory.bytes());
            let better = match (bytes <= fit, least <= fit) {
                (true, true) => bytes > least,
                (fits, _) => fits || bytes < least,
            };
            if better {
                best = found;
            }
            if bytes <= fit && fit - bytes <= fit / UNUSED || bytes > fit && live == 0 {
                break;
            }
            live = live.saturating_add(fit).saturating_sub(bytes);
        }
        Ok(best)
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn has_faster(&self, products: Products) -> bool {
        self.path.with_products(products) != self.path
    }

    fn plan(&self, work: &Work) -> Result<MemoryPlan, Diagnostics> {
        Ok(Planned::fitted(work, self.path.with_products(work.products))?.memory)
    }

    fn compile(&self, work: Work) -> Result<Compiled, Diagnostics> {
        let path = self.path.with_products(work.products);
        let Planned { graph, lowered, memory } = Planned::fitted(&work, path)?;
        let Work { bindings, weights, memory: there, .. } = work;
        let (inputs, outputs) = interface(&graph, &weights);
        if let Some(there) = there.filter(|there| memory.bytes() > *there) {
            let problem =
                format!("the program needs {} bytes of memory, and may take {there}", memory.bytes());
            return Err(no_memory(problem).into());
        }
        let finals = lowered.finals(&bindings);
        let labels = lowered.steps.iter().map(|s| format!("{} at `{}`", s.info.ops, s.info.origin)).collect();
        let steps = lowered.steps.iter().map(|s| s.info.clone()).collect();
        let program = lowered.build(&memory, path).map_err(|e| refusal(&e))?;
        let executable = Arc::new(CpuExecutable { program, labels });
        Ok(Compiled { executable, bindings, inputs, outputs, memory, steps, finals, graph })
    }

    fn instance(&self, compiled: &Compiled) -> Result<Box<dyn Instance>, Diagnostic> {
        let of: Arc<CpuExecutable> = known(compiled)?;
        let memory = of.program.instance(self.pool.threads()).map_err(|e| refusal(&e))?;
        Ok(Box::new(CpuInstance { of, memory, pool: self.pool.clone() }))
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

impl Executable for CpuExecutable {}

/// What the arguments are, which have been found to be the host's.
fn buffers<'a>(arguments: &'a mut [Argument<'_>]) -> impl Iterator<Item = BufferRef<'a>> {
    arguments.iter_mut().filter_map(Argument::on_host)
}

/// A run has ended when it was submitted: there is nothing that could be waited for.
impl Instance for CpuInstance {
    fn submit(&mut self, arguments: &mut [Argument<'_>]) -> Result<(), Diagnostic> {
        self.submit_part(arguments, 0..self.of.labels.len())
    }

    fn submit_part(&mut self, arguments: &mut [Argument<'_>], steps: Range<usize>) -> Result<(), Diagnostic> {
        only_host(arguments)?;
        let ran = self.of.program.run_part(&mut self.memory, &self.pool, buffers(arguments), steps);
        ran.map_err(|e| self.of.diagnose(&e))
    }

    fn wait(&mut self) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn run_profiled(
        &mut self,
        arguments: &mut [Argument<'_>],
        nanoseconds: &mut [u64],
    ) -> Result<(), Diagnostic> {
        only_host(arguments)?;
        let ran = self.of.program.run_profiled(&mut self.memory, &self.pool, buffers(arguments), nanoseconds);
        ran.map_err(|e| self.of.diagnose(&e))
    }
}

//! What a backend is: it compiles a graph to an executable.

use crate::MemoryPlan;
use outgrow_ir::{Cost, Diagnostic, Diagnostics, Graph, TensorType};
use outgrow_kernels::{BufferRef, KernelPath, ThreadPool};
use std::fmt::Debug;
use std::sync::Arc;

/// What pairs of inputs and outputs may be.
const IN_PLACE: &str = "pairs of an input and an output of one type, each in one pair";

/// How a graph is to be compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The threads that will run it.
    pub pool: Arc<ThreadPool>,
    /// The SIMD path; results may differ in their last bits between paths, and only between them.
    pub path: KernelPath,
    /// Pairs (input, output), by their positions: the output is written over the input, in the input's buffer, which
    /// is then given for writing. The output's own buffer is left out of a run.
    pub in_place: Vec<(usize, usize)>,
    /// Bytes that the memory of a program may take, where it is known. A program that is planned to take more is
    /// refused before any of it is asked for.
    pub memory: Option<u64>,
}

impl CompileOptions {
    /// Nothing in place, on the fastest path that this machine has, with whatever memory the system gives.
    pub fn new(pool: Arc<ThreadPool>) -> Self {
        Self { pool, path: KernelPath::detect(), in_place: Vec::new(), memory: None }
    }
}

/// One step of an executable, for reports.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// The kernel.
    pub kernel: String,
    /// The primitives it computes, as `mul+add+reduce_sum`.
    pub ops: String,
    /// The layer it comes from.
    pub origin: Arc<str>,
    /// Arithmetic and memory traffic.
    pub cost: Cost,
}

/// Something that was compiled and can be run again and again.
pub trait Executable: Send + Debug {
    /// Runs once. `buffers` are the inputs and then the outputs in the graph's order (without the outputs that are
    /// written in place of an input), as bytes of exactly the right length and alignment.
    fn run(&mut self, buffers: &mut [BufferRef<'_>]) -> Result<(), Diagnostic>;

    /// Runs once and adds the nanoseconds of each step to `nanoseconds`, which is as long as the list of steps.
    fn run_profiled(
        &mut self,
        buffers: &mut [BufferRef<'_>],
        nanoseconds: &mut [u64],
    ) -> Result<(), Diagnostic> {
        let _ = nanoseconds;
        self.run(buffers)
    }
}

/// An executable with what is known of it.
#[derive(Debug)]
pub struct Compiled {
    /// What runs.
    pub executable: Box<dyn Executable>,
    /// Names and static types of the inputs.
    pub inputs: Vec<(String, TensorType)>,
    /// Names and static types of the outputs.
    pub outputs: Vec<(String, TensorType)>,
    /// Where intermediate values live.
    pub memory: MemoryPlan,
    /// The steps.
    pub steps: Vec<StepInfo>,
    /// The graph after all passes, from which the executable was made.
    pub graph: Graph,
}

/// Compiles graphs.
pub trait Backend: Debug {
    /// A short name.
    fn name(&self) -> &'static str;

    /// Where the values of a graph would live, had it been compiled. Nothing as large as a value is allocated.
    fn plan(&self, graph: &Graph, options: &CompileOptions) -> Result<MemoryPlan, Diagnostics>;

    /// Compiles a graph with static shapes that has gone through [`outgrow_passes::prepare`].
    fn compile(&self, graph: Graph, options: &CompileOptions) -> Result<Compiled, Diagnostics>;
}

/// Binds the batch size, runs the passes, and compiles.
pub fn compile(
    backend: &dyn Backend,
    graph: &Graph,
    batch: usize,
    options: &CompileOptions,
) -> Result<Compiled, Diagnostics> {
    for (n, (input, output)) in options.in_place.iter().enumerate() {
        if options.in_place[..n].iter().any(|(i, o)| i == input || o == output) {
            let problem =
                format!("output {output} over input {input}: one of them is in another pair already");
            return Err(Diagnostic::new("runtime.in-place", problem).expected(IN_PLACE).into());
        }
        let types = (graph.inputs.get(*input), graph.outputs.get(*output));
        let fits = matches!(types, (Some(i), Some((_, o))) if graph.ty(*i) == graph.ty(*o));
        if !fits {
            let problem = format!("output {output} cannot be written over input {input}: the types differ");
            return Err(Diagnostic::new("runtime.in-place", problem).expected(IN_PLACE).into());
        }
    }
    let prepared = outgrow_passes::prepare().run(&graph.bind(batch))?;
    backend.compile(prepared, options)
}

/// Binds the batch size, runs the passes, and plans the memory of the program that [`compile`] would make.
pub fn plan(
    backend: &dyn Backend,
    graph: &Graph,
    batch: usize,
    options: &CompileOptions,
) -> Result<MemoryPlan, Diagnostics> {
    backend.plan(&outgrow_passes::prepare().run(&graph.bind(batch))?, options)
}

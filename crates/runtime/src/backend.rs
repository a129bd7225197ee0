//! What a backend is: it compiles a graph to an executable.

use crate::{MemoryPlan, Weights};
use outgrow_ir::{Cost, Diagnostic, Diagnostics, Graph, TensorType};
use outgrow_kernels::{BufferRef, KernelPath, ThreadPool};
use std::fmt::Debug;
use std::sync::Arc;

/// What pairs of inputs and outputs may be.
const IN_PLACE: &str = "pairs of an input and an output of one type, each in one pair";

/// How a graph is to be compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The threads that instances run on, unless they are given others. Neither what is compiled nor its results hang
    /// on them.
    pub pool: Arc<ThreadPool>,
    /// The SIMD path; results may differ in their last bits between paths, and only between them.
    pub path: KernelPath,
    /// Pairs (input, output), by their positions: the output is written over the input, in the input's buffer, which
    /// is then given for writing. The output's own buffer is left out of a run.
    pub in_place: Vec<(usize, usize)>,
    /// Tensors for some of the inputs, which are then left out of a run.
    pub weights: Arc<Weights>,
    /// Bytes that the memory of a program with one instance may take, where it is known. A program that is planned to
    /// take more is refused before any of it is asked for.
    pub memory: Option<u64>,
}

impl CompileOptions {
    /// Nothing in place and no weights, on the fastest path that this machine has, with whatever memory the system gives.
    pub fn new(pool: Arc<ThreadPool>) -> Self {
        let path = KernelPath::detect();
        Self { pool, path, in_place: Vec::new(), weights: Arc::default(), memory: None }
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

/// Something that was compiled. It never changes, so any number of threads run it at once, each with an [`Instance`] of
/// its own.
pub trait Executable: Send + Sync + Debug {
    /// The memory of one run at a time, whose work is done by the threads of `pool`. Instances may share a pool.
    ///
    /// # Errors
    /// When the system does not give the memory.
    fn instance(self: Arc<Self>, pool: &Arc<ThreadPool>) -> Result<Box<dyn Instance>, Diagnostic>;
}

/// An executable with the memory that it needs while it runs: run again and again, once at a time.
pub trait Instance: Send + Debug {
    /// Runs once. `buffers` are the inputs and then the outputs in the graph's order (without the inputs that weights are
    /// bound to, and the outputs that are written in place of an input), as bytes of exactly the right length and
    /// alignment.
    ///
    /// # Errors
    /// When they are not, or the data hold an index that is outside its table.
    fn run(&mut self, buffers: &mut [BufferRef<'_>]) -> Result<(), Diagnostic>;

    /// Runs once and adds the nanoseconds of each step to `nanoseconds`, which is as long as the list of steps.
    ///
    /// # Errors
    /// As [`Instance::run`].
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
    /// What instances run.
    pub executable: Arc<dyn Executable>,
    /// The threads that they run on, unless they are given others.
    pub pool: Arc<ThreadPool>,
    /// Names and static types of the inputs that a run is given.
    pub inputs: Vec<(String, TensorType)>,
    /// Names and static types of the outputs.
    pub outputs: Vec<(String, TensorType)>,
    /// Where intermediate values of an instance live.
    pub memory: MemoryPlan,
    /// The steps.
    pub steps: Vec<StepInfo>,
    /// The graph after all passes, from which the executable was made.
    pub graph: Graph,
}

impl Compiled {
    /// What one thread needs to run it, on the pool it was compiled with.
    ///
    /// # Errors
    /// When the system does not give the memory.
    pub fn instance(&self) -> Result<Box<dyn Instance>, Diagnostic> {
        self.instance_on(&self.pool)
    }

    /// The same, on another pool.
    ///
    /// # Errors
    /// When the system does not give the memory.
    pub fn instance_on(&self, pool: &Arc<ThreadPool>) -> Result<Box<dyn Instance>, Diagnostic> {
        Arc::clone(&self.executable).instance(pool)
    }
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
        if graph.inputs.get(*input).is_some_and(|i| options.weights.bound(graph, *i).is_some()) {
            let problem = format!("output {output} cannot be written over input {input}, which is a weight");
            return Err(Diagnostic::new("runtime.in-place", problem).expected(IN_PLACE).into());
        }
    }
    backend.compile(prepared(graph, batch, options)?, options)
}

/// The graph for one batch size, as backends take it, whose weights fit.
fn prepared(graph: &Graph, batch: usize, options: &CompileOptions) -> Result<Graph, Diagnostics> {
    let bound = graph.bind(batch);
    options.weights.check(&bound)?;
    outgrow_passes::prepare().run(&bound)
}

/// Binds the batch size, runs the passes, and plans the memory of the program that [`compile`] would make.
pub fn plan(
    backend: &dyn Backend,
    graph: &Graph,
    batch: usize,
    options: &CompileOptions,
) -> Result<MemoryPlan, Diagnostics> {
    backend.plan(&prepared(graph, batch, options)?, options)
}

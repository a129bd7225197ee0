//! What a backend is: a device with its memory, and a compiler of graphs to what that device runs.

use crate::bindings::Bindings;
use crate::buffer::{Argument, Buffer, host_buffer};
use crate::fold::folded;
use crate::{MemoryPlan, Weights};
use outgrow_ir::{Cost, Diagnostic, Diagnostics, Graph, Sizes, TensorType};
use outgrow_kernels::Products;
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// How a graph is to be compiled. By default its inputs and outputs are in a buffer each, and all inputs are given to
/// each run.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// How inputs and outputs lie in the buffers that a run is given, if not in one each.
    pub bindings: Option<Bindings>,
    /// Tensors for some of the inputs, which are then left out of a run.
    pub weights: Arc<Weights>,
    /// Bytes that the memory of a program with one instance may take, where it is known. A program that is planned to
    /// take more is refused before any of it is asked for.
    pub memory: Option<u64>,
    /// Bytes that this memory is to be fitted into: where it would be more, values are forgotten and computed again, as far
    /// as that helps. Results keep their bits; where a run may be cut into parts may change.
    pub fit: Option<u64>,
    /// How products of f32 may be computed. Where the backend has nothing faster than f32 for them
    /// ([`Backend::has_faster`]), they are as ever, with the same bits.
    pub products: Products,
}

/// What a backend compiles: a graph with static shapes, and what it is compiled for, which fits it.
#[derive(Clone, Debug)]
pub struct Work {
    /// The graph, before any pass.
    pub graph: Graph,
    /// How its inputs and outputs lie in buffers.
    pub bindings: Bindings,
    /// The weights of inputs that a run is not given.
    pub weights: Arc<Weights>,
    /// As [`CompileOptions::memory`].
    pub memory: Option<u64>,
    /// As [`CompileOptions::fit`].
    pub fit: Option<u64>,
    /// As [`CompileOptions::products`].
    pub products: Products,
}

/// One step of an executable, for reports.
#[derive(Clone, Default, Debug)]
pub struct StepInfo {
    /// The kernel.
    pub kernel: String,
    /// The primitives it computes, as `mul+add+reduce_sum`.
    pub ops: String,
    /// The layer it comes from.
    pub origin: Arc<str>,
    /// Arithmetic and memory traffic.
    pub cost: Cost,
    /// Whether it multiplies bf16, or reads nothing else.
    pub bf16: bool,
}

/// Something that was compiled, known to its backend. It never changes, so any number of threads run it at once, each
/// with an [`Instance`] of its own.
pub trait Executable: Any + Send + Sync + Debug {}

/// An executable with the memory that it needs while it runs: run again and again, once at a time.
pub trait Instance: Send + Debug {
    /// Begins a run on parts of buffers, as the bindings say. What is submitted to one backend, uploads and downloads
    /// among it, happens in the order of the calls; host memory that is given may be used again after this returns.
    ///
    /// # Errors
    /// When the arguments are not what was compiled.
    fn submit(&mut self, arguments: &mut [Argument<'_>]) -> Result<(), Diagnostic>;

    /// Begins a part of a run, these of its [steps](Compiled::steps). A run is cut into parts that follow each other, all on
    /// the same arguments; between them the caller may use outputs that [are final](Compiled::finals), and write over
    /// inputs and outputs that no later step touches. A device that cannot pause does it all with the last part, and
    /// says that its outputs are final then.
    ///
    /// # Errors
    /// As [`Instance::submit`].
    fn submit_part(&mut self, arguments: &mut [Argument<'_>], steps: Range<usize>) -> Result<(), Diagnostic>;

    /// Waits until all of its runs have ended.
    ///
    /// # Errors
    /// When the data held an index that is outside its table.
    fn wait(&mut self) -> Result<(), Diagnostic>;

    /// Runs once, and waits for it.
    ///
    /// # Errors
    /// As [`Instance::submit`] and [`Instance::wait`].
    fn run(&mut self, arguments: &mut [Argument<'_>]) -> Result<(), Diagnostic> {
        self.submit(arguments)?;
        self.wait()
    }

    /// Runs once and adds the nanoseconds of each step to `nanoseconds`, which is as long as the list of steps.
    ///
    /// # Errors
    /// As [`Instance::run`].
    fn run_profiled(
        &mut self,
        arguments: &mut [Argument<'_>],
        nanoseconds: &mut [u64],
    ) -> Result<(), Diagnostic> {
        let _ = nanoseconds;
        self.run(arguments)
    }
}

/// An executable with what is known of it.
#[derive(Debug)]
pub struct Compiled {
    /// What instances run.
    pub executable: Arc<dyn Executable>,
    /// How inputs and outputs lie in the buffers that a run is given.
    pub bindings: Bindings,
    /// Names and static types of the inputs that a run is given.
    pub inputs: Vec<(String, TensorType)>,
    /// Names and static types of the outputs.
    pub outputs: Vec<(String, TensorType)>,
    /// Where intermediate values of an instance live.
    pub memory: MemoryPlan,
    /// The steps.
    pub steps: Vec<StepInfo>,
    /// By output, after how many of the steps it is final, if a run is cut there: none of the later ones writes or reads it.
    pub finals: Vec<usize>,
    /// The graph after all passes, from which the executable was made.
    pub graph: Graph,
}

/// A device: gives out memory, and compiles and runs graphs. The defaults about memory are those of a device that works in
/// the host's.
pub trait Backend: Send + Sync + Debug {
    /// A short name.
    fn name(&self) -> &'static str;

    /// Whether programs with such products are other ones than with those of f32, which are slower and finer.
    fn has_faster(&self, products: Products) -> bool {
        let _ = products;
        false
    }

    /// Where the values of a graph would live, had it been compiled. Nothing as large as a value is allocated.
    ///
    /// # Errors
    /// When it cannot be compiled.
    fn plan(&self, work: &Work) -> Result<MemoryPlan, Diagnostics>;

    /// Compiles, by passes of the backend's own choice.
    ///
    /// # Errors
    /// When the graph has an op that the backend does not know, or needs more memory than it may.
    fn compile(&self, work: Work) -> Result<Compiled, Diagnostics>;

    /// What one thread needs to run what this backend (or another of its kind) has compiled.
    ///
    /// # Errors
    /// When there is not the memory.
    fn instance(&self, compiled: &Compiled) -> Result<Box<dyn Instance>, Diagnostic>;

    /// Memory of the device: zeroed, and aligned well enough for any element.
    ///
    /// # Errors
    /// When there is not as much.
    fn allocate(&self, bytes: usize) -> Result<Box<dyn Buffer>, Diagnostic> {
        host_buffer(bytes)
    }

    /// Copies bytes of the host into a buffer, from byte `at` on.
    ///
    /// # Errors
    /// When they do not lie in it, or it is another device's.
    fn upload(&self, from: &[u8], to: &mut dyn Buffer, at: usize) -> Result<(), Diagnostic> {
        let to = to.host_mut().and_then(|to| to.get_mut(at..)?.get_mut(..from.len()));
        to.map(|to| to.copy_from_slice(from)).ok_or_else(|| outside(from.len(), at))
    }

    /// Copies bytes of a buffer, from byte `at` on, to the host, when all that was submitted before has been done.
    ///
    /// # Errors
    /// When they do not lie in it, or it is another device's.
    fn download(&self, from: &dyn Buffer, at: usize, to: &mut [u8]) -> Result<(), Diagnostic> {
        let there = from.host().and_then(|from| from.get(at..)?.get(..to.len()));
        there.map(|from| to.copy_from_slice(from)).ok_or_else(|| outside(to.len(), at))
    }

    /// Copies a whole buffer over another of its length.
    ///
    /// # Errors
    /// When the lengths differ, or one is another device's.
    fn copy(&self, from: &dyn Buffer, to: &mut dyn Buffer) -> Result<(), Diagnostic> {
        match from.host().filter(|from| from.len() == to.bytes()) {
            Some(from) => self.upload(from, to, 0),
            None => Err(outside(from.bytes(), 0)),
        }
    }
}

fn outside(bytes: usize, at: usize) -> Diagnostic {
    let problem = format!("invariant: {bytes} bytes from byte {at} on lie in a buffer of this device");
    Diagnostic::fault("runtime.buffer", problem)
}

/// What was compiled, as the backend that is to run it knows it.
///
/// # Errors
/// When it is another backend's.
pub(crate) fn known<T: Executable>(compiled: &Compiled) -> Result<Arc<T>, Diagnostic> {
    let any: Arc<dyn Any + Send + Sync> = compiled.executable.clone();
    any.downcast().map_err(|_| {
        Diagnostic::fault("runtime.backend", "invariant: a backend runs what one of its kind has compiled")
    })
}

/// Binds symbols, computes what depends on weights alone, unless it is known, and compiles.
///
/// # Errors
/// When the bindings or weights do not fit the graph, or the backend cannot compile it.
pub fn compile(
    backend: &dyn Backend,
    graph: &Graph,
    sizes: impl Into<Sizes>,
    options: &CompileOptions,
) -> Result<Compiled, Diagnostics> {
    backend.compile(folded(backend, bound(graph, sizes.into(), options)?)?)
}

/// Binds symbols, and plans the memory of the program that [`compile`] would make. Plans compute nothing: what depends on
/// weights alone counts as work of the program.
///
/// # Errors
/// As [`compile`].
pub fn plan(
    backend: &dyn Backend,
    graph: &Graph,
    sizes: impl Into<Sizes>,
    options: &CompileOptions,
) -> Result<MemoryPlan, Diagnostics> {
    backend.plan(&bound(graph, sizes.into(), options)?)
}

/// The graph for these sizes, with weights and bindings that fit it.
fn bound(graph: &Graph, sizes: Sizes, options: &CompileOptions) -> Result<Work, Diagnostics> {
    let (graph, weights) = (graph.bind(sizes), options.weights.clone());
    let open: Vec<String> = graph.symbols().iter().map(ToString::to_string).collect();
    if !open.is_empty() {
        let problem = format!("nothing says what {} of graph `{}` is", open.join(" and "), graph.name);
        return Err(Diagnostic::fault("runtime.sizes", problem).into());
    }
    weights.check(&graph)?;
    let separate = || Bindings::separate(&graph, &weights, &[]);
    let bindings = options.bindings.clone().unwrap_or_else(separate);
    bindings.check(&graph, &weights)?;
    let CompileOptions { memory, fit, products, .. } = *options;
    Ok(Work { graph, bindings, weights, memory, fit, products })
}

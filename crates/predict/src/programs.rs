//! Compiled programs, kept for the shapes that were asked for last, and instances of them for those who run them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_ir::{Diagnostic, Diagnostics, Graph, Sizes, TensorType};
use outgrow_runtime::{Argument, Backend, Buffer, CompileOptions, Compiled, Instance, StepInfo, compile};
use outgrow_tensor::Tensor;

/// Programs that are kept: what a model is asked for in turn, without limit of what it may be asked for.
const PROGRAMS_MAX: usize = 8;
/// Instances of a program that wait for their next run. While more threads run it, there are more.
const IDLE_MAX: usize = 8;

/// What a program is compiled for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The shapes of the inputs.
    pub shapes: Vec<Vec<usize>>,
    /// The numbers of the outputs.
    pub outputs: Vec<usize>,
}

/// What is to be compiled.
#[derive(Debug)]
pub(crate) struct Task {
    /// The graph, with the wanted outputs.
    pub graph: Graph,
    /// What the graph's symbols stand for.
    pub sizes: Sizes,
    /// For each input of the graph that is no weight, in order, the number of the model's.
    pub feeds: Vec<usize>,
    /// Inputs of the model, by their numbers, that are part of the graph, since shapes follow from what they hold.
    pub known: Vec<(usize, Tensor)>,
}

/// A graph, compiled for some shapes. Any number of threads run it at once.
#[derive(Debug)]
pub(crate) struct Program {
    compiled: Compiled,
    feeds: Vec<usize>,
    known: Vec<(usize, Tensor)>,
    idle: Mutex<Vec<Running>>,
}

/// What one thread needs to run a program.
#[derive(Debug)]
struct Running {
    instance: Box<dyn Instance>,
    outputs: Vec<Box<dyn Buffer>>,
}

/// What runs an instance on its arguments.
type RunInstance<'a> = &'a mut dyn FnMut(&mut dyn Instance, &mut [Argument<'_>]) -> Result<(), Diagnostic>;

/// The programs of one model.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// Those used last stand last.
    kept: Mutex<Vec<(Key, Arc<ProgramCell>)>>,
}

/// Where a program is once it is compiled. Who needs it meanwhile waits.
type ProgramCell = Mutex<Option<Arc<Program>>>;

/// A panic of another thread leaves what is in the lock as whole as it was: it is only changed by single steps.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Programs {
    /// The program for this key and these inputs, made if it is not there.
    pub fn get(
        &self,
        key: &Key,
        inputs: &[Tensor],
        make: impl FnOnce() -> Result<Program, Diagnostics>,
    ) -> Result<Arc<Program>, Diagnostics> {
        let shared = {
            let mut kept = locked(&self.kept);
            let found = kept.iter().position(|(there, _)| there == key);
            let (key, place) = found.map_or_else(|| (key.clone(), Arc::default()), |i| kept.remove(i));
            if kept.len() == PROGRAMS_MAX {
                kept.remove(0);
            }
            kept.push((key, Arc::clone(&place)));
            place
        };
        // The list is free again: other programs run while this one is compiled.
        let mut place = locked(&shared);
        if let Some(program) = place.as_ref().filter(|program| program.fits(inputs)) {
            return Ok(Arc::clone(program));
        }
        match make() {
            Ok(program) => Ok(Arc::clone(place.insert(Arc::new(program)))),
            Err(found) => {
                locked(&self.kept).retain(|(_, there)| !Arc::ptr_eq(there, &shared));
                Err(found)
            }
        }
    }

    /// How many programs are kept.
    pub fn count(&self) -> usize {
        locked(&self.kept).len()
    }
}

impl Program {
    /// Compiles, within the memory that the options allow for the program and what it is given.
    ///
    /// # Errors
    /// When there is not the memory, or the graph cannot be compiled.
    pub fn new(backend: &dyn Backend, task: Task, options: &CompileOptions) -> Result<Self, Diagnostics> {
        let memory = memory_left(&task.graph, &task.sizes, options)?;
        let options = CompileOptions { memory, ..options.clone() };
        let compiled = compile(backend, &task.graph, &task.sizes, &options)?;
        Ok(Self { compiled, feeds: task.feeds, known: task.known, idle: Mutex::default() })
    }

    /// Whether it is of use for these inputs, whose shapes it was compiled for.
    fn fits(&self, inputs: &[Tensor]) -> bool {
        self.known.iter().all(|(i, known)| inputs.get(*i).is_some_and(|input| input.same_bits(known)))
    }

    /// Outputs as a run gives them, but that all their elements are zero.
    pub fn blank(&self) -> Vec<Tensor> {
        let blank =
            |(_, ty): &(String, TensorType)| Tensor::zeros(ty.dtype, ty.static_shape().unwrap_or_default());
        self.compiled.outputs.iter().map(blank).collect()
    }

    /// Runs once.
    ///
    /// # Errors
    /// When an input is not what was compiled, there is not the memory, or the run fails.
    pub fn run(&self, backend: &dyn Backend, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
        self.run_with(backend, inputs, &mut |instance, arguments| instance.run(arguments))
    }

    /// Runs once, and adds each step with the nanoseconds that it took to `steps`.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run_profiled(
        &self,
        backend: &dyn Backend,
        inputs: &[Tensor],
        steps: &mut Vec<(StepInfo, u64)>,
    ) -> Result<Vec<Tensor>, Diagnostic> {
        let mut nanoseconds = vec![0; self.compiled.steps.len()];
        let outputs = self.run_with(backend, inputs, &mut |instance, arguments| {
            instance.run_profiled(arguments, &mut nanoseconds)
        })?;
        steps.extend(self.compiled.steps.iter().cloned().zip(nanoseconds));
        Ok(outputs)
    }

    fn run_with(
        &self,
        backend: &dyn Backend,
        inputs: &[Tensor],
        run: RunInstance<'_>,
    ) -> Result<Vec<Tensor>, Diagnostic> {
        let mut arguments = Vec::with_capacity(self.feeds.len() + self.compiled.outputs.len());
        for (feed, (name, ty)) in self.feeds.iter().zip(&self.compiled.inputs) {
            let fits = |t: &&Tensor| t.dtype() == ty.dtype && Some(t.shape()) == ty.static_shape().as_ref();
            let tensor = inputs.get(*feed).filter(fits).ok_or_else(|| {
                let problem = format!("the array for `{name}` is not what the program was compiled for");
                Diagnostic::new("predict.input", problem)
                    .item(format!("input `{name}`"))
                    .expected(ty.to_string())
            })?;
            arguments.push(Argument::Host(tensor.as_bytes()));
        }
        let mut running = self.running(backend)?;
        let Running { instance, outputs } = &mut running;
        arguments.extend(outputs.iter_mut().map(|buffer| Argument::write(&mut **buffer)));
        run(&mut **instance, &mut arguments)?;
        drop(arguments);
        let tensors = self.compiled.outputs.iter().zip(&running.outputs).map(|((name, ty), buffer)| {
            let mut bytes = vec![0; ty.unit_bytes()];
            backend.download(&**buffer, 0, &mut bytes)?;
            Tensor::from_shared(ty.dtype, ty.static_shape().unwrap_or_default(), bytes.into())
                .map_err(|e| Diagnostic::fault("predict.output", format!("output `{name}`: {e}")))
        });
        let tensors = tensors.collect::<Result<Vec<_>, Diagnostic>>()?;
        // What failed on the way here is not used again.
        let mut idle = locked(&self.idle);
        if idle.len() < IDLE_MAX {
            idle.push(running);
        }
        Ok(tensors)
    }

    fn running(&self, backend: &dyn Backend) -> Result<Running, Diagnostic> {
        if let Some(running) = locked(&self.idle).pop() {
            return Ok(running);
        }
        let allocate = |(_, ty): &(String, TensorType)| backend.allocate(ty.unit_bytes());
        let outputs = self.compiled.outputs.iter().map(allocate).collect::<Result<_, _>>()?;
        Ok(Running { instance: backend.instance(&self.compiled)?, outputs })
    }
}

/// What a graph's program may take of the memory that is there, besides its inputs and outputs. Weights are there
/// already.
///
/// # Errors
/// When those alone do not fit.
fn memory_left(graph: &Graph, sizes: &Sizes, options: &CompileOptions) -> Result<Option<u64>, Diagnostic> {
    let Some(there) = options.memory else { return Ok(None) };
    let size = |ty: &TensorType| {
        let elements = ty.dims.iter().fold(1u64, |n, d| n.saturating_mul(d.bind(sizes).unit() as u64));
        elements.saturating_mul(ty.dtype.bytes() as u64)
    };
    // Inputs count, although they may be there already; outputs come out of buffers of their own.
    let given = graph.inputs.iter().filter(|v| options.weights.bound(graph, **v).is_none());
    let inputs = given.map(|v| size(graph.ty(*v)));
    let outputs = graph.outputs.iter().map(|output| size(graph.ty(output.value)).saturating_mul(2));
    let needed = inputs.chain(outputs).fold(0, u64::saturating_add);
    there.checked_sub(needed).map(Some).ok_or_else(|| {
        let problem =
            format!("the inputs and outputs take {needed} bytes of memory, and there are {there} for them");
        Diagnostic::new("predict.memory", problem)
            .expected(format!("arrays of at most {there} bytes"))
            .hint("give arrays with a smaller batch")
    })
}

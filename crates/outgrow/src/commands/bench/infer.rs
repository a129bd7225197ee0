//! `outgrow bench infer`: how long a model takes for a batch, on the path that `infer` and `serve` use.

use std::fmt::Write as _;

use outgrow_env::Clock;
use outgrow_ir::{Diagnostic, Diagnostics, MachineProfile, Problem, counted};
use outgrow_predict::{Extent, Model, ModelOptions, Port};
use outgrow_tensor::{RngKey, Tensor};
use outgrow_train::spec::Precision;
use serde_json::{Value as Json, json};

use super::made_up::{BYTES_MAX, made_up};
use super::timing::{Times, repeat};
use crate::cli::{BenchInferArgs, Unit, time};
use crate::commands::infer::arrays::{Array, named, read_array};
use crate::context::{Context, Failure};
use crate::profile::{Profile, limits};
use crate::session::process::peak_memory_bytes;
use crate::session::{cpu_backend, model_options, say_precision};

/// Runs before those that are timed, besides the first: they touch memory for the first time, and threads start.
const FIRST_RUNS: usize = 2;
/// The fewest runs that are timed, however long they take.
const FEWEST_RUNS: usize = 5;
/// Runs of which each kernel is timed.
const PROFILED_RUNS: u64 = 5;

/// What was timed.
struct Timed {
    model: Model,
    /// Arrays for the inputs, in their order.
    inputs: Vec<Tensor>,
    /// Seconds from the file until all is compiled and packed, and of the first run.
    load_s: f64,
    first_s: f64,
    times: Times,
    /// The most memory that the process had held before there was a model, in bytes.
    before: u64,
    profile: Option<Profile>,
    threads: usize,
    precision: Precision,
    kernels: &'static str,
}

/// Times runs of a model.
pub fn run(args: &BenchInferArgs, context: &Context) -> Result<(), Failure> {
    let sizes = sizes(&args.dims)?;
    let timed = measure(args, &sizes, context);
    context.progress().finish();
    let timed = timed?;
    Ok(context.answer(&timed.json(args), &timed.text(args))?)
}

fn measure(args: &BenchInferArgs, sizes: &[(&str, usize)], context: &Context) -> Result<Timed, Failure> {
    let asked = time("--seconds", args.seconds, Unit::Seconds)?;
    let (storage, clock) = (&context.world.storage, &*context.world.clock);
    let cpu = cpu_backend(&args.processor)?;
    let precision = Precision::from(args.precision).on(&cpu);
    let products = precision.products();
    say_precision(args.precision.into(), precision, cpu.path, context);
    let (threads, kernels) = (cpu.pool.threads(), cpu.path.with_products(products).name());
    let narrow = precision == Precision::Bf16;
    let options = ModelOptions { narrow, products, ..model_options(cpu.clone()) };
    let before = peak_memory_bytes();
    let begun = clock.now_ns();
    let model = Model::open(storage, &args.model, options)?;
    let opened_s = seconds_since(clock, begun);
    let inputs = inputs(&model, args, sizes, context)?;
    let outputs: Vec<usize> = (0..model.outputs().len()).collect();
    let begun = clock.now_ns();
    model.prepare(&inputs, &outputs)?;
    let load_s = opened_s + seconds_since(clock, begun);
    let begun = clock.now_ns();
    model.run(&inputs, &outputs)?;
    let first_s = seconds_since(clock, begun);
    let mut once = || model.run(&inputs, &outputs).map(drop);
    for _ in 0..FIRST_RUNS {
        once()?;
    }
    let times = repeat(asked, context, FEWEST_RUNS, &mut once)?;
    let profile =
        if args.profile { Some(profile(&model, &inputs, &outputs, &limits(&cpu, context))?) } else { None };
    Ok(Timed { model, inputs, load_s, first_s, times, before, profile, threads, precision, kernels })
}

fn seconds_since(clock: &dyn Clock, begun: u64) -> f64 {
    (clock.now_ns() - begun) as f64 * 1e-9
}

fn profile(
    model: &Model,
    inputs: &[Tensor],
    outputs: &[usize],
    machine: &MachineProfile,
) -> Result<Profile, Diagnostics> {
    let mut steps = model.profile(inputs, outputs)?;
    for _ in 1..PROFILED_RUNS {
        for (step, (_, ns)) in steps.iter_mut().zip(model.profile(inputs, outputs)?) {
            step.1 += ns;
        }
    }
    Ok(Profile::of(steps.iter().map(|(step, ns)| (step, *ns)), PROFILED_RUNS, machine))
}

/// What names of dimensions are to stand for.
fn sizes(given: &[String]) -> Result<Vec<(&str, usize)>, Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut sizes: Vec<(&str, usize)> = Vec::new();
    for text in given {
        let size =
            text.split_once('=').and_then(|(name, n)| Some((name, n.parse().ok().filter(|n| *n > 0)?)));
        match size {
            Some((name, _)) if sizes.iter().any(|(there, _)| *there == name) => problems.push(
                wrong("bench.dim", format!("`{name}` is given twice")).item("--dim").hint("give it once"),
            ),
            Some(size) => sizes.push(size),
            None => problems.push(
                wrong("bench.dim", format!("`{text}` says no dimension"))
                    .item("--dim")
                    .expected("NAME=N, with a whole number from 1 up"),
            ),
        }
    }
    problems.into_result(sizes)
}

/// An array for each input: of a file where one is given, else made up.
fn inputs(
    model: &Model,
    args: &BenchInferArgs,
    sizes: &[(&str, usize)],
    context: &Context,
) -> Result<Vec<Tensor>, Diagnostics> {
    let ports = model.inputs();
    let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
    let files = named("--input", &args.inputs, &names)?;
    let mut problems = unknown(ports, sizes);
    let mut tensors = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let tensor = match files.iter().find(|(given, _)| *given == i) {
            Some((_, file)) => read_array(&context.world.storage, &port.name, file).and_then(
                |Array { tensor, file, .. }| port.check(&tensor).map_err(|d| d.file(&file)).map(|()| tensor),
            ),
            None => made_up_for(port, args, sizes, ports.iter().any(has_open_rows)),
        };
        match tensor {
            Ok(tensor) => tensors.push(tensor),
            Err(problem) => problems.push(problem),
        }
    }
    problems.into_result(tensors)
}

/// Names of dimensions that no input has.
fn unknown(ports: &[Port], sizes: &[(&str, usize)]) -> Diagnostics {
    let names = |extent: &Extent| match extent {
        Extent::Named(name) => Some(name.clone()),
        _ => None,
    };
    let mut known: Vec<String> =
        ports.iter().filter_map(|port| port.dims.as_ref()).flatten().filter_map(names).collect();
    known.sort();
    known.dedup();
    let absent = sizes.iter().filter(|(name, _)| !known.iter().any(|known| known == name));
    let problem = |(name, _): &(&str, usize)| {
        let problem = wrong("bench.dim", format!("no input has a dimension `{name}`")).item("--dim");
        match known.as_slice() {
            [] => problem.hint("leave it out: all dimensions are numbers"),
            known => problem.expected(known.join(", ")),
        }
    };
    Diagnostics(absent.map(problem).collect())
}

/// Whether an input has as many rows as a caller likes.
fn has_open_rows(port: &Port) -> bool {
    let first = port.dims.as_ref().and_then(|dims| dims.first());
    first.is_some_and(|extent| !matches!(extent, Extent::Fixed(_)))
}

/// An array for an input: `--batch` is its first dimension, and `--dim` says what stands for names. Where some inputs have
/// `open` rows, those of the others are no batch.
fn made_up_for(
    port: &Port,
    args: &BenchInferArgs,
    sizes: &[(&str, usize)],
    open: bool,
) -> Result<Tensor, Diagnostic> {
    let give = || format!("give an array: `--input {}=FILE.npy`", port.name);
    let (Some(dtype), Some(dims)) = (port.dtype, &port.dims) else {
        let problem = format!("the model does not say what its input `{}` is", port.name);
        return Err(wrong("bench.input", problem).item("--input").hint(give()));
    };
    let batch = args.batch.map(|n| n.get());
    let mut shape = Vec::new();
    for (axis, extent) in dims.iter().enumerate() {
        let given = match extent {
            Extent::Named(name) => sizes.iter().find(|(given, _)| given == name).map(|(_, n)| *n),
            _ => None,
        };
        shape.push(match (extent, given) {
            (Extent::Fixed(n), _) if axis > 0 || open || batch.is_none_or(|batch| batch == *n) => *n,
            (Extent::Fixed(n), _) => {
                let problem = format!("the input `{}` takes {n} rows, always", port.name);
                return Err(wrong("bench.batch", problem).item("--batch").hint("leave it out"));
            }
            (_, Some(n)) => n,
            _ if axis == 0 => batch.unwrap_or(1),
            (Extent::Named(name), None) => {
                let problem = format!("the input `{}` is {port}, and nothing says what {name} is", port.name);
                return Err(wrong("bench.dim", problem).item("--dim").hint(format!("add `--dim {name}=N`")));
            }
            (Extent::Any, None) => {
                let problem =
                    format!("the input `{}` is {port}, of which more than the rows varies", port.name);
                return Err(wrong("bench.input", problem).item("--input").hint(give()));
            }
        });
    }
    let numbers = RngKey::new(0).fold_in_name(&port.name).stream();
    made_up(dtype, &shape, numbers).ok_or_else(|| {
        let problem = format!("the input `{}` of the extents {shape:?} is too large", port.name);
        wrong("bench.batch", problem).item("--batch").expected(format!("{BYTES_MAX} bytes at most"))
    })
}

impl Timed {
    /// Rows of the first input that has as many as a caller likes, else of the first.
    fn batch(&self) -> usize {
        let open = self.model.inputs().iter().position(has_open_rows).unwrap_or(0);
        self.inputs.get(open).and_then(|tensor| tensor.shape().dims().first()).copied().unwrap_or(1)
    }

    fn samples_per_s(&self) -> f64 {
        self.batch() as f64 / self.times.spread_s()[1]
    }

    fn json(&self, args: &BenchInferArgs) -> Json {
        let [least, median, most] = self.times.spread_s();
        let (weights, packed) = self.model.weight_bytes();
        let input = |(port, tensor): (&Port, &Tensor)| json!({ "name": port.name, "dtype": tensor.dtype().name(), "shape": tensor.shape().dims() });
        let mut json = json!({
            "model": args.model.display().to_string(),
            "precision": self.precision,
            "threads": self.threads,
            "kernels": self.kernels,
            "batch": self.batch(),
            "inputs": self.model.inputs().iter().zip(&self.inputs).map(input).collect::<Vec<_>>(),
            "load_ms": self.load_s * 1e3,
            "first_ms": self.first_s * 1e3,
            "ms": median * 1e3,
            "min_ms": least * 1e3,
            "p99_ms": self.times.p99_s() * 1e3,
            "max_ms": most * 1e3,
            "runs": self.times.count(),
            "samples_per_s": self.samples_per_s(),
            "weights_mib": weights >> 20,
            "packed_mib": packed >> 20,
            "process_before_mib": self.before >> 20,
            "process_peak_mib": peak_memory_bytes() >> 20,
        });
        if let Some(profile) = &self.profile {
            json["profile"] = profile.json();
        }
        json
    }

    fn text(&self, args: &BenchInferArgs) -> String {
        let [least, median, most] = self.times.spread_s();
        let (weights, packed) = self.model.weight_bytes();
        let shown =
            |(port, tensor): (&Port, &Tensor)| format!("{} {}{}", port.name, tensor.dtype(), tensor.shape());
        let shown: Vec<_> = self.model.inputs().iter().zip(&self.inputs).map(shown).collect();
        let mut text = format!(
            "{}: {:.4} ms for {} (median of {}, {:.4} to {:.4}, p99 {:.4}), {:.1} samples/s\n",
            args.model.display(),
            median * 1e3,
            shown.join(", "),
            self.times.count(),
            least * 1e3,
            most * 1e3,
            self.times.p99_s() * 1e3,
            self.samples_per_s(),
        );
        let _ = writeln!(
            text,
            "loaded in {:.1} ms; the first run took {:.2} ms",
            self.load_s * 1e3,
            self.first_s * 1e3
        );
        let _ = writeln!(
            text,
            "{}, {}, {} kernels; {} MiB of memory at most, {} of them before there was a model; {} MiB of weights, and {} of \
             packed copies",
            self.precision.name(),
            counted(self.threads, "thread"),
            self.kernels,
            peak_memory_bytes() >> 20,
            self.before >> 20,
            weights >> 20,
            packed >> 20,
        );
        if let Some(profile) = &self.profile {
            text.push('\n');
            text.push_str(&profile.text("a run"));
        }
        text
    }
}

fn wrong(code: &'static str, problem: impl Into<String>) -> Problem {
    Diagnostic::new(code, problem)
}

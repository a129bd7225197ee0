//! `outgrow bench machine`: what this machine can do at most, and how near to that kernels come.

mod works;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outgrow_ir::{Cost, Diagnostic, Diagnostics, MachineProfile, counted};
use outgrow_runtime::machine::{Effort, measure};
use outgrow_runtime::{Argument, Backend, Buffer, CompileOptions, CpuBackend, compile};
use outgrow_tensor::RngKey;
use serde_json::{Value as Json, json};

use self::works::{Work, works};
use super::made_up::made_up;
use super::timing::repeat;
use crate::cli::{BenchMachineArgs, Unit, time};
use crate::commands::table::aligned;
use crate::context::{Context, Failure};
use crate::places::machine_file;
use crate::session::cpu_backend;
use crate::session::process::cpu_name;

/// The fewest runs of a kernel that are timed.
const FEWEST_RUNS: usize = 5;

/// A kernel that was timed.
struct Timed {
    name: &'static str,
    seconds: f64,
    cost: Cost,
    /// The least seconds that it could take.
    least: f64,
}

/// Measures the machine.
pub fn run(args: &BenchMachineArgs, context: &Context) -> Result<(), Failure> {
    let asked = time("--seconds", args.seconds, Unit::Seconds)?;
    let cpu = cpu_backend(&args.processor)?;
    let progress = context.progress();
    progress.phase("measuring the processor and the memory", 0, None);
    let profile = measure(&cpu, &cpu_name(), Effort::FULL, &|| context.world.clock.now_ns());
    let works = works();
    let mut kernels = Vec::new();
    for (i, work) in works.iter().enumerate() {
        progress.phase("kernels timed", i as u64, Some(works.len() as u64));
        kernels.push(timed(work, asked, &cpu, &profile, context)?);
    }
    progress.finish();
    let file = file(args, context);
    if let Some(file) = &file {
        write(file, &profile, context)?;
    }
    let written = file.as_ref().map(|file| file.display().to_string());
    let kernel = |kernel: &Timed| {
        json!({
            "name": kernel.name,
            "ms": kernel.seconds * 1e3,
            "limit_ms": kernel.least * 1e3,
            "flops": kernel.cost.flops,
            "bytes": kernel.cost.bytes_read + kernel.cost.bytes_written,
        })
    };
    let json = json!({
        "profile": profile,
        "file": written,
        "kernels": kernels.iter().map(kernel).collect::<Vec<Json>>(),
    });
    let mut text = text(&profile, &kernels);
    if let Some(written) = written {
        let _ = writeln!(text, "the machine's profile is in {written}");
    }
    Ok(context.answer(&json, &text)?)
}

/// Where the profile goes: what is kept for others is of all that the machine has.
fn file(args: &BenchMachineArgs, context: &Context) -> Option<PathBuf> {
    let whole = args.processor.threads.is_none() && args.processor.kernel_path.is_none();
    args.output.clone().or_else(|| machine_file(&context.environment).filter(|_| whole))
}

fn write(file: &Path, profile: &MachineProfile, context: &Context) -> Result<(), Diagnostic> {
    let text = serde_json::to_string_pretty(profile).expect("invariant: a profile is numbers and names");
    let storage = &context.world.storage;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let there = folder.map_or(Ok(()), |folder| storage.create_folder(folder));
    there.and_then(|()| storage.write(file, format!("{text}\n").as_bytes())).map_err(|e| {
        Diagnostic::new("bench.output", format!("the machine's profile cannot be written: {e}"))
            .file(file)
            .hint("name another file with --output")
    })
}

/// Times one kernel by a graph of nothing else.
fn timed(
    work: &Work,
    asked: Duration,
    cpu: &CpuBackend,
    profile: &MachineProfile,
    context: &Context,
) -> Result<Timed, Diagnostics> {
    let graph = &work.graph;
    let compiled = compile(cpu, graph, 1, &CompileOptions::default())?;
    let mut instance = cpu.instance(&compiled)?;
    let inputs: Vec<_> = (graph.inputs.iter().enumerate())
        .map(|(i, value)| {
            let ty = graph.ty(*value);
            let shape = ty.static_shape().expect("invariant: the works are static");
            made_up(ty.dtype, shape.dims(), RngKey::new(i as u64).stream())
                .expect("invariant: the works are small")
        })
        .collect();
    let mut outputs: Vec<Box<dyn Buffer>> = Vec::new();
    for output in &graph.outputs {
        let ty = graph.ty(output.value);
        outputs.push(cpu.allocate(ty.unit_bytes())?);
    }
    let times = repeat(asked, context, FEWEST_RUNS, &mut || {
        let read = inputs.iter().map(|tensor| Argument::Host(tensor.as_bytes()));
        let written = outputs.iter_mut().map(|buffer| Argument::write(&mut **buffer));
        let mut arguments: Vec<Argument<'_>> = read.chain(written).collect();
        Ok(instance.run(&mut arguments)?)
    })?;
    let cost = compiled.steps.iter().map(|step| step.cost).sum();
    let least = compiled.steps.iter().map(|step| profile.least_seconds(&step.cost, step.bf16)).sum();
    Ok(Timed { name: work.name, seconds: times.spread_s()[1], cost, least })
}

fn text(profile: &MachineProfile, kernels: &[Timed]) -> String {
    let mut text = format!(
        "{}, {}, {} kernels; work is handed to all threads in {:.1} us\n\n",
        profile.processor,
        counted(profile.threads, "thread"),
        profile.kernels,
        profile.hand_over_seconds * 1e6,
    );
    let giga = |x: f64| format!("{:.1}", x * 1e-9);
    let titles = ["threads", "f32, GFLOP/s", "bf16, GFLOP/s"];
    let mut table = vec![titles.map(str::to_owned).to_vec()];
    for peak in &profile.peaks {
        table.push(vec![peak.threads.to_string(), giga(peak.f32_flops_per_s), giga(peak.bf16_flops_per_s)]);
    }
    text.push_str(&aligned(&table));
    let titles = ["memory touched, KiB", "read, GB/s", "written, GB/s", "copied, GB/s"];
    let mut table = vec![titles.map(str::to_owned).to_vec()];
    for level in &profile.memory {
        let rates = [level.read_bytes_per_s, level.write_bytes_per_s, level.copy_bytes_per_s].map(giga);
        table.push(std::iter::once((level.bytes >> 10).to_string()).chain(rates).collect());
    }
    let _ = write!(text, "\n{}", aligned(&table));
    let titles = ["ms", "GFLOP/s", "GB/s", "% of limit", "kernel"];
    let mut table = vec![titles.map(str::to_owned).to_vec()];
    for kernel in kernels {
        let bytes = kernel.cost.bytes_read + kernel.cost.bytes_written;
        table.push(vec![
            format!("{:.3}", kernel.seconds * 1e3),
            giga(kernel.cost.flops as f64 / kernel.seconds),
            giga(bytes as f64 / kernel.seconds),
            format!("{:.0}", 100.0 * kernel.least / kernel.seconds),
            kernel.name.to_owned(),
        ]);
    }
    let _ = writeln!(text, "\n{}", aligned(&table));
    text
}

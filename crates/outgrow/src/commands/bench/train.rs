//! `outgrow bench train`: how long a training step takes, of models that other systems are timed with.

mod works;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use outgrow_ir::{Diagnostic, Diagnostics, counted};
use outgrow_models::{BuildOptions, build};
use outgrow_runtime::CpuBackend;
use outgrow_train::{Trainer, TrainerOptions};
use outgrow_transform::{Batch, TrainingData};
use serde_json::json;

use self::works::{Samples, Work, work};
use super::name;
use super::timing::{Times, repeat};
use crate::cli::{BenchTrainArgs, ManifestArgs, Unit, time};
use crate::context::{Context, Failure};
use crate::manifest::{self, LimitsSpec, Manifest};
use crate::profile::{Profile, limits};
use crate::session::process::{memory_bytes, peak_memory_bytes};
use crate::session::{Session, cpu_backend, say_precision};

/// Steps before those that are timed: they touch memory for the first time, and threads start.
const FIRST_STEPS: u64 = 4;
/// The fewest steps that are timed, however long they take.
const FEWEST_STEPS: usize = 8;
/// The fewest epochs that are timed, after one that is not.
const FEWEST_EPOCHS: usize = 3;

/// What was timed.
struct Timed {
    trainer: Trainer,
    cpu: CpuBackend,
    /// Of each step, or of each epoch.
    times: Times,
    /// Samples of each of them.
    samples: u64,
    /// The most memory that the process had held before there was a model, in bytes.
    before: u64,
}

/// Times steps of a model, or epochs.
pub fn run(args: &BenchTrainArgs, context: &Context) -> Result<(), Failure> {
    let (timed, [unit, key, least_key, number], scale) = match work(args.work) {
        Work::Epochs(manifest) => {
            (epochs(manifest, args, context), ["epoch", "epoch_s", "min_s", "epochs"], 1.0)
        }
        Work::Steps(manifest, samples) => {
            (steps(&manifest, &samples, args, context), ["step", "step_ms", "min_ms", "steps"], 1e3)
        }
    };
    context.progress().finish();
    let timed = timed?;
    let peak = peak_memory_bytes();
    let [least, median, most] = timed.times.spread_s();
    let rate = timed.samples as f64 / median;
    let mib = |bytes: u64| bytes >> 20;
    let of_step = timed.trainer.program().compiled.memory.planned_bytes as u64;
    let precision = timed.trainer.config().precision;
    say_precision(args.precision.into(), precision, timed.cpu.path, context);
    let kernels = timed.cpu.path.with_products(precision.products()).name();
    let mut json = json!({
        "work": name(&args.work),
        "precision": precision,
        "threads": timed.cpu.pool.threads(),
        "kernels": kernels,
        "samples_per_s": rate,
        "process_before_mib": mib(timed.before),
        "process_peak_mib": mib(peak),
        "planned_mib": mib(timed.trainer.memory_bytes()),
        "step_mib": mib(of_step),
    });
    json[key] = json!(median * scale);
    json[least_key] = json!(least * scale);
    json[number] = json!(timed.times.count());
    let mut text = format!(
        "{}: {unit} of {:.4} ms (median of {}, {:.4} to {:.4}), {rate:.1} samples/s\n",
        name(&args.work),
        median * 1e3,
        timed.times.count(),
        least * 1e3,
        most * 1e3,
    );
    let _ = writeln!(
        text,
        "{}, {}, {} kernels; {} MiB of memory at most, {} of them before there was a model, {} planned, {} for the values of a step",
        precision.name(),
        counted(timed.cpu.pool.threads(), "thread"),
        kernels,
        mib(peak),
        mib(timed.before),
        mib(timed.trainer.memory_bytes()),
        mib(of_step),
    );
    if args.profile {
        let (steps, runs) = timed.trainer.profile();
        let profile = Profile::of(steps, runs, &limits(&timed.cpu, context));
        json["profile"] = profile.json();
        text.push('\n');
        text.push_str(&profile.text("the gradients"));
    }
    Ok(context.answer(&json, &text)?)
}

fn parse(manifest: &str, args: &BenchTrainArgs) -> Result<Manifest, Failure> {
    let mut manifest = manifest::parse(manifest)?;
    manifest.ask_precision(args.precision.into());
    let limits = LimitsSpec { memory_gib_max: args.memory_gib_max };
    limits.validate()?;
    manifest.spec.limits = Some(limits);
    Ok(manifest)
}

/// Times steps on one batch of random samples.
fn steps(
    manifest: &str,
    samples: &Samples,
    args: &BenchTrainArgs,
    context: &Context,
) -> Result<Timed, Failure> {
    let asked = time("--seconds", args.seconds, Unit::Seconds)?;
    let manifest = parse(manifest, args)?;
    let cpu = cpu_backend(&args.processor)?;
    let (inputs, target) = samples.schema();
    let rows = manifest.train.batch;
    let batch = samples.batch(rows);
    let before = peak_memory_bytes();
    let model = build(&manifest.model, &[inputs], &target, BuildOptions::default())?;
    let options = options(args, &cpu, &manifest, context);
    let mut trainer = Trainer::new(model, manifest.train.clone(), options)?;
    let lr = manifest.train.lr;
    for _ in 0..FIRST_STEPS {
        step(&mut trainer, &batch, lr)?;
    }
    trainer.forget_profile();
    let times = repeat(asked, context, FEWEST_STEPS, &mut || step(&mut trainer, &batch, lr))?;
    Ok(Timed { trainer, cpu, times, samples: rows as u64, before })
}

/// Times epochs over the manifest's own data, which is loaded as in a run.
fn epochs(manifest: &str, args: &BenchTrainArgs, context: &Context) -> Result<Timed, Failure> {
    let asked = time("--seconds", args.seconds, Unit::Seconds)?;
    let manifest = parse(manifest, args)?;
    let files = ManifestArgs {
        manifest: PathBuf::new(),
        set: Vec::new(),
        data: args.data.clone(),
        cache: args.cache.clone(),
    };
    let session = Session::of(manifest, &files, &args.processor, context)?;
    let (data, _) = session.data()?;
    let source = session.batches(&data)?;
    let before = peak_memory_bytes();
    let train = session.train(&data);
    let lr = train.lr;
    let options = options(args, &session.cpu, &session.manifest, context);
    let mut trainer = Trainer::new(session.model(&data)?, train, options)?;
    let samples = source.samples();
    let steps = trainer.steps_per_epoch(samples);
    let mut batches = source.train(0, 0, trainer.rows())?;
    let mut epoch = |trainer: &mut Trainer| {
        for _ in 0..steps {
            let batch = batches.next().unwrap_or_else(|| Err(ended()))?;
            step(trainer, &batch, lr)?;
            batches.recycle(batch);
        }
        Ok(())
    };
    epoch(&mut trainer)?;
    trainer.forget_profile();
    let times = repeat(asked, context, FEWEST_EPOCHS, &mut || epoch(&mut trainer))?;
    drop(batches);
    Ok(Timed { trainer, cpu: session.cpu.clone(), times, samples, before })
}

fn ended() -> Diagnostic {
    Diagnostic::fault("bench.data", "training data came to an end, which it never does".to_owned())
}

fn options(
    args: &BenchTrainArgs,
    cpu: &CpuBackend,
    manifest: &Manifest,
    context: &Context,
) -> TrainerOptions {
    TrainerOptions {
        backend: Arc::new(cpu.clone()),
        memory: memory_bytes(),
        memory_max: manifest.memory_bytes_max(),
        clock: context.world.clock.clone(),
        checkpoints: None,
        fingerprint: String::new(),
        seed: manifest.seed,
        profile_every: u64::from(args.profile),
    }
}

fn step(trainer: &mut Trainer, batch: &Batch, lr: f64) -> Result<(), Diagnostics> {
    if trainer.step_at(batch, lr)?.finite {
        return Ok(());
    }
    Err(Diagnostic::fault(
        "bench.step",
        "a step on random samples gave numbers that are not finite".to_owned(),
    )
    .into())
}

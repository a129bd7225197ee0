//! `outgrow serve`: trained models behind HTTP, by the Open Inference Protocol.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::Model;
use outgrow_serve::batcher::{Capacity, Lane};
use outgrow_serve::{Engine, Limits, Served, Site, run_until_signal};
use serde_json::json;

use crate::cli::{ProcessorArgs, ServeArgs};
use crate::context::{Context, Failure};
use crate::places::threads;
use crate::session::{cpu_backend, model_options};

/// Bytes that requests may take while they wait.
const WAITING_BYTES_MAX: usize = 1 << 30;

/// Serves until the process is asked to end.
pub fn run(args: &ServeArgs, context: &Context) -> Result<(), Failure> {
    let executors = threads(args.processor.threads)?;
    // Each of the threads runs batches of its own, which costs less than to share one among them.
    let alone = ProcessorArgs { threads: NonZeroUsize::new(1), ..args.processor.clone() };
    let lane = Lane { latency_max: latency(args.latency_ms_max)?, ..Lane::default() };
    let mut models = Vec::new();
    for given in &args.models {
        let (name, path) = named(given);
        let model = Model::open(&context.world.storage, &path, model_options(cpu_backend(&alone)?))?;
        let name = name.map_or_else(|| model.name().to_owned(), str::to_owned);
        check_name(&name, given)?;
        let served = Served::new(name, model).map_err(|problem| problem.file(&path))?;
        models.push((Arc::new(served), lane));
    }
    let names: Vec<String> = models.iter().map(|(model, _)| model.name().to_owned()).collect();
    let capacity = Capacity { executors, waiting_bytes_max: WAITING_BYTES_MAX };
    context.note("compiling for all batch sizes");
    let engine = Engine::start(context.world.clock.clone(), capacity, models)?;
    let mut told = Ok(());
    let answered = run_until_signal(&args.http, Site::new(engine, Limits::default()), |address| {
        let json = json!({ "http": format!("http://{address}"), "models": names });
        told = context.answer(&json, &format!("serving {} at http://{address}\n", names.join(", ")));
    })?;
    told?;
    if answered {
        return Ok(());
    }
    Err(Diagnostic::new("serve.drain", "some requests were not answered before the end")
        .hint("stop sending requests before the server is ended")
        .into())
}

/// A model's name, if one is given, and its path: `NAME=PATH`, unless that is a path itself.
fn named(given: &str) -> (Option<&str>, PathBuf) {
    match given.split_once('=').filter(|_| !Path::new(given).exists()) {
        Some((name, path)) => (Some(name), path.into()),
        None => (None, given.into()),
    }
}

/// Names are part of paths.
fn check_name(name: &str, given: &str) -> Result<(), Diagnostics> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.chars().all(fits) {
        return Ok(());
    }
    Err(Diagnostic::new("serve.name", format!("`{name}` cannot be a model's name"))
        .item(given)
        .expected("letters, digits, `-`, `_` and `.`")
        .hint("give it another one, as NAME=PATH")
        .into())
}

fn latency(ms: Option<f64>) -> Result<Option<Duration>, Diagnostic> {
    let Some(ms) = ms else { return Ok(None) };
    match Duration::try_from_secs_f64(ms / 1e3) {
        Ok(latency) if !latency.is_zero() && ms <= 1e9 => Ok(Some(latency)),
        _ => Err(Diagnostic::new("serve.latency", format!("{ms} is no latency"))
            .item("--latency-ms-max")
            .expected("milliseconds above 0")),
    }
}

//! `outgrow serve`: trained models behind HTTP, by the Open Inference Protocol.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use outgrow_ir::Diagnostic;
use outgrow_predict::{Model, Package};
use outgrow_serve::batcher::{Capacity, Lane};
use outgrow_serve::protocol::Policy;
use outgrow_serve::{
    Access, Addresses, Engine, Limits, Models, Site, Tls, models_of_repository, openapi, run_until,
};
use serde_json::json;

use crate::cli::{ProcessorArgs, ServeArgs, Unit, time};
use crate::context::{Context, Failure};
use crate::places::threads;
use crate::session::{cpu_backend, model_options};

/// Bytes that requests may take while they wait.
const WAITING_BYTES_MAX: usize = 1 << 30;

/// Serves until the process is asked to end.
pub fn run(args: &ServeArgs, context: &Context) -> Result<(), Failure> {
    if args.openapi {
        let document = openapi();
        return Ok(context.answer(&document, &format!("{document:#}\n"))?);
    }
    if let Some(form) = args.log {
        crate::log::start(form, args.log_level)?;
    }
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
        _ => None,
    };
    let access = args.tokens.as_deref().map(Access::open).transpose()?;
    let executors = threads(args.processor.threads)?;
    // Each of the threads runs batches of its own, which costs less than to share one among them.
    let alone = ProcessorArgs { threads: NonZeroUsize::new(1), ..args.processor.clone() };
    let latency_max = args.latency_ms_max.map(|ms| time("--latency-ms-max", ms, Unit::Milliseconds));
    let mut lane = Lane { latency_max: latency_max.transpose()?, ..Lane::default() };
    lane.rows_max = args.batch_rows_max.map_or(lane.rows_max, NonZeroUsize::get);
    let capacity = Capacity { executors, waiting_bytes_max: WAITING_BYTES_MAX };
    let backend = cpu_backend(&alone)?;
    let storage = context.world.storage.clone();
    let open = move |path: &Path| Model::open(&storage, path, model_options(backend.clone()));
    let engine = Engine::start(context.world.clock.clone(), capacity)?;
    let lanes = lanes(args, lane)?;
    let own: Vec<String> = lanes.keys().cloned().collect();
    let mut models = Models::new(engine, lane, Box::new(open)).with_lanes(lanes);
    let watch = args.watch.map(|seconds| time("--watch", seconds, Unit::Seconds)).transpose()?;
    let names = add(&mut models, &args.models, context)?;
    // A model may come later where repositories are watched.
    if let Some(unknown) = own.iter().find(|name| watch.is_none() && !models.has(name)) {
        let problem = format!("there is no model `{unknown}`");
        let problem = Diagnostic::new("serve.option", problem).item("--weight, --priority");
        return Err(problem.expected(names.join(", ")).into());
    }
    let mut told = Ok(());
    let _caught = context.interrupt.catch()?;
    let asked = || context.interrupt.signal().is_some();
    let addresses = Addresses { http: args.http.clone(), grpc: args.grpc.clone() };
    let (encrypted, guarded) = (tls.is_some(), access.is_some());
    let mut site = Site::new(models, Limits::default());
    if let Some(access) = access {
        site = site.guarded(access);
    }
    if let Some(every) = watch {
        site = site.watching(every);
    }
    let answered = run_until(&addresses, site, tls.as_ref(), asked, |addresses| {
        let Addresses { http, grpc } = addresses;
        for address in std::iter::once(http).chain(grpc) {
            if let Some(warning) = exposed(address, encrypted, guarded) {
                context.note(&format!("warning: {warning}"));
            }
        }
        let scheme = if encrypted { "https" } else { "http" };
        let mut json = json!({ "http": format!("{scheme}://{http}"), "models": names });
        let mut text = format!("serving {} at {scheme}://{http}", names.join(", "));
        if let Some(grpc) = grpc {
            json["grpc"] = json!(grpc.to_string());
            text.push_str(&format!(" and by gRPC at {grpc}"));
        }
        told = context.answer(&json, &format!("{text}\n"));
    })?;
    told?;
    if answered {
        return Ok(());
    }
    Err(Diagnostic::new("serve.drain", "some requests were not answered before the end")
        .hint("stop sending requests before the server is ended")
        .into())
}

/// What others may do to a server that they reach at this address, if they may do anything.
fn exposed(address: SocketAddr, encrypted: bool, guarded: bool) -> Option<String> {
    let tls = "`--tls-cert FILE --tls-key FILE` encrypts it";
    let tokens = "`--tokens FILE` says who may do what";
    match (encrypted, guarded) {
        _ if address.ip().is_loopback() => None,
        (true, true) => None,
        (_, false) => {
            let read = if encrypted { "" } else { ", and read on the way what others ask and are answered" };
            let mut warning = format!(
                "whoever reaches {address} may ask every model, load and unload them{read}: {tokens}"
            );
            if !encrypted {
                warning.push_str(&format!(", {tls}"));
            }
            Some(warning)
        }
        (false, true) => {
            Some(format!("whoever is on the way to {address} may read tokens and answers: {tls}"))
        }
    }
}

/// Adds what is to be served, and loads it; says which models are served. Of a repository, what is bad is said and left
/// out: it is there to be mended while the others are served.
fn add(models: &mut Models, given: &[String], context: &Context) -> Result<Vec<String>, Failure> {
    for given in given {
        let (name, path) = named(given);
        context.note(&format!("compiling {} for all batch sizes", path.display()));
        let is_model = Package::find(&*context.world.storage, &path).is_ok();
        if name.is_some() || is_model || models_of_repository(&path).is_empty() {
            models.serve_path(name, &path)?;
            continue;
        }
        for name in models.add_repository(&path)? {
            if let Err(rejected) = models.load(&name, &Policy::default()) {
                context.note(&format!("warning: {}", rejected.problems));
            }
        }
    }
    Ok(models.names())
}

/// A model's name, if one is given, and its path: `NAME=PATH`, unless that is a path itself.
fn named(given: &str) -> (Option<&str>, PathBuf) {
    match given.split_once('=').filter(|_| !Path::new(given).exists()) {
        Some((name, path)) => (Some(name), path.into()),
        None => (None, given.into()),
    }
}

/// How models are served whose share of the machine, or whose place before others, is given.
fn lanes(args: &ServeArgs, lane: Lane) -> Result<BTreeMap<String, Lane>, Diagnostic> {
    let mut lanes = BTreeMap::new();
    let mut set = |option: &str, given: &str, expected: &str, change: &dyn Fn(&mut Lane, &str) -> bool| {
        let (name, value) = given.rsplit_once('=').unwrap_or_default();
        let fits = !name.is_empty() && change(lanes.entry(name.to_owned()).or_insert(lane), value);
        let problem = || Diagnostic::new("serve.option", format!("`{given}` is no {option}")).item(option);
        if fits { Ok(()) } else { Err(problem().expected(expected)) }
    };
    for given in &args.weights {
        set("--weight", given, "NAME=SHARE, a number above 0", &|lane, value| {
            let weight = value.parse().ok().filter(|weight: &f64| *weight > 0.0 && *weight <= 1e6);
            lane.weight = weight.unwrap_or(lane.weight);
            weight.is_some()
        })?;
    }
    for given in &args.priorities {
        set("--priority", given, "NAME=NUMBER, a whole one from 0", &|lane, value| {
            let priority = value.parse().ok();
            lane.priority = priority.unwrap_or(lane.priority);
            priority.is_some()
        })?;
    }
    Ok(lanes)
}

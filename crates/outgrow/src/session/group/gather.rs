//! How the workers of a run come together: who is started here, who else may join, and what they say of themselves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use outgrow_env::Transport;
use outgrow_env::transport::tcp::Newcomer;
use outgrow_ir::{Diagnostic, counted};
use serde_json::Value as Json;

use super::processes::arguments;
use super::{Shared, about, differences};
use crate::cli::WorkerArgs;
use crate::context::{Context, Failure};
use crate::manifest::Manifest;
use crate::places::run_place;
use crate::workers::{self, Family, PATIENCE, Port};

/// How long workers of other machines may take: somebody starts them by hand.
const REMOTE_PATIENCE: Duration = Duration::from_secs(3600);

/// Starts the other workers of this machine, with the flags by which they find this one.
fn start(shared: &Shared<'_>, find: &[OsString]) -> Result<Family, Diagnostic> {
    Family::start((1..shared.cluster.here).map(|worker| arguments(shared, find, worker)))
}

/// Links by shared memory to the others, which are started here.
pub fn by_memory(shared: &Shared<'_>) -> Result<(Box<dyn Transport>, Family), Failure> {
    Ok(workers::by_memory(shared.cluster.workers, |find| start(shared, find))?)
}

/// Links over TCP to the others, some of which are started here.
pub fn by_tcp(shared: &Shared<'_>) -> Result<(Box<dyn Transport>, Family), Failure> {
    let (cluster, context) = (shared.cluster, shared.context);
    let manifest = context.manifest(&shared.args.manifest)?;
    let remote = cluster.workers - cluster.here;
    let own = about(&manifest);
    let said = own.to_string();
    let key = key(shared, &manifest);
    let port = Port {
        workers: cluster.workers,
        address: cluster.listen.as_deref().unwrap_or("127.0.0.1:0"),
        tls: cluster.tls,
        key: key.clone(),
        about: said.as_bytes(),
        patience: if remote > 0 { REMOTE_PATIENCE } else { PATIENCE },
    };
    let start = |find: &[OsString], address: &str| {
        let family = start(shared, find)?;
        if remote > 0 {
            context.note(&format!(
                "waiting for {}: on each machine, with a copy of {}:\n  outgrow worker {} --join {address} --key {}",
                counted(remote, "worker"),
                key.display(),
                shared.args.manifest.manifest.display(),
                key.file_name().unwrap_or_default().display(),
            ));
        }
        Ok(family)
    };
    let mut accept = |newcomer: &Newcomer<'_>| {
        same(&own, newcomer.about).inspect_err(|why| {
            context.note(&format!("a worker from {} is refused: {why}", newcomer.address.ip()));
        })
    };
    Ok(workers::by_tcp(port, start, &mut accept)?)
}

/// Where the file is written with which others join.
fn key(shared: &Shared<'_>, manifest: &Manifest) -> PathBuf {
    shared.cluster.key.clone().unwrap_or_else(|| {
        let mut name = run_place(manifest, shared.args.out.as_deref()).path.into_os_string();
        name.push(".key");
        PathBuf::from(name)
    })
}

/// Whether a newcomer says the same of itself.
fn same(own: &Json, about: &[u8]) -> Result<(), String> {
    let about: Json = serde_json::from_slice(about).map_err(|_| "it does not say what it is".to_owned())?;
    match differences(own, &about).next() {
        Some((key, here, there)) => Err(format!("its {key} is {there}, and here it is {here}")),
        None => Ok(()),
    }
}

/// The links of a worker that is not the first.
pub fn join(
    args: &WorkerArgs,
    manifest: &Manifest,
    context: &Context,
) -> Result<Box<dyn Transport>, Failure> {
    if let Some(path) = &args.memory {
        return Ok(workers::join_by_memory(path, args.number.unwrap_or_default())?);
    }
    let written = manifest.spec.cluster.as_ref().and_then(|cluster| cluster.key.as_ref());
    let Some(key) = args.key.as_ref().or(written) else {
        let found = Diagnostic::new("workers.key", "nothing says which run to join").item("--key");
        return Err(found.expected("the file that the first worker has written").into());
    };
    let about = about(manifest).to_string();
    let links = workers::join_by_key(key, args.join.as_ref(), args.number, about.as_bytes())?;
    context.note(&format!("joined as worker {} of {}", links.worker(), links.workers()));
    Ok(links)
}

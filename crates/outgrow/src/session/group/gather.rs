//! How workers in processes of their own find each other: by a file in memory, or at a port.

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use outgrow_env::Transport;
use outgrow_env::transport::shared_memory::{self, SharedMemoryError};
use outgrow_env::transport::tcp::{
    self, Identity, JoinError, Newcomer, Rendezvous, Settings, Token, read_join_file, write_join_file,
};
use outgrow_ir::Diagnostic;
use serde_json::Value as Json;

use super::processes::Family;
use super::{Shared, about, differences};
use crate::cli::WorkerArgs;
use crate::context::{Context, Failure};
use crate::manifest::Manifest;
use crate::places::{memory_folder, run_folder};

/// How often those who have not joined are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long workers of this machine may take to join.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long workers of other machines may take: somebody starts them by hand.
const REMOTE_PATIENCE: Duration = Duration::from_secs(3600);

/// Links by shared memory to the others, which are started here.
pub fn by_memory(shared: &Shared<'_>) -> Result<(Box<dyn Transport>, Family), Failure> {
    let links = shared_memory::create(&memory_folder(), shared.cluster.workers).map_err(no_memory)?;
    let place = [OsString::from("--memory"), links.path().into()];
    let family = Family::start(shared, &place)?;
    let until = Instant::now() + PATIENCE;
    while let Some(missing) = (1..shared.cluster.workers).find(|worker| !links.has_joined(*worker)) {
        family.check_joining(missing, until)?;
        thread::sleep(LOOK / 10);
    }
    Ok((Box::new(links), family))
}

fn no_memory(error: SharedMemoryError) -> Diagnostic {
    Diagnostic::new("workers.links", error.to_string())
        .item("--transport shm")
        .hint("take fewer workers, or another transport")
}

/// Links over TCP to the others, some of which are started here.
pub fn by_tcp(shared: &Shared<'_>) -> Result<(Box<dyn Transport>, Family), Failure> {
    let (cluster, context) = (shared.cluster, shared.context);
    let manifest = context.manifest(&shared.args.manifest)?;
    let no_random =
        |error| Diagnostic::new("workers.key", format!("no random numbers: {error}")).hint(SYSTEM);
    let mut settings = Settings::new(Token::random().map_err(no_random)?);
    if cluster.tls {
        settings.identity = Some(Identity::random().map_err(no_random)?.into());
    }
    let address = cluster.listen.as_deref().unwrap_or("127.0.0.1:0");
    let mut rendezvous =
        Rendezvous::listen(address, shared.cluster.workers, settings.clone()).map_err(not_joined)?;
    let address = rendezvous.address().map_err(not_joined)?.to_string();
    let key = Key::write(shared, &manifest, &address, &settings)?;
    let family = Family::start(shared, &["--key".into(), key.path.clone().into()])?;
    let remote = shared.cluster.workers - shared.cluster.here;
    if remote > 0 {
        context.note(&format!(
            "waiting for {remote} workers: on each machine, with a copy of {}:\n  outgrow worker {} --join {address} --key {}",
            key.path.display(),
            shared.args.manifest.manifest.display(),
            key.path.file_name().unwrap_or_default().display(),
        ));
    }
    let own = about(&manifest);
    let mut accept = |newcomer: &Newcomer<'_>| {
        same(&own, newcomer.about).inspect_err(|why| {
            context.note(&format!("a worker from {} is refused: {why}", newcomer.address.ip()));
        })
    };
    let until = Instant::now() + if remote > 0 { REMOTE_PATIENCE } else { PATIENCE };
    while !rendezvous.wait(LOOK, &mut accept).map_err(not_joined)? {
        family.check_joining(rendezvous.missing().first().copied().unwrap_or_default(), until)?;
    }
    let links = rendezvous.finish(own.to_string().as_bytes()).map_err(not_joined)?;
    Ok((Box::new(links), family))
}

const SYSTEM: &str = "the system refused something: see what it says";

/// Whether a newcomer says the same of itself.
fn same(own: &Json, about: &[u8]) -> Result<(), String> {
    let about: Json = serde_json::from_slice(about).map_err(|_| "it does not say what it is".to_owned())?;
    match differences(own, &about).next() {
        Some((key, here, there)) => Err(format!("its {key} is {there}, and here it is {here}")),
        None => Ok(()),
    }
}

fn not_joined(error: JoinError) -> Diagnostic {
    let hint = match &error {
        JoinError::Refused(_) => "start the same program with the same manifest on all machines",
        JoinError::Closed { .. } | JoinError::NoWorker { .. } => {
            "take the file that the first worker has written in this run"
        }
        JoinError::System { .. } => SYSTEM,
        _ => "start the run again",
    };
    Diagnostic::new("workers.join", error.to_string()).hint(hint)
}

/// The file with which others join. It goes when the group is complete.
struct Key {
    path: PathBuf,
}

impl Key {
    fn write(
        shared: &Shared<'_>,
        manifest: &Manifest,
        address: &str,
        settings: &Settings,
    ) -> Result<Self, Diagnostic> {
        let path = match &shared.cluster.key {
            Some(path) => path.clone(),
            None => {
                let mut name = run_folder(manifest, shared.args.out.as_deref()).into_os_string();
                name.push(".key");
                PathBuf::from(name)
            }
        };
        let refused = |error: String| {
            Diagnostic::new("workers.key", error).item("--key").hint("choose another place with --key")
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| refused(error.to_string()))?;
        }
        write_join_file(&path, address, settings).map_err(|error| refused(error.to_string()))?;
        Ok(Self { path })
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // Whoever finds it later can join nothing with it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The links of a worker that is not the first.
pub fn join(
    args: &WorkerArgs,
    manifest: &Manifest,
    context: &Context,
) -> Result<Box<dyn Transport>, Failure> {
    if let Some(path) = &args.memory {
        let number = args.number.unwrap_or_default();
        return Ok(Box::new(shared_memory::join(path, number).map_err(no_memory)?));
    }
    let written = manifest.spec.cluster.as_ref().and_then(|cluster| cluster.key.as_ref());
    let Some(key) = args.key.as_ref().or(written) else {
        let found = Diagnostic::new("workers.key", "nothing says which run to join").item("--key");
        return Err(found.expected("the file that the first worker has written").into());
    };
    let (address, settings) = read_join_file(key).map_err(not_joined)?;
    let address = args.join.as_ref().unwrap_or(&address);
    let about = about(manifest).to_string();
    let member =
        tcp::join(address, args.number, about.as_bytes(), &settings, PATIENCE).map_err(not_joined)?;
    let (worker, workers) = (member.links.worker(), member.links.workers());
    context.note(&format!("joined as worker {worker} of {workers}"));
    Ok(Box::new(member.links))
}

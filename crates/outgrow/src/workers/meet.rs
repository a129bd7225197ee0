//! How workers in processes of their own find each other: by a file in memory, or at a port.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_env::Transport;
use outgrow_env::transport::shared_memory::{self, SharedMemoryError};
use outgrow_env::transport::tcp::{
    self, Identity, JoinError, Newcomer, Rendezvous, Settings, Token, read_join_file, write_join_file,
};
use outgrow_ir::Diagnostic;

use super::Family;
use crate::places::memory_folder;

/// How often those who have not joined are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long workers of this machine may take to join.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A worker's links to the others, and the processes that were started.
type Met = (Box<dyn Transport>, Family);

/// Links by shared memory to the others, which are started with these flags more.
///
/// # Errors
/// When there is no memory, or a worker does not join.
pub fn by_memory(
    workers: usize,
    start: impl FnOnce(&[OsString]) -> Result<Family, Diagnostic>,
) -> Result<Met, Diagnostic> {
    let links = shared_memory::create(&memory_folder(), workers).map_err(no_memory)?;
    let family = start(&["--memory".into(), links.path().into()])?;
    let until = Instant::now() + PATIENCE;
    while let Some(missing) = (1..workers).find(|worker| !links.has_joined(*worker)) {
        family.check_joining(missing, until)?;
        thread::sleep(LOOK / 10);
    }
    Ok((Box::new(links), family))
}

/// Where and how workers are waited for.
#[derive(Debug)]
pub struct Port<'a> {
    /// All of them, this one included.
    pub workers: usize,
    /// Host and port to listen at.
    pub address: &'a str,
    /// Whether what goes over the links is encrypted.
    pub tls: bool,
    /// Where the file is written with which others join, while they are waited for.
    pub key: PathBuf,
    /// What this worker says of itself to those who join.
    pub about: &'a [u8],
    /// How long they may take.
    pub patience: Duration,
}

/// Links over TCP to the others. Some are started here, with these flags more and the address in words; `accept` says
/// whether a newcomer may join.
///
/// # Errors
/// When the port or the key is refused, or a worker does not join.
pub fn by_tcp(
    port: Port<'_>,
    start: impl FnOnce(&[OsString], &str) -> Result<Family, Diagnostic>,
    accept: &mut dyn FnMut(&Newcomer<'_>) -> Result<(), String>,
) -> Result<Met, Diagnostic> {
    let no_random =
        |error| Diagnostic::new("workers.key", format!("no random numbers: {error}")).hint(SYSTEM);
    let mut settings = Settings::new(Token::random().map_err(no_random)?);
    if port.tls {
        settings.identity = Some(Identity::random().map_err(no_random)?.into());
    }
    let mut rendezvous =
        Rendezvous::listen(port.address, port.workers, settings.clone()).map_err(not_joined)?;
    let address = rendezvous.address().map_err(not_joined)?.to_string();
    let key = Key::write(port.key, &address, &settings)?;
    let family = start(&["--key".into(), key.0.clone().into()], &address)?;
    let until = Instant::now() + port.patience;
    while !rendezvous.wait(LOOK, accept).map_err(not_joined)? {
        family.check_joining(rendezvous.missing().first().copied().unwrap_or_default(), until)?;
    }
    Ok((Box::new(rendezvous.finish(port.about).map_err(not_joined)?), family))
}

/// The file with which others join. It goes when the group is complete.
struct Key(PathBuf);

impl Key {
    fn write(path: PathBuf, address: &str, settings: &Settings) -> Result<Self, Diagnostic> {
        let refused = |error: String| {
            Diagnostic::new("workers.key", error).item("--key").hint("choose another place with --key")
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| refused(error.to_string()))?;
        }
        write_join_file(&path, address, settings).map_err(|error| refused(error.to_string()))?;
        Ok(Self(path))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // Whoever finds it later can join nothing with it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The links of a worker that was told where the others' memory is.
///
/// # Errors
/// When it cannot join them.
pub fn join_by_memory(path: &Path, number: usize) -> Result<Box<dyn Transport>, Diagnostic> {
    Ok(Box::new(shared_memory::join(path, number).map_err(no_memory)?))
}

/// The links of a worker that has the file to join with; `address` goes before the one in there.
///
/// # Errors
/// When it cannot join the others.
pub fn join_by_key(
    key: &Path,
    address: Option<&String>,
    number: Option<usize>,
    about: &[u8],
) -> Result<Box<dyn Transport>, Diagnostic> {
    let (written, settings) = read_join_file(key).map_err(not_joined)?;
    let address = address.unwrap_or(&written);
    Ok(Box::new(tcp::join(address, number, about, &settings, PATIENCE).map_err(not_joined)?.links))
}

fn no_memory(error: SharedMemoryError) -> Diagnostic {
    Diagnostic::new("workers.links", error.to_string())
        .item("--transport shm")
        .hint("take fewer workers, or another transport")
}

const SYSTEM: &str = "the system refused something: see what it says";

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

//! Workers for a measurement: threads, or processes of this program with shared memory or TCP between them, as a run has
//! them, but without a manifest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use outgrow_env::Transport;
use outgrow_env::transport::tcp::{
    self, Identity, Rendezvous, Settings, Token, read_join_file, write_join_file,
};
use outgrow_env::transport::{shared_memory, threads};
use outgrow_ir::Diagnostic;

use crate::cli::{BenchLinksArgs, BenchPlaceArgs};
use crate::manifest::TransportName;
use crate::places::memory_folder;

/// How long the others may take to join.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is seen whether they have.
const LOOK: Duration = Duration::from_millis(5);

/// Processes that are ended when this is dropped, if they have not come to an end by themselves soon.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(1);
        for child in &mut self.0 {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(LOOK);
            }
            // It may have ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Children {
    /// Starts all workers but the first, with the flags by which they find it.
    fn start(workers: usize, find: &[OsString]) -> Result<Self, Diagnostic> {
        let program =
            std::env::current_exe().map_err(|error| refused("this program is not found", &error))?;
        let mut children = Self(Vec::new());
        for number in 1..workers {
            let mut command = Command::new(&program);
            command.args(["bench", "links", "--number"]).arg(number.to_string()).args(find);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let child = command.spawn().map_err(|error| refused("a worker cannot be started", &error))?;
            children.0.push(child);
        }
        Ok(children)
    }

    /// Waits until there is no worker missing.
    fn wait(
        &mut self,
        mut missing: impl FnMut() -> Result<Option<usize>, Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let until = Instant::now() + PATIENCE;
        while let Some(worker) = missing()? {
            let ended = self.0.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > until {
                let what = if ended { "a worker ended before it had joined" } else { "has not joined" };
                let problem = if ended { what.to_owned() } else { format!("worker {worker} {what}") };
                return Err(Diagnostic::new("workers.start", problem).hint("see what it has said above"));
            }
        }
        Ok(())
    }
}

fn refused(what: &str, error: &dyn std::fmt::Display) -> Diagnostic {
    let found = Diagnostic::new("workers.start", format!("{what}: {error}"));
    found.hint("take fewer workers, or another transport")
}

/// Has all workers do the same, and gives what the first one got, with the transport's name.
///
/// # Errors
/// When the workers do not come together, or the work of the first one fails.
pub fn together<T: Send>(
    args: &BenchLinksArgs,
    work: impl Fn(Box<dyn Transport>) -> Result<T, Diagnostic> + Sync,
) -> Result<(T, &'static str), Diagnostic> {
    let workers = args.workers.get();
    match args.transport {
        TransportName::Threads => {
            let links = threads::group(workers).map_err(|error| refused("no links", &error))?;
            let name = links.first().map_or("", Transport::name);
            let done = thread::scope(|scope| {
                let mut links = links.into_iter();
                let first = links.next();
                let work = &work;
                // Whatever fails in another worker, the first one finds it lost.
                let others: Vec<_> = links.map(|links| scope.spawn(move || work(Box::new(links)))).collect();
                let done = first.map(|first| work(Box::new(first)));
                others.into_iter().for_each(|other| drop(other.join()));
                done
            });
            let none = || Diagnostic::fault("workers.none", "invariant: there is a worker");
            Ok((done.ok_or_else(none)??, name))
        }
        TransportName::Shm => {
            let links = shared_memory::create(&memory_folder(), workers);
            let links = links.map_err(|error| refused("no links", &error))?;
            let mut children = Children::start(workers, &["--memory".into(), links.path().into()])?;
            children.wait(|| {
                thread::sleep(LOOK);
                Ok((1..workers).find(|worker| !links.has_joined(*worker)))
            })?;
            let name = links.name();
            Ok((work(Box::new(links))?, name))
        }
        TransportName::Tcp => {
            let (links, children) = by_tcp(workers, !args.no_tls)?;
            let name = links.name();
            let done = work(links);
            drop(children);
            Ok((done?, name))
        }
    }
}

fn by_tcp(workers: usize, tls: bool) -> Result<(Box<dyn Transport>, Children), Diagnostic> {
    let no_random = |error| refused("no random numbers", &error);
    let mut settings = Settings::new(Token::random().map_err(no_random)?);
    if tls {
        settings.identity = Some(Arc::new(Identity::random().map_err(no_random)?));
    }
    let not_joined = |error| refused("no links", &error);
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", workers, settings.clone()).map_err(not_joined)?;
    let address = rendezvous.address().map_err(not_joined)?.to_string();
    let key = Key(std::env::temp_dir().join(format!("outgrow-bench-{}.key", std::process::id())));
    write_join_file(&key.0, &address, &settings).map_err(|error| refused("no key", &error))?;
    let mut children = Children::start(workers, &["--key".into(), key.0.clone().into()])?;
    children.wait(|| {
        let all = rendezvous.wait(LOOK, &mut |_| Ok(())).map_err(not_joined)?;
        Ok(if all { None } else { rendezvous.missing().first().copied() })
    })?;
    Ok((Box::new(rendezvous.finish(b"").map_err(not_joined)?), children))
}

/// A file with which others join, until it is dropped.
struct Key(PathBuf);

impl Drop for Key {
    fn drop(&mut self) {
        // Whoever finds it later can join nothing with it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The links of a worker that another process has started.
///
/// # Errors
/// When it cannot join that one.
pub fn join(place: &BenchPlaceArgs) -> Result<Box<dyn Transport>, Diagnostic> {
    let number = place.number.unwrap_or_default();
    if let Some(memory) = &place.memory {
        let links = shared_memory::join(memory, number).map_err(|error| refused("no links", &error))?;
        return Ok(Box::new(links));
    }
    let key = place.key.as_deref().unwrap_or(Path::new(""));
    let (address, settings) = read_join_file(key).map_err(|error| refused("no key", &error))?;
    let joined = tcp::join(address, Some(number), b"", &settings, PATIENCE);
    Ok(Box::new(joined.map_err(|error| refused("no links", &error))?.links))
}

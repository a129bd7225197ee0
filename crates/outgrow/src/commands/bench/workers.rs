//! Workers for a measurement, connected as those of a run, but without a manifest.

use std::ffi::OsString;
use std::thread;

use outgrow_env::Transport;
use outgrow_env::transport::threads;
use outgrow_ir::Diagnostic;

use crate::cli::{BenchLinksArgs, BenchPlaceArgs};
use crate::manifest::TransportName;
use crate::workers::{Family, PATIENCE, Port, by_memory, by_tcp, join_by_key, join_by_memory};

/// Has all workers do the same, and gives what the first one got, with the transport's name.
///
/// # Errors
/// When the workers do not come together, or the work of the first one fails.
pub fn together<T: Send>(
    args: &BenchLinksArgs,
    work: impl Fn(Box<dyn Transport>) -> Result<T, Diagnostic> + Sync,
) -> Result<(T, &'static str), Diagnostic> {
    let workers = args.workers.get();
    let start = |find: &[OsString]| {
        let line = |number: usize| {
            let own = ["bench", "links", "--number", &number.to_string()].map(OsString::from);
            own.into_iter().chain(find.iter().cloned()).collect()
        };
        Family::start((1..workers).map(line))
    };
    let (links, family) = match args.transport {
        TransportName::Threads => return by_threads(workers, work),
        TransportName::Shm => by_memory(workers, start)?,
        TransportName::Tcp => {
            let key = std::env::temp_dir().join(format!("outgrow-bench-{}.key", std::process::id()));
            let (address, tls, about, patience) = ("127.0.0.1:0", !args.no_tls, &b""[..], PATIENCE);
            let port = Port { workers, address, tls, key, about, patience };
            by_tcp(port, |find, _| start(find), &mut |_| Ok(()))?
        }
    };
    let name = links.name();
    let done = work(links);
    // Whoever is still there ends now.
    drop(family);
    Ok((done?, name))
}

fn by_threads<T: Send>(
    workers: usize,
    work: impl Fn(Box<dyn Transport>) -> Result<T, Diagnostic> + Sync,
) -> Result<(T, &'static str), Diagnostic> {
    let links = threads::group(workers).map_err(|error| {
        Diagnostic::new("workers.links", format!("no links: {error}")).hint("take fewer workers")
    })?;
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
    Ok((done.ok_or_else(|| Diagnostic::fault("workers.none", "invariant: there is a worker"))??, name))
}

/// The links of a worker that another process has started.
///
/// # Errors
/// When it cannot join that one.
pub fn join(place: &BenchPlaceArgs) -> Result<Box<dyn Transport>, Diagnostic> {
    let number = place.number.unwrap_or_default();
    match (&place.memory, &place.key) {
        (Some(memory), _) => join_by_memory(memory, number),
        (None, Some(key)) => join_by_key(key, None, Some(number), b""),
        (None, None) => Err(Diagnostic::fault("workers.join", "invariant: a place is a memory or a key")),
    }
}

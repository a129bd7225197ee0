//! Workers that are threads of this process.

use std::thread;

use outgrow_env::transport::threads;
use outgrow_ir::Diagnostic;
use serde_json::Value as Json;

use super::{Shared, is_lost, with_group};
use crate::context::{Context, Failure};
use crate::session::Session;

/// Runs with all workers in this process.
pub fn run(shared: &Shared<'_>) -> Result<Json, Failure> {
    let mut links = threads::group(shared.cluster.workers)
        .map_err(|error| {
            Diagnostic::new("workers.links", error.to_string())
                .item("--workers")
                .hint("take fewer workers, or a machine with more memory")
        })?
        .into_iter();
    let first =
        links.next().ok_or_else(|| Diagnostic::fault("workers.none", "invariant: there is a worker"))?;
    let quiet = shared.context.silent();
    thread::scope(|scope| {
        let others: Vec<_> = (1..)
            .zip(links)
            .map(|(worker, links)| {
                let quiet = &quiet;
                let work = move || with_group(Box::new(links), |group| work(shared, quiet, group));
                thread::Builder::new().name(format!("worker-{worker}")).spawn_scoped(scope, work)
            })
            .collect();
        let result = shared.first(Box::new(first));
        let mut failures = Vec::new();
        for other in others {
            let panicked = |_| Failure::from(Diagnostic::fault("workers.panic", "a worker panicked"));
            let ended = other.map_err(Failure::from).and_then(|other| other.join().map_err(panicked)?);
            failures.extend(ended.err());
        }
        result.map_err(|failure| cause(failure, failures))
    })
}

fn work(shared: &Shared<'_>, quiet: &Context, group: super::Group) -> Result<(), Failure> {
    Session::open(&shared.args.manifest, &shared.args.processor, quiet)?.work(group)
}

/// What the run failed by: whoever only lost the others says less.
fn cause(first: Failure, others: Vec<Failure>) -> Failure {
    let others = others.into_iter().find(|other| !is_lost(other));
    if is_lost(&first) { others.unwrap_or(first) } else { first }
}

//! A run that several workers share: each opens manifest and data, they compare what they have, and train together. The
//! first one, which the command itself is, writes and tells; the others only compute.

mod gather;
mod processes;
mod threads;

use std::num::NonZeroUsize;

use outgrow_data::Dataset;
use outgrow_env::Transport;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::collective::{Communicator, Group};
use outgrow_train::Silent;
use serde_json::{Value as Json, json};

use super::Session;
use crate::cli::{RunArgs, TransportName};
use crate::context::{Context, Failure};
use crate::places;
use crate::places::run_folder;

pub use processes::join;

/// What is said of a worker that was lost, as against one that failed by itself.
const LOST: &str = "workers.lost";
/// What all workers find at the same time. Nobody has to be told, and who is slower is not to lose those who are through.
const COMMON: [&str; 2] = ["train.non-finite", DIFFER];
const DIFFER: &str = "workers.differ";

/// A run with several workers.
struct Shared<'a> {
    args: &'a RunArgs,
    context: &'a Context,
    workers: usize,
    evaluate: bool,
}

/// Runs a manifest with so many workers, and gives the result for machines.
///
/// # Errors
/// What a worker failed by; where none did, which one was lost.
pub fn run_group(args: &RunArgs, context: &Context, workers: usize, evaluate: bool) -> Result<Json, Failure> {
    // What is wrong with what was asked for is said once, before anybody is started.
    let manifest = context.manifest(&args.manifest)?;
    outgrow_train::step::check(manifest.train.micro_shards, workers)
        .map_err(|found| manifest.locate(found.into()))?;
    let mut args = args.clone();
    if args.processor.threads.is_none() {
        args.processor.threads = NonZeroUsize::new((places::threads(None)? / workers).max(1));
    }
    let shared = Shared { args: &args, context, workers, evaluate };
    let usual = if args.workers.listen.is_some() { TransportName::Tcp } else { TransportName::Threads };
    match args.workers.transport.unwrap_or(usual) {
        TransportName::Threads => threads::run(&shared),
        TransportName::Shm => processes::run(&shared, gather::by_memory),
        TransportName::Tcp => processes::run(&shared, gather::by_tcp),
    }
}

impl Shared<'_> {
    /// The first worker's part.
    fn first(&self, links: Box<dyn Transport>) -> Result<Json, Failure> {
        with_group(links, |group| {
            let session = Session::open(&self.args.manifest, &self.args.processor, self.context)?;
            let folder = run_folder(&session.manifest, self.args.out.as_deref());
            session.run(&folder, self.args.fresh, self.evaluate, Some(group))
        })
    }
}

fn is_lost(failure: &Failure) -> bool {
    matches!(failure, Failure::Diagnostics(found) if found.0.iter().all(|d| d.code == LOST))
}

/// Does a worker's part, and leaves the group: the others learn why, if it failed.
fn with_group<T>(
    links: Box<dyn Transport>,
    part: impl FnOnce(Group) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let group = Group::new(links);
    let done = part(group.clone());
    let reason = done.as_ref().err().and_then(|failure| match failure {
        Failure::Diagnostics(found) | Failure::Partly(found) => {
            let first = found.0.first().filter(|found| !COMMON.contains(&found.code));
            first.map(|found| found.problem.clone())
        }
        Failure::Other(error) => Some(format!("{error:#}")),
        Failure::Told => None,
    });
    group.lock().leave(reason.as_deref());
    done
}

impl Session<'_> {
    /// Trains as a worker that is not the first, until the run ends.
    fn work(&self, group: Group) -> Result<(), Failure> {
        let data = self.data_of_group(&mut group.lock())?;
        self.agree(&data, &mut group.lock())?;
        let model = self.model(&data)?;
        let batches = self.batches(&data)?;
        let mut trainer = self.trainer_of_group(&data, model, None, Some(group))?;
        trainer.share_state()?;
        trainer.run(&batches, &mut Silent)?;
        Ok(())
    }

    /// The data that the first worker has, once it has it: on one machine, what that has prepared is found here.
    fn data_of_group(&self, group: &mut Communicator) -> Result<Dataset, Failure> {
        let all = group.exchange(&[], DATA)?;
        let version = String::from_utf8_lossy(&all[0]).into_owned();
        Ok(self.open_data(Some(&version))?.0)
    }

    /// Tells the other workers which data this one has, which is the first.
    pub(super) fn tell_data(&self, data: &Dataset, group: &mut Communicator) -> Result<(), Diagnostic> {
        group.exchange(data.fingerprint().as_bytes(), DATA).map(drop)
    }

    /// Compares what the numbers depend on with the other workers.
    ///
    /// # Errors
    /// When a worker has something else than the first one: with what that is.
    pub(super) fn agree(&self, data: &Dataset, group: &mut Communicator) -> Result<(), Diagnostics> {
        let own = self.identity(data)?.to_string();
        let all = group.exchange(own.as_bytes(), "comparing what the workers have")?;
        let all: Vec<Json> = all.iter().map(|one| serde_json::from_slice(one).unwrap_or_default()).collect();
        let mut found = Diagnostics::default();
        for (worker, other) in all.iter().enumerate().skip(1) {
            for (key, expected) in all[0].as_object().into_iter().flatten() {
                if &other[key] != expected {
                    let problem =
                        format!("worker {worker} has {key} {}, and worker 0 {expected}", other[key]);
                    found.push(
                        Diagnostic::new(DIFFER, problem)
                            .item(format!("worker {worker}"))
                            .expected("the same program, manifest, data and model on all workers"),
                    );
                }
            }
        }
        found.into_result(())
    }

    /// What all workers must have in common.
    fn identity(&self, data: &Dataset) -> Result<Json, Diagnostics> {
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "manifest": self.manifest.fingerprint(),
            "data": data.fingerprint(),
            "model": self.start_sha256()?,
            "kernel path": self.cpu.path.name(),
        }))
    }

    /// Adds to a run's result how it was shared.
    pub(super) fn add_group(&self, json: &mut Json, group: &Communicator) {
        json["workers"] = json!(group.workers());
        json["transport"] = json!(group.transport());
        json["all_reduce_seconds"] = json!(group.traffic().nanoseconds as f64 * 1e-9);
    }
}

const DATA: &str = "waiting for the data";

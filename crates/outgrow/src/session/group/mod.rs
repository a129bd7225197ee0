//! A run that several workers share: each opens manifest and data, they compare what they have, and train together. The
//! first one, which the command itself is, writes and tells; the others only compute.

mod gather;
mod kernels;
mod links;
mod processes;
mod threads;

use std::num::NonZeroUsize;

use outgrow_data::Dataset;
use outgrow_env::Transport;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::collective::{Communicator, Group, LOST, Timeline, Traffic};
use outgrow_train::Silent;
use serde_json::{Value as Json, json};

use super::{Session, decision, evaluate_run};
use crate::cli::RunArgs;
use crate::context::{Context, Failure};
use crate::manifest::{Cluster, Manifest, TransportName};
use crate::places::{self, run_place};

pub(super) use links::measure as measure_links;
pub use processes::join;

/// What all workers find at the same time. Nobody has to be told, and who is slower is not to lose those who are through.
const COMMON: [&str; 2] = ["train.non-finite", DIFFER];
const DIFFER: &str = "workers.differ";
/// What workers do until the first one has the data.
const DATA: &str = "waiting for the data";
/// What they do until it knows what is left to be done.
const STATE: &str = "waiting for the state of the run";
/// What the first one says of that.
pub(super) const FINISHED: &[u8] = b"finished";
pub(super) const EVALUATED: &[u8] = b"to be trained and evaluated";
pub(super) const TRAINED: &[u8] = b"to be trained";
pub(super) const REHEARSED: &[u8] = b"to be rehearsed";

/// A run with several workers.
struct Shared<'a> {
    args: &'a RunArgs,
    context: &'a Context,
    cluster: &'a Cluster,
    evaluate: bool,
}

/// Runs a manifest with several workers, and gives the result for machines.
///
/// # Errors
/// What a worker failed by; where none did, which one was lost.
pub fn run_group(
    args: &RunArgs,
    context: &Context,
    manifest: &Manifest,
    cluster: &Cluster,
    evaluate: bool,
) -> Result<Json, Failure> {
    // What is wrong with what was asked for is said once, before anybody is started.
    outgrow_train::step::check(manifest.train.micro_shards, cluster.workers)
        .map_err(|found| manifest.locate(found.into()))?;
    let mut args = args.clone();
    if args.processor.threads.is_none() {
        args.processor.threads = NonZeroUsize::new((places::threads(None)? / cluster.here).max(1));
    }
    let shared = Shared { args: &args, context, cluster, evaluate };
    match cluster.transport {
        TransportName::Threads => threads::run(&shared),
        TransportName::Shm => processes::run(&shared, gather::by_memory),
        TransportName::Tcp => processes::run(&shared, gather::by_tcp),
    }
}

/// What a worker says of itself when it joins; of the data, which may take long to prepare, it tells later.
fn about(manifest: &Manifest) -> Json {
    json!({ "version": env!("CARGO_PKG_VERSION"), "manifest": manifest.fingerprint(None) })
}

/// In what another worker's words on itself differ from one's own: the key, what is said here, and there.
fn differences<'a>(own: &'a Json, other: &'a Json) -> impl Iterator<Item = (&'a String, &'a Json, &'a Json)> {
    let all = own.as_object().into_iter().flatten().map(|(key, here)| (key, here, &other[key]));
    all.filter(|(_, here, there)| here != there)
}

/// Compares what this worker says of itself with what the others say.
///
/// # Errors
/// When one says something else than the first one: with what that is.
fn compare(own: &Json, group: &mut Communicator, expected: &str) -> Result<(), Diagnostics> {
    let all = group.exchange(own.to_string().as_bytes(), "comparing what the workers have")?;
    let all: Vec<Json> = all.iter().map(|one| serde_json::from_slice(one).unwrap_or_default()).collect();
    let mut found = Diagnostics::default();
    for (worker, other) in all.iter().enumerate().skip(1) {
        for (key, here, there) in differences(&all[0], other) {
            let problem = format!("worker {worker} has {key} {there}, and worker 0 {here}");
            found.push(Diagnostic::new(DIFFER, problem).item(format!("worker {worker}")).expected(expected));
        }
    }
    found.into_result(())
}

/// The last step of which each worker has taken down what it did, by worker.
///
/// # Errors
/// When a worker is lost.
pub(super) fn timelines(group: &mut Communicator) -> Result<Vec<Timeline>, Diagnostic> {
    let own = group.timeline().to_bytes();
    let all = group.exchange(&own, "telling how a step went")?;
    // What somebody else makes up is not drawn.
    Ok(all.iter().map(|bytes| Timeline::from_bytes(bytes).unwrap_or_default()).collect())
}

impl Shared<'_> {
    /// The first worker's part.
    fn first(&self, links: Box<dyn Transport>) -> Result<Json, Failure> {
        with_group(links, |group| {
            let mut session = Session::open(&self.args.manifest, &self.args.processor, self.context)?;
            session.agree_on_path(&mut group.lock())?;
            if self.args.dry_run {
                return session.dry_run(self.evaluate, Some(group));
            }
            let place = run_place(&session.manifest, self.args.out.as_deref());
            session.run(&place, self.args.fresh, self.evaluate, Some(group))
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
        Failure::Interrupted(interrupted) => {
            Some(format!("it was asked to end, by {}", interrupted.signal.name()))
        }
        Failure::Told => None,
    });
    group.lock().leave(reason.as_deref());
    done
}

impl Session<'_> {
    /// Trains as a worker that is not the first, until the run ends.
    fn work(&mut self, group: Group) -> Result<(), Failure> {
        self.agree_on_path(&mut group.lock())?;
        let data = self.data_of_group(&mut group.lock())?;
        self.agree(&data, &mut group.lock())?;
        let left = group.lock().exchange(&[], STATE)?.swap_remove(0);
        if left == FINISHED {
            return Ok(());
        }
        links::measure(&mut group.lock())?;
        let model = self.model(&data)?;
        let batches = self.batches(&data)?;
        let mut trainer = self.trainer_of_group(&data, model, None, Some(group.clone()))?;
        self.agree_on_programs(&trainer, &mut group.lock())?;
        trainer.share_state()?;
        if left == REHEARSED {
            trainer.rehearse(&batches)?;
            return Ok(());
        }
        trainer.run(&batches, &mut Silent)?;
        timelines(&mut group.lock())?;
        decision::choose(&mut trainer, &batches, &self.context.silent())?;
        if left == EVALUATED {
            evaluate_run(&mut trainer, &data, &batches)?;
        }
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

    /// Tells the other workers what is left to be done: nothing, or training, with an evaluation after it or without, or
    /// only a rehearsal of its first steps.
    pub(super) fn tell_state(&self, left: &[u8], group: &mut Communicator) -> Result<(), Diagnostic> {
        group.exchange(left, STATE).map(drop)
    }

    /// Compares what the numbers depend on with the other workers.
    ///
    /// # Errors
    /// When a worker has something else than the first one: with what that is.
    pub(super) fn agree(&self, data: &Dataset, group: &mut Communicator) -> Result<(), Diagnostics> {
        let expected = "the same program, manifest, data and model on all workers";
        compare(&self.identity(data)?, group, expected)
    }

    /// What all workers must have in common.
    fn identity(&self, data: &Dataset) -> Result<Json, Diagnostics> {
        let mut own = about(&self.manifest);
        own["data"] = json!(data.fingerprint());
        own["model"] = json!(self.start_sha256()?);
        own["kernel path"] = json!(self.step_path().name());
        Ok(own)
    }

    /// Adds to a run's result how it was shared, and what training took over the links.
    pub(super) fn add_group(&self, json: &mut Json, group: &Communicator, traffic: &Traffic) {
        json["workers"] = json!(group.workers());
        json["transport"] = json!(group.transport());
        json["all_reduce_seconds"] = json!(traffic.nanoseconds as f64 * 1e-9);
        json["overlap"] = json!(traffic.overlap());
        json["links"] = links::in_json(group.costs());
    }
}

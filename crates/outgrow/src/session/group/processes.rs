//! Workers of a run that are processes of their own: this one starts those on its machine.

use std::ffi::OsString;

use outgrow_env::Transport;
use serde_json::{Value as Json, json};

use super::{Shared, gather, with_group};
use crate::cli::WorkerArgs;
use crate::context::{Context, Failure};
use crate::session::Session;
use crate::workers::{Family, end_with_parent};

/// Runs with the other workers in processes of their own, which are linked so.
pub fn run(
    shared: &Shared<'_>,
    gather: impl FnOnce(&Shared<'_>) -> Result<(Box<dyn Transport>, Family), Failure>,
) -> Result<Json, Failure> {
    let (links, family) = gather(shared)?;
    family.watch(shared.context);
    let done = shared.first(links);
    family.over();
    done.map_err(|failure| family.explain(failure))
}

/// The command line of a worker that is started here.
pub fn arguments(shared: &Shared<'_>, find: &[OsString], worker: usize) -> Vec<OsString> {
    let (manifest, processor) = (&shared.args.manifest, &shared.args.processor);
    let mut arguments: Vec<OsString> = vec!["worker".into(), "--child".into()];
    arguments.extend_from_slice(find);
    let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    flag("--number", worker.to_string().into());
    for set in &manifest.set {
        flag("--set", set.into());
    }
    for (name, folder) in [("--data", &manifest.data), ("--cache", &manifest.cache)] {
        if let Some(folder) = folder {
            flag(name, folder.into());
        }
    }
    if let Some(threads) = processor.threads {
        flag("--threads", threads.to_string().into());
    }
    if let Some(path) = &processor.kernel_path {
        flag("--kernel-path", path.into());
    }
    arguments.extend(["--".into(), manifest.manifest.clone().into()]);
    arguments
}

/// Joins a group and does a worker's part in its run; says for machines which worker that was.
///
/// # Errors
/// When it cannot join, or the run fails; what fails in a worker that another process has started is said by that.
pub fn join(args: &WorkerArgs, context: &Context) -> Result<Json, Failure> {
    if args.child {
        end_with_parent();
    }
    // A signal to all processes of a group is the first worker's to answer: this one ends with that.
    let _caught = if args.child { Some(context.interrupt.catch()?) } else { None };
    let silent = context.silent();
    let context = if args.child { &silent } else { context };
    let mut session = Session::open(&args.manifest, &args.processor, context)?;
    let links = gather::join(args, &session.manifest, context)?;
    let own = json!({ "worker": links.worker(), "workers": links.workers(), "transport": links.name() });
    match with_group(links, |group| session.work(group)) {
        Err(_) if args.child => Err(Failure::Told),
        done => done.map(|()| own),
    }
}

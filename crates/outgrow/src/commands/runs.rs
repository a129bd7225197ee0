//! `outgrow runs`: the runs in a folder, and several of them side by side. Nothing is written there.

mod compare;
mod past;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use serde_json::{Value as Json, json};
use std::path::Path;

use super::table::aligned;
use crate::cli::{RunsAction, RunsArgs};
use crate::context::{Context, Failure};
use crate::latest::is_pointer;
use crate::report::format::{counted, metric, metric_name, seconds};
use past::PastRun;

/// Shows the runs of a folder.
pub fn run(args: &RunsArgs, context: &Context) -> Result<(), Failure> {
    match &args.action {
        Some(RunsAction::Compare(compare)) => compare::run(&args.folder, compare, context),
        Some(RunsAction::List) | None => list(&args.folder, context),
    }
}

fn list(folder: &Path, context: &Context) -> Result<(), Failure> {
    let mut runs = Vec::new();
    for name in names(&*context.world.storage, folder)? {
        runs.push(PastRun::read(&*context.world.storage, &folder.join(name))?);
    }
    // The newest first; of the same second, by their names.
    runs.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.path.cmp(&b.path)));
    let json = json!({ "folder": folder, "runs": runs.iter().map(PastRun::to_json).collect::<Vec<Json>>() });
    Ok(context.answer(&json, &aligned(&table(&runs)))?)
}

/// The names of the runs in a folder.
fn names(storage: &dyn StorageBackend, folder: &Path) -> Result<Vec<String>, Diagnostics> {
    let entries = storage.list(folder).map_err(|e| {
        Diagnostic::new("runs.folder", e.to_string())
            .file(folder)
            .hint("`--folder` names the folder in which the runs are")
    })?;
    let mut names = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.is_folder) {
        let path = folder.join(&entry.name);
        // What `latest` points to is here under its own name.
        if PastRun::is_at(storage, &path) && !is_pointer(storage, &path) {
            names.push(entry.name);
        }
    }
    Ok(names)
}

/// How long a run is to train, and of a k-fold evaluation how many of its runs were begun.
fn length(run: &PastRun) -> String {
    let length = run.length.map(|length| length.to_string());
    let folds = run.folds.map(|begun| counted(begun as u64, "fold"));
    [length, folds].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A line for each run.
fn table(runs: &[PastRun]) -> Vec<Vec<String>> {
    let titles = [
        "run",
        "last written (UTC)",
        "state",
        "length",
        "steps",
        "best validation",
        "epoch",
        "test",
        "trained",
    ];
    let mut table = vec![titles.map(str::to_owned).to_vec()];
    table.extend(runs.iter().map(|run| {
        let best = run.best.as_ref();
        let shown = |name: &str, value: f64| format!("{} {}", metric_name(name), metric(name, value));
        vec![
            run.name(),
            run.when(),
            run.state().to_owned(),
            length(run),
            run.step.to_string(),
            best.map_or_else(String::new, |best| shown(&best.metric, best.value)),
            best.map_or_else(String::new, |best| (best.epoch + 1).to_string()),
            run.test().map_or_else(String::new, |(name, value)| shown(name, value)),
            run.result["train_seconds"].as_f64().map_or_else(String::new, seconds),
        ]
    }));
    table
}

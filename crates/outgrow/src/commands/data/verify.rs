//! `outgrow data verify`: every stored shard against its checksum, in every place that keeps it; `--repair` restores
//! what is bad.

use std::fmt::Write as _;

use outgrow_data::replicas::{CopyState, RepairReport, Replicas, Version, check, repair};
use outgrow_ir::{Diagnostic, Diagnostics, counted};
use serde_json::{Value as Json, json};

use super::{OpenData, headline, open, summary};
use crate::cli::VerifyArgs;
use crate::context::{Context, Failure};

/// Verifies, and repairs if asked to.
pub fn run(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    let (mut restored, opened) = match open(&args.action, context) {
        // A shard of another length is noticed at once.
        Err(Failure::Diagnostics(found)) if args.repair && found.0.iter().all(|d| d.code == CORRUPT) => {
            (remove(context, &found)?, open(&args.action, context)?)
        }
        opened => (0, opened?),
    };
    if let Some((replicas, version)) = &opened.replicas {
        return copies(args, context, &opened, replicas, version);
    }
    let opened = match opened.dataset.verify() {
        Err(found) if args.repair => {
            restored += remove(context, &found)?;
            let opened = open(&args.action, context)?;
            opened.dataset.verify()?;
            opened
        }
        verified => {
            verified?;
            opened
        }
    };
    let mut json = summary(&opened.dataset, &opened.prepared);
    json["verified"] = Json::Bool(true);
    json["restored"] = Json::from(restored);
    let mut text = headline(&opened.prepared);
    if restored > 0 {
        let _ = writeln!(text, "damaged shards that were prepared again: {restored}");
    }
    text.push_str("every shard is as it was written\n");
    Ok(context.answer(&json, &text)?)
}

/// The code of what is wrong with a shard in the cache.
const CORRUPT: &str = "data.shard.corrupt";

/// Removes the damaged shards from the cache, so that they are prepared again; answers how many there were.
fn remove(context: &Context, found: &Diagnostics) -> Result<usize, Failure> {
    let mut removed = 0;
    for problem in &found.0 {
        context.note(&problem.to_string());
        if let Some(file) = &problem.place.file {
            context.world.storage.remove_file(file).map_err(|e| outgrow_data::files::storage_problem(&e))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// All copies in all places.
fn copies(
    args: &VerifyArgs,
    context: &Context,
    opened: &OpenData,
    replicas: &Replicas,
    version: &Version,
) -> Result<(), Failure> {
    let progress = context.progress();
    let tell = |done, total| progress.phase("verifying", done, Some(total));
    let report =
        if args.repair { repair(replicas, version, &tell) } else { Ok(check(replicas, version, &tell)) };
    progress.finish();
    let report = report?;
    let mut json = summary(&opened.dataset, &opened.prepared);
    json["verified"] = Json::Bool(report.is_whole());
    json["restored"] = Json::from(report.restored);
    json["version"] = Json::from(version.number);
    json["copies"] = json!({
        "wanted": replicas.copies,
        "places": replicas.places.iter().map(|p| p.name()).collect::<Vec<_>>(),
        "shards": report.shards,
        "records_missing": report.records_missing,
    });
    let problems = problems(replicas, &report);
    let text = describe(opened, replicas, version, &report, &problems);
    if report.is_whole() {
        return Ok(context.answer(&json, &text)?);
    }
    // What was found is worth as much as that something was.
    context.note(text.trim_end());
    Err(Diagnostics(problems).into())
}

fn describe(
    opened: &OpenData,
    replicas: &Replicas,
    version: &Version,
    report: &RepairReport,
    problems: &[Diagnostic],
) -> String {
    let mut text = headline(&opened.prepared);
    let _ = writeln!(
        text,
        "version {} of `{}`: {}, {} of each wanted in {}",
        version.number,
        replicas.name,
        counted(report.shards.len(), "shard"),
        counted(replicas.copies, "copy"),
        counted(replicas.places.len(), "place")
    );
    for (i, place) in replicas.places.iter().enumerate() {
        let count = |wanted: fn(&CopyState) -> bool| {
            report.shards.iter().filter(|shard| wanted(&shard.copies[i])).count()
        };
        let good = count(|c| *c == CopyState::Good);
        let bad = count(|c| !matches!(c, CopyState::Good | CopyState::NotWanted));
        let _ = writeln!(text, "  {}: {good} good, {bad} bad", place.name());
    }
    if report.restored > 0 {
        let _ = writeln!(text, "restored {}", counted(report.restored, "file"));
    }
    if problems.is_empty() {
        text.push_str("every copy is as it was written\n");
    }
    text
}

/// One for every copy that is not as it should be.
fn problems(replicas: &Replicas, report: &RepairReport) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for shard in &report.shards {
        let lost = !shard.copies.contains(&CopyState::Good);
        for (place, copy) in replicas.places.iter().zip(&shard.copies) {
            let what = match copy {
                CopyState::Good | CopyState::NotWanted => continue,
                CopyState::Missing => "it is not there".to_owned(),
                CopyState::Damaged(how) => how.clone(),
                CopyState::Unreachable(why) => why.clone(),
            };
            let text = format!("the copy of shard {} in {} is bad: {what}", shard.file, place.name());
            problems.push(Diagnostic::new("data.copy.bad", text).hint(match lost {
                true => "no good copy is left: bring a place back, or prepare the data again",
                false => "another copy is good: `outgrow data verify --repair` restores this one",
            }));
        }
    }
    for place in &report.records_missing {
        let text = format!("{place} has no good record of version {}", report.version);
        let hint = "`outgrow data verify --repair` writes it";
        problems.push(Diagnostic::new("data.version", text).hint(hint));
    }
    problems
}

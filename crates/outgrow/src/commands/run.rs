//! `outgrow run`: data, training, evaluation, model and report with one command. `outgrow train` is the same without
//! the evaluation and the report.

use outgrow_data::Split;
use outgrow_data::replicas::Fault;
use serde_json::Value as Json;

use super::places::run_folder;
use super::{Context, Failure};
use crate::cli::RunArgs;
use crate::report::format::{metric, metric_name};
use crate::report::render;
use crate::session::folder::{CHECKPOINTS, Ending, MODEL, REPORT, RunFolder};
use crate::session::{Recorder, RunResult, Session, evaluate_run, page, save_package, usage};

/// Runs a manifest from data to report.
pub fn run(args: &RunArgs, context: &Context) -> Result<(), Failure> {
    go(args, context, true)
}

/// Only trains and saves the model.
pub fn train(args: &RunArgs, context: &Context) -> Result<(), Failure> {
    go(args, context, false)
}

fn go(args: &RunArgs, context: &Context, evaluate: bool) -> Result<(), Failure> {
    let session = Session::open(&args.manifest, &args.processor, context)?;
    let path = run_folder(&session.manifest, args.out.as_deref());
    let data = session.data_of_run(&path, args.fresh)?;
    let model = session.model(&data)?;
    let fingerprint = session.fingerprint(&data)?;
    let folder = RunFolder::open(session.storage.clone(), &path, &fingerprint, args.fresh)?;
    let lacking = match folder.ending(evaluate)? {
        Ending::Whole(result) => {
            context.note(&format!("the run in {} is finished; --fresh starts it anew", path.display()));
            return Ok(context.answer(&result, &summary(&result))?);
        }
        Ending::Lacking(what) => Some(what),
        Ending::Open => None,
    };
    let samples = data.samples(Split::Train);
    session.manifest.train.check_samples(samples).map_err(|found| session.manifest.locate(found.into()))?;
    let batches = session.batches(&data)?;
    batches.check().map_err(|found| session.manifest.locate(found.into()))?;
    let mut trainer = session.trainer(&data, model, Some(folder.file(CHECKPOINTS)))?;
    // Only now: whatever is wrong with what was asked for leaves the folder as it was.
    folder.begin(&session.manifest.resolved_toml())?;
    let progress = context.progress();
    let every = session.manifest.train.log_every_steps;
    let mut recorder = Recorder::new(&progress, session.storage.clone(), folder.file("metrics.jsonl"), every);
    let resumed = trainer.resume(&mut recorder)?;
    match &lacking {
        Some(what) if !resumed => return Err(folder.no_checkpoint(what).into()),
        Some(what) => context.note(&format!(
            "the run in {} has ended, but {what}: it is completed from its last checkpoint",
            path.display()
        )),
        None => {}
    }
    recorder.evaluates = data.samples(Split::Validation) > 0;
    recorder.meter = Some(usage::Meter::start(&session));
    let trained = trainer.run(&batches, &mut recorder);
    let usage = recorder.usage();
    // What was logged is kept, also when training failed.
    let lines = recorder.finish();
    trained?;
    let lines = lines?;
    save_package(&session, &data, &trainer, &folder.file(MODEL))?;
    let result = if evaluate { evaluate_run(&mut trainer, &data, &batches)? } else { RunResult::default() };
    let json = result.to_json(&session, &path, &trainer, &usage);
    if evaluate {
        let report = page::report(&session, &data, &trainer, &result, &lines, &usage, &json);
        folder.write(REPORT, render(&report).as_bytes())?;
    }
    folder.finish(&json)?;
    for Fault { place, key, problem } in data.faults() {
        context.note(&format!(
            "warning: {place}/{key}: {problem}; another copy served, and `outgrow data verify --repair` restores it"
        ));
    }
    Ok(context.answer(&json, &summary(&json))?)
}

/// The result for people.
pub fn summary(result: &Json) -> String {
    let mut text = String::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        let Some(metrics) = result.get(split.name()).and_then(Json::as_object) else { continue };
        let values: Vec<String> = metrics
            .iter()
            .filter(|(name, _)| *name != "samples")
            .filter_map(|(name, value)| {
                Some(format!("{} {}", metric_name(name), metric(name, value.as_f64()?)))
            })
            .collect();
        text.push_str(&format!("{:<10}  {}\n", split.name(), values.join("  ")));
    }
    let number = |key: &str| result[key].as_f64();
    if let (Some(steps), Some(seconds), Some(rate)) =
        (number("steps"), number("train_seconds"), number("samples_per_s"))
    {
        text.push_str(&format!("{steps} steps in {seconds:.1} s of training, {rate:.0} samples/s\n"));
    }
    let run = result["run"].as_str().unwrap_or_default();
    if result.get("train").is_some() {
        text.push_str(&format!("report: {run}/report.html\n"));
    }
    text.push_str(&format!("model:  {run}/model\n"));
    text
}

//! `outgrow run`: data, training, evaluation, model and report with one command. `outgrow train` is the same without
//! the evaluation and the report.

pub mod folds;

use outgrow_data::Split;
use outgrow_ir::counted;
use outgrow_train::spec::MetricName;
use serde_json::{Map, Value as Json};

use crate::cli::RunArgs;
use crate::context::{Context, Failure};
use crate::manifest::Cluster;
use crate::places::run_place;
use crate::report::format::{metric, metric_name};
use crate::session::best::Best;
use crate::session::decision;
use crate::session::estimate::line;
use crate::session::{Session, run_group};

/// Runs a manifest from data to report.
pub fn run(args: &RunArgs, context: &Context) -> Result<(), Failure> {
    go(args, context, true)
}

/// Only trains and saves the model.
pub fn train(args: &RunArgs, context: &Context) -> Result<(), Failure> {
    go(args, context, false)
}

fn go(args: &RunArgs, context: &Context, evaluate: bool) -> Result<(), Failure> {
    let context =
        &Context { verbose: args.verbose && !context.quiet, profile: args.profile, ..context.clone() };
    if let Some(count) = args.folds {
        return folds::run(args, count, context, evaluate);
    }
    let result = one(args, context, evaluate)?;
    if args.dry_run {
        return Ok(context.answer(&result, &format!("{}\n", line(&result)))?);
    }
    Ok(context.answer(&result, &summary(&result))?)
}

/// One run, and its result for machines.
fn one(args: &RunArgs, context: &Context, evaluate: bool) -> Result<Json, Failure> {
    let manifest = context.manifest(&args.manifest)?;
    let cluster = Cluster::of(&args.workers, manifest.spec.cluster.as_ref());
    let cluster = cluster.map_err(|found| manifest.locate(found.into()))?;
    if cluster.workers > 1 {
        return run_group(args, context, &manifest, &cluster, evaluate);
    }
    let session = Session::of(manifest, &args.manifest, &args.processor, context)?;
    let place = run_place(&session.manifest, args.out.as_deref());
    match args.dry_run {
        true => session.dry_run(evaluate, None),
        false => session.run(&place, args.fresh, evaluate, None),
    }
}

/// Metrics side by side; behind them, those of each of several numbers that are predicted.
fn row(metrics: &Map<String, Json>) -> String {
    let shown =
        |name: &str, value: &Json| Some(format!("{} {}", metric_name(name), metric(name, value.as_f64()?)));
    let all = metrics.iter().filter(|(name, _)| MetricName::of_name(name).is_some_and(MetricName::is_chief));
    let mut values: Vec<String> = all.filter_map(|(name, value)| shown(name, value)).collect();
    if let Some(targets) = metrics.get("targets").and_then(Json::as_object) {
        let each =
            targets.iter().filter_map(|(name, of)| Some(format!("{name} {}", shown("rmse", &of["rmse"])?)));
        values.push(format!("({})", each.collect::<Vec<_>>().join(", ")));
    }
    values.join("  ")
}

/// Losses that models have without being told.
const USUAL: [&str; 3] = ["cross-entropy", "logistic", "mse"];

/// The result for people.
pub fn summary(result: &Json) -> String {
    let mut text = String::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        let Some(metrics) = result.get(split.name()).and_then(Json::as_object) else { continue };
        text.push_str(&format!("{:<10}  {}\n", split.name(), row(metrics)));
    }
    let judged = ["test", "validation", "train"].into_iter().find(|split| result.get(split).is_some());
    if let Some((split, metrics)) = judged.and_then(|s| Some((s, result["baseline"][s].as_object()?))) {
        let answer = result["baseline"]["answer"].as_str().unwrap_or_default();
        text.push_str(&format!("{:<10}  {}  ({split}, {answer})\n", "baseline", row(metrics)));
    }
    // Nobody asks which loss it is where it is the usual one.
    if let Some(loss) = result["loss"]["name"].as_str().filter(|name| !USUAL.contains(name)) {
        let option = result["loss"].as_object().and_then(|loss| loss.iter().find(|(key, _)| *key != "name"));
        let option = option.map_or(String::new(), |(key, value)| format!(" with {key} {value}"));
        text.push_str(&format!("loss        {loss}{option}\n"));
    }
    if let Some(threshold) = decision::told(&result["decision_threshold"]) {
        text.push_str(&format!("threshold   {threshold}\n"));
    }
    let number = |key: &str| result[key].as_f64();
    if let (Some(steps), Some(seconds), Some(rate)) =
        (number("steps"), number("train_seconds"), number("samples_per_s"))
    {
        text.push_str(&format!(
            "{} in {seconds:.1} s of training, {rate:.0} samples/s\n",
            counted(steps, "step")
        ));
    }
    if let Some(best) = Best::told(&result["best"]) {
        text.push_str(&format!("best        {best}\n"));
    }
    let run = result["run"].as_str().unwrap_or_default();
    // An evaluation alone writes no report, and says which model it is of.
    match result["model"].as_str() {
        Some(model) => text.push_str(&format!("model:  {model}\n")),
        None => {
            if result.get("train").is_some() {
                text.push_str(&format!("report: {run}/report.html\n"));
            }
            text.push_str(&format!("model:  {run}/model\n"));
        }
    }
    text
}

//! `outgrow run --folds K`: K runs, each tested on another part of the rows by a model that has seen only the others; the mean
//! and deviation of their metrics, and what was predicted for each row. All there is to a fold is the key
//! `data.split.fold`, so that any of them can be run alone.

use std::path::Path;

use outgrow_data::Split;
use outgrow_ir::Diagnostic;
use outgrow_predict::Meaning;
use outgrow_train::spec::MetricName;
use serde_json::{Map, Value as Json, json};

use crate::cli::RunArgs;
use crate::commands::run::one;
use crate::context::{Context, Failure};
use crate::latest;
use crate::manifest::Manifest;
use crate::places::run_place;
use crate::report::format::{count, metric, metric_name};
use crate::report::{ConfusionTable, FoldRow, FoldsReport, Regression, render_folds};
use crate::session::estimate::line;
use crate::session::folder::{Ending, PREDICTIONS, REPORT, fold_folder, result};
use crate::session::{Session, Tested, TestedRow, known};

/// Keys that a fold takes the place of, or that are of no use in it.
const LEFT_OUT: [(&str, &str); 3] = [
    ("data.split.test", "each part is tested on once"),
    ("data.test", "each part is tested on once, and the test set of its own not at all"),
    ("data.storage", "the folds are kept in the cache alone"),
];
/// Most pairs of a target and its prediction that are drawn.
const PAIRS: usize = 2000;
/// Most classes whose confusion is counted.
const CLASSES: usize = 100;

/// Runs all folds, or goes on where an earlier process ended.
pub(super) fn run(args: &RunArgs, folds: u32, context: &Context, evaluate: bool) -> Result<(), Failure> {
    check(args, folds, evaluate)?;
    let mut manifest = context.manifest(&args.manifest)?;
    for (key, why) in LEFT_OUT.iter().filter(|(key, _)| is_given(&manifest, key)) {
        context.note(&format!("`{key}` is left out: {why}"));
    }
    if args.dry_run {
        let estimate = one(&of_fold(args, 1, folds, None), context, true)?;
        let text = format!("of each of {folds} folds: {}\n", line(&estimate));
        return Ok(context.answer(&json!({ "folds": folds, "each": estimate }), &text)?);
    }
    let place = run_place(&manifest, args.out.as_deref());
    let first = of_fold(args, 1, folds, None);
    let session = Session::open(&first.manifest, &first.processor, context)?;
    manifest.choose_precision(|_| session.manifest.train.precision);
    let data = session.data()?.0;
    let folder = session.folds_folder(&place, &data, args.fresh)?;
    let storage = &*context.world.storage;
    if !args.fresh
        && folder.before().is_none()
        && let Ending::Whole(all) = result(storage, folder.path())?
    {
        let is_there = |name: &str| storage.entry(&folder.file(name)).is_ok_and(|entry| entry.is_some());
        if [REPORT, PREDICTIONS].into_iter().all(is_there) {
            let path = folder.path().display();
            context.note(&format!("the evaluation in {path} is finished; --fresh starts it anew"));
            return Ok(context.answer(&all, &summary(&all))?);
        }
    }
    // What a model makes of the data is the same in all folds, which differ by a row or so; the first one's stands.
    let manifest_text = manifest.resolved_toml(Some(known(&data)));
    folder.begin(&manifest_text, &session.roots())?;
    latest::point(context, folder.path());
    drop(session);
    let (mut results, mut tested) = (Vec::new(), Vec::new());
    for number in 1..=folds {
        let path = folder.file(&fold_folder(number));
        context.note(&format!("fold {number} of {folds}"));
        let args = of_fold(args, number, folds, Some(&path));
        results.push(one(&args, context, true)?);
        let silent = context.silent();
        let session = Session::open(&args.manifest, &args.processor, &silent)?;
        tested.push(session.tested(&path)?);
    }
    folder.write(PREDICTIONS, &predictions(&tested)?)?;
    let all = together(folder.path(), &manifest, &results);
    folder.write(REPORT, render_folds(&report(&manifest, manifest_text, &all, &tested)).as_bytes())?;
    folder.finish(&all)?;
    Ok(context.answer(&all, &summary(&all))?)
}

/// Refuses what cannot be meant.
fn check(args: &RunArgs, folds: u32, evaluate: bool) -> Result<(), Diagnostic> {
    let problem = |problem: String| Diagnostic::new("cli.folds", problem).item("--folds");
    if !(2..=1000).contains(&folds) {
        return Err(problem(format!("{folds} folds")).expected("2 to 1000"));
    }
    if !evaluate {
        return Err(problem("`train` evaluates nothing".into()).hint("take `outgrow run` with --folds"));
    }
    if args.workers.listen.is_some() {
        let text = "workers of other machines do not know of folds".to_owned();
        return Err(problem(text).hint("leave --listen out: workers of this machine may share each fold"));
    }
    Ok(())
}

fn is_given(manifest: &Manifest, key: &str) -> bool {
    let data = &manifest.spec.data;
    match key {
        "data.test" => data.test.is_some(),
        "data.storage" => data.storage.is_some(),
        _ => data.split.as_ref().is_some_and(|split| split.test > 0.0),
    }
}

/// The arguments for the run of one fold.
fn of_fold(args: &RunArgs, number: u32, of: u32, out: Option<&Path>) -> RunArgs {
    let mut args = RunArgs { folds: None, out: out.map(Path::to_owned), ..args.clone() };
    args.manifest.set.extend(LEFT_OUT.map(|(key, _)| format!("{key}=")));
    args.manifest.set.push(format!("data.split.fold={{ number = {number}, of = {of} }}"));
    args
}

/// The rows of all folds, in the order of the source, as CSV.
fn predictions(tested: &[Tested]) -> Result<Vec<u8>, Failure> {
    let Some(Tested { meaning, .. }) = tested.first() else { return Ok(Vec::new()) };
    let own: Vec<String> = match meaning {
        Meaning::Classes { names, .. } => {
            let each = names.iter().map(|name| format!("probability of {name}"));
            ["target".to_owned(), "predicted".to_owned()].into_iter().chain(each).collect()
        }
        Meaning::Numbers(names) | Meaning::Tokens(names) => {
            names.iter().flat_map(|name| [name.clone(), format!("predicted {name}")]).collect()
        }
    };
    let mut rows: Vec<(usize, &Meaning, &TestedRow)> = Vec::new();
    for (fold, Tested { meaning, rows: own }) in tested.iter().enumerate() {
        rows.extend(own.iter().map(|row| (fold + 1, meaning, row)));
    }
    rows.sort_by_key(|(.., row)| row.row);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Failure::Other(error.into());
    let names = ["row".to_owned(), "fold".to_owned()].into_iter().chain(own);
    writer.write_record(names).map_err(failed)?;
    for (fold, own, row) in rows {
        let mut cells = vec![row.row.to_string(), fold.to_string()];
        match own {
            Meaning::Classes { names, .. } => {
                let name = |class: usize| names.get(class).cloned().unwrap_or_default();
                cells.push(name(row.targets.first().map_or(0, |class| *class as usize)));
                cells.push(name(row.class));
                // A fold may know other classes than the first one does, if some are very rare.
                let place = |name: &String| names.iter().position(|own| own == name);
                let of = |name: &String| place(name).map_or(0.0, |class| row.numbers[class]);
                cells.extend(meaning.names().iter().map(|name| of(name).to_string()));
            }
            _ => {
                let pairs = row.targets.iter().zip(&row.numbers);
                cells.extend(pairs.flat_map(|(target, number)| [target.to_string(), number.to_string()]));
            }
        }
        writer.write_record(cells).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| Failure::Other(anyhow::anyhow!("{error}")))
}

/// What is kept of each fold's result.
const KEPT: [&str; 10] = [
    "run",
    "steps",
    "train_seconds",
    "stopped_early",
    "best",
    "decision_threshold",
    "train",
    "validation",
    "test",
    "weights_sha256",
];

/// What all folds came to, for machines.
fn together(path: &Path, manifest: &Manifest, results: &[Json]) -> Json {
    let samples = |parts: &[&Json]| parts.iter().filter_map(|one| one["samples"].as_u64()).sum::<u64>();
    let mut json = json!({
        "run": path,
        "name": manifest.name,
        "folds": results.len(),
        "train_seconds": results.iter().filter_map(|one| one["train_seconds"].as_f64()).sum::<f64>(),
        "deviation": {},
        "baseline": {},
        "predictions": path.join(PREDICTIONS),
    });
    for split in Split::ALL.map(Split::name) {
        let parts: Vec<&Json> = results.iter().map(|one| &one[split]).collect();
        if parts.iter().all(|one| one.is_object()) {
            json[split] = over(&parts, &mean);
            json[split]["samples"] = json!(samples(&parts));
            json["deviation"][split] = over(&parts, &deviation);
        }
        let baselines: Vec<&Json> = results.iter().map(|one| &one["baseline"][split]).collect();
        if baselines.iter().all(|one| one.is_object()) {
            json["baseline"][split] = over(&baselines, &mean);
        }
    }
    let each = |(i, one): (usize, &Json)| {
        let mut fold = Map::from_iter([("fold".to_owned(), json!(i + 1))]);
        let there = KEPT.iter().filter(|key| !one[**key].is_null());
        fold.extend(there.map(|key| ((*key).to_owned(), one[*key].clone())));
        Json::Object(fold)
    };
    json["each"] = json!(results.iter().enumerate().map(each).collect::<Vec<_>>());
    json
}

/// The same metric of several folds made one number, metric by metric; those that some fold does not have are left out.
fn over(all: &[&Json], one: &dyn Fn(&[f64]) -> f64) -> Json {
    let Some(first) = all.first().and_then(|first| first.as_object()) else { return Json::Null };
    let mut json = Map::new();
    for key in first.keys().filter(|key| *key != "samples") {
        let values: Vec<&Json> = all.iter().map(|fold| &fold[key]).collect();
        let numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
        if numbers.len() == all.len() {
            json.insert(key.clone(), json!(one(&numbers)));
        } else if values.iter().all(|value| value.is_object()) {
            json.insert(key.clone(), over(&values, one));
        }
    }
    Json::Object(json)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The deviation of a sample: squares are divided by one less than there are.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

fn is_chief(name: &str) -> bool {
    MetricName::of_name(name).is_some_and(MetricName::is_chief)
}

/// Metrics that people look at first, with their deviations.
fn chief(all: &Json, split: &str) -> Vec<(String, String)> {
    let Some(metrics) = all[split].as_object() else { return Vec::new() };
    let shown = |(name, value): (&String, &Json)| {
        let (value, deviation) = (value.as_f64()?, all["deviation"][split][name].as_f64()?);
        Some((name.clone(), format!("{} ± {}", metric(name, value), metric(name, deviation))))
    };
    metrics.iter().filter(|(name, _)| is_chief(name)).filter_map(shown).collect()
}

/// The result for people.
fn summary(all: &Json) -> String {
    let (folds, rows) = (&all["folds"], all["test"]["samples"].as_u64().unwrap_or_default());
    let mut text =
        format!("{folds} folds of {} rows: mean ± standard deviation of their metrics\n", count(rows));
    for split in Split::ALL.map(Split::name) {
        let metrics = chief(all, split);
        let metrics: Vec<_> =
            metrics.iter().map(|(name, of)| format!("{} {of}", metric_name(name))).collect();
        if !metrics.is_empty() {
            text.push_str(&format!("{split:<10}  {}\n", metrics.join("  ")));
        }
    }
    if let Some(metrics) = all["baseline"]["test"].as_object() {
        let shown = |(name, value): (&String, &Json)| {
            Some(format!("{} {}", metric_name(name), metric(name, value.as_f64()?)))
        };
        let metrics: Vec<_> = metrics.iter().filter(|(name, _)| is_chief(name)).filter_map(shown).collect();
        text.push_str(&format!("{:<10}  {}  (test)\n", "baseline", metrics.join("  ")));
    }
    let path = all["run"].as_str().unwrap_or_default();
    text.push_str(&format!("report: {path}/{REPORT}\npredictions: {path}/{PREDICTIONS}\n"));
    text
}

/// What the page shows.
fn report(manifest: &Manifest, text: String, all: &Json, tested: &[Tested]) -> FoldsReport {
    let names: Vec<String> = chief(all, "test").into_iter().map(|(name, _)| name).collect();
    let value =
        |of: &Json, name: &str| of[name].as_f64().map_or("–".to_owned(), |value| metric(name, value));
    let values = |of: &Json| names.iter().map(|name| value(of, name)).collect();
    let row = |(i, one): (usize, &Json)| FoldRow {
        folder: fold_folder(i as u32 + 1),
        rows: one["test"]["samples"].as_u64().unwrap_or_default(),
        values: values(&one["test"]),
    };
    let each = all["each"].as_array().map_or(&[][..], Vec::as_slice);
    FoldsReport {
        name: manifest.name.clone(),
        manifest: text,
        rows: all["test"]["samples"].as_u64().unwrap_or_default(),
        train_seconds: all["train_seconds"].as_f64().unwrap_or_default(),
        tiles: {
            // The most telling one comes first: one that is not the loss.
            let (loss, mut others): (Vec<_>, Vec<_>) =
                chief(all, "test").into_iter().partition(|(name, _)| name == MetricName::Loss.name());
            others.extend(loss);
            others
        },
        each: each.iter().enumerate().map(row).collect(),
        all: vec![
            ("Mean".into(), values(&all["test"])),
            ("Deviation".into(), values(&all["deviation"]["test"])),
            ("On training data".into(), values(&all["train"])),
            ("Baseline".into(), values(&all["baseline"]["test"])),
        ],
        confusion: confusion(tested),
        regression: regression(tested),
        names,
    }
}

/// Which classes were taken for which, over all folds.
fn confusion(tested: &[Tested]) -> Option<ConfusionTable> {
    let Meaning::Classes { names: classes, .. } = &tested.first()?.meaning else { return None };
    if classes.len() > CLASSES || tested.iter().any(|one| one.meaning.names() != classes) {
        return None;
    }
    let mut counts = vec![vec![0; classes.len()]; classes.len()];
    for row in tested.iter().flat_map(|one| &one.rows) {
        let actual = row.targets.first().map_or(0, |class| *class as usize);
        if let Some(cell) = counts.get_mut(actual).and_then(|own| own.get_mut(row.class)) {
            *cell += 1;
        }
    }
    Some(ConfusionTable {
        split: "out of fold".into(),
        classes: classes.clone(),
        counts,
        samples: Vec::new(),
    })
}

/// Targets and predictions over all folds.
fn regression(tested: &[Tested]) -> Vec<Regression> {
    let Some(Meaning::Numbers(names)) = tested.first().map(|one| &one.meaning) else { return Vec::new() };
    let rows: Vec<&TestedRow> = tested.iter().flat_map(|one| &one.rows).collect();
    // Of many, evenly spread ones.
    let every = rows.len().div_ceil(PAIRS).max(1);
    let pair = |row: &&TestedRow, i: usize| Some((*row.targets.get(i)?, *row.numbers.get(i)?));
    let of = |(i, name): (usize, &String)| Regression {
        split: "out of fold".into(),
        target: name.clone(),
        pairs: rows.iter().step_by(every).filter_map(|row| pair(row, i)).collect(),
    };
    names.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_put_together_one_by_one() {
        let folds = [
            json!({ "samples": 3, "loss": 1.0, "auc": 0.5, "targets": { "a": { "rmse": 2.0 } } }),
            json!({ "samples": 4, "loss": 2.0, "targets": { "a": { "rmse": 4.0 } } }),
            json!({ "samples": 5, "loss": 6.0, "auc": 0.7, "targets": { "a": { "rmse": 6.0 } } }),
        ];
        let all: Vec<&Json> = folds.iter().collect();
        // What a fold lacks has no mean.
        assert_eq!(over(&all, &mean), json!({ "loss": 3.0, "targets": { "a": { "rmse": 4.0 } } }));
        assert_eq!(over(&all, &deviation)["targets"], json!({ "a": { "rmse": 2.0 } }));
        assert_eq!(over(&all, &deviation)["loss"], 7f64.sqrt());
    }
}

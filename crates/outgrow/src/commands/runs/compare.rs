//! Several runs side by side: what they came to, the keys of their manifests that differ, and with `--html` a page with
//! their curves over each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_train::spec::MetricName;
use serde_json::{Value as Json, json};

use super::past::PastRun;
use super::{names, table};
use crate::cli::CompareArgs;
use crate::commands::table::aligned;
use crate::context::{Context, Failure};
use crate::latest::followed;
use crate::report::format::metric_name;
use crate::report::{Plot, Series, Style, comparison_page, scale};

/// Most runs whose curves are in one plot.
const DRAWN: usize = 6;
/// Most characters of a value that stand in a line of text.
const SHOWN: usize = 40;

pub(super) fn run(folder: &Path, args: &CompareArgs, context: &Context) -> Result<(), Failure> {
    let storage = &*context.world.storage;
    let mut runs = Vec::new();
    for run in &args.runs {
        runs.push(PastRun::read(storage, &place(folder, run, context)?)?);
    }
    let keys = differing(&runs);
    if let Some(path) = &args.html {
        storage.write(path, page(&runs, &keys).as_bytes()).map_err(|e| {
            Diagnostic::new("runs.html", e.to_string()).file(path).hint("choose another file for --html")
        })?;
    }
    let json = json!({
        "runs": runs.iter().map(PastRun::to_json).collect::<Vec<Json>>(),
        "differing": keys,
        "html": args.html,
    });
    let text = format!("{}\n{}", aligned(&table(&runs)), aligned(&lines(&runs, &keys, SHOWN)));
    Ok(context.answer(&json, &text)?)
}

/// The folder of a run, by its name among the runs or by its path.
fn place(folder: &Path, run: &Path, context: &Context) -> Result<PathBuf, Diagnostics> {
    let storage = &*context.world.storage;
    let places = [folder.join(run), run.to_owned()].map(|path| followed(storage, &path));
    if let Some(place) = places.into_iter().find(|place| PastRun::is_at(storage, place)) {
        return Ok(place);
    }
    let known = names(storage, folder).unwrap_or_default();
    let diagnostic =
        Diagnostic::new("runs.unknown", format!("there is no run `{}`", run.display())).file(folder);
    Err(if known.is_empty() {
        diagnostic.hint("`--folder` names the folder in which the runs are").into()
    } else {
        diagnostic.expected(format!("the folder of a run, or one of: {}", known.join(", "))).into()
    })
}

/// The keys of manifests whose values are not the same in all runs, with each run's value; null where it has none.
fn differing(runs: &[PastRun]) -> BTreeMap<String, Vec<Json>> {
    let flat: Vec<BTreeMap<String, Json>> = runs
        .iter()
        .map(|run| {
            let mut flat = BTreeMap::new();
            flatten("", &run.manifest, &mut flat);
            flat
        })
        .collect();
    let keys: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    let values = |key: &String| flat.iter().map(|own| own.get(key).cloned().unwrap_or_default()).collect();
    let all = keys.into_iter().map(|key| (key.clone(), values(key)));
    all.filter(|(_, values): &(String, Vec<Json>)| values.iter().any(|value| *value != values[0])).collect()
}

/// The values of a manifest by their paths, lists as one value each.
fn flatten(path: &str, json: &Json, flat: &mut BTreeMap<String, Json>) {
    match json {
        Json::Object(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, flat);
            }
        }
        value => drop(flat.insert(path.to_owned(), value.clone())),
    }
}

/// A line for each key that differs, with values of at most so many characters.
fn lines(runs: &[PastRun], keys: &BTreeMap<String, Vec<Json>>, most: usize) -> Vec<Vec<String>> {
    let cut = |value: &Json| {
        let text = if value.is_null() { "–".to_owned() } else { value.to_string() };
        if text.chars().count() <= most { text } else { text.chars().take(most - 1).chain(['…']).collect() }
    };
    let title = [vec!["key".to_owned()], runs.iter().map(PastRun::name).collect()].concat();
    let line =
        |(key, values): (&String, &Vec<Json>)| [vec![key.clone()], values.iter().map(cut).collect()].concat();
    [title].into_iter().chain(keys.iter().map(line)).collect()
}

fn page(runs: &[PastRun], keys: &BTreeMap<String, Vec<Json>>) -> String {
    let drawn = &runs[..runs.len().min(DRAWN)];
    let names: Vec<String> = drawn.iter().map(PastRun::name).collect();
    let mut subtitle = names.join(", ");
    if drawn.len() < runs.len() {
        subtitle.push_str(&format!(" (and {} without curves)", runs.len() - drawn.len()));
    }
    let parts =
        ["train", "validation"].into_iter().flat_map(|split| MetricName::ALL.map(|m| (split, m.name())));
    let plots: Vec<Plot> = parts.filter_map(|(split, metric)| plot(drawn, split, metric)).collect();
    let differing = lines(runs, keys, usize::MAX);
    comparison_page(
        "Runs side by side",
        &subtitle,
        &plots,
        &[("Runs", table(runs)), ("What differs", differing)],
    )
}

/// The curves of a metric, if a run has it.
fn plot(runs: &[PastRun], split: &str, metric: &str) -> Option<Plot> {
    let series = |run: &PastRun| {
        let of = run.lines.iter().filter(|line| line["split"] == split);
        let points: Vec<(f64, f64)> =
            of.filter_map(|line| Some((line["step"].as_f64()?, line[metric].as_f64()?))).collect();
        let style = if points.len() > 60 { Style::Smoothed } else { Style::DottedLine };
        Series { name: run.name(), points, style }
    };
    // A run has its colour in all plots, also where others have no such metric.
    let series: Vec<Series> = runs.iter().map(series).collect();
    series.iter().any(|one| !one.points.is_empty()).then(|| Plot {
        title: format!("{split} {} by step", metric_name(metric)),
        x_label: "step".into(),
        y_scale: scale(metric, series.iter().map(|one| one.points.as_slice())),
        series,
        ..Plot::default()
    })
}

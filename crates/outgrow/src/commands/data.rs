//! `outgrow data prepare|inspect|verify`: the data of a manifest, before any training.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use outgrow_data::{Dataset, PrepareOptions, Prepared, Split, prepare};
use outgrow_env::{LocalStorage, StorageBackend};
use outgrow_transform::Target;
use serde_json::{Value as Json, json};

use super::places::{data_cache, data_roots, threads};
use super::{Context, Failure};
use crate::cli::{DataAction, DataActionArgs, DataArgs, ManifestArgs};
use crate::manifest::Manifest;
use crate::report::Cleaning;
use crate::report::format::count;

/// Runs one of the three.
pub fn run(args: &DataArgs, context: &Context) -> Result<(), Failure> {
    match &args.action {
        DataAction::Prepare(args) => {
            let (dataset, prepared) = open(args, context)?;
            let text = format!("{}{}", headline(&prepared), rows(&dataset));
            Ok(context.answer(&summary(&dataset, &prepared), &text)?)
        }
        DataAction::Inspect(args) => {
            let (dataset, prepared) = open(args, context)?;
            let text = format!("{}{}{}", headline(&prepared), schema(&dataset), rows(&dataset));
            let mut json = summary(&dataset, &prepared);
            json["schema"] = serde_json::to_value(dataset.schema()).unwrap_or_default();
            json["classes"] = class_counts(&dataset);
            Ok(context.answer(&json, &text)?)
        }
        DataAction::Verify(args) => {
            let (dataset, prepared) = open(args, context)?;
            dataset.verify()?;
            let mut json = summary(&dataset, &prepared);
            json["verified"] = Json::Bool(true);
            Ok(context
                .answer(&json, &format!("{}every shard is as it was written\n", headline(&prepared)))?)
        }
    }
}

fn open(args: &DataActionArgs, context: &Context) -> Result<(Dataset, Prepared), Failure> {
    let manifest = context.manifest(&args.manifest)?;
    prepare_data(&manifest, &args.manifest, threads(args.threads)?, Arc::new(LocalStorage::new()), context)
}

/// Prepares the data of a manifest, or finds that it is prepared already, and opens it. Progress goes to stderr.
pub fn prepare_data(
    manifest: &Manifest,
    args: &ManifestArgs,
    threads: usize,
    storage: Arc<dyn StorageBackend>,
    context: &Context,
) -> Result<(Dataset, Prepared), Failure> {
    let progress = context.progress();
    let options = PrepareOptions {
        storage: storage.clone(),
        roots: data_roots(manifest, args, &context.environment),
        cache: data_cache(manifest, args, &context.environment),
        seed: manifest.seed,
        threads,
        progress: &|at| progress.phase(at.phase, at.done, at.total),
    };
    let prepared = prepare(&manifest.spec.data, &options);
    progress.finish();
    let prepared = prepared.map_err(|found| manifest.locate(found))?;
    let dataset = Dataset::open(storage, &prepared.folder)?;
    Ok((dataset, prepared))
}

/// What happened to the data, for the report.
pub fn cleaning(dataset: &Dataset) -> Cleaning {
    let report = dataset.report();
    Cleaning {
        rows_in: report.rows_in(),
        rows_left: report.rows_out(),
        dropped: report.dropped(),
        filled: report.filled(),
        splits: Split::ALL.iter().map(|split| (split.name().to_owned(), dataset.stored(*split))).collect(),
    }
}

fn headline(prepared: &Prepared) -> String {
    let what = if prepared.reused { "prepared before" } else { "prepared" };
    format!("{what}: {}\n", prepared.folder.display())
}

/// What came in, what is left, and why.
fn rows(dataset: &Dataset) -> String {
    let cleaning = cleaning(dataset);
    let mut text = format!("rows: {} in, {} left\n", count(cleaning.rows_in), count(cleaning.rows_left));
    for (title, entries) in
        [("left out", &cleaning.dropped), ("filled in", &cleaning.filled), ("split", &cleaning.splits)]
    {
        for (name, rows) in entries {
            let _ = writeln!(text, "  {title}: {name}: {}", count(*rows));
        }
    }
    text
}

/// The inputs and the target, with how often each class occurs.
fn schema(dataset: &Dataset) -> String {
    let schema = dataset.schema();
    let mut text = String::new();
    for field in &schema.inputs {
        let shape: Vec<_> = field.shape.iter().map(usize::to_string).collect();
        let _ = writeln!(text, "input: {}: {}[{}]", field.name, field.dtype.name(), shape.join(", "));
    }
    match &schema.target {
        Target::Class { names } => {
            let _ = writeln!(text, "target: one of {} classes", names.len());
            let per_split: Vec<_> = Split::ALL.iter().map(|split| dataset.class_counts(*split)).collect();
            for (class, name) in names.iter().enumerate() {
                let counts: Vec<_> = Split::ALL
                    .iter()
                    .zip(&per_split)
                    .filter_map(|(split, counts)| {
                        Some(format!("{} {}", split.name(), count(*counts.get(class)?)))
                    })
                    .collect();
                let _ = writeln!(text, "  {name}: {}", counts.join(", "));
            }
        }
        Target::Regression { width: 1 } => text.push_str("target: a number\n"),
        Target::Regression { width } => {
            let _ = writeln!(text, "target: {width} numbers");
        }
        Target::Tokens { vocab } => {
            let _ = writeln!(text, "target: the next of {vocab} tokens");
        }
    }
    text
}

fn class_counts(dataset: &Dataset) -> Json {
    let splits =
        Split::ALL.iter().map(|split| (split.name().to_owned(), Json::from(dataset.class_counts(*split))));
    Json::Object(splits.collect())
}

fn summary(dataset: &Dataset, prepared: &Prepared) -> Json {
    let cleaning = cleaning(dataset);
    let object = |entries: &[(String, u64)]| -> Json {
        Json::Object(entries.iter().map(|(name, rows)| (name.clone(), Json::from(*rows))).collect())
    };
    json!({
        "data": path(&prepared.folder),
        "fingerprint": prepared.fingerprint,
        "reused": prepared.reused,
        "rows_in": cleaning.rows_in,
        "rows_left": cleaning.rows_left,
        "left_out": object(&cleaning.dropped),
        "filled_in": object(&cleaning.filled),
        "splits": object(&cleaning.splits),
    })
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

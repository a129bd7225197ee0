//! `outgrow data prepare|inspect|verify|bench|get`: data before any training.

mod bench;
mod inspect;
mod verify;

use std::fmt::Write as _;
use std::path::Path;

use outgrow_data::{Dataset, Prepared, Split};
use outgrow_transform::Target;
use serde_json::{Value as Json, json};

use crate::cli::{DataAction, DataActionArgs, DataArgs};
use crate::context::{Context, Failure};
use crate::places::threads;
use crate::report::Cleaning;
use crate::report::format::{count, counted};
use crate::session::open::{OpenData, open_data};

/// Runs one of them.
pub fn run(args: &DataArgs, context: &Context) -> Result<(), Failure> {
    match &args.action {
        DataAction::Get(args) => super::get::run(args, context),
        DataAction::Prepare(args) => {
            let opened = open(args, context)?;
            let mut text = format!("{}{}", headline(&opened.prepared), rows(&opened.dataset));
            let mut json = summary(&opened.dataset, &opened.prepared);
            if let Some((replicas, version)) = &opened.replicas {
                let _ = writeln!(text, "version {} of `{}`", version.number, replicas.name);
                json["version"] = Json::from(version.number);
            }
            Ok(context.answer(&json, &text)?)
        }
        DataAction::Inspect(args) => inspect::run(args, context),
        DataAction::Verify(args) => verify::run(args, context),
        DataAction::Bench(args) => bench::run(args, context),
    }
}

fn open(args: &DataActionArgs, context: &Context) -> Result<OpenData, Failure> {
    let manifest = context.manifest(&args.manifest)?;
    open_data(&manifest, &args.manifest, threads(args.threads)?, context, None)
}

fn headline(prepared: &Prepared) -> String {
    let what = if prepared.reused { "prepared before" } else { "prepared" };
    format!("{what}: {}\n", prepared.folder.display())
}

/// What came in, what is left, and why.
fn rows(dataset: &Dataset) -> String {
    let cleaning = Cleaning::of(dataset);
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
            let _ = writeln!(text, "target: one of {}", counted(names.len() as u64, "class"));
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
            let _ = writeln!(text, "target: the next of {}", counted(*vocab as u64, "token"));
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
    let cleaning = Cleaning::of(dataset);
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

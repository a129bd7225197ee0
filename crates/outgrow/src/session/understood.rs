//! What a run takes its data for, in a few lines at its beginning: what was misread shows before it is trained on.

use outgrow_data::{Dataset, Split};
use outgrow_runtime::KernelPath;
use outgrow_train::spec::{Interval, Precision, Train};
use outgrow_transform::{ColumnKind, Role, Target};

use crate::context::Context;
use crate::report::format::{count, counted, metric_name, number};

/// Most names that stand in a line.
const NAMES_MAX: usize = 10;

/// The lines: rows and splits, what the model sees, what it is to predict.
pub fn understood(data: &Dataset) -> String {
    let lines = [("data", rows(data)), ("sees", inputs(data)), ("predicts", target(data))];
    let lines: Vec<String> = lines.iter().map(|(name, line)| format!("{name:<10}  {line}")).collect();
    lines.join("\n")
}

/// How so many rows are trained on, for a model that comes with a training of its own.
pub fn pretuned(train: &Train, rows: u64) -> String {
    let length = match train.length {
        Interval::Epochs(epochs) => {
            let steps = counted(train.steps_per_epoch(rows), "step");
            format!("{} of {steps}", counted(epochs, "epoch"))
        }
        Interval::Steps(steps) => counted(steps, "step"),
    };
    let kept = train.early_stopping.filter(|stop| stop.restore_best).map_or(String::new(), |stop| {
        format!("; the epoch with the best validation {} is kept", metric_name(stop.metric.name()))
    });
    let (batch, lr) = (counted(train.batch as u64, "row"), number(train.lr));
    format!(
        "{:<10}  {length} of {batch}, learning rate {lr}{kept}: the model's own, where `[train]` says nothing",
        "trains"
    )
}

/// Says what is computed with, where that was left open, or these kernels compute something else than was asked for.
pub fn say_precision(asked: Precision, chosen: Precision, path: KernelPath, context: &Context) {
    let splits = path.with_products(chosen.products()) != path;
    let why = match (asked, chosen) {
        (Precision::Auto, Precision::Bf16x3) => {
            format!("of two bf16 parts a number (16 bits) on `{path}` kernels, by `auto`")
        }
        (Precision::Auto, _) => {
            format!("by `auto`: `{path}` kernels have nothing faster that is nearly as fine")
        }
        (_, Precision::Bf16x3) if !splits => {
            format!(
                "computed as f32, with the same bits: `{path}` kernels have nothing faster for it, amx kernels do"
            )
        }
        _ => return,
    };
    context.note(&format!("{:<10}  {}, {why}", "precision", chosen.name()));
}

fn rows(data: &Dataset) -> String {
    let split = |split: &Split| {
        let samples = data.samples(*split);
        (samples > 0).then(|| format!("{} {split}", count(samples)))
    };
    let splits: Vec<String> = Split::ALL.iter().filter_map(split).collect();
    let total: u64 = Split::ALL.iter().map(|split| data.samples(*split)).sum();
    let what = if data.transform().assembly.text.is_some() { "samples of text" } else { "rows" };
    let how = if data.report().stratified { ", each class in the same proportions" } else { "" };
    format!("{} {what}: {}{how}", count(total), splits.join(", "))
}

fn inputs(data: &Dataset) -> String {
    let transform = data.transform();
    if let Some(text) = &transform.assembly.text {
        return format!(
            "{} each, of {} different ones",
            counted(text.context as u64, "token"),
            text.vocabulary.len()
        );
    }
    let after = transform.chain.columns(&transform.columns);
    let (mut numbers, mut indicators, mut indexes) = (Vec::new(), Vec::new(), Vec::new());
    let mut parts = Vec::new();
    for column in after.0.iter().filter(|column| column.role == Role::Feature) {
        match &column.kind {
            ColumnKind::Number => numbers.push(column.name.clone()),
            ColumnKind::Category { size, indicators: true, .. } => {
                indicators.push(format!("{} {}", column.name, count(*size as u64)));
            }
            ColumnKind::Category { size, .. } => {
                indexes.push(format!("{} {}", column.name, count(*size as u64)));
            }
            ColumnKind::Image | ColumnKind::Text => {}
        }
    }
    if let Some(image) = &transform.assembly.image {
        let shape: Vec<String> = image.shape().iter().map(ToString::to_string).collect();
        parts.push(format!("images of {}", shape.join("×")));
    }
    let kinds = [
        ("number", "numbers", numbers),
        ("column as 0/1 for each of its values", "columns as 0/1 for each of their values", indicators),
        ("column as the index of its value", "columns as the index of their value", indexes),
    ];
    for (one, many, names) in kinds.iter().filter(|(.., names)| !names.is_empty()) {
        let what = if names.len() == 1 { one } else { many };
        parts.push(format!("{} {what} ({})", count(names.len() as u64), first(names)));
    }
    parts.join("; ")
}

fn target(data: &Dataset) -> String {
    let names = match data.schema().target {
        Target::Class { names } => names,
        Target::Tokens { .. } => return "the next token".to_owned(),
        Target::Regression { .. } => {
            let moments = data.transform().target_moments().iter();
            let one = |(name, m): (String, &outgrow_transform::TargetMoments)| {
                format!("{name} (mean {}, deviation {})", number(m.mean), number(m.deviation))
            };
            let each: Vec<String> =
                data.transform().target_names().into_iter().zip(moments).map(one).collect();
            let what = if each.len() == 1 { "a quantity" } else { "quantities" };
            return format!("{what}: {}", first(&each));
        }
    };
    let mut counts = vec![0; names.len()];
    for split in Split::ALL {
        counts.iter_mut().zip(data.class_counts(split)).for_each(|(sum, n)| *sum += n);
    }
    let classes: Vec<String> =
        names.iter().zip(counts).map(|(name, n)| format!("{name} {}", count(n))).collect();
    format!("one of {}: {}", counted(names.len() as u64, "class"), first(&classes))
}

/// The first of many names, and how many more there are.
fn first(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {} more", count(more as u64)),
    }
}

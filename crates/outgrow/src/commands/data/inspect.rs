//! `outgrow data inspect`: what the data holds before and after preparation, in the terminal and as a page.

use std::fmt::Write as _;

use outgrow_data::profile::{Duplicates, NumberProfile, Profile, profile};
use outgrow_data::{Inspection, PrepareOptions, Split};
use outgrow_ir::Diagnostic;
use outgrow_transform::Target;
use serde_json::Value as Json;

use super::{headline, rows, schema, summary};
use crate::cli::InspectArgs;
use crate::commands::table::aligned;
use crate::context::{Context, Failure};
use crate::places::{data_cache, data_roots, remote, threads};
use crate::report::data_page::{DataPage, Picture, data_page, missing, texts_in_words};
use crate::report::format::{counted, number};
use crate::report::{Bitmap, Cleaning};
use crate::session::open::{OpenData, open_data};

/// Inspects, and writes a page if asked to.
pub fn run(args: &InspectArgs, context: &Context) -> Result<(), Failure> {
    let manifest = context.manifest(&args.action.manifest)?;
    let threads = threads(args.action.threads)?;
    let opened = open_data(&manifest, &args.action.manifest, threads, context, None)?;
    let OpenData { dataset, prepared, .. } = &opened;
    let inspection = dataset.inspect()?;
    let progress = context.progress();
    let options = PrepareOptions {
        storage: context.world.storage.clone(),
        remote: remote(&context.environment)?,
        roots: data_roots(&manifest, &args.action.manifest, &context.environment),
        cache: data_cache(&manifest, &args.action.manifest, &context.environment),
        seed: manifest.seed,
        threads,
        progress: &|at| progress.phase(at.phase, at.done, at.total),
    };
    let profile = profile(&manifest.spec.data, &options);
    progress.finish();
    let profile = match profile {
        Ok(profile) => profile,
        // Replicated data can be here without its source.
        Err(found) if opened.replicas.is_some() => {
            context.note(&format!("the source cannot be read, so only what is stored is shown: {found}"));
            None
        }
        Err(found) => return Err(manifest.locate(found).into()),
    };
    let mut json = summary(dataset, prepared);
    json["schema"] = serde_json::to_value(dataset.schema()).unwrap_or_default();
    json["classes"] = super::class_counts(dataset);
    json["stored"] = serde_json::to_value(&inspection.ranges).unwrap_or_default();
    let mut text = format!("{}{}{}", headline(prepared), schema(dataset), rows(dataset));
    text.push_str(&stored(&inspection));
    if let Some(profile) = &profile {
        text.push_str(&columns(profile));
        text.push_str(&duplicates(&profile.duplicates));
        json["columns"] = serde_json::to_value(&profile.columns).unwrap_or_default();
        json["duplicates"] = serde_json::to_value(&profile.duplicates).unwrap_or_default();
    }
    if let Some(path) = &args.html {
        let page = page(&manifest.name, &opened, &inspection, profile.as_ref());
        context.world.storage.write(path, data_page(&page).as_bytes()).map_err(|e| {
            Diagnostic::new("data.page", e.to_string()).item("--html").hint("the folder must exist")
        })?;
        json["page"] = Json::from(path.display().to_string());
        let _ = writeln!(text, "page: {}", path.display());
    }
    Ok(context.answer(&json, &text)?)
}

/// The ranges of what is stored: what the model sees, before normalisation of images.
fn stored(inspection: &Inspection) -> String {
    if inspection.ranges.is_empty() {
        return String::new();
    }
    let mut table = vec![["stored", "min", "max", "mean", "deviation"].map(str::to_owned).to_vec()];
    for range in inspection.ranges.iter().take(STORED_LINES) {
        let numbers = [range.min, range.max, range.mean, range.deviation].map(number);
        table.push([range.name.clone()].into_iter().chain(numbers).collect());
    }
    format!("{}{}", aligned(&table), more(inspection.ranges.len(), STORED_LINES))
}

/// Columns in the terminal.
const LINES: usize = 40;
/// Stored features in the terminal: they follow from the columns.
const STORED_LINES: usize = 12;

fn more(lines: usize, shown: usize) -> String {
    match lines.saturating_sub(shown) {
        0 => String::new(),
        n => format!("… and {n} more; --json and --html have all of them\n"),
    }
}

/// The raw columns.
fn columns(profile: &Profile) -> String {
    let mut table =
        vec![["column", "kind", "role", "missing", "values (training split)"].map(str::to_owned).to_vec()];
    for column in profile.columns.iter().take(LINES) {
        let train = &column.splits[Split::Train.index()];
        let role = serde_json::to_value(column.role).unwrap_or_default();
        table.push(vec![
            column.name.clone(),
            column.kind.clone(),
            role.as_str().unwrap_or_default().to_owned(),
            missing(column),
            match (&train.numbers, &train.texts) {
                (Some(numbers), _) => numbers_in_words(numbers),
                (None, Some(texts)) => texts_in_words(texts),
                (None, None) => String::new(),
            },
        ]);
    }
    format!("{}{}", aligned(&table), more(profile.columns.len(), LINES))
}

fn numbers_in_words(numbers: &NumberProfile) -> String {
    let [low, _, median, _, high] = numbers.percentiles.map(number);
    let (min, max) = (number(numbers.min), number(numbers.max));
    format!("{min} … {low} … {median} … {high} … {max}")
}

/// What repeats, and what is in two splits.
fn duplicates(found: &Duplicates) -> String {
    let mut text = String::new();
    for (split, repeated) in Split::ALL.iter().zip(found.repeated) {
        if repeated > 0 {
            let repeat = if repeated == 1 { "repeats" } else { "repeat" };
            let records = counted(repeated, "record");
            let _ = writeln!(text, "duplicates: {records} of {split} {repeat} an earlier one");
        }
    }
    if found.contradictions > 0 {
        let _ = writeln!(
            text,
            "contradictions: {} with different labels in different places",
            counted(found.contradictions, "record")
        );
    }
    for leak in &found.leaks {
        let _ = writeln!(
            text,
            "warning: leakage: {} of {} found in {} as well (all columns but the label)",
            counted(leak.records, "record"),
            leak.of,
            leak.and
        );
    }
    if found.cut {
        text.push_str("there are too many different records: later ones were not compared\n");
    }
    if text.is_empty() { "duplicates: none\n".into() } else { text }
}

/// The name of the class that a label stands for, where labels are numbers.
fn class_name(dataset: &outgrow_data::Dataset, label: &str) -> String {
    let Target::Class { names } = dataset.schema().target else { return label.to_owned() };
    let number = label.parse::<usize>().ok();
    number.and_then(|i| names.get(i)).map_or_else(|| label.to_owned(), Clone::clone)
}

fn page(name: &str, opened: &OpenData, inspection: &Inspection, profile: Option<&Profile>) -> DataPage {
    let splits = &inspection.splits;
    let classes = splits.first().map(|s| s.classes.len()).unwrap_or_default();
    let picture = |image: &outgrow_data::profile::SampleImage| Picture {
        label: class_name(&opened.dataset, &image.label),
        image: Bitmap::from_planes(
            image.pixels.channels,
            image.pixels.height,
            image.pixels.width,
            &image.pixels.data,
        ),
    };
    DataPage {
        name: name.to_owned(),
        source: inspection.source.clone(),
        samples: splits.iter().map(|s| (s.split.name().to_owned(), s.samples)).collect(),
        bytes: splits.iter().map(|s| s.bytes).sum(),
        classes: (0..classes)
            .map(|i| (splits[0].classes[i].0.clone(), splits.iter().map(|s| s.classes[i].1).collect()))
            .collect(),
        columns: profile.map(|p| p.columns.clone()).unwrap_or_default(),
        duplicates: profile.map(|p| p.duplicates.clone()),
        pictures: profile.map(|p| p.images.iter().map(picture).collect()).unwrap_or_default(),
        ranges: inspection.ranges.clone(),
        vocabulary: inspection.vocabulary.clone(),
        cleaning: Cleaning::of(&opened.dataset),
    }
}

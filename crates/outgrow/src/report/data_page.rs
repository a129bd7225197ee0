//! The page of a data set, for `outgrow data inspect --html`: splits, classes, columns with their distributions,
//! duplicates, sample images.

use std::fmt::Write as _;

use outgrow_data::profile::{ColumnProfile, Duplicates, NumberProfile, SplitColumn, TextProfile};
use outgrow_data::{Split, ValueRange};

use outgrow_transform::Role;

use super::format::{bytes, capital, count, escape, number, percent, short_count};
use super::frame::{card, header, page, wide_card};
use super::plot::{Plot, Series, Style};
use super::{Bitmap, Cleaning, charts};

/// Everything that the page shows.
#[derive(Clone, Debug)]
pub struct DataPage {
    /// The manifest's name.
    pub name: String,
    /// The kind of source.
    pub source: String,
    /// Samples of each split.
    pub samples: Vec<(String, u64)>,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Classes and their samples in each split.
    pub classes: Vec<(String, Vec<u64>)>,
    /// The raw columns.
    pub columns: Vec<ColumnProfile>,
    /// Records that occur more than once.
    pub duplicates: Option<Duplicates>,
    /// Some images.
    pub pictures: Vec<Picture>,
    /// Ranges of what is stored.
    pub ranges: Vec<ValueRange>,
    /// The characters of a text's vocabulary.
    pub vocabulary: Option<String>,
    /// What preparation did to the records.
    pub cleaning: Cleaning,
}

/// An image with its label.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its label.
    pub label: String,
    /// The image.
    pub image: Bitmap,
}

/// The part of all records whose value is missing.
pub fn missing(column: &ColumnProfile) -> String {
    let sum = |of: fn(&SplitColumn) -> u64| column.splits.iter().map(of).sum::<u64>();
    let (missing, records) = (sum(|s| s.missing), sum(|s| s.records));
    if missing == 0 { "–".into() } else { percent(missing as f64 / records as f64) }
}

/// The most frequent texts, as far as a line goes.
pub fn texts_in_words(texts: &TextProfile) -> String {
    let sign = if texts.more { "more than " } else { "" };
    let mut line = format!("{sign}{} different:", count(texts.different));
    for (text, times) in &texts.top {
        let text = text.replace(['\n', '\r', '\t'], " ");
        let next = format!(" {text} ({})", count(*times));
        if line.chars().count() + next.chars().count() > 90 {
            break;
        }
        line.push_str(&next);
    }
    line
}

/// Classes in the chart; the others are only counted.
const MAX_CLASSES: usize = 60;
/// Columns with a plot.
const MAX_PLOTS: usize = 60;
/// Columns in the table.
const MAX_COLUMNS: usize = 500;
/// Bars of a distribution.
const BINS: usize = 32;

/// The page: one file of HTML with everything in it.
pub fn data_page(data: &DataPage) -> String {
    let mut cards = String::new();
    cards.push_str(&classes(data));
    cards.push_str(&pictures(&data.pictures));
    cards.push_str(&warnings(data.duplicates.as_ref()));
    cards.push_str(&charts::cleaning(&data.cleaning));
    cards.push_str(&columns(&data.columns));
    // The classes have a chart of their own.
    let plotted = data.columns.iter().filter(|c| data.classes.is_empty() || c.role != Role::Label);
    cards.push_str(&plotted.filter_map(distribution).take(MAX_PLOTS).collect::<String>());
    cards.push_str(&stored(&data.ranges));
    if let Some(vocabulary) = &data.vocabulary {
        let shown = vocabulary.escape_debug().to_string();
        cards.push_str(&wide_card("Vocabulary", &format!("<pre><code>{}</code></pre>", escape(&shown))));
    }
    let subtitle = format!("data from {}", data.source);
    let body = format!("{}{}<div class=\"cards\">{cards}</div>", header(&data.name, &subtitle), tiles(data));
    page(&data.name, &body)
}

fn tiles(data: &DataPage) -> String {
    let mut tiles: Vec<(String, String)> =
        data.samples.iter().map(|(split, n)| (short_count(*n as f64), format!("{split} samples"))).collect();
    if !data.columns.is_empty() {
        tiles.push((count(data.columns.len() as u64), "columns".into()));
    }
    if !data.classes.is_empty() {
        tiles.push((count(data.classes.len() as u64), "classes".into()));
    }
    tiles.push((bytes(data.bytes), "prepared".into()));
    let tiles = tiles.iter().enumerate().map(|(i, (value, name))| {
        let class = if i == 0 { "tile first" } else { "tile" };
        format!(r#"<div class="{class}"><dd>{value}</dd><dt>{}</dt></div>"#, escape(name))
    });
    format!(r#"<dl class="tiles">{}</dl>"#, tiles.collect::<String>())
}

/// How many samples each class has.
fn classes(data: &DataPage) -> String {
    if data.classes.is_empty() {
        return String::new();
    }
    let train = |counts: &[u64]| counts.first().copied().unwrap_or(0);
    let most = data.classes.iter().map(|(_, counts)| train(counts)).max().unwrap_or(1).max(1);
    let all: u64 = data.classes.iter().map(|(_, counts)| train(counts)).sum();
    let head: String =
        data.samples.iter().map(|(split, _)| format!("<th class=\"n\">{}</th>", capital(split))).collect();
    let rows: String = data
        .classes
        .iter()
        .take(MAX_CLASSES)
        .map(|(name, counts)| {
            let cells: String = counts.iter().map(|n| format!("<td class=\"n\">{}</td>", count(*n))).collect();
            format!(
                "<tr><th>{}</th><td class=\"bar\"><span style=\"width:{:.1}%\"></span></td>{cells}<td class=\"n\">{}</td></tr>",
                escape(name),
                train(counts) as f64 / most as f64 * 100.0,
                percent(train(counts) as f64 / all.max(1) as f64)
            )
        })
        .collect();
    let more = match data.classes.len().saturating_sub(MAX_CLASSES) {
        0 => String::new(),
        n => format!("<p class=\"note\">… and {} more</p>", count(n as u64)),
    };
    let table = format!(
        "<div class=\"scroll\"><table class=\"ops\"><tr><th>Class</th><th></th>{head}<th class=\"n\">Share</th></tr>{rows}</table></div>{more}"
    );
    wide_card("Classes", &table)
}

fn pictures(pictures: &[Picture]) -> String {
    let figures: String = pictures
        .iter()
        .filter_map(|picture| {
            let label = escape(&picture.label);
            let uri = picture.image.data_uri()?;
            Some(format!(
                "<figure><img src=\"{uri}\" alt=\"{label}\"><figcaption>{label}</figcaption></figure>"
            ))
        })
        .collect();
    if figures.is_empty() {
        return String::new();
    }
    wide_card("Some training images", &format!("<div class=\"gallery\">{figures}</div>"))
}

/// Duplicates, contradictions and leakage.
fn warnings(found: Option<&Duplicates>) -> String {
    let Some(found) = found else { return String::new() };
    let mut rows = String::new();
    let mut row = |name: &str, value: u64, about: &str| {
        let _ = write!(
            rows,
            "<tr><th>{name}</th><td class=\"n\">{}</td><td class=\"fact\">{about}</td></tr>",
            count(value)
        );
    };
    for (split, repeated) in Split::ALL.iter().zip(found.repeated) {
        row(&format!("Repeated in {split}"), repeated, "they weigh double");
    }
    for leak in &found.leaks {
        let about = "a model is judged by what it was trained on";
        let about = if leak.and == Split::Train { about } else { "both judge a model by the same records" };
        row(&format!("Of {} also in {}", leak.of, leak.and), leak.records, about);
    }
    row("Contradictions", found.contradictions, "equal records with different labels");
    let note = "<p class=\"note\">Records are the same when all their columns but the label are.</p>";
    card("Duplicates and leakage", &format!("<table>{rows}</table>{note}"))
}

fn columns(columns: &[ColumnProfile]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let rows: String = columns
        .iter()
        .take(MAX_COLUMNS)
        .map(|column| {
            let train = &column.splits[Split::Train.index()];
            let values = match (&train.numbers, &train.texts) {
                (Some(n), _) => format!(
                    "{} to {}, mean {}, median {}",
                    number(n.min),
                    number(n.max),
                    number(n.mean),
                    number(n.percentiles[2])
                ),
                (None, Some(texts)) => escape(&texts_in_words(texts)),
                (None, None) => String::new(),
            };
            let role = serde_json::to_value(column.role).unwrap_or_default();
            format!(
                "<tr><th>{}</th><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"fact\">{values}</td></tr>",
                escape(&column.name),
                escape(&column.kind),
                role.as_str().unwrap_or_default(),
                missing(column)
            )
        })
        .collect();
    let head = "<tr><th>Column</th><th>Kind</th><th>Role</th><th class=\"n\">Missing</th><th>Values (training split)</th></tr>";
    wide_card("Columns", &format!("<div class=\"scroll\"><table>{head}{rows}</table></div>"))
}

/// How a column's numbers, or its most frequent texts, are distributed over the splits.
fn distribution(column: &ColumnProfile) -> Option<String> {
    let title = escape(&column.name);
    let numbers: Vec<(Split, &NumberProfile)> = Split::ALL
        .into_iter()
        .filter_map(|split| Some((split, column.splits[split.index()].numbers.as_ref()?)))
        .filter(|(_, numbers)| numbers.sample.len() > 1)
        .collect();
    if let Some((_, first)) = numbers.first() {
        let (low, high) = numbers
            .iter()
            .fold((first.min, first.max), |(low, high), (_, n)| (low.min(n.min), high.max(n.max)));
        if low >= high {
            return None;
        }
        let series = numbers.iter().map(|(split, numbers)| Series {
            name: split.name().to_owned(),
            points: histogram(&numbers.sample, low, high),
            style: Style::Line,
        });
        let plot = Plot {
            title: format!("distribution of {}", column.name),
            x_label: column.name.clone(),
            y_label: "share".into(),
            series: series.collect(),
            ..Plot::default()
        };
        return Some(card(&title, &plot.svg()));
    }
    let train = &column.splits[Split::Train.index()];
    let texts = train.texts.as_ref()?;
    let most = texts.top.first()?.1.max(1);
    let known = (train.records - train.missing).max(1);
    let rows: String = texts
        .top
        .iter()
        .map(|(text, times)| {
            let short: String = text.chars().take(60).collect();
            format!(
                "<tr><th>{}</th><td class=\"bar\"><span style=\"width:{:.1}%\"></span></td><td class=\"n\">{}</td></tr>",
                escape(&short),
                *times as f64 / most as f64 * 100.0,
                percent(*times as f64 / known as f64)
            )
        })
        .collect();
    Some(card(&title, &format!("<table class=\"ops\">{rows}</table>")))
}

/// The outline of a histogram: the share of values in each of equal steps from `low` to `high`.
fn histogram(sorted: &[f64], low: f64, high: f64) -> Vec<(f64, f64)> {
    let step = (high - low) / BINS as f64;
    let mut bins = [0usize; BINS];
    for value in sorted {
        bins[(((value - low) / step) as usize).min(BINS - 1)] += 1;
    }
    let mut points = vec![(low, 0.0)];
    for (i, n) in bins.iter().enumerate() {
        let share = *n as f64 / sorted.len().max(1) as f64;
        points.push((low + step * i as f64, share));
        points.push((low + step * (i + 1) as f64, share));
    }
    points.push((high, 0.0));
    points
}

fn stored(ranges: &[ValueRange]) -> String {
    if ranges.is_empty() {
        return String::new();
    }
    let rows: String = ranges
        .iter()
        .take(MAX_COLUMNS)
        .map(|range| {
            let cells: String = [range.min, range.max, range.mean, range.deviation]
                .map(|n| format!("<td class=\"n\">{}</td>", number(n)))
                .concat();
            format!("<tr><th>{}</th>{cells}</tr>", escape(&range.name))
        })
        .collect();
    let head = "<tr><th>Stored</th><th class=\"n\">Min</th><th class=\"n\">Max</th><th class=\"n\">Mean</th><th class=\"n\">Deviation</th></tr>";
    card("After preparation", &format!("<div class=\"scroll\"><table>{head}{rows}</table></div>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_hold_every_value() {
        let points = histogram(&[0.0, 0.1, 0.5, 1.0, 1.0], 0.0, 1.0);
        let total: f64 = points.iter().skip(1).step_by(2).take(BINS).map(|(_, share)| share).sum();
        assert!((total - 1.0).abs() < 1e-12);
        assert_eq!(points[1].1, 0.2);
        assert_eq!(points[points.len() - 2].1, 0.4);
    }
}

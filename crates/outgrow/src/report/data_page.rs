//! The page of a data set, for `outgrow data inspect --html`: splits, classes, columns with their distributions,
//! duplicates, sample images.

use maud::{Markup, PreEscaped, html};
use outgrow_data::profile::{ColumnProfile, Duplicates, NumberProfile, SplitColumn, TextProfile};
use outgrow_data::{Split, ValueRange};
use outgrow_transform::Role;

use super::format::{bytes, capital, count, number, percent, short_count};
use super::frame::{self, bar, card, header, page, wide_card};
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
    // The classes have a chart of their own.
    let plotted = data.columns.iter().filter(|c| data.classes.is_empty() || c.role != Role::Label);
    let body = html! {
        (header(&data.name, &format!("data from {}", data.source)))
        (tiles(data))
        div.cards {
            (classes(data))
            (pictures(&data.pictures))
            @if let Some(found) = &data.duplicates { (warnings(found)) }
            (charts::cleaning(&data.cleaning))
            (columns(&data.columns))
            @for plot in plotted.filter_map(distribution).take(MAX_PLOTS) { (plot) }
            (stored(&data.ranges))
            @if let Some(vocabulary) = &data.vocabulary {
                (wide_card("Vocabulary", &html! { pre { code { (vocabulary.escape_debug()) } } }))
            }
        }
    };
    page(&data.name, &body)
}

fn tiles(data: &DataPage) -> Markup {
    let mut tiles: Vec<(String, String)> =
        data.samples.iter().map(|(split, n)| (short_count(*n as f64), format!("{split} samples"))).collect();
    if !data.columns.is_empty() {
        tiles.push((count(data.columns.len() as u64), "columns".into()));
    }
    if !data.classes.is_empty() {
        tiles.push((count(data.classes.len() as u64), "classes".into()));
    }
    tiles.push((bytes(data.bytes), "prepared".into()));
    frame::tiles(&tiles)
}

/// How many samples each class has.
fn classes(data: &DataPage) -> Markup {
    if data.classes.is_empty() {
        return html! {};
    }
    let train = |counts: &[u64]| counts.first().copied().unwrap_or(0) as f64;
    let most = data.classes.iter().map(|(_, counts)| train(counts)).fold(1.0, f64::max);
    let all = data.classes.iter().map(|(_, counts)| train(counts)).sum::<f64>().max(1.0);
    let table = html! {
        div.scroll {
            table.ops {
                tr {
                    th { "Class" }
                    th {}
                    @for (split, _) in &data.samples { th.n { (capital(split)) } }
                    th.n { "Share" }
                }
                @for (name, counts) in data.classes.iter().take(MAX_CLASSES) {
                    tr {
                        th { (name) }
                        (bar(None, train(counts) / most))
                        @for n in counts { td.n { (count(*n)) } }
                        td.n { (percent(train(counts) / all)) }
                    }
                }
            }
        }
        @if data.classes.len() > MAX_CLASSES {
            p.note { "… and " (count((data.classes.len() - MAX_CLASSES) as u64)) " more" }
        }
    };
    wide_card("Classes", &table)
}

fn pictures(pictures: &[Picture]) -> Markup {
    let drawn: Vec<_> = pictures.iter().filter_map(|p| Some((&p.label, p.image.data_uri()?))).collect();
    if drawn.is_empty() {
        return html! {};
    }
    let gallery = html! {
        div.gallery {
            @for (label, uri) in drawn { figure { img src=(uri) alt=(label); figcaption { (label) } } }
        }
    };
    wide_card("Some training images", &gallery)
}

/// Duplicates, contradictions and leakage.
fn warnings(found: &Duplicates) -> Markup {
    let mut rows: Vec<(String, u64, &str)> = Vec::new();
    for (split, repeated) in Split::ALL.iter().zip(found.repeated) {
        rows.push((format!("Repeated in {split}"), repeated, "they weigh double"));
    }
    for leak in &found.leaks {
        let about = "a model is judged by what it was trained on";
        let about = if leak.and == Split::Train { about } else { "both judge a model by the same records" };
        rows.push((format!("Of {} also in {}", leak.of, leak.and), leak.records, about));
    }
    rows.push(("Contradictions".into(), found.contradictions, "equal records with different labels"));
    let body = html! {
        table {
            @for (name, value, about) in &rows {
                tr { th { (name) } td.n { (count(*value)) } td.fact { (about) } }
            }
        }
        p.note { "Records are the same when all their columns but the label are." }
    };
    card("Duplicates and leakage", &body)
}

fn columns(columns: &[ColumnProfile]) -> Markup {
    if columns.is_empty() {
        return html! {};
    }
    let values = |column: &ColumnProfile| {
        let train = &column.splits[Split::Train.index()];
        match (&train.numbers, &train.texts) {
            (Some(n), _) => format!(
                "{} to {}, mean {}, median {}",
                number(n.min),
                number(n.max),
                number(n.mean),
                number(n.percentiles[2])
            ),
            (None, Some(texts)) => texts_in_words(texts),
            (None, None) => String::new(),
        }
    };
    let role = |role: Role| serde_json::to_value(role).unwrap_or_default();
    let table = html! {
        div.scroll {
            table {
                tr { th { "Column" } th { "Kind" } th { "Role" } th.n { "Missing" } th { "Values (training split)" } }
                @for column in columns.iter().take(MAX_COLUMNS) {
                    tr {
                        th { (column.name) }
                        td { (column.kind) }
                        td { (role(column.role).as_str().unwrap_or_default()) }
                        td.n { (missing(column)) }
                        td.fact { (values(column)) }
                    }
                }
            }
        }
    };
    wide_card("Columns", &table)
}

/// How a column's numbers, or its most frequent texts, are distributed over the splits.
fn distribution(column: &ColumnProfile) -> Option<Markup> {
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
        return Some(card(&column.name, &PreEscaped(plot.svg())));
    }
    let train = &column.splits[Split::Train.index()];
    let texts = train.texts.as_ref()?;
    let most = texts.top.first()?.1.max(1);
    let known = (train.records - train.missing).max(1);
    let short = |text: &str| text.chars().take(60).collect::<String>();
    let table = html! {
        table.ops {
            @for (text, times) in &texts.top {
                tr {
                    th { (short(text)) }
                    (bar(None, *times as f64 / most as f64))
                    td.n { (percent(*times as f64 / known as f64)) }
                }
            }
        }
    };
    Some(card(&column.name, &table))
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

fn stored(ranges: &[ValueRange]) -> Markup {
    if ranges.is_empty() {
        return html! {};
    }
    let table = html! {
        div.scroll {
            table {
                tr { th { "Stored" } th.n { "Min" } th.n { "Max" } th.n { "Mean" } th.n { "Deviation" } }
                @for range in ranges.iter().take(MAX_COLUMNS) {
                    tr {
                        th { (range.name) }
                        @for n in [range.min, range.max, range.mean, range.deviation] { td.n { (number(n)) } }
                    }
                }
            }
        }
    };
    card("After preparation", &table)
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

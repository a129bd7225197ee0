//! The confusion matrix with pictures, the most frequent mistakes, and precision and recall of each class.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use super::format::{count, escape, percent};
use super::frame::{card, wide_card};
use super::{ConfusionSample, ConfusionTable};

/// Beyond this many classes the matrix has no numbers in it and no pictures beside it.
const MAX_LABELLED: usize = 24;
/// Beyond this many classes there is no matrix.
const MAX_DRAWN: usize = 128;
/// The most frequent mistakes that are listed.
const MAX_MISTAKES: usize = 8;
/// The pictures for each mistake.
const MAX_PICTURES: usize = 5;
/// What the rows and columns of a matrix are.
const AXES: &str = "Rows are the true classes, columns the predictions.";
/// The classes in the table.
const MAX_CLASSES: usize = 40;

/// All three sections.
pub(super) fn sections(confusion: &ConfusionTable) -> Markup {
    let n = confusion.classes.len();
    if n == 0 || confusion.counts.len() != n || confusion.counts.iter().any(|row| row.len() != n) {
        return html! {};
    }
    let title = format!("Confusion matrix ({})", confusion.split);
    let mistakes = mistakes(confusion);
    html! {
        @if n <= MAX_LABELLED {
            (wide_card(&title, &table(confusion)))
        } @else if n <= MAX_DRAWN {
            (card(&title, &html! { (PreEscaped(heatmap(confusion))) p.note { (AXES) } }))
        }
        @if let Some(mistakes) = mistakes { (card("Most frequent mistakes", &mistakes)) }
        (card("Classes", &classes(confusion)))
    }
}

fn table(confusion: &ConfusionTable) -> Markup {
    let names = &confusion.classes;
    let long = names.iter().any(|name| name.chars().count() > 4);
    let right = |class: usize| {
        let right = confusion.samples.iter().find(|s| s.actual == class && s.predicted == class);
        right.and_then(|sample| picture(confusion, sample))
    };
    let cell = |actual: usize, predicted: usize| {
        let (row, cell) = (&confusion.counts[actual], confusion.counts[actual][predicted]);
        let total: u64 = row.iter().sum();
        let share = if total > 0 { cell as f64 / total as f64 } else { 0.0 };
        let (class, strength) = cell_look(actual == predicted, share);
        let (actual, predicted) = (&names[actual], &names[predicted]);
        let about = format!("{actual} taken for {predicted}: {} ({})", count(cell), percent(share));
        html! {
            td class=(class) style=(format!("--a:{strength:.3}")) title=(about) {
                @if cell == 0 { "·" } @else { (count(cell)) }
            }
        }
    };
    html! {
        p.note { (AXES) }
        div.scroll {
            table.matrix {
                tr {
                    th {}
                    @for name in names {
                        @if long { th.up { span { (name) } } } @else { th { (name) } }
                    }
                }
                @for (actual, name) in names.iter().enumerate() {
                    tr {
                        th.row { @if let Some(picture) = right(actual) { (picture) } span { (name) } }
                        @for predicted in 0..names.len() { (cell(actual, predicted)) }
                    }
                }
            }
        }
    }
}

/// The class and the strength of the colour of a cell. Mistakes are rare, so that a root makes them visible.
fn cell_look(right: bool, share: f64) -> (&'static str, f64) {
    let strength = match share {
        0.0 => 0.0,
        _ if right => share * 0.9,
        _ => (0.1 + share.sqrt() * 1.2).min(0.9),
    };
    let class = match (right, strength > 0.55) {
        (true, true) => "right dark",
        (true, false) => "right",
        (false, true) => "wrong dark",
        (false, false) => "wrong",
    };
    (class, strength)
}

fn heatmap(confusion: &ConfusionTable) -> String {
    let n = confusion.classes.len();
    let cell = 480.0 / n as f64;
    let mut svg = String::from(
        r#"<svg class="heat" viewBox="0 0 480 480" role="img" aria-label="confusion matrix" xmlns="http://www.w3.org/2000/svg">"#,
    );
    for (actual, row) in confusion.counts.iter().enumerate() {
        let total: u64 = row.iter().sum::<u64>().max(1);
        for (predicted, cells) in row.iter().enumerate().filter(|(_, cells)| **cells > 0) {
            let (class, strength) = cell_look(actual == predicted, *cells as f64 / total as f64);
            let _ = write!(
                svg,
                r#"<rect class="{class}" style="--a:{:.2}" x="{:.1}" y="{:.1}" width="{cell:.1}" height="{cell:.1}"><title>{} taken for {}: {}</title></rect>"#,
                strength.max(0.05),
                predicted as f64 * cell,
                actual as f64 * cell,
                escape(&confusion.classes[actual]),
                escape(&confusion.classes[predicted]),
                count(*cells)
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// The most frequent ones; nothing where there are none.
fn mistakes(confusion: &ConfusionTable) -> Option<Markup> {
    let mut cells: Vec<(u64, usize, usize)> = Vec::new();
    for (actual, row) in confusion.counts.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|(predicted, cells)| *predicted != actual && **cells > 0);
        cells.extend(wrong.map(|(predicted, cells)| (*cells, actual, predicted)));
    }
    cells.sort_by_key(|(cells, actual, predicted)| (std::cmp::Reverse(*cells), *actual, *predicted));
    cells.truncate(MAX_MISTAKES);
    let pictures = |actual: usize, predicted: usize| {
        let samples = confusion.samples.iter();
        let samples = samples.filter(move |s| (s.actual, s.predicted) == (actual, predicted));
        samples.filter_map(|sample| picture(confusion, sample)).take(MAX_PICTURES)
    };
    let list = html! {
        ul.mistakes {
            @for (cells, actual, predicted) in &cells {
                li {
                    span.what {
                        b { (confusion.classes[*actual]) } " taken for " b { (confusion.classes[*predicted]) }
                    }
                    span.times { (count(*cells)) "×" }
                    span.pictures { @for picture in pictures(*actual, *predicted) { (picture) } }
                }
            }
        }
    };
    (!cells.is_empty()).then_some(list)
}

fn picture(confusion: &ConfusionTable, sample: &ConfusionSample) -> Option<Markup> {
    let uri = sample.image.data_uri()?;
    let name = |class: usize| confusion.classes.get(class).map_or("?", String::as_str);
    let mut about = format!("{} taken for {}", name(sample.actual), name(sample.predicted));
    if let Some(probability) = sample.probability {
        let _ = write!(about, ", {}", percent(probability));
    }
    Some(html! { img src=(uri) alt=(about) title=(about); })
}

fn classes(confusion: &ConfusionTable) -> Markup {
    let n = confusion.classes.len();
    let right = |class: usize| confusion.counts[class][class] as f64;
    let actual = |class: usize| confusion.counts[class].iter().sum::<u64>();
    let predicted = |class: usize| confusion.counts.iter().map(|row| row[class]).sum::<u64>();
    html! {
        div.scroll {
            table.classes {
                tr { th { "Class" } th.n { "Samples" } th { "Precision" } th { "Recall" } }
                @for (class, name) in confusion.classes.iter().enumerate().take(MAX_CLASSES) {
                    tr {
                        th { (name) }
                        td.n { (count(actual(class))) }
                        (meter(right(class), predicted(class)))
                        (meter(right(class), actual(class)))
                    }
                }
            }
        }
        @if n > MAX_CLASSES { p.note { "The first " (MAX_CLASSES) " of " (n) " classes." } }
    }
}

/// How many are right of so many, as a bar with its number.
fn meter(right: f64, of: u64) -> Markup {
    let ratio = right / of as f64;
    html! {
        td.meter {
            @if of > 0 {
                span.track { span style=(format!("width:{:.1}%", ratio * 100.0)) {} }
                (percent(ratio))
            } @else {
                "–"
            }
        }
    }
}

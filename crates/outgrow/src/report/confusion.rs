//! The confusion matrix with pictures, the most frequent mistakes, and precision and recall of each class.

use std::fmt::Write as _;

use super::format::{capital, count, escape, percent};
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
/// The classes in the table.
const MAX_CLASSES: usize = 40;

/// All three sections.
pub(super) fn sections(confusion: &ConfusionTable) -> String {
    let n = confusion.classes.len();
    if n == 0 || confusion.counts.len() != n || confusion.counts.iter().any(|row| row.len() != n) {
        return String::new();
    }
    let split = escape(&confusion.split);
    let mut html = String::new();
    if n <= MAX_LABELLED {
        html.push_str(&wide_card(&format!("Confusion matrix ({split})"), &table(confusion)));
    } else if n <= MAX_DRAWN {
        html.push_str(&card(&format!("Confusion matrix ({split})"), &heatmap(confusion)));
    }
    let mistakes = mistakes(confusion);
    if !mistakes.is_empty() {
        html.push_str(&card("Most frequent mistakes", &mistakes));
    }
    html.push_str(&card("Classes", &classes(confusion)));
    html
}

fn table(confusion: &ConfusionTable) -> String {
    let n = confusion.classes.len();
    let names: Vec<_> = confusion.classes.iter().map(|name| escape(name)).collect();
    let long = confusion.classes.iter().any(|name| name.chars().count() > 4);
    let head: String = names
        .iter()
        .map(|name| {
            if long {
                format!("<th class=\"up\"><span>{name}</span></th>")
            } else {
                format!("<th>{name}</th>")
            }
        })
        .collect();
    let mut rows = String::new();
    for actual in 0..n {
        let total: u64 = confusion.counts[actual].iter().sum();
        let right =
            confusion.samples.iter().find(|sample| sample.actual == actual && sample.predicted == actual);
        let picture = right.and_then(|sample| picture(confusion, sample)).unwrap_or_default();
        let _ = write!(rows, "<tr><th class=\"row\">{picture}<span>{}</span></th>", names[actual]);
        for predicted in 0..n {
            let cell = confusion.counts[actual][predicted];
            let share = if total > 0 { cell as f64 / total as f64 } else { 0.0 };
            let (class, strength) = cell_look(actual == predicted, share);
            let text = if cell == 0 { "·".to_owned() } else { count(cell) };
            let _ = write!(
                rows,
                "<td class=\"{class}\" style=\"--a:{strength:.3}\" title=\"{} taken for {}: {} ({})\">{text}</td>",
                names[actual],
                names[predicted],
                count(cell),
                percent(share)
            );
        }
        rows.push_str("</tr>");
    }
    format!(
        "<p class=\"note\">Rows are the true classes, columns the predictions.</p>\
         <div class=\"scroll\"><table class=\"matrix\"><tr><th></th>{head}</tr>{rows}</table></div>"
    )
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
    svg.push_str("</svg><p class=\"note\">Rows are the true classes, columns the predictions.</p>");
    svg
}

fn mistakes(confusion: &ConfusionTable) -> String {
    let mut cells: Vec<(u64, usize, usize)> = Vec::new();
    for (actual, row) in confusion.counts.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|(predicted, cells)| *predicted != actual && **cells > 0);
        cells.extend(wrong.map(|(predicted, cells)| (*cells, actual, predicted)));
    }
    cells.sort_by_key(|(cells, actual, predicted)| (std::cmp::Reverse(*cells), *actual, *predicted));
    let rows: String = cells
        .iter()
        .take(MAX_MISTAKES)
        .map(|(cells, actual, predicted)| {
            let pictures: String = confusion
                .samples
                .iter()
                .filter(|sample| (sample.actual, sample.predicted) == (*actual, *predicted))
                .filter_map(|sample| picture(confusion, sample))
                .take(MAX_PICTURES)
                .collect();
            format!(
                "<li><span class=\"what\"><b>{}</b> taken for <b>{}</b></span><span class=\"times\">{}×</span><span class=\"pictures\">{pictures}</span></li>",
                escape(&confusion.classes[*actual]),
                escape(&confusion.classes[*predicted]),
                count(*cells)
            )
        })
        .collect();
    if rows.is_empty() { String::new() } else { format!("<ul class=\"mistakes\">{rows}</ul>") }
}

fn picture(confusion: &ConfusionTable, sample: &ConfusionSample) -> Option<String> {
    let uri = sample.image.data_uri()?;
    let name = |class: usize| confusion.classes.get(class).map_or("?".to_owned(), |name| escape(name));
    let mut about = format!("{} taken for {}", name(sample.actual), name(sample.predicted));
    if let Some(probability) = sample.probability {
        let _ = write!(about, ", {}", percent(probability));
    }
    Some(format!("<img src=\"{uri}\" alt=\"{about}\" title=\"{about}\">"))
}

fn classes(confusion: &ConfusionTable) -> String {
    let n = confusion.classes.len();
    let mut rows = String::new();
    for class in 0..n.min(MAX_CLASSES) {
        let right = confusion.counts[class][class] as f64;
        let actual: u64 = confusion.counts[class].iter().sum();
        let predicted: u64 = confusion.counts.iter().map(|row| row[class]).sum();
        let ratio = |of: u64| if of > 0 { Some(right / of as f64) } else { None };
        let _ = write!(
            rows,
            "<tr><th>{}</th><td class=\"n\">{}</td>{}{}</tr>",
            escape(&confusion.classes[class]),
            count(actual),
            meter(ratio(predicted)),
            meter(ratio(actual))
        );
    }
    let more = if n > MAX_CLASSES {
        format!("<p class=\"note\">The first {MAX_CLASSES} of {n} classes.</p>")
    } else {
        String::new()
    };
    format!(
        "<div class=\"scroll\"><table class=\"classes\"><tr><th>{}</th><th class=\"n\">Samples</th><th>Precision</th><th>Recall</th></tr>{rows}</table></div>{more}",
        capital("class")
    )
}

fn meter(ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) => format!(
            "<td class=\"meter\"><span class=\"track\"><span style=\"width:{:.1}%\"></span></span>{}</td>",
            ratio * 100.0,
            percent(ratio)
        ),
        None => "<td class=\"meter\">–</td>".to_owned(),
    }
}

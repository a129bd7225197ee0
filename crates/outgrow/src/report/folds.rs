//! The page of a k-fold evaluation: what the folds came to, each with a link to its own page, and their predictions together.

use maud::{Markup, html};

use super::format::{capital, count, metric_name, seconds};
use super::frame::{self, card, header, page, wide_card};
use super::{ConfusionTable, Regression, charts, confusion};

/// Everything that the page shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoldsReport {
    /// The model's name.
    pub name: String,
    /// The manifest with its defaults filled in.
    pub manifest: String,
    /// Rows that were tested.
    pub rows: u64,
    /// Seconds of training, of all folds together.
    pub train_seconds: f64,
    /// The metrics that are looked at first, with their deviations.
    pub tiles: Vec<(String, String)>,
    /// The metrics in the table.
    pub names: Vec<String>,
    /// The folds.
    pub each: Vec<FoldRow>,
    /// What they came to: what is said of them, and its value for each metric.
    pub all: Vec<(String, Vec<String>)>,
    /// For classes: which were taken for which.
    pub confusion: Option<ConfusionTable>,
    /// For numbers: targets and predictions.
    pub regression: Vec<Regression>,
}

/// One fold in the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoldRow {
    /// Its folder, beside the page.
    pub folder: String,
    /// The rows that it was tested on.
    pub rows: u64,
    /// Its value for each metric.
    pub values: Vec<String>,
}

/// The page, one file of HTML.
pub fn render(report: &FoldsReport) -> String {
    let folds = report.each.len();
    let subtitle = format!("{folds} folds of {} rows", count(report.rows));
    let named = |(name, value): &(String, String)| {
        // A number is not broken at its sign, nor at that of its power.
        (value.replace("± ", "±\u{a0}").replace("e-", "e-\u{2060}"), format!("test {}", metric_name(name)))
    };
    let mut tiles: Vec<(String, String)> = report.tiles.iter().map(named).collect();
    tiles.push((seconds(report.train_seconds), "training time".to_owned()));
    let body = html! {
        (header(&report.name, &subtitle))
        (frame::tiles(&tiles))
        div.cards {
            (wide_card("Folds", &table(report)))
            @if let Some(confusion) = &report.confusion { (confusion::sections(confusion)) }
            @for regression in &report.regression { (charts::regression(regression)) }
            (card("How it was done", &how(folds)))
            @if !report.manifest.is_empty() {
                (wide_card("Manifest", &html! { pre { code { (report.manifest.trim_end()) } } }))
            }
        }
    };
    page(&report.name, &body)
}

fn table(report: &FoldsReport) -> Markup {
    html! {
        div.scroll {
            table.dense.folds {
                tr {
                    th {}
                    th.n { "Rows" }
                    @for name in &report.names { th.n { (capital(metric_name(name))) } }
                }
                @for fold in &report.each {
                    tr {
                        th { a href=(format!("{}/report.html", fold.folder)) { (fold.folder) } }
                        td.n { (count(fold.rows)) }
                        @for value in &fold.values { td.n { (value) } }
                    }
                }
                @for (name, values) in &report.all {
                    tr {
                        th { (name) }
                        td.n {}
                        @for value in values { td.n { b { (value) } } }
                    }
                }
            }
        }
    }
}

fn how(folds: usize) -> Markup {
    let text = format!(
        "The rows are divided into {folds} parts. Each part is tested by a model that was trained on the others: what it is \
         told of a row it has never seen. Validation data, by which training may stop, is set aside from those others. \
         Deviations are those of a sample of {folds} folds, which share most of their training data: results on other data \
         may differ by more. predictions.csv has what was predicted for each row."
    );
    html! { p.note { (text) } }
}

//! The page: its frame, its style and the order of its sections.

use maud::{Markup, PreEscaped, html};

use super::format::{capital, count, number};
use super::frame::{card, header, page, wide_card};
use super::plot::Plot;
use super::{Bitmap, Machine, RunReport, charts, confusion, memory, workers};

/// The page of a run: one file of HTML with everything in it.
pub fn render(report: &RunReport) -> String {
    let body = html! {
        (header(&report.name, &report.subtitle))
        (charts::tiles(report))
        div.cards {
            (charts::curves(&report.curves, report.best.as_ref()))
            (charts::metrics(&report.metrics, report.baseline.as_ref()))
            @if !report.augmented.is_empty() {
                (card("Training samples as augmented", &html! {
                    p.augmented {
                        @for uri in report.augmented.iter().filter_map(Bitmap::data_uri) {
                            img src=(uri) alt="an augmented training sample";
                        }
                    }
                }))
            }
            (charts::rankings(&report.rankings))
            @if let Some(confusion) = &report.confusion { (confusion::sections(confusion)) }
            @for regression in &report.regression { (charts::regression(regression)) }
            (charts::ops(&report.ops))
            (workers::section(&report.workers))
            @if let Some(plan) = &report.memory { (memory::section(plan)) }
            @if let Some(processor) = &report.processor {
                (charts::processor(processor, report.environment.threads))
            }
            @if let Some(cleaning) = &report.cleaning { (charts::cleaning(cleaning)) }
            (facts(report))
            @if !report.manifest.is_empty() {
                (wide_card("Manifest", &html! { pre { code { (report.manifest.trim_end()) } } }))
            }
        }
    };
    page(&report.name, &body)
}

/// A page of plots, each with its title: for `tune-lr`.
pub fn plot_page(title: &str, subtitle: &str, plots: &[Plot]) -> String {
    let body = html! {
        (header(title, subtitle))
        div.cards {
            @for plot in plots { (card(&capital(&plot.title), &PreEscaped(plot.svg()))) }
        }
    };
    page(title, &body)
}

/// A page of plots over tables, each with its title; the first line of a table names its columns.
pub fn comparison_page(
    title: &str,
    subtitle: &str,
    plots: &[Plot],
    tables: &[(&str, Vec<Vec<String>>)],
) -> String {
    let table = |lines: &[Vec<String>]| {
        html! {
            div.scroll {
                table.runs {
                    @for (i, line) in lines.iter().enumerate() {
                        tr { @for cell in line { @if i == 0 { th { (cell) } } @else { td { (cell) } } } }
                    }
                }
            }
        }
    };
    let body = html! {
        (header(title, subtitle))
        div.cards {
            @for (title, lines) in tables { (wide_card(title, &table(lines))) }
            @for plot in plots { (card(&capital(&plot.title), &PreEscaped(plot.svg()))) }
        }
    };
    page(title, &body)
}

/// What ran, and on what.
fn facts(report: &RunReport) -> Markup {
    let Machine { version, cpu, cores, threads, kernel_path, os } = &report.environment;
    let plain = |number: usize| if number == 0 { String::new() } else { number.to_string() };
    let rows = [
        ("Outgrow", version.clone()),
        ("Processor", cpu.clone()),
        ("Cores", plain(*cores)),
        ("Threads", plain(*threads)),
        ("Kernels", kernel_path.clone()),
        ("System", os.clone()),
        ("Steps", count(report.steps)),
        ("Epochs", number(report.epochs)),
        ("Best", report.best.as_ref().map_or(String::new(), |(_, told)| told.clone())),
        ("Decision threshold", report.decision_threshold.clone().unwrap_or_default()),
        ("Parameters", count(report.parameters)),
        ("Weights", report.weights_sha256.clone()),
    ];
    let table = html! {
        table.facts {
            @for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
                tr { th { (name) } td.fact { (value) } }
            }
        }
    };
    card("Run", &table)
}

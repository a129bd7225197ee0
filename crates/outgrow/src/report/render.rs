//! The page: its frame, its style and the order of its sections.

use super::format::{capital, count, escape, number};
use super::frame::{card, header, page, wide_card};
use super::plot::Plot;
use super::{Machine, RunReport, charts, confusion, memory};

/// The page of a run: one file of HTML with everything in it.
pub fn render(report: &RunReport) -> String {
    let mut body = String::new();
    body.push_str(&header(&report.name, &report.subtitle));
    body.push_str(&charts::tiles(report));
    body.push_str("<div class=\"cards\">");
    body.push_str(&charts::curves(&report.curves));
    body.push_str(&charts::metrics(&report.metrics));
    if let Some(confusion) = &report.confusion {
        body.push_str(&confusion::sections(confusion));
    }
    if let Some(regression) = &report.regression {
        body.push_str(&charts::regression(regression));
    }
    body.push_str(&charts::ops(&report.ops));
    if let Some(plan) = &report.memory {
        body.push_str(&memory::section(plan));
    }
    if let Some(processor) = &report.processor {
        body.push_str(&charts::processor(processor, report.environment.threads));
    }
    if let Some(cleaning) = &report.cleaning {
        body.push_str(&charts::cleaning(cleaning));
    }
    body.push_str(&facts(report));
    if !report.manifest.is_empty() {
        let manifest = format!("<pre><code>{}</code></pre>", escape(report.manifest.trim_end()));
        body.push_str(&wide_card("Manifest", &manifest));
    }
    body.push_str("</div>");
    page(&report.name, &body)
}

/// A page of plots, each with its title: for `tune-lr`.
pub fn plot_page(title: &str, subtitle: &str, plots: &[Plot]) -> String {
    let cards: String = plots.iter().map(|plot| card(&capital(&plot.title), &plot.svg())).collect();
    page(title, &format!("{}<div class=\"cards\">{cards}</div>", header(title, subtitle)))
}

/// What ran, and on what.
fn facts(report: &RunReport) -> String {
    let Machine { version, cpu, cores, threads, kernel_path, os } = &report.environment;
    let plain = |number: usize| if number == 0 { String::new() } else { number.to_string() };
    let rows: String = [
        ("Outgrow", escape(version)),
        ("Processor", escape(cpu)),
        ("Cores", plain(*cores)),
        ("Threads", plain(*threads)),
        ("Kernels", escape(kernel_path)),
        ("System", escape(os)),
        ("Steps", count(report.steps)),
        ("Epochs", number(report.epochs)),
        ("Parameters", count(report.parameters)),
        ("Weights", escape(&report.weights_sha256)),
    ]
    .iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| format!("<tr><th>{name}</th><td class=\"fact\">{value}</td></tr>"))
    .collect();
    card("Run", &format!("<table class=\"facts\">{rows}</table>"))
}

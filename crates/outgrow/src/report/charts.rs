//! The page's sections with lines, bars and tables of numbers.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};
use outgrow_train::spec::MetricName;

use super::format::{bytes, capital, count, metric, metric_name, number, percent, seconds, short_count};
use super::frame::{self, bar, card, wide_card};
use super::plot::{Plot, Scale, Series, Style};
use super::{ClassRanking, Cleaning, Curve, OpTime, Processor, Regression, RunReport, SplitMetrics};

/// What the curve of the learning rate is called.
pub(crate) const LEARNING_RATE: &str = "learning rate";

/// The most ops in the table; the others are added up.
const MAX_OPS: usize = 16;

/// The numbers at the top of the page.
pub(super) fn tiles(report: &RunReport) -> Markup {
    let mut tiles = Vec::new();
    let best = report.metrics.iter().find(|m| m.split == "test").or(report.metrics.last());
    if let Some(SplitMetrics { split, values, .. }) = best {
        // Those that people look at first, and before them the most telling one: the one that is not the loss.
        let is_chief = |name: &str| MetricName::of_name(name).is_none_or(MetricName::is_chief);
        let chief = values.iter().filter(|(name, _)| is_chief(name));
        let (loss, others): (Vec<_>, Vec<_>) = chief.partition(|(name, _)| name == "loss");
        tiles.extend(
            others
                .into_iter()
                .chain(loss)
                .map(|(name, value)| (metric(name, *value), format!("{split} {}", metric_name(name)))),
        );
    }
    tiles.push((seconds(report.train_seconds), "training time".to_owned()));
    tiles.push((short_count(report.samples_per_s), "samples a second".to_owned()));
    tiles.push((short_count(report.parameters as f64), "parameters".to_owned()));
    if let Some(processor) = &report.processor {
        tiles.push((bytes(processor.peak_memory_bytes), "peak memory".to_owned()));
    }
    frame::tiles(&tiles)
}

/// One plot for each metric, with a mark at the best evaluation.
pub(super) fn curves(curves: &[Curve], best: Option<&(f64, String)>) -> Markup {
    let drawn = curves.iter().filter(|curve| curve.parts.iter().any(|(_, points)| !points.is_empty()));
    html! { @for curve in drawn { (curve_card(curve, best)) } }
}

fn curve_card(curve: &Curve, best: Option<&(f64, String)>) -> Markup {
    let series = |(name, points): &(String, Vec<(f64, f64)>)| Series {
        name: name.clone(),
        points: points.clone(),
        style: if points.len() > 60 { Style::Smoothed } else { Style::DottedLine },
    };
    let plot = Plot {
        title: format!("{} for each {}", curve.metric, curve.unit),
        x_label: curve.unit.clone(),
        series: curve.parts.iter().map(series).collect(),
        y_scale: scale(&curve.metric, curve.parts.iter().map(|(_, points)| points.as_slice())),
        marks: best
            .filter(|_| curve.unit == "step")
            .map(|(step, _)| (*step, "best".to_owned()))
            .into_iter()
            .collect(),
        ..Plot::default()
    };
    // A curve that is alone has no legend to say what it is of.
    let of = match curve.parts.as_slice() {
        [(part, _)] if curve.metric != LEARNING_RATE => format!("{part} {}", metric_name(&curve.metric)),
        _ => metric_name(&curve.metric).to_owned(),
    };
    let title = format!("{} by {}", capital(&of), curve.unit);
    card(&title, &PreEscaped(plot.svg()))
}

/// Of errors, values that are this many times as large as others are on a logarithmic axis.
const DECADES: f64 = 100.0;

/// How a curve's axis is divided: that of an error that falls by decades, so that it can be seen falling to its end.
pub fn scale<'a>(metric: &str, curves: impl Iterator<Item = &'a [(f64, f64)]>) -> Scale {
    let falls = MetricName::of_name(metric).is_some_and(|metric| !metric.larger_is_better());
    let (low, high) = curves
        .flatten()
        .map(|(_, y)| *y)
        .fold((f64::INFINITY, 0.0f64), |(low, high), y| (low.min(y), high.max(y)));
    if falls && low > 0.0 && high / low >= DECADES { Scale::Log } else { Scale::Linear }
}

/// The metrics of all parts of the data, as a table.
pub(super) fn metrics(metrics: &[SplitMetrics], baseline: Option<&SplitMetrics>) -> Markup {
    let metrics: Vec<&SplitMetrics> = metrics.iter().chain(baseline).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in metrics.iter().flat_map(|split| &split.values) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return html! {};
    }
    let value = |split: &SplitMetrics, name: &str| {
        let found = split.values.iter().find(|(mine, _)| mine == name);
        found.map_or("–".to_owned(), |(_, value)| metric(name, *value))
    };
    // What a baseline answers takes more room than its column has.
    let head = |split: &SplitMetrics| {
        let (name, rest) = split.split.split_once(": ").unwrap_or((&split.split, ""));
        (capital(name), (!rest.is_empty()).then(|| format!("{}: {rest}.", capital(name))))
    };
    let heads: Vec<(String, Option<String>)> = metrics.iter().map(|split| head(split)).collect();
    // A line for each metric: there may be many of them, and there are few parts of the data.
    let table = html! {
        div.scroll {
            table.dense {
                tr {
                    th {}
                    @for (name, _) in &heads { th.n { (name) } }
                }
                tr {
                    th { "Samples" }
                    @for split in &metrics { td.n { (count(split.samples)) } }
                }
                @for name in &names {
                    tr {
                        th { (capital(metric_name(name))) }
                        @for split in &metrics { td.n { (value(split, name)) } }
                    }
                }
            }
        }
        @for note in heads.iter().filter_map(|(_, note)| note.as_ref()) { p.note { (note) } }
    };
    card("Final weights", &table)
}

/// Most classes whose curves are in one plot.
const RANKED: usize = 6;

/// ROC and precision-recall curves: of the second class of two, and of several those that are ranked worst.
pub(super) fn rankings(rankings: &[ClassRanking]) -> Markup {
    let mut shown: Vec<&ClassRanking> = rankings.iter().collect();
    if let [_, second] = shown[..] {
        shown = vec![second];
    }
    shown.sort_by(|a, b| a.auc.total_cmp(&b.auc));
    let left_out = shown.len().saturating_sub(RANKED);
    shown.truncate(RANKED);
    let Some(first) = shown.first() else { return html! {} };
    let split = &first.split;
    let one = shown.len() == 1 && left_out == 0;
    let plot = |title: &str, labels: [&str; 2], roc: bool| {
        let series = |ranking: &&ClassRanking| Series {
            name: if roc {
                format!("{} {}", ranking.class, number(ranking.auc))
            } else {
                format!("{} {}", ranking.class, number(ranking.average_precision))
            },
            points: if roc { ranking.roc.clone() } else { ranking.precision_recall.clone() },
            style: Style::Line,
        };
        let plot = Plot {
            title: title.to_owned(),
            x_label: labels[0].to_owned(),
            y_label: labels[1].to_owned(),
            series: shown.iter().map(series).collect(),
            diagonal: roc,
            ..Plot::default()
        };
        PreEscaped(plot.svg())
    };
    let about = |area: &str, value: f64| match one {
        true => format!("Of `{}` against the rest: {area} {}.", first.class, number(value)),
        false if left_out > 0 => {
            format!(
                "Of each class against the rest, with {area}: the {RANKED} worst of {}.",
                RANKED + left_out
            )
        }
        false => format!("Of each class against the rest, with {area}."),
    };
    html! {
        (card(&format!("ROC ({split})"), &html! {
            (plot("true against false positive rate", ["false positive rate", "true positive rate"], true))
            p.note { (about("the area under the curve", first.auc)) }
        }))
        (card(&format!("Precision and recall ({split})"), &html! {
            (plot("precision against recall", ["recall", "precision"], false))
            p.note { (about("the average precision", first.average_precision)) }
        }))
    }
}

/// Targets against predictions.
pub(super) fn regression(regression: &Regression) -> Markup {
    if regression.pairs.is_empty() {
        return html! {};
    }
    let dots = |points| vec![Series { name: "samples".to_owned(), points, style: Style::Dots }];
    let against = Plot {
        title: format!("predictions of {} against targets", regression.target),
        x_label: "target".to_owned(),
        y_label: "prediction".to_owned(),
        series: dots(regression.pairs.clone()),
        diagonal: true,
        ..Plot::default()
    };
    let errors: Vec<_> = regression.pairs.iter().map(|(target, predicted)| predicted - target).collect();
    let of = format!("of {} ({})", regression.target, regression.split);
    html! {
        (card(&format!("Predictions {of}"), &PreEscaped(against.svg())))
        (card(&format!("Errors {of}"), &histogram(&errors)))
    }
}

/// How often which error occurs, as bars.
fn histogram(values: &[f64]) -> Markup {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let (low, high) =
        finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    if finite.is_empty() {
        return html! { p { "No finite errors." } };
    }
    let bins = ((finite.len() as f64).sqrt().ceil() as usize).clamp(1, 24);
    let width = ((high - low) / bins as f64).max(f64::MIN_POSITIVE);
    let mut counts = vec![0u64; bins];
    for value in &finite {
        counts[(((value - low) / width) as usize).min(bins - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let bar = 496.0 / bins as f64;
    let mut svg = String::from(
        r#"<svg class="plot" viewBox="0 0 520 300" role="img" aria-label="histogram of errors" xmlns="http://www.w3.org/2000/svg">"#,
    );
    for (i, bin) in counts.iter().enumerate() {
        let height = *bin as f64 / most * 236.0;
        let from = low + width * i as f64;
        let _ = write!(
            svg,
            r#"<rect class="fill s1" x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}"><title>{} to {}: {bin}</title></rect>"#,
            12.0 + bar * i as f64,
            258.0 - height,
            (bar - 2.0).max(1.0),
            number(from),
            number(from + width)
        );
    }
    let _ = write!(
        svg,
        r#"<line class="axis" x1="12" x2="508" y1="258" y2="258"/><text x="12" y="276">{}</text><text x="508" y="276" text-anchor="end">{}</text><text x="260" y="294" text-anchor="middle">prediction − target</text></svg>"#,
        number(low),
        number(high)
    );
    PreEscaped(svg)
}

/// Where the time of a step goes, as a table with bars.
pub(super) fn ops(ops: &[OpTime]) -> Markup {
    let total: f64 = ops.iter().map(|op| op.total_ms).sum();
    if ops.is_empty() || total <= 0.0 {
        return html! {};
    }
    let mut sorted = ops.to_vec();
    sorted.sort_by(|a, b| b.total_ms.total_cmp(&a.total_ms));
    let rest = sorted.split_off(sorted.len().min(MAX_OPS));
    if !rest.is_empty() {
        sorted.push(OpTime {
            name: format!("{} others", rest.len()),
            total_ms: rest.iter().map(|op| op.total_ms).sum(),
            calls: rest.iter().map(|op| op.calls).sum(),
            gflops_per_s: None,
        });
    }
    let longest = sorted.iter().map(|op| op.total_ms).fold(0.0, f64::max);
    let table = html! {
        div.scroll {
            table.ops.dense.times {
                tr { th {} th.bar {} th.n { "Share" } th.n { "Time" } th.n { "Calls" } th.n { "GFLOP/s" } }
                @for op in &sorted {
                    tr {
                        th.op title=(op.name) { code { (op.name) } }
                        (bar(None, op.total_ms / longest))
                        td.n { (percent(op.total_ms / total)) }
                        td.n { (seconds(op.total_ms / 1e3)) }
                        td.n { (short_count(op.calls as f64)) }
                        td.n { (op.gflops_per_s.map_or("–".to_owned(), short_count)) }
                    }
                }
            }
        }
    };
    wide_card("Time by operation", &table)
}

/// Utilisation and peak memory.
pub(super) fn processor(processor: &Processor, threads: usize) -> Markup {
    let plot = || {
        let points = processor.over_time.iter().map(|(at, part)| (*at, part * 100.0)).collect();
        let plot = Plot {
            title: "processor utilisation over time".to_owned(),
            x_label: "seconds".to_owned(),
            y_label: "%".to_owned(),
            series: vec![Series { name: "utilisation".to_owned(), points, style: Style::Line }],
            ..Plot::default()
        };
        PreEscaped(plot.svg())
    };
    let body = html! {
        p.fact {
            b { (percent(processor.utilisation)) }
            " of the time of " (threads.max(1)) @if threads > 1 { " threads" } @else { " thread" }
            " was spent computing; at most " b { (bytes(processor.peak_memory_bytes)) } " of memory was held."
        }
        @if processor.over_time.len() > 1 { (plot()) }
    };
    card("Processor and memory", &body)
}

/// What happened to the data before training.
pub(super) fn cleaning(cleaning: &Cleaning) -> Markup {
    let unit = capital(&cleaning.unit);
    let tables = [
        ("Part", unit.as_str(), &cleaning.splits),
        ("Left out because", unit.as_str(), &cleaning.dropped),
        ("Filled in", "Values", &cleaning.filled),
    ];
    let body = html! {
        p.fact {
            b { (count(cleaning.rows_in)) } " " (cleaning.unit) " came in, " b { (count(cleaning.rows_left)) } " are used."
        }
        @for (title, what, entries) in tables {
            @if !entries.is_empty() {
                table {
                    tr { th { (title) } th.n { (what) } }
                    @for (name, rows) in entries { tr { td { (name) } td.n { (count(*rows)) } } }
                }
            }
        }
    };
    card("Data", &body)
}

//! The page's sections with lines, bars and tables of numbers.

use std::fmt::Write as _;

use super::format::{
    bytes, capital, count, escape, metric, metric_name, number, percent, seconds, short_count,
};
use super::frame::{card, wide_card};
use super::plot::{Plot, Scale, Series, Style};
use super::{Cleaning, Curve, OpTime, Processor, Regression, RunReport, SplitMetrics};

/// The most ops in the table; the others are added up.
const MAX_OPS: usize = 16;

/// The numbers at the top of the page.
pub(super) fn tiles(report: &RunReport) -> String {
    let mut tiles = Vec::new();
    let best = report.metrics.iter().find(|m| m.split == "test").or(report.metrics.last());
    if let Some(SplitMetrics { split, values, .. }) = best {
        // The most telling metric first: the one that is not the loss.
        let (loss, others): (Vec<_>, Vec<_>) = values.iter().partition(|(name, _)| name == "loss");
        tiles.extend(others.into_iter().chain(loss).map(|(name, value)| {
            (format!("{} {}", escape(split), escape(metric_name(name))), metric(name, *value))
        }));
    }
    tiles.push(("training time".to_owned(), seconds(report.train_seconds)));
    tiles.push(("samples a second".to_owned(), short_count(report.samples_per_s)));
    tiles.push(("parameters".to_owned(), short_count(report.parameters as f64)));
    if let Some(processor) = &report.processor {
        tiles.push(("peak memory".to_owned(), bytes(processor.peak_memory_bytes)));
    }
    let tiles = tiles.iter().enumerate().map(|(i, (name, value))| {
        let class = if i == 0 { "tile first" } else { "tile" };
        format!(r#"<div class="{class}"><dd>{value}</dd><dt>{name}</dt></div>"#)
    });
    format!(r#"<dl class="tiles">{}</dl>"#, tiles.collect::<String>())
}

/// One plot for each metric.
pub(super) fn curves(curves: &[Curve]) -> String {
    let drawn = curves.iter().filter(|curve| curve.parts.iter().any(|(_, points)| !points.is_empty()));
    drawn
        .map(|curve| {
            let series = |(name, points): &(String, Vec<(f64, f64)>)| Series {
                name: name.clone(),
                points: points.clone(),
                style: if points.len() > 60 { Style::Smoothed } else { Style::DottedLine },
            };
            let plot = Plot {
                title: format!("{} for each {}", curve.metric, curve.unit),
                x_label: curve.unit.clone(),
                series: curve.parts.iter().map(series).collect(),
                y_scale: Scale::Linear,
                ..Plot::default()
            };
            let title = format!("{} by {}", capital(metric_name(&curve.metric)), curve.unit);
            card(&escape(&title), &plot.svg())
        })
        .collect()
}

/// The metrics of all parts of the data, as a table.
pub(super) fn metrics(metrics: &[SplitMetrics]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in metrics.iter().flat_map(|split| &split.values) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let head: String = names
        .iter()
        .map(|name| format!("<th class=\"n\">{}</th>", escape(&capital(metric_name(name)))))
        .collect();
    let rows: String = metrics
        .iter()
        .map(|split| {
            let cell = |name: &&str| match split.values.iter().find(|(mine, _)| mine == name) {
                Some((_, value)) => format!("<td class=\"n\">{}</td>", metric(name, *value)),
                None => "<td class=\"n\">–</td>".to_owned(),
            };
            format!(
                "<tr><th>{}</th><td class=\"n\">{}</td>{}</tr>",
                escape(&capital(&split.split)),
                count(split.samples),
                names.iter().map(cell).collect::<String>()
            )
        })
        .collect();
    card(
        "Final weights",
        &format!(
            "<div class=\"scroll\"><table><tr><th></th><th class=\"n\">Samples</th>{head}</tr>{rows}</table></div>"
        ),
    )
}

/// Targets against predictions.
pub(super) fn regression(regression: &Regression) -> String {
    if regression.pairs.is_empty() {
        return String::new();
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
    let split = escape(&regression.split);
    let mut cards = card(&format!("Predictions ({split})"), &against.svg());
    cards.push_str(&card(&format!("Errors ({split})"), &histogram(&errors)));
    cards
}

/// How often which error occurs, as bars.
fn histogram(values: &[f64]) -> String {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let (low, high) =
        finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    if finite.is_empty() {
        return "<p>No finite errors.</p>".to_owned();
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
    svg
}

/// Where the time of a step goes, as a table with bars.
pub(super) fn ops(ops: &[OpTime]) -> String {
    let total: f64 = ops.iter().map(|op| op.total_ms).sum();
    if ops.is_empty() || total <= 0.0 {
        return String::new();
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
    let rows: String = sorted
        .iter()
        .map(|op| {
            let name = escape(&op.name);
            format!(
                "<tr><th class=\"op\" title=\"{name}\"><code>{name}</code></th><td class=\"bar\"><span style=\"width:{:.1}%\"></span></td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                op.total_ms / longest * 100.0,
                percent(op.total_ms / total),
                seconds(op.total_ms / 1e3),
                short_count(op.calls as f64),
                op.gflops_per_s.map_or("–".to_owned(), short_count),
            )
        })
        .collect();
    wide_card(
        "Time by operation",
        &format!(
            "<div class=\"scroll\"><table class=\"ops\"><tr><th></th><th></th><th class=\"n\">Share</th><th class=\"n\">Time</th>\
             <th class=\"n\">Calls</th><th class=\"n\">GFLOP/s</th></tr>{rows}</table></div>"
        ),
    )
}

/// Utilisation and peak memory.
pub(super) fn processor(processor: &Processor, threads: usize) -> String {
    let mut body = format!(
        "<p class=\"fact\"><b>{}</b> of the time of {} {} was spent computing; at most <b>{}</b> of memory was held.</p>",
        percent(processor.utilisation),
        threads.max(1),
        if threads > 1 { "threads" } else { "thread" },
        bytes(processor.peak_memory_bytes)
    );
    if processor.over_time.len() > 1 {
        let points = processor.over_time.iter().map(|(at, part)| (*at, part * 100.0)).collect();
        let plot = Plot {
            title: "processor utilisation over time".to_owned(),
            x_label: "seconds".to_owned(),
            y_label: "%".to_owned(),
            series: vec![Series { name: "utilisation".to_owned(), points, style: Style::Line }],
            ..Plot::default()
        };
        body.push_str(&plot.svg());
    }
    card("Processor and memory", &body)
}

/// What happened to the data before training.
pub(super) fn cleaning(cleaning: &Cleaning) -> String {
    let mut body = format!(
        "<p class=\"fact\"><b>{}</b> rows came in, <b>{}</b> are used.</p>",
        count(cleaning.rows_in),
        count(cleaning.rows_left)
    );
    for (title, entries) in
        [("Part", &cleaning.splits), ("Left out because", &cleaning.dropped), ("Filled in", &cleaning.filled)]
    {
        if entries.is_empty() {
            continue;
        }
        let rows: String = entries
            .iter()
            .map(|(name, rows)| {
                format!("<tr><td>{}</td><td class=\"n\">{}</td></tr>", escape(name), count(*rows))
            })
            .collect();
        let what = if title == "Filled in" { "Values" } else { "Rows" };
        let _ = write!(body, "<table><tr><th>{title}</th><th class=\"n\">{what}</th></tr>{rows}</table>");
    }
    card("Data", &body)
}

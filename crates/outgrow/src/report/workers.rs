//! A step on every worker: when it computes, moves bytes to and from others, and waits for them.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use super::WorkerCourse;
use super::format::{percent, seconds};
use super::frame::wide_card;

/// The most workers that are drawn.
const MAX_WORKERS: usize = 32;
const WIDTH: f64 = 1040.0;
const LEFT: f64 = 96.0;
const ROW: f64 = 34.0;
const BAR: f64 = 22.0;

/// The section; nothing where nobody shared a step.
pub(super) fn section(workers: &[WorkerCourse]) -> Markup {
    let longest = workers.iter().map(|worker| worker.total_ms).fold(0.0, f64::max);
    if workers.len() < 2 || longest <= 0.0 {
        return html! {};
    }
    let step = workers[0].step;
    let left_out = workers.len().saturating_sub(MAX_WORKERS);
    let body = html! {
        p.legend {
            @for (class, name) in KINDS.into_iter().zip(["computing", "communicating", "waiting"]) {
                span class=(class) { (name) }
            }
        }
        (PreEscaped(chart(&workers[..workers.len() - left_out], longest)))
        p.note {
            "Each row begins when its worker begins the step. "
            @if left_out > 0 { "Of " (workers.len()) " workers, the first " (MAX_WORKERS) " are shown." }
        }
    };
    wide_card(&format!("Step {step} on {} workers", workers.len()), &body)
}

/// Computing, communicating and waiting, as colours.
const KINDS: [&str; 3] = ["s1", "s2", "s6"];

/// A worker's step from its beginning to its end: what is done (a number of [`KINDS`]), from when, until when. What
/// communicates may wait in between.
fn segments(worker: &WorkerCourse) -> Vec<(usize, f64, f64)> {
    let of = |waiting: bool| {
        let mut spans: Vec<_> = worker.spans.iter().filter(|span| span.waiting == waiting).collect();
        spans.sort_by(|a, b| a.from_ms.total_cmp(&b.from_ms));
        spans
    };
    let (mut waits, mut segments) = (of(true).into_iter().peekable(), Vec::new());
    let (mut at, end) = (0.0, worker.total_ms);
    // What has no length is left out.
    let mut until = |kind: usize, to: f64| {
        if to > at {
            segments.push((kind, at, to));
            at = to;
        }
    };
    for span in of(false) {
        until(0, span.from_ms);
        while let Some(wait) = waits.next_if(|wait| wait.to_ms <= span.to_ms) {
            until(1, wait.from_ms);
            until(2, wait.to_ms);
        }
        until(1, span.to_ms);
    }
    until(0, end);
    segments
}

/// The parts of a worker's step that are spent computing, communicating and waiting.
fn parts(worker: &WorkerCourse) -> [f64; 3] {
    let mut parts = [0.0; 3];
    segments(worker).into_iter().for_each(|(kind, from, to)| parts[kind] += to - from);
    parts.map(|part| part / worker.total_ms.max(f64::MIN_POSITIVE))
}

fn chart(workers: &[WorkerCourse], longest: f64) -> String {
    let (scale, height) = ((WIDTH - LEFT - 8.0) / longest, workers.len() as f64 * ROW + 28.0);
    let mut svg = format!(
        r#"<svg class="plot memory" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="when each worker computes, communicates and waits" xmlns="http://www.w3.org/2000/svg">"#
    );
    for (i, worker) in workers.iter().enumerate() {
        let y = i as f64 * ROW + 4.0;
        let [computing, communicating, waiting] = parts(worker).map(percent);
        let _ = write!(
            svg,
            r#"<g><title>worker {i}: {} in all, {computing} computing, {communicating} communicating, {waiting} waiting</title><text x="{:.1}" y="{:.1}" text-anchor="end">worker {i}</text>"#,
            seconds(worker.total_ms / 1e3),
            LEFT - 10.0,
            y + 16.0,
        );
        for (kind, from, to) in segments(worker) {
            let _ = write!(
                svg,
                r#"<rect class="fill {}" x="{:.2}" y="{y}" width="{:.2}" height="{BAR}"/>"#,
                KINDS[kind],
                LEFT + from * scale,
                ((to - from) * scale).max(0.2),
            );
        }
        svg.push_str("</g>");
    }
    let base = workers.len() as f64 * ROW + 2.0;
    let _ = write!(
        svg,
        r#"<line class="axis" x1="{LEFT}" x2="{0}" y1="{base}" y2="{base}"/><text x="{LEFT}" y="{1}">0</text><text x="{0}" y="{1}" text-anchor="end">{2}</text></svg>"#,
        WIDTH - 8.0,
        base + 20.0,
        seconds(longest / 1e3),
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::super::CourseSpan;
    use super::*;

    fn worker(total_ms: f64, spans: &[(bool, f64, f64)]) -> WorkerCourse {
        let span = |&(waiting, from_ms, to_ms): &(bool, f64, f64)| CourseSpan { waiting, from_ms, to_ms };
        WorkerCourse { step: 18, total_ms, spans: spans.iter().map(span).collect() }
    }

    #[test]
    fn what_is_neither_communicating_nor_waiting_is_computing() {
        let one = worker(10.0, &[(true, 7.0, 8.0), (false, 6.0, 9.0)]);
        let all = [(0, 0.0, 6.0), (1, 6.0, 7.0), (2, 7.0, 8.0), (1, 8.0, 9.0), (0, 9.0, 10.0)];
        assert_eq!((segments(&one), parts(&one)), (all.to_vec(), [0.7, 0.2, 0.1]));
        let text = section(&[one.clone(), worker(8.0, &[])]).into_string();
        assert!(text.contains("Step 18 on 2 workers") && text.contains("70.0 % computing"), "{text}");
        assert_eq!(text.matches("class=\"fill s2\"").count(), 2);
        assert!(section(&[one]).into_string().is_empty(), "nobody shared it");
    }
}

//! The memory plan: planned, naive and lowest possible bytes, and which value lies where during which steps.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use super::format::{bytes, escape};
use super::frame::{bar, wide_card};
use super::{MemoryChart, PlannedBuffer};

/// The most values that are drawn, the largest first.
const MAX_BUFFERS: usize = 1500;
const WIDTH: f64 = 1040.0;
const HEIGHT: f64 = 380.0;
/// Labels are larger where the drawing is small.
const LEFT: f64 = 118.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 34.0;

/// The section.
pub(super) fn section(plan: &MemoryChart) -> Markup {
    let most = plan.naive_bytes.max(plan.planned_bytes).max(1) as f64;
    let bars = [
        ("Planned", plan.planned_bytes, "s1"),
        ("A buffer for each value", plan.naive_bytes, "s2"),
        ("Lowest possible", plan.lower_bound_bytes, "s3"),
    ];
    let body = html! {
        table.ops {
            @for (name, size, class) in bars {
                tr { th { (name) } (bar(Some(class), size as f64 / most)) td.n { (bytes(size)) } }
            }
        }
        @if let Some(svg) = chart(plan) {
            (PreEscaped(svg))
            p.note { "Each block is a value: its place in memory and the steps during which it lives." }
        }
    };
    wide_card("Memory plan", &body)
}

/// The drawing; nothing without values.
fn chart(plan: &MemoryChart) -> Option<String> {
    let valid = |buffer: &&PlannedBuffer| buffer.bytes > 0 && buffer.first_step <= buffer.last_step;
    let mut buffers: Vec<_> = plan.buffers.iter().filter(valid).collect();
    if buffers.is_empty() {
        return None;
    }
    buffers.sort_by_key(|buffer| std::cmp::Reverse(buffer.bytes));
    buffers.truncate(MAX_BUFFERS);
    let last =
        buffers.iter().map(|buffer| buffer.last_step).max().unwrap_or(0).max(plan.steps.saturating_sub(1));
    let top = buffers.iter().map(|buffer| buffer.offset.saturating_add(buffer.bytes)).max().unwrap_or(1);
    let step = (WIDTH - LEFT - 8.0) / (last + 1) as f64;
    let base = HEIGHT - BOTTOM;
    let y = |at: u64| base - at as f64 / top as f64 * (base - TOP);
    let mut svg = format!(
        r#"<svg class="plot memory" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="which value lies where during which steps" xmlns="http://www.w3.org/2000/svg">"#
    );
    for quarter in 0..=4u64 {
        let at = (top as f64 * quarter as f64 / 4.0) as u64;
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{1:.1}" y2="{1:.1}"/><text x="{2}" y="{3:.1}" text-anchor="end">{4}</text>"#,
            WIDTH - 8.0,
            y(at),
            LEFT - 7.0,
            y(at) + 4.0,
            bytes(at)
        );
    }
    for (i, buffer) in buffers.iter().enumerate() {
        let (bottom, height) = (y(buffer.offset), buffer.bytes as f64 / top as f64 * (base - TOP));
        let _ = write!(
            svg,
            r#"<rect class="fill s{}" x="{:.2}" y="{:.2}" width="{:.2}" height="{:.2}"><title>{}: {}, steps {} to {}</title></rect>"#,
            [1, 2, 3, 4, 5][i % 5],
            LEFT + buffer.first_step as f64 * step,
            bottom - height,
            ((buffer.last_step - buffer.first_step + 1) as f64 * step - 0.4).max(0.6),
            (height - 0.4).max(0.4),
            escape(&buffer.label),
            bytes(buffer.bytes),
            buffer.first_step,
            buffer.last_step
        );
    }
    let _ = write!(
        svg,
        r#"<line class="axis" x1="{LEFT}" x2="{0}" y1="{base}" y2="{base}"/><text x="{LEFT}" y="{1}" dominant-baseline="hanging">step 0</text><text x="{0}" y="{1}" dominant-baseline="hanging" text-anchor="end">step {last}</text></svg>"#,
        WIDTH - 8.0,
        base + 7.0,
    );
    Some(svg)
}

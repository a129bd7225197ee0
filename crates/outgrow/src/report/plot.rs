//! A small plot of lines or points as SVG: nice ticks, linear or logarithmic axes, a legend, marks.
//!
//! Colours come from the page's style sheet, so that one drawing serves a light and a dark page.

use std::fmt::Write as _;

use super::format::{escape, number};

/// The most points of a series that are drawn: more cannot be told apart.
const MAX_POINTS: usize = 800;
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const RIGHT: f64 = 14.0;
/// What is above a plot in any case, and the height of each line of text there.
const BARE_TOP: f64 = 10.0;
const TEXT_LINE: f64 = 20.0;
const BOTTOM: f64 = 42.0;
/// The least room for the labels at the left, and how wide a character may be: in a small drawing text is larger.
const LEFT_MIN: f64 = 48.0;
const CHARACTER: f64 = 10.9;
/// Most series that are drawn.
const SERIES_MAX: usize = 6;
/// What stands before a name in the legend, and behind it.
const LEGEND_LINE: f64 = 20.0;
const LEGEND_GAP: f64 = 14.0;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By powers of ten; values of zero or less are left out.
    Log,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A line.
    #[default]
    Line,
    /// A line with a dot at each point.
    DottedLine,
    /// A pale line of all points under a line of their running mean: for noisy values.
    Smoothed,
    /// Dots alone.
    Dots,
}

/// Points under a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// `(x, y)` in the order of x; points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub style: Style,
}

/// A plot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// What is shown, in a few words; read aloud by screen readers.
    pub title: String,
    /// What runs along the bottom.
    pub x_label: String,
    /// What runs up the side.
    pub y_label: String,
    /// The division of the bottom axis.
    pub x_scale: Scale,
    /// The division of the side axis.
    pub y_scale: Scale,
    /// What is drawn, at most six series.
    pub series: Vec<Series>,
    /// Vertical lines with a label.
    pub marks: Vec<(f64, String)>,
    /// Whether the line y = x is drawn, and both axes show the same range.
    pub diagonal: bool,
}

/// How wide a text may be.
fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// One axis: from a range of values to a range of the drawing.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let (value, from, to) = match self.scale {
            Scale::Linear => (value, self.from, self.to),
            Scale::Log => (value.log10(), self.from.log10(), self.to.log10()),
        };
        self.start + (value - from) / (to - from) * (self.end - self.start)
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
    }

    /// Values worth a line, and their labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = nice_step(self.to - self.from);
                let first = (self.from / step - 1e-9).ceil() as i64;
                let last = (self.to / step + 1e-9).floor() as i64;
                (first..=last.min(first + 20))
                    .map(|i| (i as f64 * step, tick_label(i as f64 * step, step)))
                    .collect()
            }
            Scale::Log => {
                let (low, high) = (self.from.log10(), self.to.log10());
                let decades: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let powers = low.floor() as i32..=high.ceil() as i32;
                let every = powers.clone().count().div_ceil(8) as i32;
                powers
                    .filter(|power| power.rem_euclid(every) == 0)
                    .flat_map(|power| decades.iter().map(move |digit| digit * 10f64.powi(power)))
                    .filter(|value| (self.from * 0.999..=self.to * 1.001).contains(value))
                    .map(|value| (value, log_label(value)))
                    .collect()
            }
        }
    }
}

impl Plot {
    /// The drawing, for a page with this crate's style sheet.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points).copied();
        let marks = self.marks.iter().map(|(x, _)| *x);
        let mut x_range = range(self.x_scale, points().map(|(x, _)| x).chain(marks));
        let mut y_range = range(self.y_scale, points().map(|(_, y)| y));
        if self.diagonal {
            x_range = (x_range.0.min(y_range.0), x_range.1.max(y_range.1));
            y_range = x_range;
        } else if self.y_scale == Scale::Linear {
            let pad = (y_range.1 - y_range.0) * 0.04;
            y_range = (
                if y_range.0 >= 0.0 && y_range.0 < pad * 5.0 { 0.0 } else { y_range.0 - pad },
                y_range.1 + pad,
            );
        }
        let y = Axis {
            scale: self.y_scale,
            from: y_range.0,
            to: y_range.1,
            start: HEIGHT - BOTTOM,
            end: self.top(),
        };
        let labels = y.ticks().into_iter().map(|(_, label)| width(&label) + 9.0);
        let left = labels.fold(LEFT_MIN, f64::max);
        let x = Axis { scale: self.x_scale, from: x_range.0, to: x_range.1, start: left, end: WIDTH - RIGHT };
        let mut svg = format!(
            r#"<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{0}" xmlns="http://www.w3.org/2000/svg"><title>{0}</title>"#,
            escape(&self.title)
        );
        self.draw_frame(&mut svg, &x, &y);
        for (i, series) in self.series.iter().take(SERIES_MAX).enumerate() {
            draw_series(&mut svg, series, i + 1, &x, &y);
        }
        self.draw_legend(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    fn top(&self) -> f64 {
        let legend = self.legend().len().max(usize::from(!self.y_label.is_empty()));
        BARE_TOP + TEXT_LINE * (legend + usize::from(!self.marks.is_empty())) as f64
    }

    /// The series by the lines of the legend, each with the width of its entry; one that is alone needs none. Of one
    /// without points only the colour is kept free. The label of the side axis stands at the left of the first line.
    fn legend(&self) -> Vec<Vec<(usize, f64)>> {
        if self.series.len() < 2 {
            return Vec::new();
        }
        let (mut lines, mut room) = (vec![Vec::new()], WIDTH - RIGHT - width(&self.y_label) - LEGEND_GAP);
        let shown = self.series.iter().take(SERIES_MAX).enumerate().filter(|(_, one)| !one.points.is_empty());
        for (i, series) in shown {
            let own = LEGEND_LINE + width(&series.name) + LEGEND_GAP;
            if own > room && lines.last().is_some_and(|line| !line.is_empty()) {
                lines.push(Vec::new());
                room = WIDTH - RIGHT;
            }
            room -= own;
            lines.last_mut().unwrap_or(&mut Vec::new()).push((i, own));
        }
        lines
    }

    fn draw_frame(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (bottom, left, right) = (HEIGHT - BOTTOM, x.start, WIDTH - RIGHT);
        for (value, label) in y.ticks() {
            let at = y.at(value);
            let _ = write!(svg, r#"<line class="grid" x1="{left}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#);
            let _ = write!(
                svg,
                r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#,
                left - 7.0,
                at + 4.0
            );
        }
        for (value, label) in x.ticks() {
            let at = x.at(value);
            let _ = write!(
                svg,
                r#"<line class="tick" x1="{at:.1}" x2="{at:.1}" y1="{bottom}" y2="{}"/>"#,
                bottom + 4.0
            );
            // What would stand over the edge is moved from it.
            let middle = at.min(WIDTH - width(&label) / 2.0);
            let _ = write!(
                svg,
                r#"<text x="{middle:.1}" y="{}" text-anchor="middle">{label}</text>"#,
                bottom + 20.0
            );
        }
        let _ = write!(svg, r#"<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>"#);
        if self.diagonal {
            let (from, to) = (x.from.max(y.from), x.to.min(y.to));
            let _ = write!(
                svg,
                r#"<line class="mark" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
                x.at(from),
                y.at(from),
                x.at(to),
                y.at(to)
            );
        }
        for (value, label) in self.marks.iter().filter(|(value, _)| x.shows(*value)) {
            let at = x.at(*value);
            let (anchor, dx) = if at > WIDTH * 0.6 { ("end", -5.0) } else { ("start", 5.0) };
            let _ = write!(
                svg,
                r#"<line class="mark" x1="{at:.1}" x2="{at:.1}" y1="{}" y2="{bottom}"/>"#,
                self.top() - TEXT_LINE + 4.0
            );
            let _ = write!(
                svg,
                r#"<text class="strong" x="{:.1}" y="{}" text-anchor="{anchor}">{}</text>"#,
                at + dx,
                self.top() - 5.0,
                escape(label)
            );
        }
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{}" text-anchor="middle">{}</text><text x="4" y="14">{}</text>"#,
            (left + right) / 2.0,
            HEIGHT - 6.0,
            escape(&self.x_label),
            escape(&self.y_label)
        );
    }

    fn draw_legend(&self, svg: &mut String) {
        for (line, entries) in self.legend().iter().enumerate() {
            let base = 14.0 + TEXT_LINE * line as f64;
            let mut at = WIDTH - RIGHT + LEGEND_GAP - entries.iter().map(|(_, width)| width).sum::<f64>();
            for (i, width) in entries {
                let _ = write!(
                    svg,
                    r#"<line class="line s{} {}" x1="{at:.1}" x2="{:.1}" y1="{}" y2="{}"/><text x="{:.1}" y="{base}">{}</text>"#,
                    i + 1,
                    if *i == 1 { "dashed" } else { "" },
                    at + LEGEND_LINE - 5.0,
                    base - 4.0,
                    base - 4.0,
                    at + LEGEND_LINE,
                    escape(&self.series[*i].name)
                );
                at += width;
            }
        }
    }
}

fn draw_series(svg: &mut String, series: &Series, colour: usize, x: &Axis, y: &Axis) {
    let points: Vec<_> = series.points.iter().copied().filter(|(a, b)| x.shows(*a) && y.shows(*b)).collect();
    if points.is_empty() {
        return;
    }
    let dashed = if colour == 2 { " dashed" } else { "" };
    let path = |points: &[(f64, f64)]| {
        let steps = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x.at(*a), y.at(*b)));
        steps.collect::<Vec<_>>().join(" ")
    };
    let line = |points: &[(f64, f64)], class: &str| {
        format!(r#"<polyline class="line s{colour}{class}" points="{}"/>"#, path(points))
    };
    match series.style {
        Style::Smoothed if points.len() > 40 => {
            svg.push_str(&line(&thin(&points, MAX_POINTS), " pale"));
            svg.push_str(&line(&thin(&running_mean(&points), MAX_POINTS / 2), dashed));
        }
        Style::Line | Style::Smoothed if points.len() > 1 => {
            svg.push_str(&line(&thin(&points, MAX_POINTS), dashed));
        }
        Style::DottedLine => svg.push_str(&line(&thin(&points, MAX_POINTS), dashed)),
        _ => {}
    }
    let dots = match series.style {
        Style::Dots => true,
        Style::DottedLine => points.len() <= 60,
        Style::Line | Style::Smoothed => points.len() == 1,
    };
    if dots {
        let radius = if series.style == Style::Dots { 2.5 } else { 3.2 };
        for (a, b) in thin(&points, 2 * MAX_POINTS) {
            let _ = write!(
                svg,
                r#"<circle class="dot s{colour}" cx="{:.1}" cy="{:.1}" r="{radius}"><title>{}: {}, {}</title></circle>"#,
                x.at(a),
                y.at(b),
                escape(&series.name),
                number(a),
                number(b)
            );
        }
    }
}

/// Fewer points of the same look: of each stretch the lowest and the highest.
fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(most / 2);
    let mut kept = Vec::with_capacity(most + 2);
    for part in points.chunks(stretch) {
        let by_y = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(low), Some(high)) = (part.iter().min_by(by_y), part.iter().max_by(by_y)) else { continue };
        kept.extend(if low.0 <= high.0 { [*low, *high] } else { [*high, *low] });
    }
    kept.extend(points.last());
    kept
}

/// The fewest points to each side that a running mean is of.
const REACH_MIN: usize = 4;

/// The mean over a window of about a fortieth of the points, as far as there are any to each side. At its ends it is of
/// half a window still, and no single point, such as a short last batch, makes it leap.
fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = (points.len() / 80).max(REACH_MIN);
    let mut sums = Vec::with_capacity(points.len() + 1);
    sums.push(0.0);
    for (_, y) in points {
        sums.push(sums[sums.len() - 1] + y);
    }
    let mean = |i: usize| {
        let (from, to) = (i.saturating_sub(reach), (i + reach + 1).min(points.len()));
        (sums[to] - sums[from]) / (to - from) as f64
    };
    points.iter().enumerate().map(|(i, (x, _))| (*x, mean(i))).collect()
}

/// The least and the largest value, kept apart.
fn range(scale: Scale, values: impl Iterator<Item = f64>) -> (f64, f64) {
    let shown = values.filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0));
    let (low, high) =
        shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    match scale {
        _ if low > high => (if scale == Scale::Log { 0.1 } else { 0.0 }, 1.0),
        Scale::Linear if low == high => {
            let pad = if low == 0.0 { 1.0 } else { low.abs() * 0.5 };
            (low - pad, high + pad)
        }
        // Values that differ in their last bits only would leave no room for a tick.
        Scale::Linear if high - low < low.abs().max(high.abs()) * 1e-9 => {
            (low - low.abs() * 0.5, high + high.abs() * 0.5)
        }
        Scale::Log if high / low < 1.01 => (low / 2.0, high * 2.0),
        _ => (low, high),
    }
}

/// The largest of 1, 2, 5 times a power of ten that fits into the length at least three times.
fn nice_step(length: f64) -> f64 {
    let power = 10f64.powf((length / 3.0).log10().floor());
    [5.0, 2.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| step * 3.0 <= length * 1.001)
        .unwrap_or(power)
}

fn tick_label(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    if value != 0.0 && (value.abs() >= 1e6 || step < 1e-4) {
        let digits = (value.abs().log10().floor() - step.log10().floor()).clamp(0.0, 6.0) as usize;
        return format!("{value:.digits$e}");
    }
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

fn log_label(value: f64) -> String {
    if (1e-3..1e5).contains(&value) { format!("{value}") } else { format!("{value:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(scale: Scale, from: f64, to: f64) -> String {
        let axis = Axis { scale, from, to, start: 0.0, end: 1.0 };
        axis.ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers() {
        for (scale, from, to, expect) in [
            (Scale::Linear, 0.0, 1.0, "0.0 0.2 0.4 0.6 0.8 1.0"),
            (Scale::Linear, 0.013, 0.074, "0.02 0.04 0.06"),
            (Scale::Linear, 0.87, 0.99, "0.88 0.90 0.92 0.94 0.96 0.98"),
            (Scale::Linear, -3.0, 12.0, "0 5 10"),
            (Scale::Linear, 0.0, 3e7, "0 1e7 2e7 3e7"),
            (Scale::Log, 1e-5, 1.0, "1e-5 1e-4 0.001 0.01 0.1 1"),
            (Scale::Log, 0.5, 20.0, "0.5 1 2 5 10 20"),
        ] {
            assert_eq!(ticks(scale, from, to), expect, "{from} to {to}");
        }
    }

    /// Of several series each has its name and its colour, also where the others have no points.
    #[test]
    fn a_series_without_points_keeps_its_colour() {
        let series = |name: &str, points: &[(f64, f64)]| Series {
            name: name.into(),
            points: points.to_vec(),
            style: Style::Line,
        };
        let of = |series: Vec<Series>| Plot { series, ..Plot::default() }.svg();
        let there = [(0.0, 1.0), (1.0, 2.0)];
        let svg = of(vec![series("one", &[]), series("two", &there)]);
        assert!(svg.contains(">two</text>") && !svg.contains(">one</text>"), "{svg}");
        assert!(svg.contains("<polyline class=\"line s2 ") && !svg.contains("line s1"), "{svg}");
        assert!(!of(vec![series("two", &there)]).contains(">two</text>"));
    }

    #[test]
    fn any_points_give_a_drawing() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e300, 1e-300, f64::MAX, f64::MIN];
        for scale in [Scale::Linear, Scale::Log] {
            for style in [Style::Line, Style::DottedLine, Style::Smoothed, Style::Dots] {
                for a in odd {
                    for b in odd {
                        let points = vec![(a, b), (1.0, 1.0)];
                        let series = vec![Series { name: "<x>".into(), points, style }, Series::default()];
                        let plot = Plot { x_scale: scale, y_scale: scale, series, ..Plot::default() };
                        assert!(plot.svg().ends_with("</svg>"));
                    }
                }
            }
        }
    }

    #[test]
    fn thinning_keeps_extremes() {
        let points: Vec<_> =
            (0..100_000).map(|i| (f64::from(i), if i == 4321 { 9.0 } else { 0.0 })).collect();
        let kept = thin(&points, MAX_POINTS);
        assert!(kept.len() <= MAX_POINTS + 2 && kept.contains(&(4321.0, 9.0)));
        assert_eq!(kept.last(), points.last());
    }

    #[test]
    fn a_running_mean_of_a_line_is_the_line_but_for_its_ends() {
        let points: Vec<_> = (0..200).map(|i| (f64::from(i), f64::from(i))).collect();
        let means = running_mean(&points);
        for ((_, mean), (_, y)) in means.iter().zip(&points).skip(REACH_MIN).take(200 - 2 * REACH_MIN) {
            assert!((mean - y).abs() < 1e-9);
        }
        assert_eq!((means[0].1, means[199].1), (2.0, 197.0));
    }

    #[test]
    fn one_odd_last_point_makes_no_leap() {
        let mut points: Vec<_> = (0..1000).map(|i| (f64::from(i), 1.0)).collect();
        points[999].1 = 3.0;
        let means = running_mean(&points);
        assert!(means.iter().all(|(_, mean)| *mean < 1.2), "{:?}", means.last());
    }
}

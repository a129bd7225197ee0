//! A search for a learning rate as tables, plots and JSON.

use serde_json::{Value as Json, json};

use super::grid::{Trial, rounded};
use super::range::{Finding, Step};
use crate::commands::table::aligned;
use crate::report::format::{counted, number};
use crate::report::{Plot, Scale, Series, Style, plot_page};

/// About how many lines of a range test people are shown.
const LINES: usize = 12;
/// How far apart losses must be for a logarithmic axis.
const LOG_RATIO: f64 = 30.0;

/// A rate as a manifest takes it.
pub fn rate(lr: f64) -> String {
    if (1e-3..1e4).contains(&lr) { format!("{lr}") } else { format!("{lr:e}") }
}

/// A loss, or that there is none.
pub fn loss(loss: Option<f64>) -> String {
    loss.map_or_else(|| "diverged".to_owned(), number)
}

/// What came of a rate, for machines.
pub fn trial_json(trial: &Trial) -> Json {
    let mut json = json!({ "lr": trial.lr, "loss": trial.mean() });
    if trial.losses.len() > 1 {
        json["deviation"] = json!(trial.deviation());
        json["folds"] = json!(trial.losses);
    }
    json
}

/// A grid for people, the best rate marked.
pub fn grid_text(trials: &[Trial], best: usize, judged: &str) -> String {
    let folds = trials.iter().any(|trial| trial.losses.len() > 1);
    let mut table = vec![vec!["rate".to_owned(), judged.to_owned()]];
    if folds {
        table[0].push("deviation".into());
    }
    for (i, trial) in trials.iter().enumerate() {
        let mut line = vec![rate(trial.lr), loss(trial.mean())];
        if folds {
            line.push(trial.deviation().map_or_else(String::new, number));
        }
        if i == best {
            line.push("<- best".into());
        }
        table.push(line);
    }
    let mut text = aligned(&table);
    if best == 0 || best + 1 == trials.len() {
        text.push_str("the best rate is at the edge of the grid: a better one may lie beyond\n");
    }
    text
}

/// A range test for people: some of its steps, and those that say something marked.
pub fn range_text(steps: &[Step], finding: Finding) -> String {
    let mut shown: Vec<usize> = (0..steps.len()).step_by(steps.len().div_ceil(LINES).max(1)).collect();
    let away = |step: &Step, lr: f64| libm::log(step.lr / lr).abs();
    let nearest = |lr: f64| {
        (0..steps.len()).min_by(|a, b| away(&steps[*a], lr).total_cmp(&away(&steps[*b], lr))).unwrap_or(0)
    };
    let marks = [
        (nearest(finding.steepest), "<- steepest descent"),
        (nearest(finding.suggestion), "<- a tenth of the least loss's rate"),
        (nearest(finding.minimum), "<- least loss"),
    ];
    shown.extend(marks.iter().map(|(at, _)| *at));
    shown.sort_unstable();
    shown.dedup();
    let mut table = vec![vec!["rate".to_owned(), "loss".into(), "smoothed".into()]];
    for i in shown {
        let Step { lr, loss, smoothed } = steps[i];
        let marks = marks.iter().filter(|(at, _)| *at == i).map(|(_, mark)| (*mark).to_owned());
        table.push([rate(rounded(lr, 3)), number(loss), number(smoothed)].into_iter().chain(marks).collect());
    }
    let mut text = aligned(&table);
    if steps.last().is_some_and(|last| last.lr == finding.minimum) {
        text.push_str("the loss still falls at the largest rate: a better one may lie beyond --to\n");
    }
    text
}

/// The plot of a range test.
pub fn range_page(name: &str, steps: &[Step], finding: Finding, lr: f64) -> String {
    // Single losses beyond the averages would press the curve flat.
    let most = steps.iter().map(|step| step.smoothed).fold(f64::NEG_INFINITY, f64::max);
    let points = |y: fn(&Step) -> f64| steps.iter().map(|s| (s.lr, y(s).min(most))).collect::<Vec<_>>();
    let series = vec![
        Series { name: "smoothed".into(), points: points(|s| s.smoothed), style: Style::Line },
        Series { name: "loss".into(), points: points(|s| s.loss), style: Style::Dots },
    ];
    let marks = vec![(lr, format!("use {}", rate(lr)))];
    let about = format!(
        "range test: the rate rises from step to step; the loss is least at {} and falls fastest at {}",
        rate(rounded(finding.minimum, 3)),
        rate(rounded(finding.steepest, 3))
    );
    page(name, &about, series, marks, "loss")
}

/// The plot of a grid.
pub fn grid_page(name: &str, trials: &[Trial], best: usize, judged: &str, steps: u64) -> String {
    let means = trials.iter().filter_map(|trial| Some((trial.lr, trial.mean()?))).collect();
    let mut series = vec![Series { name: "mean".into(), points: means, style: Style::DottedLine }];
    let folds = trials.iter().map(|trial| trial.losses.len()).max().unwrap_or(0);
    if folds > 1 {
        let each =
            |trial: &Trial| trial.losses.iter().flatten().map(|loss| (trial.lr, *loss)).collect::<Vec<_>>();
        let points = trials.iter().flat_map(each).collect();
        series.push(Series { name: "folds".into(), points, style: Style::Dots });
    }
    let marks = vec![(trials[best].lr, format!("best {}", rate(trials[best].lr)))];
    let about = if folds > 1 { format!(" in each of {folds} folds") } else { String::new() };
    page(name, &format!("grid: {} at each rate{about}", counted(steps, "step")), series, marks, judged)
}

fn page(name: &str, about: &str, series: Vec<Series>, marks: Vec<(f64, String)>, y_label: &str) -> String {
    let values = || series.iter().flat_map(|s| &s.points).map(|(_, y)| *y);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let y_scale = if low > 0.0 && high > low * LOG_RATIO { Scale::Log } else { Scale::Linear };
    let plot = Plot {
        title: "loss over learning rate".into(),
        x_label: "learning rate".into(),
        y_label: y_label.into(),
        x_scale: Scale::Log,
        y_scale,
        series,
        marks,
        diagonal: false,
    };
    plot_page(&format!("{name}: learning rate"), about, &[plot])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_back_as_they_are() {
        for (lr, expect) in
            [(1e-5, "1e-5"), (3.16e-4, "3.16e-4"), (0.001, "0.001"), (0.0316, "0.0316"), (2.0, "2")]
        {
            assert_eq!(rate(lr), expect);
            assert_eq!(expect.parse::<f64>().unwrap(), lr);
        }
    }
}

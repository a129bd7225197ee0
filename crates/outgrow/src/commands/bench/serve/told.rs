//! What was measured, as JSON and as text.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::load::{Load, Outcome};
use super::request::Request;
use super::url::Url;
use crate::commands::table::aligned;
use crate::report::format::{bytes, count, percent, short_count};

/// Which latencies are told, by their names and parts.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// All that a result is of.
#[derive(Debug)]
pub struct Measured<'a> {
    /// The server.
    pub url: &'a Url,
    /// What it was asked.
    pub request: &'a Request,
    /// Bytes of an answer's body.
    pub answer_bytes: usize,
    /// How.
    pub load: Load,
    /// What came of it.
    pub outcome: Outcome,
    /// Cores that the load itself kept busy, where the system says it.
    pub own_cores: Option<f64>,
}

/// A rate that was tried.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Arrivals per second.
    pub rate: f64,
    /// 99 of 100 requests were answered within this.
    pub p99_ms: f64,
    /// The part of all arrivals that were answered within the target.
    pub within: f64,
    /// Whether it was borne.
    pub borne: bool,
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

impl Measured<'_> {
    fn seconds(&self) -> f64 {
        self.outcome.elapsed.max(self.load.measured).as_secs_f64()
    }

    fn per_s(&self, number: u64) -> f64 {
        number as f64 / self.seconds()
    }

    /// The part of all arrivals that were answered within the target; 0 of none.
    pub fn within(&self) -> f64 {
        self.outcome.within as f64 / self.outcome.arrived().max(1) as f64
    }

    /// The quantile of latency, in milliseconds.
    pub fn latency_ms(&self, part: f64) -> f64 {
        ms(self.outcome.latency.value_at_quantile(part))
    }

    /// As JSON.
    pub fn json(&self) -> Json {
        let (load, outcome) = (&self.load, &self.outcome);
        let mut latency = json!({ "mean": outcome.latency.mean() / 1e6 });
        for (name, part) in QUANTILES {
            latency[name] = json!(self.latency_ms(part));
        }
        latency["max"] = json!(ms(outcome.latency.max()));
        let mut errors = json!({});
        for (status, number) in outcome.failures() {
            errors[status.to_string()] = json!(number);
        }
        let mut refusals = json!({});
        for (status, number) in outcome.refusals() {
            refusals[status.to_string()] = json!(number);
        }
        for (lost, number) in &outcome.lost {
            errors[lost.name()] = json!(number);
        }
        let mut json = json!({
            "url": self.url.to_string(),
            "model": self.request.of,
            "loop": if load.rate.is_some() { "open" } else { "closed" },
            "connections": load.connections,
            "rate": load.rate,
            "warm_up_seconds": load.warm_up.as_secs_f64(),
            "seconds": self.seconds(),
            "rows": self.request.rows,
            "body": self.request.form.key(),
            "request_bytes": self.request.body_bytes,
            "answer_bytes": self.answer_bytes,
            "arrived": outcome.arrived(),
            "answered": outcome.ok(),
            "refused": outcome.refused(),
            "refusals": refusals,
            "errors": errors,
            "unsent": outcome.unsent,
            "requests_per_s": self.per_s(outcome.ok()),
            "rows_per_s": self.per_s(outcome.ok()) * self.request.rows as f64,
            "latency_ms": latency,
            "own_cores": self.own_cores,
        });
        if let Some(target) = load.target {
            json["target_ms"] = json!(target.as_secs_f64() * 1e3);
            json["within_target"] = json!(outcome.within);
            json["goodput_per_s"] = json!(self.per_s(outcome.within));
        }
        if load.rate.is_some() {
            json["sent_late_ms"] = json!({
                "p50": ms(outcome.late.value_at_quantile(0.5)),
                "p99": ms(outcome.late.value_at_quantile(0.99)),
            });
        }
        json
    }

    /// As text.
    pub fn text(&self) -> String {
        let (load, outcome, request) = (&self.load, &self.outcome, self.request);
        let how = match load.rate {
            None => format!("{} in a closed loop", many(load.connections, "connection")),
            Some(rate) => {
                format!("{} requests/s arriving at random, {} at most at once", tidy(rate), load.connections)
            }
        };
        let mut text = format!(
            "{} at {}: {how}, {:.1} s\n{} in {} of {}, answers of {}\n\n",
            request.of,
            self.url,
            self.seconds(),
            many(request.rows, "row"),
            bytes(request.body_bytes as u64),
            request.form.name(),
            bytes(self.answer_bytes as u64),
        );
        let mut titles = vec!["requests/s".to_owned(), "ms: mean".to_owned()];
        let mut cells = vec![tidy(self.per_s(outcome.ok())), format!("{:.3}", outcome.latency.mean() / 1e6)];
        for (name, part) in QUANTILES {
            titles.push(name.to_owned());
            cells.push(format!("{:.3}", self.latency_ms(part)));
        }
        titles.push("max".to_owned());
        cells.push(format!("{:.3}", ms(outcome.latency.max())));
        text.push_str(&aligned(&[titles, cells]));
        text.push('\n');
        let mut line = |what: &str, said: String| {
            let _ = writeln!(text, "{what:<10}{said}");
        };
        line("answered", count(outcome.ok()));
        for (status, number) in outcome.refusals() {
            line("refused", format!("{} (status {status})", count(number)));
        }
        for (status, number) in outcome.failures() {
            line("failed", format!("{} (status {status})", count(number)));
        }
        for (lost, number) in &outcome.lost {
            line("failed", format!("{} ({})", count(*number), lost.name()));
        }
        if outcome.unsent > 0 {
            line("not sent", format!("{}: no connection became free to the end", count(outcome.unsent)));
        }
        if let Some(target) = load.target {
            let part = percent(self.within());
            let rate = tidy(self.per_s(outcome.within));
            line("in time", format!("{part} within {} ms, goodput {rate}/s", target.as_secs_f64() * 1e3));
        }
        if load.rate.is_some() {
            let late = ms(outcome.late.value_at_quantile(0.5));
            line("sent", format!("{late:.3} ms late (median), which latencies include"));
        }
        if let Some(cores) = self.own_cores {
            line("load", format!("{cores:.2} cores for sending and receiving"));
        }
        text
    }

    /// What a trial of a rate came to, which is borne if 99 of 100 of all that arrive are answered in time.
    pub fn trial(&self, rate: f64) -> Trial {
        let within = self.within();
        Trial { rate, p99_ms: self.latency_ms(0.99), within, borne: within >= 0.99 }
    }
}

impl Trial {
    /// As JSON.
    pub fn json(&self) -> Json {
        json!({ "rate": self.rate, "p99_ms": self.p99_ms, "within": self.within, "borne": self.borne })
    }
}

/// The rates that were tried.
pub fn trials_text(trials: &[Trial]) -> String {
    let mut table = vec![["requests/s", "p99 ms", "in time", ""].map(str::to_owned).to_vec()];
    for trial in trials {
        let borne = if trial.borne { "good" } else { "too much" };
        let p99 = format!("{:.3}", trial.p99_ms);
        table.push(vec![tidy(trial.rate), p99, percent(trial.within), borne.to_owned()]);
    }
    aligned(&table)
}

fn many(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A rate, as people read it.
pub fn tidy(number: f64) -> String {
    if number < 10_000.0 { format!("{number:.1}") } else { short_count(number) }
}

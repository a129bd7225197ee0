//! All that is counted, in the text format of Prometheus. Histograms have the same buckets everywhere, so that those of
//! several servers can be added up.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use crate::tally::{Histogram, Tally};

/// The format, as HTTP names it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whose count it is: a model and its version; nothing of both for requests of no model.
pub struct Counted<'a> {
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// What has happened.
    pub tally: &'a Tally,
}

/// Metrics as they are written.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing into memory does not fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn histogram<const N: usize>(
        &mut self,
        (name, help): (&str, &str),
        counted: &[Counted<'_>],
        of: impl Fn(&Tally) -> &Histogram<N>,
    ) {
        self.family(name, "histogram", help);
        for counted in counted {
            let ((buckets, sum), labels) = (of(counted.tally).read(), counted.labels());
            for (bound, count) in &buckets {
                let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                self.line(format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}"));
            }
            let total = buckets.last().map_or(0, |(_, count)| *count);
            self.line(format_args!("{name}_sum{{{labels}}} {sum}"));
            self.line(format_args!("{name}_count{{{labels}}} {total}"));
        }
    }
}

impl Counted<'_> {
    /// Names of models and versions have no characters that would have to be escaped.
    fn labels(&self) -> String {
        format!("model=\"{}\",version=\"{}\"", self.model, self.version)
    }
}

/// All that was counted, and how many requests wait.
pub fn page(counted: &[Counted<'_>], waiting: usize) -> String {
    let mut page = Page(String::new());
    page.family("outgrow_requests_total", "counter", "Requests to infer, by the status of their answer.");
    for one in counted {
        for (status, count) in one.tally.statuses() {
            let status = status.map_or_else(|| "other".to_owned(), |status| status.to_string());
            page.line(format_args!("outgrow_requests_total{{{},status=\"{status}\"}} {count}", one.labels()));
        }
    }
    page.family(
        "outgrow_refused_total",
        "counter",
        "Requests to infer that were refused for want of time or place.",
    );
    for one in counted {
        for (reason, count) in one.tally.refusals() {
            let reason = reason.name();
            page.line(format_args!("outgrow_refused_total{{{},reason=\"{reason}\"}} {count}", one.labels()));
        }
    }
    page.family("outgrow_rows_total", "counter", "Rows of requests that were answered.");
    for one in counted {
        let rows = one.tally.rows.load(Ordering::Relaxed);
        page.line(format_args!("outgrow_rows_total{{{}}} {rows}", one.labels()));
    }
    let seconds = ("outgrow_request_seconds", "Seconds from when a body had come to its answer.");
    page.histogram(seconds, counted, |tally| &tally.total_s);
    let seconds = ("outgrow_queue_seconds", "Seconds that answered requests waited for their batch.");
    page.histogram(seconds, counted, |tally| &tally.queue_s);
    let seconds = ("outgrow_compute_seconds", "Seconds that the batches of answered requests ran.");
    page.histogram(seconds, counted, |tally| &tally.compute_s);
    let rows = ("outgrow_batch_rows", "Rows of batches, one observation for each batch.");
    page.histogram(rows, counted, |tally| &tally.batch_rows);
    page.family("outgrow_waiting_requests", "gauge", "Requests that wait now, of all models.");
    page.line(format_args!("outgrow_waiting_requests {waiting}"));
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batcher::Reason;
    use crate::tally::Times;
    use std::time::Duration;

    #[test]
    fn counts_are_written_as_prometheus_reads_them() {
        let tally = Tally::default();
        let ms = Duration::from_millis;
        tally.answered(3, Times { total: ms(4), queue: ms(1), infer: ms(2), ..Times::default() }, ms(9));
        tally.failed(503, ms(20));
        tally.refused(Reason::Full);
        tally.ran(3, ms(2));
        let page = page(&[Counted { model: "m".into(), version: "7".into(), tally: &tally }], 5);
        for line in [
            "# TYPE outgrow_requests_total counter",
            "outgrow_requests_total{model=\"m\",version=\"7\",status=\"200\"} 1",
            "outgrow_requests_total{model=\"m\",version=\"7\",status=\"503\"} 1",
            "outgrow_refused_total{model=\"m\",version=\"7\",reason=\"full\"} 1",
            "outgrow_rows_total{model=\"m\",version=\"7\"} 3",
            "# TYPE outgrow_request_seconds histogram",
            "outgrow_request_seconds_bucket{model=\"m\",version=\"7\",le=\"0.0025\"} 0",
            "outgrow_request_seconds_bucket{model=\"m\",version=\"7\",le=\"0.005\"} 1",
            "outgrow_request_seconds_bucket{model=\"m\",version=\"7\",le=\"+Inf\"} 2",
            "outgrow_request_seconds_sum{model=\"m\",version=\"7\"} 0.024",
            "outgrow_request_seconds_count{model=\"m\",version=\"7\"} 2",
            "outgrow_queue_seconds_count{model=\"m\",version=\"7\"} 1",
            "outgrow_batch_rows_bucket{model=\"m\",version=\"7\",le=\"2\"} 0",
            "outgrow_batch_rows_bucket{model=\"m\",version=\"7\",le=\"4\"} 1",
            "outgrow_waiting_requests 5",
        ] {
            assert!(page.lines().any(|there| there == line), "{line} is not in\n{page}");
        }
    }
}

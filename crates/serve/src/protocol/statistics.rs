//! What has happened to requests, in the terms of the protocol's extension `statistics`.

use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::tally::{Tally, Timed};

/// The statistics of one version of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelStatistics {
    /// The model.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When a request was answered last, in milliseconds since 1970.
    pub last_inference: u64,
    /// Rows that were answered.
    pub inference_count: u64,
    /// Batches that have run.
    pub execution_count: u64,
    /// How often and how long in nanoseconds, by part of the work.
    pub inference_stats: Json,
    /// The same by the rows of batches, which are filled up to powers of two.
    pub batch_stats: Json,
}

fn duration((count, ns): (u64, u64)) -> Json {
    json!({ "count": count, "ns": ns })
}

impl ModelStatistics {
    /// Of what was counted for a version of a model.
    pub fn new(name: &str, version: u64, tally: &Tally) -> Self {
        let timed = |timed: &Timed| duration(timed.read());
        let batches: Vec<Json> = tally
            .batches()
            .map(|(rows, count, ns)| {
                let none = duration((0, 0));
                let run = duration((count, ns));
                json!({ "batch_size": rows, "compute_input": none, "compute_infer": run, "compute_output": none })
            })
            .collect();
        Self {
            name: name.to_owned(),
            version: version.to_string(),
            last_inference: tally.last_ms.load(Ordering::Relaxed),
            inference_count: tally.rows.load(Ordering::Relaxed),
            execution_count: tally.batches().map(|(_, count, _)| count).sum(),
            inference_stats: json!({
                "success": timed(&tally.success),
                "fail": timed(&tally.fail),
                "queue": timed(&tally.queue),
                "compute_input": timed(&tally.input),
                "compute_infer": timed(&tally.infer),
                "compute_output": timed(&tally.output),
                "cache_hit": duration((0, 0)),
                "cache_miss": duration((0, 0)),
            }),
            batch_stats: batches.into(),
        }
    }
}

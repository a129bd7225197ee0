//! What a run's folder tells of it, whether it has ended or not.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_train::spec::{Interval, MetricName};
use serde_json::{Value as Json, json};

use crate::manifest::kept::{MANIFEST, RUN};
use crate::session::folder::fold_folder;

/// A run as its folder shows it.
#[derive(Debug)]
pub struct PastRun {
    /// Its folder.
    pub path: PathBuf,
    /// When it last wrote its log or its record, in seconds since 1970.
    pub modified: u64,
    /// Whether it has ended.
    pub ended: bool,
    /// Whether a process is at it now.
    pub running: bool,
    /// Of a k-fold evaluation, how many of its runs were begun.
    pub folds: Option<usize>,
    /// How long it is to train, where it says so.
    pub length: Option<Interval>,
    /// The last step that it tells of; of a k-fold evaluation, the steps of its runs together.
    pub step: u64,
    /// Its best evaluation, by the metric of early stopping, or by the loss.
    pub best: Option<Best>,
    /// What it came to; null where it has not ended.
    pub result: Json,
    /// The manifest with its defaults.
    pub manifest: Json,
    /// What it logged.
    pub lines: Vec<Json>,
}

/// An evaluation on the validation data.
#[derive(Debug, PartialEq)]
pub struct Best {
    /// The metric.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The step.
    pub step: u64,
}

impl Best {
    /// As a finished run tells it, which knows how it trained.
    fn of_result(json: &Json) -> Option<Self> {
        Some(Self {
            metric: json["metric"].as_str()?.to_owned(),
            value: json["value"].as_f64()?,
            epoch: json["epoch"].as_u64()?,
            step: json["step"].as_u64()?,
        })
    }
}

impl PastRun {
    /// Whether there is a run in a folder.
    pub fn is_at(storage: &dyn StorageBackend, path: &Path) -> bool {
        storage.entry(&path.join(RUN)).is_ok_and(|entry| entry.is_some())
    }

    /// Reads a run's folder. What is not there yet, or was deleted, is left out.
    ///
    /// # Errors
    /// When something there cannot be read.
    pub fn read(storage: &dyn StorageBackend, path: &Path) -> Result<Self, Diagnostics> {
        let read = |name: &str| -> Result<Option<Vec<u8>>, Diagnostics> {
            match storage.read(&path.join(name)) {
                Err(e) if e.is_not_found() => Ok(None),
                bytes => Ok(Some(bytes.map_err(|e| {
                    let diagnostic = Diagnostic::new("runs.read", e.to_string()).file(e.path());
                    diagnostic.hint("look at who may read it")
                })?)),
            }
        };
        let json = |name: &str| -> Result<Json, Diagnostics> {
            let bytes = read(name)?.unwrap_or_else(|| b"null".to_vec());
            serde_json::from_slice(&bytes).map_err(|e| {
                Diagnostic::new("run.damaged", format!("not valid JSON: {e}"))
                    .file(path.join(name))
                    .hint("start the run anew with --fresh, or remove its folder")
                    .into()
            })
        };
        let text = |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
        let run = json(RUN)?;
        let ended = run["result_sha256"].is_string();
        let result = if ended { json("result.json")? } else { Json::Null };
        let manifest: Json = toml::from_str(&text(read(MANIFEST)?)).unwrap_or_default();
        // The last line may be half written.
        let log = text(read("metrics.jsonl")?);
        let lines: Vec<Json> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = lines.last().and_then(|line| line["step"].as_u64());
        let folds = folds(storage, path)?;
        let of_folds = (!folds.is_empty()).then(|| folds.iter().map(|fold| fold.step).sum());
        let metric = manifest["train"]["early_stopping"]["metric"].as_str().unwrap_or("loss").to_owned();
        Ok(Self {
            modified: [RUN, "metrics.jsonl"]
                .iter()
                .filter_map(|name| modified(&path.join(name)))
                .max()
                .unwrap_or(0),
            ended,
            length: serde_json::from_value(run["length"].clone()).ok(),
            running: !ended && storage.is_locked(path).unwrap_or(false),
            folds: Some(folds.len()).filter(|begun| *begun > 0),
            step: result["steps"].as_u64().or(last).or(of_folds).unwrap_or(0),
            best: Best::of_result(&result["best"]).or_else(|| best(&lines, &metric)),
            result,
            manifest,
            lines,
            path: path.to_owned(),
        })
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(|| self.path.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    /// `finished`, `running`, or `unfinished` for what was interrupted.
    pub fn state(&self) -> &'static str {
        match (self.ended, self.running) {
            (true, _) => "finished",
            (false, true) => "running",
            (false, false) => "unfinished",
        }
    }

    /// When it last wrote something, as `2026-11-29 23:39`.
    pub fn when(&self) -> String {
        let (year, month, day) = date(self.modified / 86_400);
        let minutes = self.modified / 60 % 1440;
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
    }

    /// The metric of the test data that tells most, with its value.
    pub fn test(&self) -> Option<(&'static str, f64)> {
        let of = |metric: &MetricName| Some((metric.name(), self.result["test"][metric.name()].as_f64()?));
        let chief = MetricName::ALL.iter().filter(|metric| metric.is_chief() && **metric != MetricName::Loss);
        chief.chain(&[MetricName::Loss]).find_map(of)
    }

    /// For machines.
    pub fn to_json(&self) -> Json {
        let mut json = json!({
            "run": self.path,
            "last_written": self.modified,
            "state": self.state(),
            "length": self.length,
            "step": self.step,
            "folds": self.folds,
            "train_seconds": self.result["train_seconds"],
            "test": self.result["test"],
        });
        if let Some(Best { metric, value, epoch, step }) = &self.best {
            json["best"] = json!({ "metric": metric, "value": value, "epoch": epoch, "step": step });
        }
        json
    }
}

/// The runs of a k-fold evaluation that were begun so far; none in the folder of any other run.
fn folds(storage: &dyn StorageBackend, path: &Path) -> Result<Vec<PastRun>, Diagnostics> {
    let folds = (1..).map(|number| path.join(fold_folder(number)));
    folds.take_while(|fold| PastRun::is_at(storage, fold)).map(|fold| PastRun::read(storage, &fold)).collect()
}

/// The first of the best evaluations.
fn best(lines: &[Json], metric: &str) -> Option<Best> {
    let larger = MetricName::of_name(metric).is_some_and(MetricName::larger_is_better);
    let mut best: Option<Best> = None;
    for line in lines.iter().filter(|line| line["split"] == "validation") {
        let (Some(value), Some(epoch), Some(step)) =
            (line[metric].as_f64(), line["epoch"].as_u64(), line["step"].as_u64())
        else {
            continue;
        };
        if best.as_ref().is_none_or(|best| if larger { value > best.value } else { value < best.value }) {
            best = Some(Best { metric: metric.to_owned(), value, epoch, step });
        }
    }
    best
}

fn modified(path: &Path) -> Option<u64> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Year, month and day of so many days after 1 January 1970 (Hinnant 2014, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expect) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_787, (2026, 11, 30)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expect, "{days}");
        }
    }

    #[test]
    fn the_best_is_by_the_metrics_direction() {
        let line = |step: u64, loss: f64, accuracy: f64| json!({ "step": step, "epoch": step / 10, "split": "validation", "loss": loss, "accuracy": accuracy });
        let train = json!({ "step": 35, "epoch": 3, "split": "train", "loss": 0.0 });
        let lines = [line(10, 0.5, 0.7), line(20, 0.4, 0.6), line(30, 0.4, 0.7), train];
        let found = |metric| best(&lines, metric).map(|best| (best.value, best.step));
        assert_eq!(found("loss"), Some((0.4, 20)));
        assert_eq!(found("accuracy"), Some((0.7, 10)));
        assert_eq!(found("auc"), None);
    }
}

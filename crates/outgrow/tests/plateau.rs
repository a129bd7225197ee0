//! The schedule `plateau`: rates follow from evaluations alone, whatever happens to the run in between.

mod common;

use std::time::Duration;

use common::{GLYPHS, Place, check_same, checkpoints, essence};
use serde_json::Value as Json;

/// A rate that is too high to get better for long, and a patience that is soon over.
const MODEL: &str = r#"
[model]
name = "mlp"
hidden = [12]
[train]
epochs = 30
batch = 20
micro_shards = 2
optimizer = "momentum"
lr = 0.3
schedule = { name = "plateau", factor = 0.5, patience = 2, min_lr = 0.02, min_delta = 0.01 }
checkpoint_every_steps = 3
log_every_steps = 1
"#;

fn manifest() -> String {
    format!("seed = 3\n{GLYPHS}{MODEL}")
}
const RUN: [&str; 4] = ["run", "m.toml", "--out", "r"];

/// The lines of a run's log.
fn log(place: &Place, run: &str) -> Vec<Json> {
    place
        .read(&format!("{run}/metrics.jsonl"))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn rates_follow_from_the_validation_losses() {
    let place = Place::with(&manifest());
    let done = place.run(&[&RUN[..], &["--json"]].concat());
    done.object();
    let (mut best, mut without, mut reductions) = (f64::INFINITY, 0, 0);
    for line in log(&place, "r") {
        if line["split"] == "validation" {
            let loss = line["loss"].as_f64().unwrap();
            without += 1;
            if best - loss > 0.01 {
                (best, without) = (loss, 0);
            }
            if without == 2 {
                (without, reductions) = (0, reductions + 1);
            }
        } else {
            let expected = (0.3 * 0.5f64.powi(reductions)).max(0.02);
            assert_eq!(line["lr"].as_f64(), Some(expected), "{line}");
        }
    }
    assert!(reductions >= 3, "{reductions}");
    let told = done.stderr.matches("the validation loss no longer gets better").count();
    assert_eq!(told as i32, reductions, "{}", done.stderr);
}

/// What has been seen is in the checkpoint: killed again and again, on one worker or two, a run comes to the same.
#[test]
fn a_run_that_goes_on_has_the_same_rates() {
    let place = Place::with(&manifest());
    place.json(&["run", "m.toml", "--out", "calm"]);
    let expect = essence(&place, "calm");
    for workers in ["1", "2"] {
        let args = [&RUN[..], &["--workers", workers]].concat();
        for more in [2, 20, 50] {
            let mut child = place.start(&args);
            while checkpoints(&place.path("r")).last().is_none_or(|last| step(last) < more)
                && child.try_wait().unwrap().is_none()
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = child.kill();
            child.wait().unwrap();
        }
        let result = place.json(&args);
        assert_eq!(result["weights_sha256"], expect.result["weights_sha256"], "{workers} workers");
        assert_eq!(log(&place, "r"), log(&place, "calm"), "{workers} workers");
        if workers == "1" {
            check_same(&essence(&place, "r"), &expect, "killed");
        }
        std::fs::remove_dir_all(place.path("r")).unwrap();
    }
}

/// The step of a checkpoint by its file.
fn step(record: &std::path::Path) -> u64 {
    let digits: String =
        record.file_name().unwrap().to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn a_schedule_with_nothing_to_watch_is_refused() {
    let place = Place::with(&manifest());
    for (set, code, item) in [
        ("data.split=", "train.plateau", "train.schedule"),
        (
            "train.schedule={ name = \"plateau\", metric = \"rmse\" }",
            "train.plateau",
            "train.schedule.metric",
        ),
        (
            "train.schedule={ name = \"plateau\", factor = 0 }",
            "manifest.train.plateau",
            "train.schedule.factor",
        ),
    ] {
        let errors = place.refused(&[&RUN[..], &["--set", set]].concat());
        assert_eq!(errors[0]["code"], code, "{errors:?}");
        assert!(errors[0]["item"].as_str().unwrap().starts_with(item), "{errors:?}");
        assert!(!place.path("r/run.json").exists());
    }
}

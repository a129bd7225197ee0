//! What a run says before its first step and while it works: an estimate from steps that are timed and undone, which no bit
//! of the result depends on, and a line now and then.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{Place, essence};
use serde_json::Value as Json;

/// Whatever a step changes is in this run: weights, running statistics, moments, random numbers, the best weights.
const MANIFEST: &str = r#"
seed = 3
[data]
source = "synthetic:glyphs"
samples = 300
test = { samples = 60 }
split = { validation = 0.2 }
[model]
layers = [
  { flatten = true },
  { batch_norm = true },
  { dropout = 0.2 },
  { dense = 40, activation = "relu" },
  { dense = 10, activation = "softmax" },
]
[train]
epochs = 4
batch = 24
micro_shards = 4
optimizer = "adam"
lr = 0.002
schedule = "cosine"
early_stopping = { patience = 1000 }
checkpoint_every_steps = 7
log_every_steps = 1
"#;

#[test]
fn timed_steps_change_no_bit() {
    let place = Place::with(MANIFEST);
    // Nobody reads an estimate there, and no step is timed.
    let silent = place.run(&["run", "m.toml", "--out", "silent", "--quiet"]);
    assert!(silent.code == 0 && silent.stderr.is_empty(), "{}", silent.stderr);
    let done = place.run(&["run", "m.toml", "--out", "told"]);
    let estimate = done.stderr.lines().find(|line| line.starts_with("estimate")).unwrap();
    assert!(estimate.contains("  40 steps of ") && estimate.contains(" of evaluation; "), "{estimate}");
    let first_epoch = done.stderr.find("epoch 1/4").unwrap();
    assert!(done.stderr.find("estimate").unwrap() < first_epoch);
    assert_eq!(essence(&place, "told"), essence(&place, "silent"));

    // A run that goes on is estimated by what is left, and is the same run still.
    let shorter = ["run", "m.toml", "--out", "on", "--quiet", "--set", "train.checkpoint_every_steps=7"];
    let mut child = place.command(&shorter).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while common::checkpoints(&place.path("on")).is_empty() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let done = place.run(&["run", "m.toml", "--out", "on"]);
    if !done.stderr.contains("is finished") {
        let steps = done.stderr.lines().find_map(|line| line.strip_prefix("going on after step "));
        let step: u64 = steps.unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(done.stderr.contains(&format!("  {} steps of ", 40 - step)) || step == 40, "{}", done.stderr);
    }
    assert_eq!(essence(&place, "on"), essence(&place, "silent"));
}

#[test]
fn a_dry_run_stops_before_the_first_step() {
    let place = Place::with(MANIFEST);
    let alone = place.json(&["run", "m.toml", "--dry-run", "--out", "dry"]);
    assert_eq!((&alone["dry_run"], &alone["steps"]), (&true.into(), &40.into()), "{alone}");
    assert_eq!(alone["evaluations"], 4);
    for key in ["step_seconds", "train_seconds", "evaluation_seconds", "memory_bytes"] {
        assert!(alone[key].as_f64().unwrap() > 0.0, "{key}: {alone}");
    }
    let (step, train) = (alone["step_seconds"].as_f64().unwrap(), alone["train_seconds"].as_f64().unwrap());
    assert!((train / step - 40.0).abs() < 1e-6);
    // Weights, two moments, the best weights and a checkpoint's copy of them are the least.
    let weights = (784 * 40 + 40 * 10) * 4;
    assert!(alone["memory_bytes"].as_u64().unwrap() > 4 * weights);
    let done = place.run(&["train", "m.toml", "--dry-run", "--out", "dry"]);
    assert!(done.code == 0 && done.stdout.starts_with("estimate    40 steps of "), "{}", done.stdout);
    for transport in ["threads", "shm", "tcp"] {
        let flags = ["--workers", "2", "--threads", "1", "--transport", transport];
        let group = place.json(&[&["run", "m.toml", "--dry-run", "--out", "dry"], &flags[..]].concat());
        assert_eq!((&group["steps"], &group["evaluation_seconds"]), (&40.into(), &Json::Null), "{group}");
        assert!(group["step_seconds"].as_f64().unwrap() > 0.0);
    }
    assert!(!place.path("dry").exists() && !place.path("runs").exists(), "a dry run leaves no folder");

    // What is wrong with a run is wrong with a dry one.
    let few = ["run", "m.toml", "--dry-run", "--set", "train.early_stopping={ metric = \"auc\" }"];
    let wrong = place.refused(&few);
    assert_eq!(
        wrong[0]["code"],
        place.refused(&few.map(|f| if f == "--dry-run" { "--fresh" } else { f }))[0]["code"]
    );
}

/// Through a pipe, a long epoch is no silence; machines that read the result are not talked to meanwhile.
#[test]
fn a_line_now_and_then_goes_through_a_pipe() {
    let long = MANIFEST.replace("samples = 300", "samples = 20000").replace("epochs = 4", "epochs = 100000");
    let place = Place::with(&long.replace("checkpoint_every_steps = 7", "eval_every_steps = 100000000"));
    place.json(&["data", "prepare", "m.toml"]);
    let mut child = place
        .command(&["train", "m.toml", "--out", "r", "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.starts_with("step "))).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    for part in [" of ", "  epoch ", "  loss ", " samples/s", " left"] {
        assert!(line.contains(part), "{line}");
    }
    let left = line.split("  ").last().unwrap();
    assert!(!left.starts_with("0 s"), "{line}");
}

//! What a run tells while it goes on: of many epochs some, with `--verbose` what helps to find out why it is as it is, and all
//! numbers to TensorBoard if the manifest wants that. Nothing of it changes what comes out.

mod common;

use std::fmt::Write as _;

use common::{Dice, Place};
use serde_json::Value as Json;

const MANIFEST: &str = "[data]\nsource = \"csv\"\nfiles = \"d.csv\"\nlabel = \"kind\"\nsplit = { validation = 0.2, test = 0.2 }\n\
    [model]\nname = \"mlp\"\nhidden = [8]\n[train]\nepochs = 100\nbatch = 32\nlr = 0.01\n";

fn place() -> Place {
    let (place, mut dice) = (Place::with(MANIFEST), Dice(3));
    let mut text = "a,b,kind\n".to_owned();
    for _ in 0..100 {
        let (a, b) = (dice.fraction(), dice.fraction());
        writeln!(text, "{a},{b},{}", if a > b { "more" } else { "less" }).unwrap();
    }
    place.write("d.csv", text);
    place
}

#[test]
fn of_many_epochs_some_have_a_line() {
    let place = place();
    let done = place.run(&["run", "m.toml", "--out", "r", "--json"]);
    let lines: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("epoch ")).collect();
    assert!((13..40).contains(&lines.len()), "{}", done.stderr);
    assert!(lines[0].starts_with("epoch   1/100 ") && lines.last().unwrap().starts_with("epoch 100/100 "));
    let best = done.object()["best"]["epoch"].as_u64().unwrap() + 1;
    assert!(lines.iter().any(|line| line.starts_with(&format!("epoch {best:>3}/100 "))), "{}", done.stderr);
    let metrics = place.read("r/metrics.jsonl");
    assert_eq!(metrics.lines().filter(|line| line.contains("validation")).count(), 100);
    // Without validation data too.
    let set = ["--set", "data.split={ test = 0.2 }"];
    let done = place.run(&[&["run", "m.toml", "--out", "s"], &set[..]].concat());
    let lines = done.stderr.lines().filter(|line| line.starts_with("epoch ")).count();
    assert_eq!(lines, 20, "{}", done.stderr);
    // One is no plural.
    let set = ["--set", "train.epochs=1", "--set", "train.batch=60"];
    let done = place.run(&[&["run", "m.toml", "--out", "one"], &set[..]].concat());
    assert!(done.stderr.contains("  1 step of ") && done.stdout.contains("\n1 step in "), "{done:?}");
}

#[test]
fn verbose_says_what_and_where() {
    let place = place();
    let run =
        |more: &[&str]| place.run(&[&["run", "m.toml", "--set", "train.epochs=2", "--json"], more].concat());
    let first = run(&["--verbose", "--out", "r"]);
    let says = |text: &str| assert!(first.stderr.contains(text), "{text}: {}", first.stderr);
    for text in [
        "\nkernels     ",
        "\ncache       ",
        "\nprepared    data written to ",
        "\ngradients   ",
        "\nevaluation  ",
        "\ntime        training and its evaluations took ",
        "\nfolder      ",
    ] {
        says(text);
    }
    says(&place.path("m.toml").display().to_string());
    let second = run(&["--verbose", "--out", "s"]);
    assert!(second.stderr.contains("\nprepared    data found in "), "{}", second.stderr);
    let silent = run(&["--out", "t"]);
    for word in ["kernels ", "prepared ", "gradients ", "time "] {
        assert!(!silent.stderr.lines().any(|line| line.starts_with(word)), "{}", silent.stderr);
    }
    assert_eq!(first.object()["weights_sha256"], silent.object()["weights_sha256"]);
    assert_eq!(place.run(&["run", "m.toml", "--verbose", "--quiet"]).code, 2);
}

/// Alone and with others, whose steps are profiled too.
#[test]
fn a_profile_is_a_table_and_a_trace_and_changes_nothing() {
    let place = place();
    let set = ["--set", "train.epochs=20", "--set", "train.micro_shards=2"];
    let run = |more: &[&str]| place.run(&[&["run", "m.toml", "--json"], &set[..], more].concat());
    let plain = run(&["--out", "r"]).object();
    assert!(plain.get("trace").is_none() && !place.path("r/trace.json").exists());
    // Where no step is taken, none can be timed.
    assert_eq!(place.run(&["run", "m.toml", "--profile", "--dry-run"]).code, 2);
    for (out, workers) in [("s", "1"), ("t", "2")] {
        let done = run(&["--out", out, "--profile", "--workers", workers]);
        assert!(done.stderr.contains("% of limit") && done.stderr.contains("matmul"), "{}", done.stderr);
        let found = done.object();
        assert_eq!(found["weights_sha256"], plain["weights_sha256"], "{workers} workers");
        let trace: Json = serde_json::from_str(&place.read(found["trace"].as_str().unwrap())).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let kernels: Vec<&Json> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert!(kernels.iter().any(|kernel| kernel["cat"] == "matmul"), "{trace}");
        let number = |event: &Json, key: &str| event[key].as_f64().unwrap();
        for pair in kernels.windows(2) {
            let end = number(pair[0], "ts") + number(pair[0], "dur");
            assert!((end - number(pair[1], "ts")).abs() < 1e-3, "{trace}");
        }
        assert!(kernels.iter().map(|kernel| number(kernel, "dur")).sum::<f64>() > 0.0, "{trace}");
    }
}

/// The events of a file: each the bytes of a message.
fn events(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut events, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        events.push(&rest[12..12 + length]);
        rest = &rest[12 + length + 4..];
    }
    events
}

fn has(event: &[u8], text: &str) -> bool {
    event.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn tensorboard_has_all_that_was_logged() {
    let place = place();
    let files = || {
        let names = std::fs::read_dir(place.path("runs/m")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.contains("tfevents")).collect();
        names.sort();
        names
    };
    let run =
        |more: &[&str]| place.run(&[&["run", "m.toml", "--set", "train.epochs=3", "--json"], more].concat());
    let plain = run(&[]).object();
    assert!(files().is_empty());
    // It is the same run, with it or without.
    let on = ["--set", "report.tensorboard=true"];
    assert!(run(&on).stderr.contains("is finished"));
    let done = run(&[&on[..], &["--fresh"]].concat()).object();
    assert_eq!(done["weights_sha256"], plain["weights_sha256"]);
    let lines = place.read("runs/m/metrics.jsonl");
    let names = files();
    assert_eq!(names.len(), 1);
    let bytes = std::fs::read(place.path(&format!("runs/m/{}", names[0]))).unwrap();
    let all = events(&bytes);
    assert_eq!(all.len(), 1 + lines.lines().count());
    assert!(has(all[0], "brain.Event:2"));
    for (line, event) in lines.lines().zip(&all[1..]) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let split = line["split"].as_str().unwrap();
        for (name, value) in line.as_object().unwrap() {
            let Some(value) = value.as_f64().filter(|_| name != "step" && name != "epoch") else { continue };
            // The name with its number behind it: the field `simple_value` of four bytes.
            let tag = format!("{name}/{split}\u{15}");
            let at = event.windows(tag.len()).position(|window| window == tag.as_bytes());
            let at = at.unwrap_or_else(|| panic!("{tag} of {line}")) + tag.len();
            let number = f32::from_le_bytes(event[at..at + 4].try_into().unwrap());
            assert_eq!(number, value as f32, "{name}/{split} of {line}");
        }
    }
    // Going on is another file, which says from where; a start from the beginning removes them all.
    let longer = ["--set", "train.epochs=5"];
    run(&[&on[..], &longer].concat()).object();
    let names = files();
    assert_eq!(names.len(), 2, "{names:?}");
    let bytes = std::fs::read(place.path(&format!("runs/m/{}", names[1]))).unwrap();
    let (before, now) = (lines.lines().count(), place.read("runs/m/metrics.jsonl").lines().count());
    assert_eq!(events(&bytes).len(), 2 + now - before);
    run(&[&longer[..], &["--fresh"]].concat()).object();
    assert!(files().is_empty());
}

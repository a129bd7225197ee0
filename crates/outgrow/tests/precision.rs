//! `train.precision`: what `auto` chooses and where that is kept, and what `bf16x3` is on kernels without AMX.

mod common;

use common::{Done, Place, weights};
use serde_json::Value as Json;

/// A net with products and convolutions, by the precision that is put in.
fn manifest(precision: &str) -> String {
    format!(
        "seed = 5\n[data]\nsource = \"synthetic:glyphs\"\nsamples = 200\n\
        [model]\nlayers = [\n\
        {{ conv = 6, kernel = 5, activation = \"relu\" }}, {{ max_pool = 4 }}, {{ flatten = true }}, {{ dense = 10 }},\n]\n\
        [train]\nsteps = 4\nbatch = 32\nlr = 0.05\nprecision = \"{precision}\"\n"
    )
}

fn run(place: &Place, manifest: &str, out: &str, more: &[&str]) -> (Json, Done) {
    let done = place.run(&[&["run", manifest, "--json", "--out", out], more].concat());
    (done.object(), done)
}

/// The path that is taken here by itself never multiplies in parts: `amx` must be asked for.
#[test]
fn without_amx_products_in_parts_are_f32_and_a_run_says_so() {
    let place = Place::with(&manifest("f32"));
    place.write("parts.toml", manifest("bf16x3"));
    let (wide, done) = run(&place, "m.toml", "wide", &[]);
    assert!(!done.stderr.contains("precision"), "{}", done.stderr);
    let (parts, done) = run(&place, "parts.toml", "parts", &[]);
    let path = parts["kernel_path"].as_str().unwrap();
    let line = format!(
        "precision   bf16x3, computed as f32, with the same bits: `{path}` kernels have nothing faster for it, amx kernels do"
    );
    assert!(done.stderr.lines().any(|said| said == line), "{}", done.stderr);
    for key in ["weights_sha256", "test", "kernel_path"] {
        assert_eq!(wide[key], parts[key], "{key}");
    }
    assert_eq!((&wide["precision"], &parts["precision"]), (&Json::from("f32"), &Json::from("bf16x3")));
    assert_eq!(weights(&place.path("wide")), weights(&place.path("parts")));
    // Each is a run of its own all the same: elsewhere they differ.
    let refused = place.refused(&["run", "parts.toml", "--out", "wide"]);
    assert_eq!(refused[0]["code"], "run.changed");
    // bf16 rounds.
    let (narrow, _) = run(&place, "m.toml", "narrow", &["--set", "train.precision=bf16"]);
    assert_ne!(narrow["weights_sha256"], wide["weights_sha256"]);
}

/// Also of a worker's step, and of one that is only estimated.
#[test]
fn what_auto_chose_is_said_and_kept() {
    let place = Place::with(&manifest("auto"));
    let (first, done) = run(&place, "m.toml", "one", &[]);
    let path = first["kernel_path"].as_str().unwrap();
    let line =
        format!("precision   f32, by `auto`: `{path}` kernels have nothing faster that is nearly as fine");
    assert_eq!(done.stderr.lines().filter(|said| *said == line).count(), 1, "{}", done.stderr);
    assert_eq!(first["precision"], "f32");
    assert!(place.read("one/manifest.toml").contains("\nprecision = \"f32\"\n"));
    assert!(place.read("one/report.html").contains("precision = &quot;f32&quot;"));
    // It is the run of what was chosen, here and in the folder, whoever of them asks.
    place.write("wide.toml", manifest("f32"));
    let (same, done) = run(&place, "wide.toml", "one", &[]);
    assert!(done.stderr.contains("is finished") && same == first, "{}", done.stderr);
    let (kept, done) = run(&place, "one", "again", &[]);
    assert!(!done.stderr.contains("precision "), "{}", done.stderr);
    assert_eq!(kept["weights_sha256"], first["weights_sha256"]);
    // And goes on.
    let (longer, _) = run(&place, "m.toml", "one", &["--set", "train.steps=7"]);
    let (whole, _) = run(&place, "wide.toml", "whole", &["--set", "train.steps=7"]);
    assert_eq!(longer["weights_sha256"], whole["weights_sha256"]);
    // Workers choose after they have agreed on kernels.
    let (shared, done) =
        run(&place, "m.toml", "shared", &["--workers", "2", "--set", "train.micro_shards=2"]);
    assert!(done.stderr.contains("by `auto`"), "{}", done.stderr);
    assert_eq!(shared["precision"], "f32");
    let told = place.run(&["run", "m.toml", "--dry-run"]);
    assert!(told.stderr.contains(&line), "{}", told.stderr);
}

/// A run that chose on other kernels, as one with AMX does, keeps that where it is repeated, with whatever kernels.
#[test]
fn a_repeated_run_has_the_precision_that_was_chosen() {
    let place = Place::with(&manifest("auto"));
    run(&place, "m.toml", "one", &["--set", "train.precision=bf16x3"]);
    for folder in ["one", "one/model"] {
        let out = folder.replace('/', "-of-");
        let (again, _) = run(&place, folder, &out.replace("one", "again"), &["--kernel-path", "portable"]);
        assert_eq!((&again["precision"], &again["kernel_path"]), (&"bf16x3".into(), &"portable".into()));
    }
    // On other kernels it is another run: its folder refuses it, and it keeps what it was.
    let before = place.read("one/manifest.toml");
    let refused = place.refused(&["run", "one", "--out", "one", "--kernel-path", "portable"]);
    assert_eq!(refused[0]["code"], "run.changed");
    assert_eq!(place.read("one/manifest.toml"), before);
    assert!(before.contains("\nprecision = \"bf16x3\"\n"), "{before}");
    // What evaluates it from the manifest finds it.
    let evaluated = place.json(&["eval", "m.toml", "--out", "one"]);
    assert_eq!(evaluated["precision"], "bf16x3");
}

#[test]
fn benchmarks_say_what_was_chosen() {
    let place = Place::new();
    place.write("m.onnx", common::onnx::model());
    for (asked, expect) in [("auto", "f32"), ("bf16x3", "bf16x3")] {
        let flags = ["--precision", asked, "--seconds", "0.01", "--threads", "1"];
        for bench in [&["bench", "train", "mlp"], &["bench", "infer", "m.onnx"]] {
            let found = place.json(&[&bench[..], &flags].concat());
            assert_eq!(found["precision"], expect, "{found}");
            assert!(!found["kernels"].as_str().unwrap().contains("amx"), "{found}");
        }
    }
}

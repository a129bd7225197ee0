//! No bit of a result depends on the number of threads, on any kernel path, and micro-shards change it by rounding at most.

mod common;

use common::{Dice, Place, weights};
use outgrow_runtime::KernelPath;
use serde_json::Value as Json;

const GLYPHS: &str =
    "seed = 5\n[data]\nsource = \"synthetic:glyphs\"\nsamples = 240\ntest = { samples = 70 }\n";

/// Trains with a number of threads, each in a cache of its own so that preparation is compared as well, and gives all
/// that was measured.
fn measure(place: &Place, threads: usize, flags: &[&str]) -> Json {
    let (cache, out, count) = (format!("c{threads}"), format!("r{threads}"), threads.to_string());
    let args = ["run", "m.toml", "--quiet", "--threads", &count, "--cache", &cache, "--out", &out, "--fresh"];
    let mut result = place.json(&[&args[..], flags].concat());
    assert_eq!(result["threads"], threads);
    for key in ["run", "threads", "train_seconds", "samples_per_s", "cpu_utilisation", "peak_memory_bytes"] {
        result.as_object_mut().unwrap().remove(key);
    }
    let losses = place.read(&format!("{out}/metrics.jsonl"));
    assert!(!losses.is_empty());
    result["metrics"] = Json::from(losses);
    result
}

/// The same bits with one, two and eight threads, on each path of this processor.
fn check(place: &Place) {
    check_with(place, &[]);
}

/// The same with more flags; what was measured on the last path.
fn check_with(place: &Place, flags: &[&str]) -> Json {
    let mut last = Json::Null;
    for path in KernelPath::supported() {
        let flags = [&["--kernel-path", path.name()], flags].concat();
        let one = measure(place, 1, &flags);
        assert_eq!(one["kernel_path"], path.name());
        assert!(one["test"]["loss"].as_f64().unwrap().is_finite() && one["steps"].as_u64().unwrap() > 2);
        for threads in [2, 8] {
            assert_eq!(measure(place, threads, &flags), one, "{threads} threads on {path}");
        }
        last = one;
    }
    last
}

#[test]
fn an_mlp() {
    let rest = "[model]\nname = \"mlp\"\nhidden = [300, 100]\ndropout = 0.3\n\
        [train]\nepochs = 3\nbatch = 64\noptimizer = \"lamb\"\nclip_norm = 1.0\nlog_every_steps = 1\n";
    check(&Place::with(&format!("{GLYPHS}{rest}")));
}

#[test]
fn a_convolutional_network_with_pooling() {
    let rest = "[model]\nlayers = [\n\
        { conv = 6, kernel = 5, padding = \"same\", activation = \"relu\" }, { max_pool = 2 },\n\
        { conv = 16, kernel = 5, activation = \"relu\" }, { max_pool = 2 },\n\
        { flatten = true }, { dense = 60, activation = \"relu\" }, { dense = 10, activation = \"softmax\" },\n]\n\
        [train]\nsteps = 5\nbatch = 32\noptimizer = \"adam\"\nlog_every_steps = 1\n";
    check(&Place::with(&format!("{GLYPHS}{rest}")));
}

#[test]
fn a_residual_network_with_batch_norm() {
    let rest = "[model]\nlayers = [\n\
        { conv = 8, kernel = 3, stride = 2, padding = 1, bias = false }, { batch_norm = true }, { activation = \"relu\" },\n\
        { residual = [\n\
            { conv = 12, kernel = 3, stride = 2, padding = 1, bias = false }, { batch_norm = true },\n\
            { activation = \"relu\" },\n\
            { conv = 12, kernel = 3, padding = 1, bias = false }, { batch_norm = true } ],\n\
          shortcut = [{ conv = 12, kernel = 1, stride = 2, bias = false }, { batch_norm = true }] },\n\
        { activation = \"relu\" }, { global_avg_pool = true }, { dense = 10, activation = \"softmax\" },\n]\n\
        [train]\nsteps = 9\nbatch = 32\nmicro_shards = 2\nlog_every_steps = 1\n\
        optimizer = { name = \"momentum\", momentum = 0.9 }\nlr = 0.05\nweight_decay = 5e-4\n";
    check(&Place::with(&format!("{GLYPHS}{rest}")));
}

#[test]
fn augmented_mixed_and_balanced_samples() {
    let data = format!(
        "{GLYPHS}augment = {{ flip = \"both\", crop = {{ area = [0.4, 1.0] }}, color = {{ brightness = 0.3 }}, \
         mixup = 0.3, cutmix = 1.0 }}\n"
    );
    let rest = "[model]\nlayers = [\n\
        { conv = 6, kernel = 5, bias = false }, { batch_norm = true }, { activation = \"relu\" }, { max_pool = 4 },\n\
        { flatten = true }, { dense = 10 } ]\n\
        [train]\nsteps = 9\nbatch = 32\nmicro_shards = 4\nlog_every_steps = 1\n\
        sampling = \"balanced\"\nclass_weights = { alpha = 3.0, omega = 0.5 }\n";
    check(&Place::with(&format!("{data}{rest}")));
}

#[test]
fn a_language_model() {
    let place = Place::with(
        "[data]\nsource = \"text\"\nfiles = \"poem.txt\"\ncontext = 16\nsplit = { validation = 0.1, test = 0.1 }\n\
        [model]\nname = \"gpt\"\nlayers = 2\nheads = 2\nwidth = 32\ndropout = 0.1\n\
        [train]\nsteps = 8\nbatch = 16\noptimizer = \"adamw\"\nlog_every_steps = 1\n",
    );
    let mut dice = Dice(1);
    let words = ["all ", "the world's ", "a stage,\n", "and men ", "and women ", "merely ", "players."];
    let text: String = (0..1500).map(|_| words[(dice.next() % 7) as usize]).collect();
    place.write("poem.txt", text);
    check(&place);
}

/// Products of bf16 too, forward and backward: they are other numbers than those of f32, and go to the same place.
#[test]
fn mixed_precision() {
    let convolutions = format!(
        "{GLYPHS}[model]\nlayers = [\n\
        {{ conv = 16, kernel = 3, padding = 1, bias = false }}, {{ batch_norm = true }}, {{ activation = \"relu\" }},\n\
        {{ conv = 24, kernel = 3, stride = 2, groups = 2 }}, {{ activation = \"gelu\" }},\n\
        {{ flatten = true }}, {{ dense = 50, activation = \"relu\" }}, {{ dense = 10 }},\n]\n\
        [train]\nsteps = 12\nbatch = 32\nmicro_shards = 2\noptimizer = \"adam\"\nlog_every_steps = 1\n"
    );
    let text = "[data]\nsource = \"text\"\nfiles = \"poem.txt\"\ncontext = 16\nsplit = { test = 0.1 }\n\
        [model]\nname = \"gpt\"\nlayers = 1\nheads = 2\nwidth = 32\n\
        [train]\nsteps = 12\nbatch = 16\noptimizer = \"adamw\"\nlog_every_steps = 1\n";
    for manifest in [convolutions.as_str(), text] {
        let place = Place::with(manifest);
        place.write("poem.txt", "the quick brown fox jumps over the lazy dog; ".repeat(60));
        let one = check_with(&place, &["--set", "train.precision=bf16"]);
        let path = one["kernel_path"].as_str().unwrap();
        let wide = measure(&place, 2, &["--kernel-path", path]);
        assert_ne!(wide["weights_sha256"], one["weights_sha256"]);
        let loss = |r: &Json| r["test"]["loss"].as_f64().unwrap();
        let apart = (loss(&one) / loss(&wide) - 1.0).abs();
        assert!(apart < 0.02, "test losses {} and {}", loss(&one), loss(&wide));
    }
}

/// A table with missing values, categories and numbers.
fn people() -> String {
    let mut dice = Dice(2);
    let mut text = String::from("age,city,job,hours,rich\n");
    for _ in 0..900 {
        let age = 18 + dice.next() % 50;
        let city = ["Basel", "Bern", "Genf", "?"][(dice.next() % 4) as usize];
        let job = format!("job{}", dice.next() % 23);
        let hours = 20.0 + 40.0 * dice.fraction();
        let rich = age as f64 + hours + 30.0 * dice.fraction() > 95.0;
        text.push_str(&format!("{age},{city},{job},{hours:.2},{}\n", if rich { "yes" } else { "no" }));
    }
    text
}

#[test]
fn a_wide_and_deep_model_by_ftrl() {
    let place = Place::with(
        "[data]\nsource = \"csv\"\nfiles = \"people.csv\"\nlabel = \"rich\"\nmissing = [\"?\"]\n\
        split = { validation = 0.1, test = 0.2 }\nnormalize = \"standard\"\n\
        clean = [{ fill = { columns = \"text\", value = \"unknown\" } }, { hash = { columns = [\"job\"], buckets = 16, output = \"index\" } }, \
        { index = { columns = [\"city\"] } }]\n\
        [model]\nname = \"wide-deep\"\nhidden = [32, 16]\nembedding = 4\n\
        [train]\nepochs = 2\nbatch = 50\noptimizer = { name = \"ftrl\", alpha = 0.05, l1 = 0.001, l2 = 0.001 }\n\
        log_every_steps = 1\n",
    );
    place.write("people.csv", people());
    check(&place);
}

/// Gradient accumulation: a batch in several parts gives the gradient of the whole, but for rounding; also where the
/// last batch of an epoch is short, so that some of the parts are nothing but padding.
#[test]
fn micro_shards_change_rounding_only() {
    let rest = "[model]\nname = \"mlp\"\nhidden = [40]\nactivation = \"gelu\"\n\
        [train]\nepochs = 3\nbatch = 28\noptimizer = { name = \"momentum\" }\nlr = 0.1\nlog_every_steps = 1\n";
    let place = Place::with(&format!("{GLYPHS}{rest}"));
    let mut whole = None;
    for parts in [1, 2, 4] {
        let set = format!("train.micro_shards={parts}");
        let first = measure(&place, 2, &["--set", &set]);
        let now = weights(&place.path("r2"));
        assert_eq!(measure(&place, 1, &["--set", &set]), first, "{parts} parts are not reproducible");
        let (before, result) = whole.get_or_insert_with(|| (now.clone(), first.clone()));
        let (mut apart, mut size) = (0.0f64, 0.0f64);
        for (a, b) in now.iter().zip(before.iter()) {
            apart = apart.max((a - b).abs());
            size = size.max(b.abs());
        }
        assert!(apart < 1e-5 * size, "{parts} parts: weights differ by {apart}, of at most {size}");
        let loss = |r: &Json| r["test"]["loss"].as_f64().unwrap();
        assert!((loss(&first) / loss(result) - 1.0).abs() < 1e-4, "{parts} parts");
        assert_eq!(first["weights_sha256"] == result["weights_sha256"], parts == 1, "{parts} parts");
    }
}

//! `outgrow tune-lr`: what it finds, what it writes, and what it leaves alone.

mod common;

use common::{Place, check_kept, files};
use serde_json::Value as Json;

const GLYPHS: &str = r#"
seed = 5
[data]
source = "synthetic:glyphs"
samples = 800
size = [14, 14]
test = { samples = 40 }
split = { validation = 0.2 }
[model]
layers = [{ flatten = true }, { dense = 32, activation = "relu" }, { dense = 10, activation = "softmax" }]
[train]
epochs = 4
batch = 16
optimizer = "adam"
lr = 1e-4
"#;

/// Labels whose squares tell which of them are in a sum, and a model that starts at zero.
const POWERS: &str = r#"
[data]
source = "rows"
columns = ["x", "y"]
label = "y"
target_scaling = false
split = { validation = 0, test = 0 }
rows = [[1, 1], [1, 2], [2, 4], [2, 8], [3, 16], [3, 32], [4, 64], [4, 128], [5, 256]]
[model]
name = "linear"
init = "zeros"
[train]
epochs = 50
batch = 2
optimizer = "sgd"
lr = 0.01
"#;

fn points(json: &Json) -> &[Json] {
    json["points"].as_array().unwrap()
}

fn number(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| panic!("{json} is no number"))
}

#[test]
fn a_range_test_finds_a_rate_that_trains_better() {
    let place = Place::with(GLYPHS);
    let tune = |out: &str, threads: &str| {
        place.json(&[
            "tune-lr",
            "m.toml",
            "--to",
            "1e6",
            "--steps",
            "200",
            "--out",
            out,
            "--threads",
            threads,
        ])
    };
    let json = tune("a", "2");
    let (lr, minimum) = (number(&json["lr"]), number(&json["minimum"]));
    assert!(1e-5 < lr && lr < minimum && minimum < 10.0, "{lr} {minimum}");
    assert!(json["stopped_early"] == true && points(&json).len() < 200, "{}", points(&json).len());
    let rates: Vec<f64> = points(&json).iter().map(|p| number(&p["lr"])).collect();
    assert!(rates[0] == 1e-5 && rates.is_sorted() && rates.contains(&minimum));
    let page = place.read("a/tune-lr.html");
    assert!(page.contains("<svg") && page.contains("learning rate"));

    // The same bits whatever the number of threads.
    tune("b", "1");
    assert_eq!(place.read("a/tune-lr.json"), place.read("b/tune-lr.json"));

    let set = json["set"].as_str().unwrap();
    assert_eq!(set.strip_prefix("train.lr=").map(|lr| lr.parse::<f64>().unwrap()), Some(lr));
    let before = place.json(&["run", "m.toml", "--out", "run"]);
    let after = place.json(&["run", "m.toml", "--out", "tuned", "--set", set]);
    let [before, after] = [before, after].map(|result| number(&result["train"]["loss"]));
    assert!(after < 0.8 * before, "{before} before, {after} after");
}

#[test]
fn a_grid_marks_the_rate_of_the_least_validation_loss() {
    let place = Place::with(GLYPHS);
    let args = ["tune-lr", "m.toml", "--method", "grid", "--from", "1e-4", "--to", "1e4", "--points", "5"];
    let json = place.json(&[&args[..], &["--steps", "40", "--out", "grid"]].concat());
    let rates: Vec<f64> = points(&json).iter().map(|p| number(&p["lr"])).collect();
    assert_eq!(rates, [1e-4, 0.01, 1.0, 100.0, 1e4]);
    assert_eq!(json["judged_by"], "validation loss");
    let best = points(&json).iter().find(|p| p["lr"] == json["lr"]).unwrap();
    let losses: Vec<f64> = points(&json).iter().filter_map(|p| p["loss"].as_f64()).collect();
    assert!(losses.iter().all(|loss| *loss >= number(&best["loss"])), "{losses:?}");
    // Too small a rate learns nothing, too large a one ruins the weights.
    assert!([0.01, 1.0].contains(&number(&json["lr"])), "{json}");
    assert!(number(&points(&json)[0]["loss"]) > 2.0);
    assert!(points(&json)[4]["loss"].as_f64().is_none_or(|loss| loss > 2.0));

    let done = place.run(&[&args[..], &["--steps", "40", "--out", "text"]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    let marked: Vec<&str> = done.stdout.lines().filter(|line| line.ends_with("<- best")).collect();
    assert_eq!(marked.len(), 1, "{}", done.stdout);
    assert!(done.stdout.contains(&format!("--set {}", json["set"].as_str().unwrap())), "{}", done.stdout);
}

/// The samples of a part, told by the mean of their squared labels: squares of powers of two are powers of four, so
/// the digits of their sum to the base of four say which are in it.
fn part(mean: f64, sizes: [usize; 2]) -> Vec<usize> {
    let decode = |size: usize| {
        let sum = (mean * size as f64).round() as u64;
        let digits: Vec<u64> = (0..9).map(|i| sum >> (2 * i) & 3).collect();
        let ones: Vec<usize> = (0..9).filter(|i| digits[*i] == 1).collect();
        (ones.len() == size && digits.iter().all(|digit| *digit < 2)).then_some(ones)
    };
    sizes.into_iter().find_map(decode).unwrap_or_else(|| panic!("{mean} is no mean of {sizes:?} squares"))
}

/// At a rate of almost nothing the model stays at zero, and a loss is the mean of the squared labels that were held
/// out: it shows which they were.
#[test]
fn folds_hold_every_sample_out_once() {
    let place = Place::with(POWERS);
    for (count, sizes) in [(3, [3, 3]), (4, [2, 3]), (9, [1, 1])] {
        let folds = count.to_string();
        let args =
            ["tune-lr", "m.toml", "--folds", &folds, "--from", "1e-20", "--to", "1e-19", "--points", "2"];
        let json = place.json(&[&args[..], &["--steps", "3", "--out", &folds]].concat());
        let point = &points(&json)[0];
        let losses: Vec<f64> = point["folds"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(losses.len(), count);
        let parts: Vec<Vec<usize>> = losses.iter().map(|loss| part(*loss, sizes)).collect();
        let mut all = parts.concat();
        assert!(!all.is_sorted(), "the parts follow the order of the records: {parts:?}");
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>(), "{parts:?}");
        let mean = losses.iter().sum::<f64>() / count as f64;
        assert!((number(&point["loss"]) - mean).abs() <= 1e-12 * mean);
        assert!(number(&point["deviation"]) > 0.0);
    }
}

#[test]
fn a_run_in_the_folder_is_left_as_it_is() {
    let place = Place::with(POWERS);
    let args = ["tune-lr", "m.toml", "--method", "grid", "--points", "3", "--to", "0.01"];
    // A search before the run does not keep the run from starting, also with --fresh.
    place.json(&args);
    let numbers = place.read("runs/m/tune-lr.json");
    let result = place.json(&["run", "m.toml", "--fresh"]);
    let before = files(&place.path("runs/m"));
    place.json(&args);
    let after = files(&place.path("runs/m"));
    check_kept(&before, &after, "tune-lr");
    assert_eq!(after.len(), before.len());
    assert_eq!(place.read("runs/m/tune-lr.json"), numbers);
    assert_eq!(place.json(&["run", "m.toml"]), result);
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let place = Place::with(POWERS);
    for (args, code) in [
        (&["--from", "1", "--to", "0.1"][..], "tune.range"),
        (&["--from=-1"], "tune.range"),
        (&["--from", "NaN"], "tune.range"),
        (&["--to", "inf"], "tune.range"),
        (&["--folds", "2", "--method", "range"], "tune.method"),
        (&["--folds", "10"], "tune.folds"),
        (&["--folds", "2", "--set", "train.batch=8"], "tune.folds"),
        (&["--method", "grid", "--from", "1e9", "--to", "1e10", "--points", "2"], "tune.diverged"),
        (&["--from", "1e3", "--to", "1e4"], "tune.no-descent"),
        (&["--set", "train.lr=x"], "manifest.value"),
    ] {
        let errors = place.refused(&[&["tune-lr", "m.toml", "--out", "out"], args].concat());
        assert_eq!(errors[0]["code"], code, "{args:?}");
    }
    assert!(!place.path("out/tune-lr.json").exists());
    for args in [&["--folds", "1"][..], &["--points", "1"], &["--steps", "0"]] {
        assert_eq!(place.run(&[&["tune-lr", "m.toml"], args].concat()).code, 2, "{args:?}");
    }
}

#[test]
fn the_key_is_the_one_that_the_manifest_uses() {
    let ftrl =
        POWERS.replace("optimizer = \"sgd\"\nlr = 0.01", "optimizer = { name = \"ftrl\", alpha = 0.1 }");
    for (manifest, key) in [(POWERS, "train.lr="), (&ftrl, "train.optimizer.alpha=")] {
        let place = Place::with(manifest);
        let json = place.json(&["tune-lr", "m.toml", "--method", "grid", "--points", "3", "--steps", "5"]);
        let set = json["set"].as_str().unwrap();
        assert!(set.starts_with(key), "{set}");
        place.json(&["run", "m.toml", "--set", set, "--set", "train.epochs=1"]);
    }
}

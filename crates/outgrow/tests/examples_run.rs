//! The examples do what they say. Those that need real data read it from `$OUTGROW_DATA` and say when they skip.

mod common;

use std::path::{Path, PathBuf};

use common::{Place, finish, real_data};
use serde_json::Value as Json;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).canonicalize().unwrap()
}

/// Runs a command on an example, with real data if there is some.
fn run(command: &str, name: &str, data: Option<&Path>, sets: &[&str]) -> Json {
    let place = Place::new();
    let path = example(name);
    let mut args = vec![command, path.to_str().unwrap(), "--json", "--out", "r"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let mut command = place.command(&args);
    if let Some(data) = data {
        command.env("OUTGROW_DATA", data);
    }
    finish(&mut command, name).object()
}

fn metric(result: &Json, split: &str, name: &str) -> f64 {
    result[split][name].as_f64().unwrap_or_else(|| panic!("{split} {name}: {result}"))
}

#[test]
fn linear_regression_finds_the_minimum() {
    let result = run("run", "linear.toml", None, &[]);
    assert!(metric(&result, "train", "loss") < 1e-6 && metric(&result, "test", "loss") < 1e-6, "{result}");
}

#[test]
fn glyphs_learns() {
    let sets = ["data.samples=600", "data.test.samples=200", "train.epochs=2", "train.batch=16"];
    let result = run("run", "glyphs.toml", None, &sets);
    // Two short epochs on few samples are far from the 98% of the whole example, and far above chance.
    assert!(metric(&result, "test", "accuracy") > 0.25, "{result}");
}

#[test]
fn adult_by_ftrl() {
    let Some(data) = real_data("adult") else { return };
    let result = run("run", "adult-ftrl.toml", Some(&data), &[]);
    assert!(metric(&result, "test", "auc") >= 0.90, "{result}");
}

#[test]
fn mnist_after_one_epoch() {
    let Some(data) = real_data("mnist") else { return };
    let result = run("run", "mnist.toml", Some(&data), &["train.epochs=1"]);
    assert_eq!((&result["steps"], &result["test"]["samples"]), (&Json::from(1875), &Json::from(10_000)));
    assert!(metric(&result, "test", "accuracy") > 0.88, "{result}");
}

/// The large examples begin: their data is read, their model compiled, and two steps give finite weights.
#[test]
fn the_large_examples_start() {
    // MNIST's test set stands in for its training set: preparing it takes a sixth of the time.
    let small_mnist = [
        "data.images=\"mnist/t10k-images-idx3-ubyte.gz\"",
        "data.labels=\"mnist/t10k-labels-idx1-ubyte.gz\"",
        "data.test=",
    ];
    let small_cifar = ["data.files=\"cifar10/test-*.parquet\"", "data.test=", "train.batch=4"];
    let none = "data.split={ validation = 0.0 }";
    let cases: [(&str, &str, &[&str], u64); 5] = [
        ("mnist-mlp.toml", "mnist", &small_mnist, 784 * 512 + 512 + 512 * 512 + 512 + 5130),
        ("mnist-lenet.toml", "mnist", &small_mnist, 61_706),
        ("cifar10-resnet18.toml", "cifar10", &small_cifar, 11_173_962),
        ("cifar10-resnet50.toml", "cifar10", &small_cifar, 23_520_842),
        ("shakespeare-gpt.toml", "tinyshakespeare", &["train.warmup_steps=1"], 818_176),
    ];
    for (name, set, overrides, parameters) in cases {
        let Some(data) = real_data(set) else { continue };
        let sets = [overrides, &[none, "train.epochs=", "train.steps=2"]].concat();
        // Without the evaluation, which would take longer than the two steps.
        let result = run("train", name, Some(&data), &sets);
        assert_eq!(result["steps"], 2, "{name}");
        assert_eq!(result["parameters"], parameters, "{name}");
        assert_eq!(result["weights_sha256"].as_str().unwrap().len(), 64, "{name}");
    }
}

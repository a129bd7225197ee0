//! What a table brings along that nobody asked for is dealt with and said: an index, semicolons, few rows.

mod common;

use std::fmt::Write as _;

use common::{Dice, Place};
use serde_json::Value as Json;

const MANIFEST: &str = "[data]\nsource = \"csv\"\nfiles = \"d.csv\"\nlabel = \"kind\"\n\
    split = { validation = 0.2, test = 0.2 }\nnormalize = \"standard\"\n\
    [model]\nname = \"mlp\"\nhidden = [8]\n[train]\nepochs = 3\nbatch = 64\n";

/// 40 rows as pandas writes them with semicolons.
fn place() -> Place {
    let (place, mut dice) = (Place::with(MANIFEST), Dice(3));
    let mut text = ";a;b;kind\n".to_owned();
    for row in 0..40 {
        let kind = if row % 4 == 0 { "rare" } else { "usual" };
        writeln!(text, "{row};{};{};{kind}", dice.fraction(), dice.fraction()).unwrap();
    }
    place.write("d.csv", text);
    place
}

#[test]
fn what_a_file_brings_along_is_said() {
    let place = place();
    let done = place.run(&["run", "m.toml", "--out", "r", "--json"]);
    let result = done.object();
    for said in [
        "fields are separated by \";\"",
        "it is taken for an index and left out",
        "40 rows: 24 train, 8 validation, 8 test, each class in the same proportions",
        "2 numbers (a, b)",
        "`train.batch = 64` is more than there is to train on, and is cut to 24",
    ] {
        assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
    }
    // A step takes all rows there are, as if the manifest had said so.
    assert_eq!(result["steps"], 3);
    let told = place.json(&["run", "m.toml", "--out", "s", "--set", "train.batch=24"]);
    assert_eq!(told["weights_sha256"], result["weights_sha256"]);
    // The same file is predicted and evaluated as it is.
    let predicted = place.json(&["predict", "r", "d.csv"]);
    assert_eq!(predicted["predictions"].as_array().map(Vec::len), Some(40));
    assert_eq!(place.json(&["eval", "r", "d.csv"])["test"]["samples"], 40);
}

/// Another `data.seed` draws another split and leaves the rest as it is: the first weights are the same.
#[test]
fn the_splits_seed_is_apart_from_the_runs() {
    let place = place();
    let run = |out: &str, set: &str| {
        place.json(&["run", "m.toml", "--out", out, "--set", "train.lr=1e-30", "--set", set]);
        let (weights, rows) = (common::weights(&place.path(out)), place.json(&["eval", out]));
        (weights.iter().map(|w| *w as f32).collect::<Vec<_>>(), rows["test"]["loss"].clone())
    };
    let (first, again) = (run("a", "data.seed=0"), run("b", "data.seed=1"));
    assert_eq!(first.0, again.0);
    assert_ne!(first.1, again.1);
    let other: (Vec<f32>, Json) = run("c", "seed=1");
    assert_ne!(first.0, other.0);
}

/// The template for tables, with source and label filled in and nothing else: the model's own training follows from the
/// rows, which is said, and learns what there is to learn.
#[test]
fn the_template_for_tables_is_good_untouched() {
    let (place, mut dice) = (Place::with(""), Dice(5));
    let mut text = ",size,colour,sex,kind\n".to_owned();
    for row in 0..160 {
        let (size, colour, sex) =
            (dice.fraction(), ["red", "blue", "green"][row % 3], ["f", "m"][row / 3 % 2]);
        let large = (size > 0.5) != (colour == "red");
        // Some sizes are missing, and one is absurd.
        let size = match row {
            7 => "1e9".to_owned(),
            _ if row % 20 == 3 => String::new(),
            _ => size.to_string(),
        };
        writeln!(text, "{row},{size},{colour},{sex},{}", u8::from(large)).unwrap();
    }
    place.write("d.csv", text);
    place.json(&["init", "t.toml", "--template", "csv"]);
    let template = std::fs::read_to_string(place.path("t.toml")).unwrap();
    let template = template.replace("\"table.csv\"", "\"d.csv\"").replace("\"class\"", "\"kind\"");
    place.write("t.toml", template);
    let done = place.run(&["run", "t.toml", "--out", "r", "--json"]);
    let result = done.object();
    for said in [
        "160 rows: 104 train, 24 validation, 32 test",
        "2 numbers (size, sex)",
        "256 epochs of 1 step of 104 rows, learning rate 0.04",
        "the epoch with the best validation accuracy is kept",
    ] {
        assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
    }
    assert_eq!(result["steps"], 256);
    let accuracy = result["test"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.8, "{accuracy}");
    // What the manifest says counts.
    let other =
        place.run(&["run", "t.toml", "--out", "s", "--set", "train.epochs=2", "--set", "train.batch=52"]);
    assert!(other.stderr.contains("2 epochs of 2 steps of 52 rows"), "{}", other.stderr);
}

//! `eval` needs nothing but a run: its folder or its package, from anywhere, on its own data or on other files.

mod common;

use std::fmt::Write as _;
use std::fs;

use common::{Dice, Place, finish};
use serde_json::Value as Json;

const MANIFEST: &str = "[data]\nsource = \"csv\"\nfiles = \"d.csv\"\nlabel = \"kind\"\nsplit = { test = 0.2 }\n\
    clean = [{ fill = { columns = \"numeric\", with = \"mean\" } }]\nnormalize = \"standard\"\n\
    [model]\nlayers = [{ dense = 8, activation = \"relu\" }, { dense = 2 }]\n[train]\nepochs = 3\nbatch = 16\n";

/// Rows of a table, told apart by the sum of two columns, and their columns in another order with one more.
fn rows(count: usize, seed: u64) -> (String, String) {
    let mut dice = Dice(seed);
    let (mut table, mut other) = ("a,b,kind\n".to_owned(), "note,kind,b,a\n".to_owned());
    for row in 0..count {
        let (a, b) = (dice.fraction(), dice.fraction());
        let kind = if a + b > 1.0 { "high" } else { "low" };
        writeln!(table, "{a},{b},{kind}").unwrap();
        writeln!(other, "row {row},{kind},{b},{a}").unwrap();
    }
    (table, other)
}

/// A place with data and manifest in `project`, run from there.
fn project() -> (Place, Json) {
    let place = Place::new();
    place.write("project/m.toml", MANIFEST);
    place.write("project/d.csv", rows(300, 1).0);
    let mut command = place.command(&["run", "m.toml", "--json"]);
    let done = finish(command.current_dir(place.path("project")), "run");
    (place, done.object())
}

/// The same metrics as a run's own result.
fn check_same(evaluated: &Json, run: &Json, what: &str) {
    for key in ["train", "test", "baseline", "weights_sha256", "parameters"] {
        assert_eq!(evaluated[key], run[key], "{what}: {key}");
    }
}

#[test]
fn a_run_is_all_that_eval_needs() {
    let (place, run) = project();
    // Neither the manifest's folder nor the folder that the command ran in.
    for named in ["project/runs/m", "project/runs/m/model", "project/runs/m/manifest.toml"] {
        let evaluated = place.json(&["eval", named]);
        check_same(&evaluated, &run, named);
        assert_eq!(evaluated["steps"], run["steps"], "{named}");
        assert_eq!(evaluated["model"], "project/runs/m/model", "{named}");
    }
    fs::rename(place.path("project/runs/m"), place.path("elsewhere")).unwrap();
    check_same(&place.json(&["eval", "elsewhere"]), &run, "moved");
    // The manifest that the run kept is one to run: it is this run, and it trains the same in another folder.
    let done = place.run(&["run", "elsewhere/manifest.toml"]);
    assert!(done.code == 0 && done.stderr.contains("is finished"), "{done:?}");
    let again = place.json(&["run", "elsewhere/manifest.toml", "--out", "again"]);
    check_same(&again, &run, "again");
    // Without its data it says what is missing.
    fs::rename(place.path("project/d.csv"), place.path("d.csv")).unwrap();
    assert_eq!(place.refused(&["eval", "elsewhere"])[0]["code"], "data.not-found");
    check_same(&place.json(&["eval", "elsewhere", "--data", "."]), &run, "--data");
}

#[test]
fn a_model_is_evaluated_on_other_files() {
    let (place, run) = project();
    let (table, other) = rows(120, 2);
    place.write("new.csv", &table);
    place.write("other.csv", &other);
    fs::remove_file(place.path("project/d.csv")).unwrap();
    fs::rename(place.path("project/runs/m/model"), place.path("package")).unwrap();
    let evaluated = place.json(&["eval", "package", "new.csv"]);
    assert_eq!((&evaluated["test"]["samples"], evaluated.get("train")), (&120.into(), None), "{evaluated}");
    assert_eq!(evaluated["weights_sha256"], run["weights_sha256"]);
    // Predictions for the same rows, counted by hand.
    let predicted = place.run(&["predict", "package", "new.csv", "--json"]);
    let predicted: Json = serde_json::from_str(&predicted.stdout).unwrap();
    let predicted = predicted["predictions"].as_array().unwrap();
    let labels: Vec<&str> = table.lines().skip(1).map(|line| line.rsplit(',').next().unwrap()).collect();
    let right = predicted.iter().zip(&labels).filter(|(p, label)| p["class"] == **label).count();
    assert_eq!((predicted.len(), evaluated["test"]["accuracy"].as_f64()), (120, Some(right as f64 / 120.0)));
    // Columns go by their names; `--data` takes a file too.
    for args in [&["eval", "package", "other.csv"][..], &["eval", "package", "--data", "other.csv"]] {
        assert_eq!(place.json(args)["test"], evaluated["test"], "{args:?}");
    }
    // What the model cannot be judged by is refused, and named.
    place.write("unlabelled.csv", "a,b\n1,2\n");
    let errors = place.refused(&["eval", "package", "unlabelled.csv"]);
    assert_eq!(errors[0]["code"], "data.columns");
    assert!(errors[0]["problem"].as_str().unwrap().contains("the label `kind`"), "{errors:?}");
    place.write("unknown.csv", "a,b,kind\n1,2,sideways\n");
    assert!(
        place.refused(&["eval", "package", "unknown.csv"])[0]["problem"].to_string().contains("sideways")
    );
}

#[test]
fn a_language_model_is_evaluated_on_another_text() {
    let place = Place::with(
        "[data]\nsource = \"text\"\nfiles = \"t.txt\"\ncontext = 8\nsplit = { test = 0.2 }\n\
         [model]\nname = \"gpt\"\nlayers = 1\nheads = 1\nwidth = 8\n[train]\nepochs = 1\nbatch = 4\n",
    );
    let text = "How much wood would a woodchuck chuck if a woodchuck could chuck wood? ".repeat(9);
    place.write("t.txt", &text);
    place.json(&["run", "m.toml", "--out", "r"]);
    place.write("u.txt", "a woodchuck would chuck all the wood");
    let evaluated = place.refused(&["eval", "r", "u.txt"]);
    assert!(evaluated[0]["problem"].to_string().contains('t'), "{evaluated:?}");
    place.write("u.txt", "a woodchuck could chuck much wood");
    let evaluated = place.json(&["eval", "r", "u.txt"]);
    let loss = evaluated["test"]["loss"].as_f64().unwrap();
    assert!((evaluated["test"]["perplexity"].as_f64().unwrap() / loss.exp() - 1.0).abs() < 1e-9);
    // As a test text of its own would be.
    let own = place.json(&[
        "run",
        "m.toml",
        "--out",
        "s",
        "--set",
        "data.split=",
        "--set",
        "data.test={ files = \"u.txt\" }",
    ]);
    assert_eq!(evaluated["test"]["samples"], own["test"]["samples"]);
}

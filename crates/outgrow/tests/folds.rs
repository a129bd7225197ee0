//! `outgrow run --folds K`: each row is tested once by a model that has not seen it, metrics are those of the folds' runs, and an
//! evaluation that was interrupted goes on.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use common::{Dice, Place};
use serde_json::Value as Json;

const MANIFEST: &str = "[data]\nsource = \"csv\"\nfiles = \"d.csv\"\nlabel = \"kind\"\n\
    split = { validation = 0.2, test = 0.3 }\nclean = [{ drop_duplicates = true }]\nnormalize = \"standard\"\n\
    [model]\nname = \"mlp\"\nhidden = [8]\n[train]\nepochs = 3\nbatch = 16\n\
    early_stopping = { metric = \"loss\", patience = 2 }\n";

/// 90 rows of three classes of 45, 30 and 15 records; the label of a row follows from its number.
fn place() -> Place {
    let (place, mut dice) = (Place::with(MANIFEST), Dice(3));
    let mut text = "a,b,kind\n".to_owned();
    for row in 0..90 {
        writeln!(text, "{row},{},{}", dice.fraction(), kind(row)).unwrap();
    }
    // A row that is there already: it is left out, and has no prediction.
    text.push_str(text.clone().lines().nth(1).unwrap());
    text.push('\n');
    place.write("d.csv", text);
    place
}

fn kind(row: usize) -> &'static str {
    ["u", "v", "u", "w", "u", "v"][row % 6]
}

/// The lines of the predictions, each with its cells by their names.
fn predictions(place: &Place, out: &str) -> Vec<BTreeMap<String, String>> {
    let text = place.read(&format!("{out}/predictions.csv"));
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let names = lines.next().unwrap();
    lines.map(|line| names.iter().cloned().zip(line).collect()).collect()
}

#[test]
fn every_row_is_tested_once_and_metrics_are_those_of_the_folds() {
    let place = place();
    let done = place.run(&["run", "m.toml", "--folds", "3", "--out", "r", "--json"]);
    let all = done.object();
    assert!(
        done.stderr.contains("`data.split.test` is left out: each part is tested on once"),
        "{}",
        done.stderr
    );
    let rows = predictions(&place, "r");
    assert_eq!(rows.len(), 90);
    let each = all["each"].as_array().unwrap();
    for (row, cells) in rows.iter().enumerate() {
        assert_eq!((cells["row"].parse(), cells["target"].as_str()), (Ok(row + 1), kind(row)));
        let probability = |name: &str| cells[&format!("probability of {name}")].parse::<f64>().unwrap();
        let likeliest = ["u", "v", "w"].into_iter().max_by(|a, b| probability(a).total_cmp(&probability(b)));
        assert_eq!(likeliest, Some(cells["predicted"].as_str()));
    }
    for (i, fold) in each.iter().enumerate() {
        let own: Vec<_> = rows.iter().filter(|cells| cells["fold"] == (i + 1).to_string()).collect();
        // Each class has its part in each fold.
        for (kind, expect) in [("u", 15), ("v", 10), ("w", 5)] {
            let count = own.iter().filter(|cells| cells["target"] == kind).count();
            assert!(count.abs_diff(expect) <= 1, "{count} of {kind} in fold {i}");
        }
        let right = own.iter().filter(|cells| cells["target"] == cells["predicted"]).count();
        let accuracy = fold["test"]["accuracy"].as_f64().unwrap();
        assert!(
            (right as f64 / own.len() as f64 - accuracy).abs() < 1e-6,
            "{right} of {}, {accuracy}",
            own.len()
        );
        assert!((17..=18).contains(&fold["validation"]["samples"].as_u64().unwrap()), "{fold}");
        // It is a run like any other: evaluated as such, and the same when it is run alone.
        let path = format!("r/fold-{}", i + 1);
        assert_eq!(place.json(&["eval", &path])["test"], fold["test"]);
    }
    let set = "data.split={ validation = 0.2, fold = { number = 2, of = 3 } }";
    let alone = place.json(&["run", "m.toml", "--out", "alone", "--set", set]);
    assert_eq!(alone["weights_sha256"], each[1]["weights_sha256"]);
    for metric in ["accuracy", "loss", "f1"] {
        let values: Vec<f64> = each.iter().map(|fold| fold["test"][metric].as_f64().unwrap()).collect();
        let mean = values.iter().sum::<f64>() / 3.0;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let close = |json: &Json, expect: f64| (json[metric].as_f64().unwrap() - expect).abs() < 1e-12;
        assert!(
            close(&all["test"], mean) && close(&all["deviation"]["test"], (squares / 2.0).sqrt()),
            "{all}"
        );
    }
    let page = place.read("r/report.html");
    assert!(page.contains("fold-3/report.html") && page.contains("out of fold"));
    // Another seed divides the rows in another way.
    let again = place.json(&["run", "m.toml", "--folds", "3", "--out", "s", "--set", "data.seed=7"]);
    assert_ne!(again["each"][0]["weights_sha256"], each[0]["weights_sha256"]);
}

/// What was interrupted goes on, and what is finished is only told; files that were deleted are restored.
#[test]
fn an_evaluation_goes_on_where_it_ended() {
    let place = place();
    let whole = place.json(&["run", "m.toml", "--folds", "3", "--out", "whole"]);
    let run = || place.run(&["run", "m.toml", "--folds", "3", "--out", "r", "--json"]);
    run().object();
    // As after a kill in the second fold: the third was never begun, and nothing was put together.
    for name in ["r/result.json", "r/report.html", "r/predictions.csv", "r/fold-2/result.json"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    std::fs::remove_dir_all(place.path("r/fold-3")).unwrap();
    let first = std::fs::metadata(place.path("r/fold-1/metrics.jsonl")).unwrap().modified().unwrap();
    let all = run().object();
    assert_eq!(std::fs::metadata(place.path("r/fold-1/metrics.jsonl")).unwrap().modified().unwrap(), first);
    assert_eq!(place.read("r/predictions.csv"), place.read("whole/predictions.csv"));
    assert_eq!(all["test"], whole["test"]);
    let told = run();
    assert!(told.stderr.contains("is finished; --fresh starts it anew"), "{}", told.stderr);
    assert_eq!(told.object(), all);
    // Other folds are another evaluation, which takes the folder only when it is told to.
    let other = place.run(&["run", "m.toml", "--folds", "2", "--out", "r", "--json"]);
    assert_eq!(other.errors()[0]["code"], "run.changed");
    place.json(&["run", "m.toml", "--folds", "2", "--out", "r", "--fresh"]);
    assert!(!place.path("r/fold-3").exists());
    // Workers share the steps of each fold.
    let set = "train.micro_shards=2";
    let one = place.json(&["run", "m.toml", "--folds", "2", "--out", "one", "--set", set]);
    let two = place.json(&["run", "m.toml", "--folds", "2", "--out", "two", "--set", set, "--workers", "2"]);
    assert_eq!((&one["test"], &one["deviation"]), (&two["test"], &two["deviation"]));
}

/// What a model makes of the data stands in the manifest that is kept of all folds, which is the same evaluation.
#[test]
fn the_manifest_of_all_folds_is_whole() {
    let place = place();
    let text = MANIFEST.split("[model]").next().unwrap();
    place.write("m.toml", format!("{text}[model]\nname = \"realmlp\"\nhidden = [8]\n[train]\nepochs = 2\n"));
    let all = place.json(&["run", "m.toml", "--folds", "2", "--out", "r"]);
    let kept = place.read("r/manifest.toml");
    for line in ["lr = 0.04", "batch = 256", "label_smoothing = 0.1", "metric = \"accuracy\"", "beta2 = 0.95"]
    {
        assert!(kept.lines().any(|own| own == line), "{line}: {kept}");
    }
    let page = place.read("r/report.html");
    assert!(page.contains("label_smoothing"), "{page}");
    let again = place.run(&["run", "r/manifest.toml", "--folds", "2", "--out", "r", "--json"]);
    assert!(again.stderr.contains("is finished; --fresh starts it anew"), "{}", again.stderr);
    assert_eq!(again.object(), all);
}

#[test]
fn what_cannot_be_divided_is_refused() {
    let place = place();
    let mut text = place.read("d.csv");
    text.push_str("1,1,rare\n");
    place.write("rare.csv", text);
    for (args, code, said) in [
        (&["run", "m.toml", "--folds", "1"][..], "cli.folds", "1 folds"),
        (&["train", "m.toml", "--folds", "3"], "cli.folds", "`train` evaluates nothing"),
        (&["run", "m.toml", "--folds", "100", "--set", "data.split.validation=0.01"], "data.empty", "of 100"),
        (
            &["run", "m.toml", "--folds", "2", "--set", "data.split.validation=0.5"],
            "data.split",
            "nothing is left",
        ),
        (
            &["run", "m.toml", "--folds", "3", "--set", "data.files=rare.csv"],
            "data.split.fold",
            "a single record",
        ),
        (&["run", "m.toml", "--set", "data.split.fold={ number = 3, of = 2 }"], "data.split", "no such fold"),
        (
            &["run", "m.toml", "--set", "data.split.fold={ number = 1, of = 2 }"],
            "data.split",
            "in place of other",
        ),
    ] {
        let found = &place.refused(&[args, &["--out", "r"]].concat())[0];
        assert_eq!(found["code"], code, "{args:?}: {found}");
        assert!(found["problem"].as_str().is_some_and(|problem| problem.contains(said)), "{found}");
    }
}

/// Numbers have their own names, and test sets of their own are not looked at.
#[test]
fn quantities_are_predicted_out_of_fold() {
    let (place, mut dice) = (Place::new(), Dice(5));
    let mut text = "a,y,z\n".to_owned();
    for row in 0..60 {
        writeln!(text, "{},{row},{}", dice.fraction(), dice.fraction()).unwrap();
    }
    place.write("d.csv", text);
    place.write(
        "m.toml",
        "[data]\nsource = \"csv\"\nfiles = \"d.csv\"\nlabel = [\"y\", \"z\"]\ntest = { files = \"gone.csv\" }\n\
         [model]\nname = \"linear\"\n[train]\nepochs = 2\nbatch = 8\n",
    );
    let all = place.json(&["run", "m.toml", "--folds", "4", "--out", "r"]);
    let rows = predictions(&place, "r");
    assert_eq!(rows.len(), 60);
    for (row, cells) in rows.iter().enumerate() {
        assert_eq!(cells["y"].parse(), Ok(row as f64));
        assert!(cells["predicted z"].parse::<f64>().is_ok());
    }
    let fold = &all["each"][2]["test"];
    let own = rows.iter().filter(|cells| cells["fold"] == "3");
    let errors: Vec<f64> =
        own.map(|c| c["predicted y"].parse::<f64>().unwrap() - c["y"].parse::<f64>().unwrap()).collect();
    let rmse = (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
    assert!((rmse - fold["targets"]["y"]["rmse"].as_f64().unwrap()).abs() < 1e-6, "{rmse}: {fold}");
    assert!(
        all["test"]["targets"]["z"]["mae"].is_number()
            && all["deviation"]["test"]["targets"]["z"]["mae"].is_number()
    );
}

//! `train.decision_threshold`: found on the validation data, kept in the model, and gone by wherever a class is answered; what
//! is trained does not depend on it.

mod common;

use std::fmt::Write as _;

use common::{Dice, Place};
use outgrow_onnx::proto::ModelProto;
use prost::Message;
use serde_json::Value as Json;

const MANIFEST: &str = "[data]\nsource = \"csv\"\nfiles = \"d.csv\"\nlabel = \"kind\"\nsplit = { validation = 0.3, test = 0.2 }\n\
    normalize = \"standard\"\n[model]\nname = \"mlp\"\nhidden = [8]\n[train]\nepochs = 3\nbatch = 16\nmicro_shards = 2\n";

/// A table with one row in eight of the second class, which overlap with the others.
fn place(manifest: &str) -> Place {
    let (place, mut dice) = (Place::with(manifest), Dice(5));
    let mut text = "a,b,kind\n".to_owned();
    for row in 0..600 {
        let rare = row % 8 == 0;
        let shift = if rare { 0.5 } else { 0.0 };
        let kind = if rare { "rare" } else { "common" };
        writeln!(text, "{},{},{kind}", dice.fraction() + shift, dice.fraction() + shift).unwrap();
    }
    place.write("d.csv", text);
    place
}

fn number(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| panic!("{json}"))
}

#[test]
fn a_threshold_is_found_kept_and_gone_by() {
    let place = place(MANIFEST);
    let run = |out: &str, value: &str, more: &[&str]| {
        let set = format!("train.decision_threshold={value}");
        place.json(&[&["run", "m.toml", "--out", out, "--set", &set][..], more].concat())
    };
    let plain = place.json(&["run", "m.toml", "--out", "plain"]);
    assert!(plain.get("decision_threshold").is_none(), "{plain}");
    assert!(!place.path("plain/model/decision.json").exists());
    for (rule, metric) in [("f1", "f1"), ("youden", "recall")] {
        let found = run(rule, &format!("\"{rule}\""), &[]);
        assert_eq!(found["weights_sha256"], plain["weights_sha256"]);
        assert_eq!(found["decision_threshold"]["chosen_by"], *rule);
        let threshold = number(&found["decision_threshold"]["probability"]);
        assert!((0.01..0.99).contains(&threshold) && (threshold - 0.5).abs() > 1e-3, "{rule}: {threshold}");
        assert_eq!(found["decision_threshold"]["class"], "rare");
        let of = |run: &Json| number(&run["validation"][metric]);
        assert!(of(&found) > of(&plain), "{rule}: {found}, without it {plain}");
        // What does not depend on where classes are divided stays.
        for metric in ["loss", "auc", "log_loss"] {
            assert_eq!(found["test"][metric], plain["test"][metric]);
        }
        // The same threshold, given as a number.
        let given = run(&format!("{rule}-given"), &threshold.to_string(), &[]);
        assert_eq!(given["test_confusion"], found["test_confusion"]);
        assert_eq!(given["validation"], found["validation"]);

        let evaluated = place.json(&["eval", rule]);
        for key in ["train", "validation", "test", "test_confusion", "decision_threshold"] {
            assert_eq!(evaluated[key], found[key], "{rule}: {key}");
        }
        // Whoever asks for a class gets that of the threshold.
        place.run(&["predict", rule, "d.csv", "--output", "p.csv"]);
        let (lines, rows) = (place.read("p.csv"), place.read("d.csv"));
        let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut right = 0;
        for (line, row) in lines.lines().zip(rows.lines()).skip(1) {
            let (cells, kind) = (cells(line), &cells(row)[2]);
            let rare: f64 = cells[5].parse().unwrap();
            assert_eq!(cells[2] == "rare", rare > threshold, "{line}");
            assert_eq!(cells[3], cells[if cells[2] == "rare" { 5 } else { 4 }], "{line}");
            right += u32::from(cells[2] == *kind);
        }
        let on_file = place.json(&["eval", rule, "d.csv"]);
        let accuracy = number(&on_file["test"]["accuracy"]);
        assert!((f64::from(right) / 600.0 - accuracy).abs() < 1e-12, "{right}, {accuracy}");
        // The test data's confusion counts what its accuracy does.
        let counts = &found["test_confusion"];
        let right = number(&counts[0][0]) + number(&counts[1][1]);
        let all = number(&found["test"]["samples"]);
        assert!((right / all - number(&found["test"]["accuracy"])).abs() < 1e-12, "{found}");
    }
    let told = place.run(&["eval", "f1"]).stdout;
    assert!(told.contains("threshold   `rare` above a probability of 0."), "{told}");
    assert!(told.contains(", the best on the validation data by F1\n"), "{told}");
    assert!(place.read("f1/report.html").contains("the best on the validation data by F1"));
    // Other programs find it in the metadata of an exported model, and are told.
    let done = place.run(&["export", "f1", "f1.onnx"]);
    assert!(done.code == 0 && done.stderr.contains("(`rare` above a probability of 0."), "{}", done.stderr);
    let model = ModelProto::decode(std::fs::read(place.path("f1.onnx")).unwrap().as_slice()).unwrap();
    let threshold = model.metadata_props.iter().find(|entry| entry.key == "decision_threshold").unwrap();
    let threshold: Json = serde_json::from_str(&threshold.value).unwrap();
    let found = place.json(&["eval", "f1"]);
    for key in ["class", "probability", "chosen_by"] {
        assert_eq!(threshold[key], found["decision_threshold"][key], "{threshold}");
    }
    let odds = number(&threshold["probability"]) / (1.0 - number(&threshold["probability"]));
    assert!((number(&threshold["log_odds"]) - odds.ln()).abs() < 1e-12, "{threshold}");
    assert!(!place.run(&["export", "plain", "plain.onnx"]).stderr.contains("threshold"));
    // Half is what there is without it.
    let half = run("half", "0.5", &[]);
    assert!(half.get("decision_threshold").is_none());
    assert_eq!(half["test"], plain["test"]);
}

/// Workers and folds find what one run finds.
#[test]
fn workers_and_folds_go_by_it_too() {
    let place = place(MANIFEST);
    let set = ["--set", "train.decision_threshold=\"f1\""];
    let alone = place.json(&[&["run", "m.toml", "--out", "alone"], &set[..]].concat());
    let together = place.json(&[&["run", "m.toml", "--out", "two", "--workers", "2"], &set[..]].concat());
    for key in ["decision_threshold", "validation", "test", "test_confusion", "weights_sha256"] {
        assert_eq!(together[key], alone[key], "{key}");
    }
    let trained = place.json(&[&["train", "m.toml", "--out", "t", "--workers", "2"], &set[..]].concat());
    assert_eq!(trained["decision_threshold"], alone["decision_threshold"]);
    let folds = place.json(&[&["run", "m.toml", "--out", "folds", "--folds", "2"], &set[..]].concat());
    let lines = place.read("folds/predictions.csv");
    for (i, fold) in folds["each"].as_array().unwrap().iter().enumerate() {
        let threshold = number(&fold["decision_threshold"]["probability"]);
        let (mut right, mut all) = (0.0, 0.0);
        for line in lines.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            if cells[1] == (i + 1).to_string() {
                let rare: f64 = cells[5].parse().unwrap();
                assert_eq!(cells[3] == "rare", rare > threshold, "{line}");
                right += f64::from(u8::from(cells[2] == cells[3]));
                all += 1.0;
            }
        }
        assert!((right / all - number(&fold["test"]["accuracy"])).abs() < 1e-12, "{fold}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    let place = place(MANIFEST);
    place.write("three.csv", "a,kind\n".to_owned() + &"1,x\n2,y\n3,z\n".repeat(20));
    place.write("numbers.csv", "a,kind\n".to_owned() + &"1,1.5\n2,2.5\n3,4.5\n".repeat(20));
    let f1 = "train.decision_threshold=\"f1\"";
    for (sets, problem, hint) in [
        (
            &[f1, "data.split={ test = 0.2 }"][..],
            "there is no validation data to find a decision threshold on",
            "or give the threshold itself",
        ),
        (
            &["train.decision_threshold=0.3", "data.files=\"three.csv\""],
            "this model predicts one of 3 classes",
            "leave it out",
        ),
        (&[f1, "data.files=\"numbers.csv\""], "this model predicts numbers", "leave it out"),
        (&["train.decision_threshold=1.5"], "decision_threshold", ""),
        (&["train.decision_threshold=\"f2\""], "decision_threshold", ""),
    ] {
        for command in [&["run", "m.toml"][..], &["run", "m.toml", "--dry-run"]] {
            let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
            let errors = place.refused(&[command, &sets].concat());
            let text = serde_json::json!(errors).to_string();
            assert!(text.contains(problem) && text.contains(hint), "{text}");
            assert!(text.contains("train.decision_threshold"), "{text}");
            assert!(!place.path("runs/m/run.json").exists());
        }
    }
    // A number needs no validation data.
    let sets = ["--set", "train.decision_threshold=0.3", "--set", "data.split={ test = 0.2 }"];
    let run = place.json(&[&["run", "m.toml"], &sets[..]].concat());
    assert!((number(&run["decision_threshold"]["probability"]) - 0.3).abs() < 1e-15, "{run}");
}

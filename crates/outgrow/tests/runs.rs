//! `outgrow runs`: what it tells of runs is what these wrote themselves.

mod common;

use std::time::Duration;

use common::{GLYPHS, Place, checkpoints, files};
use serde_json::Value as Json;

const MODEL: &str = r#"
[model]
name = "mlp"
hidden = [16]
[train]
epochs = 4
batch = 20
early_stopping = { metric = "accuracy", patience = 100 }
"#;

fn manifest() -> String {
    format!("{GLYPHS}{MODEL}")
}

fn place() -> Place {
    let place = Place::with(&manifest());
    place.json(&["run", "m.toml", "--out", "runs/a"]);
    place.json(&[
        "run",
        "m.toml",
        "--out",
        "runs/b",
        "--set",
        "train.lr=0.01",
        "--set",
        "model.hidden=[8, 8]",
    ]);
    place
}

/// The best evaluation of a run by its own log.
fn best(place: &Place, run: &str) -> (f64, u64) {
    let log = place.read(&format!("{run}/metrics.jsonl"));
    let lines = log.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let of = |line: Json| Some((line["accuracy"].as_f64()?, line["epoch"].as_u64()?));
    let all: Vec<_> = lines.filter(|line| line["split"] == "validation").filter_map(of).collect();
    let top = all.iter().map(|(value, _)| *value).fold(0.0, f64::max);
    *all.iter().find(|(value, _)| *value == top).unwrap()
}

#[test]
fn runs_are_listed_with_what_they_came_to() {
    let place = place();
    // One that is interrupted, and what is no run.
    let mut child = place.start(&["run", "m.toml", "--out", "runs/c", "--set", "train.epochs=100000"]);
    while checkpoints(&place.path("runs/c")).is_empty() && !place.path("runs/c/metrics.jsonl").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    let state = |name: &str| {
        let listed = place.json(&["runs"]);
        let runs = listed["runs"].as_array().unwrap();
        runs.iter().find(|run| run["run"].as_str().unwrap().ends_with(name)).unwrap()["state"].clone()
    };
    assert_eq!((state("c"), state("a")), ("running".into(), "finished".into()));
    child.kill().unwrap();
    child.wait().unwrap();
    place.write("runs/notes/text.txt", "no run");
    let before = files(&place.path("runs"));
    let listed = place.json(&["runs"]);
    let runs = listed["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "{listed}");
    let of = |name: &str| runs.iter().find(|run| run["run"].as_str().unwrap().ends_with(name)).unwrap();
    assert_eq!(of("c")["state"], "unfinished");
    assert_eq!(of("c")["length"]["epochs"], 100_000);
    for name in ["a", "b"] {
        let run = of(name);
        let result: Json = serde_json::from_str(&place.read(&format!("runs/{name}/result.json"))).unwrap();
        assert_eq!((run["state"].as_str(), &run["step"]), (Some("finished"), &result["steps"]));
        assert_eq!(run["test"], result["test"]);
        assert_eq!(run["train_seconds"], result["train_seconds"]);
        let (value, epoch) = best(&place, &format!("runs/{name}"));
        assert_eq!(
            (run["best"]["value"].as_f64(), run["best"]["epoch"].as_u64()),
            (Some(value), Some(epoch))
        );
    }
    let text = place.run(&["runs", "list"]).stdout;
    assert!(text.lines().count() == 4 && text.contains("unfinished") && !text.contains("notes"), "{text}");
    assert_eq!(files(&place.path("runs")), before);
}

#[test]
fn the_steps_of_a_k_fold_evaluation_are_those_of_its_runs() {
    let place = Place::with(&manifest());
    let folds = place.json(&["run", "m.toml", "--out", "runs/k", "--folds", "3"]);
    let steps: u64 =
        folds["each"].as_array().unwrap().iter().map(|fold| fold["steps"].as_u64().unwrap()).sum();
    let listed = &place.json(&["runs"])["runs"][0];
    assert_eq!((&listed["step"], &listed["folds"]), (&steps.into(), &3.into()), "{listed}");
    assert_eq!((&listed["state"], &listed["test"]), (&"finished".into(), &folds["test"]));
    let text = place.run(&["runs"]).stdout;
    assert!(text.contains("4 epochs, 3 folds") && text.contains(&format!(" {steps} ")), "{text}");
}

#[test]
fn several_are_shown_side_by_side() {
    let place = place();
    let told = place.json(&["runs", "compare", "a", "runs/b", "--html", "page.html"]);
    let differing = told["differing"].as_object().unwrap();
    let keys: Vec<&String> = differing.keys().collect();
    assert_eq!(keys, ["model.hidden", "train.lr"]);
    // The learning rate of the first is left to the optimiser.
    assert_eq!(differing["train.lr"], serde_json::json!([null, 0.01]));
    let page = place.read("page.html");
    assert!(page.ends_with("</html>\n") && page.contains("model.hidden") && page.contains("[8,8]"));
    assert!(page.matches("<svg").count() >= 4, "{}", page.matches("<svg").count());
    // It takes nothing from elsewhere: the one address is the name of SVG's elements.
    let rest = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!rest.contains("http://") && !rest.contains("https://") && !rest.contains("<script"));
    let text = place.run(&["runs", "compare", "a", "b"]).stdout;
    assert!(text.contains("train.lr") && text.contains("0.01"), "{text}");
    let errors = place.refused(&["runs", "compare", "a", "z"]);
    assert!(errors[0]["expected"].as_str().unwrap().ends_with("one of: a, b"), "{errors:?}");
    let errors = place.refused(&["runs", "--folder", "none"]);
    assert_eq!(errors[0]["code"], "runs.folder");
}

//! Runs that go on to another length: bit for bit what one run of that length gives, where the schedule allows that, and
//! said where it does not.

mod common;

use std::time::Duration;

use common::{Done, GLYPHS, Place, check_same, checkpoints, essence, files};

/// State of all kinds: running statistics, random numbers, moments, the best weights so far, a short last batch.
const MODEL: &str = r#"
[model]
layers = [
  { flatten = true },
  { dense = 24 },
  { batch_norm = true },
  { activation = "relu" },
  { dropout = 0.2 },
  { dense = 10, activation = "softmax" },
]
[train]
epochs = 8
batch = 24
micro_shards = 2
optimizer = "adam"
lr = 0.01
early_stopping = { patience = 1000 }
checkpoint_every_steps = 5
log_every_steps = 1
"#;

fn manifest() -> String {
    format!("seed = 5\n{GLYPHS}{MODEL}")
}

/// Runs the manifest into a folder with these values set.
fn run(place: &Place, out: &str, set: &[&str]) -> Done {
    let set = set.iter().flat_map(|value| ["--set", value]);
    let args: Vec<&str> = ["run", "m.toml", "--out", out, "--json"].into_iter().chain(set).collect();
    place.run(&args)
}

#[test]
fn a_run_that_goes_on_is_one_run_of_its_length() {
    let place = Place::with(&manifest());
    for (case, more) in [
        &[][..],
        &["train.schedule={ name = \"step\", every_epochs = 3 }"],
        &["train.warmup_steps=30"],
        &["train.schedule={ name = \"plateau\", patience = 1, factor = 0.5 }"],
        &["train.optimizer=\"nesterov\"", "train.lr=0.001"],
    ]
    .into_iter()
    .enumerate()
    {
        let (whole, out) = (format!("whole{case}"), format!("r{case}"));
        let with = |length| [&[length][..], more].concat();
        run(&place, &whole, &with("train.epochs=8")).object();
        for epochs in ["train.epochs=1", "train.epochs=4"] {
            let done = run(&place, &out, &with(epochs));
            assert!(done.object().get("earlier_lengths").is_none(), "{}", done.stdout);
        }
        let done = run(&place, &out, &with("train.epochs=8"));
        assert!(
            done.stderr.contains("was to have 4 epochs and goes on to 8 epochs, after step 28"),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains("the result is that of one run of 8 epochs"), "{}", done.stderr);
        check_same(&essence(&place, &out), &essence(&place, &whole), &format!("{more:?}"));
        assert_eq!(
            place.read(&format!("{out}/manifest.toml")),
            place.read(&format!("{whole}/manifest.toml"))
        );
        // The model in it is of the new length, and so is the manifest with that.
        let [package, whole_package] = [&out, &whole].map(|run| {
            let evaluated = place.json(&["eval", &format!("{run}/model")]);
            assert!(evaluated["test"]["accuracy"].is_number(), "{evaluated}");
            evaluated["test"].clone()
        });
        assert_eq!(package, whole_package);
        // Now it is a run of that length like any other.
        let again = run(&place, &out, &with("train.epochs=8"));
        assert!(again.stderr.contains("finished"), "{}", again.stderr);
        assert_eq!(again.stdout, done.stdout);
    }
}

/// Nor do workers, steps in place of epochs, or the manifest that the run keeps make a difference.
#[test]
fn nothing_else_makes_a_difference() {
    let place = Place::with(&manifest());
    run(&place, "whole", &[]).object();
    place.json(&["run", "m.toml", "--out", "r", "--set", "train.epochs=3", "--workers", "2"]);
    place.json(&["run", "m.toml", "--out", "r", "--set", "train.epochs=5", "--workers", "2"]);
    place.json(&["run", "r", "--set", "train.epochs=8"]);
    check_same(&essence(&place, "r"), &essence(&place, "whole"), "of workers, then of what it keeps");
}

#[test]
fn an_interrupted_run_goes_on_too_to_more_or_to_less() {
    let place = Place::with(&manifest());
    for (begun, length) in [("train.epochs=3", "train.epochs=8"), ("train.epochs=1000", "train.epochs=400")] {
        run(&place, "whole", &[length]).object();
        let mut child = place.start(&["run", "m.toml", "--out", "r", "--set", begun]);
        while checkpoints(&place.path("r")).is_empty() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        run(&place, "r", &[length]).object();
        check_same(&essence(&place, "r"), &essence(&place, "whole"), begun);
        for out in ["r", "whole"] {
            std::fs::remove_dir_all(place.path(out)).unwrap();
        }
    }
}

#[test]
fn a_schedule_of_the_whole_length_is_told_of() {
    let place = Place::with(&manifest());
    for schedule in ["cosine", "one-cycle", "coslog"] {
        let schedule = format!("train.schedule=\"{schedule}\"");
        let (whole, out) = (format!("whole-{schedule}"), format!("r-{schedule}"));
        let whole = run(&place, &whole, &[&schedule]).object();
        run(&place, &out, &[&schedule, "train.epochs=4"]).object();
        let done = run(&place, &out, &[&schedule]);
        assert!(done.stderr.contains("the result is not that of one run of 8 epochs"), "{}", done.stderr);
        let result = done.object();
        assert_eq!(result["earlier_lengths"][0]["length"]["epochs"], 4);
        assert_eq!(result["earlier_lengths"][0]["step"], 28);
        assert_eq!(result["steps"], whole["steps"]);
        assert_ne!(result["weights_sha256"], whole["weights_sha256"], "{schedule}");
        // The rates of the steps that came are those of the new length.
        let rate = |out: &str| {
            let last = place.read(&format!("{out}/metrics.jsonl"));
            let last = last.lines().rfind(|line| line.contains("\"lr\"")).unwrap().to_owned();
            serde_json::from_str::<serde_json::Value>(&last).unwrap()["lr"].clone()
        };
        assert_eq!(rate(&out), rate(&format!("whole-{schedule}")));
        // From the start, it is the whole again.
        let fresh = place.json(&["run", &out, "--fresh"]);
        assert!(fresh.get("earlier_lengths").is_none());
        assert_eq!(fresh["weights_sha256"], whole["weights_sha256"]);
    }
}

#[test]
fn what_has_stopped_early_stays_so() {
    let place = Place::with(&manifest());
    let stop = "train.early_stopping={ patience = 2, min_delta = 10.0 }";
    let whole = run(&place, "whole", &[stop]).object();
    assert_eq!((whole["stopped_early"].as_bool(), whole["steps"].as_u64()), (Some(true), Some(21)));
    run(&place, "r", &[stop, "train.epochs=4"]).object();
    let done = run(&place, "r", &[stop]);
    assert!(done.stderr.contains("early stopping has ended the run before"), "{}", done.stderr);
    done.object();
    check_same(&essence(&place, "r"), &essence(&place, "whole"), "stopped early");
}

#[test]
fn less_than_what_is_done_is_refused() {
    let place = Place::with(&manifest());
    run(&place, "r", &["train.epochs=4"]).object();
    let before = files(&place.path("r"));
    let errors = run(&place, "r", &["train.epochs=3"]).errors();
    assert_eq!(errors[0]["code"], "run.shorter");
    assert!(errors[0]["problem"].as_str().unwrap().contains("28 steps"), "{errors:?}");
    assert_eq!(errors[0]["expected"], "at least 4 epochs");
    // Without its checkpoints it cannot go on either.
    std::fs::remove_dir_all(place.path("r/checkpoints")).unwrap();
    let errors = run(&place, "r", &["train.epochs=8"]).errors();
    assert_eq!(errors[0]["code"], "run.incomplete");
    let mut after = files(&place.path("r"));
    after.extend(before.clone().into_iter().filter(|(path, _)| path.starts_with("checkpoints")));
    assert_eq!(after, before);
}

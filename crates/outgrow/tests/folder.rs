//! The folder of a run as people and accidents leave it: what is gone or changed is noticed, what can be restored is
//! restored, and nothing goes before something new can be written.

mod common;

use std::fs;
use std::process::Command;

use common::{Place, check_kept, checkpoints, files, finish};
use serde_json::Value as Json;

const MANIFEST: &str = "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\n\
    rows = [[1, 2], [2, 4], [3, 6], [4, 8]]\ntest = { rows = [[5, 10]] }\n\
    [model]\nname = \"linear\"\n[train]\nepochs = 3\nbatch = 2\n";
const RUN: [&str; 4] = ["run", "m.toml", "--out", "r"];

/// A place with a finished run, and its result.
fn finished() -> (Place, Json) {
    let place = Place::with(MANIFEST);
    let result = place.json(&RUN);
    (place, result)
}

/// What a result says of the run itself, and not of the process that measured it.
fn numbers(result: &Json) -> Vec<&Json> {
    ["steps", "samples", "train", "test", "weights_sha256"].map(|key| &result[key]).into()
}

#[test]
fn what_a_finished_run_lost_is_restored() {
    type Harm = fn(&Place);
    let harms: [(&str, Harm); 4] = [
        ("result.json is gone", |place| fs::remove_file(place.path("r/result.json")).unwrap()),
        ("there is no model package here", |place| fs::remove_dir_all(place.path("r/model")).unwrap()),
        ("the part has 3 bytes", |place| {
            // A part that was damaged before may be kept under a name of its own.
            let names = files(&place.path("r/model")).into_keys().map(|path| path.display().to_string());
            for name in names.filter(|name| name.ends_with(".safetensors")) {
                place.write(&format!("r/model/{name}"), "cut");
            }
        }),
        ("report.html is gone", |place| fs::remove_file(place.path("r/report.html")).unwrap()),
    ];
    for (said, harm) in harms {
        let (place, before) = finished();
        let kept = files(&place.path("r"));
        harm(&place);
        let done = place.run(&RUN);
        assert!(done.code == 0 && done.stderr.contains(said), "{said}: {done:?}");
        assert!(done.stderr.contains("completed from its last checkpoint"), "{said}: {}", done.stderr);
        let after: Json = serde_json::from_str(&place.read("r/result.json")).unwrap();
        assert_eq!(numbers(&after), numbers(&before), "{said}");
        let now = files(&place.path("r"));
        for (path, content) in kept.iter().filter(|(path, _)| path.starts_with("model")) {
            let is = now.values().any(|found| found == content);
            assert!(is || path.ends_with("package.json"), "{said}: {}", path.display());
        }
        assert!(place.path("r/report.html").is_file(), "{said}");
        // Now it is whole again.
        let again = place.run(&RUN);
        assert!(again.stderr.contains("is finished"), "{said}: {}", again.stderr);
        // Without a checkpoint nothing is trained anew in silence.
        harm(&place);
        checkpoints(&place.path("r")).iter().for_each(|path| fs::remove_file(path).unwrap());
        let errors = place.refused(&RUN);
        assert_eq!(errors[0]["code"], "run.incomplete", "{said}: {errors:?}");
        assert!(errors[0]["help"].as_str().unwrap().contains("--fresh"), "{errors:?}");
    }
}

/// A result that was changed or cut is not told as the run's, neither by `run` nor by `eval`; removed, it is made anew.
#[test]
fn a_result_that_is_not_the_runs_is_refused() {
    let harms: [fn(&str) -> String; 2] =
        [|text| text.replace("\"steps\": 6", "\"steps\": 7"), |text| text[..text.len() / 2].to_owned()];
    for harm in harms {
        let (place, result) = finished();
        place.write("r/result.json", harm(&place.read("r/result.json")));
        let before = files(&place.path("r"));
        let errors = place.refused(&RUN);
        assert_eq!(errors[0]["code"], "run.damaged", "{errors:?}");
        check_kept(&before, &files(&place.path("r")), "a damaged result");
        let done = place.run(&["eval", "m.toml", "--out", "r", "--json"]);
        assert!(done.stderr.contains("is not what the run wrote"), "{}", done.stderr);
        let eval = done.object();
        assert_eq!((&eval["test"], eval.get("steps")), (&result["test"], None));
        fs::remove_file(place.path("r/result.json")).unwrap();
        assert_eq!(numbers(&place.json(&RUN)), numbers(&result));
    }
}

/// `run.json` cannot be replaced here, as on a file system that has become read-only.
#[test]
fn a_fresh_start_removes_nothing_before_it_can_write() {
    let (place, _) = finished();
    fs::remove_file(place.path("r/run.json")).unwrap();
    place.write("r/run.json/anything", "");
    let before = files(&place.path("r"));
    let errors = place.refused(&[&RUN[..], &["--fresh"]].concat());
    assert_eq!(errors[0]["code"], "run.folder");
    check_kept(&before, &files(&place.path("r")), "--fresh");
}

/// A start that was interrupted while it emptied the folder goes on emptying it.
#[test]
fn a_half_emptied_folder_is_not_taken_for_a_run() {
    let (place, result) = finished();
    let mut marker: Json = serde_json::from_str(&place.read("r/run.json")).unwrap();
    marker["emptying"] = true.into();
    place.write("r/run.json", marker.to_string());
    place.write("r/metrics.jsonl", "{\"step\": 99}\n");
    let done = place.run(&[&RUN[..], &["--json"]].concat());
    assert!(!done.stderr.contains("finished"), "{}", done.stderr);
    assert_eq!(numbers(&done.object()), numbers(&result));
    assert!(!place.read("r/metrics.jsonl").contains("{\"step\": 99}"));
    assert!(!place.read("r/run.json").contains("emptying"));
}

#[test]
fn what_killed_runs_were_writing_goes() {
    let (place, _) = finished();
    for name in [".tmp-1-0-run.json", ".tmp-1-7-report.html"] {
        place.write(&format!("r/{name}"), "half of");
        place.run(&RUN);
        assert!(!place.path(&format!("r/{name}")).exists(), "{name}");
    }
}

/// `init --force` on a disk that takes no more bytes: what was there stays, and no empty file is left.
#[test]
#[cfg(unix)]
fn init_keeps_a_manifest_that_it_cannot_replace() {
    let place = Place::with("seed = 1\n");
    for (args, name, content) in
        [("init --force m.toml", "m.toml", Some("seed = 1\n")), ("init new.toml", "new.toml", None)]
    {
        // A file that may not grow answers a write with an error, once its signal is ignored.
        let script = format!("trap '' XFSZ; ulimit -f 0; exec \"$0\" {args}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_outgrow")]).current_dir(place.path(""));
        let done = finish(&mut command, args);
        assert!(done.code == 1 && done.stderr.contains("[init.file]"), "{done:?}");
        assert_eq!(fs::read_to_string(place.path(name)).ok().as_deref(), content, "{args}");
    }
}

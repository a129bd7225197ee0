//! Which folder a run gets that was told none, and what `runs/latest` points to.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use common::{Place, check_kept, essence, files};
use serde_json::Value as Json;

const MANIFEST: &str = "name = \"a\"\n[data]\nsource = \"csv\"\nfiles = \"t.csv\"\nlabel = \"y\"\n\
    split = { test = 0.25 }\n[model]\nname = \"linear\"\n[train]\nepochs = 3\nbatch = 2\n";
const SLOWER: [&str; 4] = ["run", "m.toml", "--set", "train.lr=0.001"];

fn place() -> Place {
    let place = Place::with(MANIFEST);
    place.write("t.csv", table(8));
    place
}

fn table(rows: usize) -> String {
    let rows = (0..rows).map(|i| format!("{i},{}\n", 2 * i + 1));
    format!("x,y\n{}", rows.collect::<String>())
}

/// What `runs/latest` says, link or file.
fn latest(place: &Place) -> String {
    let path = place.path("runs/latest");
    match fs::read_link(&path) {
        Ok(to) => to.to_str().unwrap().to_owned(),
        Err(_) => fs::read_to_string(path).unwrap(),
    }
}

/// The folder in which a command that must succeed says the run is, and what it said on stderr.
fn run_in(place: &Place, args: &[&str]) -> (String, String) {
    let done = place.run(&[args, &["--json"]].concat());
    (done.object()["run"].as_str().unwrap().to_owned(), done.stderr)
}

#[test]
fn another_manifest_gets_a_folder_of_its_own() {
    let place = place();
    assert_eq!(run_in(&place, &["run", "m.toml"]).0, "runs/a");
    let before = files(&place.path("runs/a"));
    let (run, said) = run_in(&place, &SLOWER);
    assert_eq!(run, "runs/a-2");
    assert!(
        said.contains("runs/a holds a run of another manifest") && said.contains("in runs/a-2"),
        "{said}"
    );
    // What is in the way is left, and no number is given out twice.
    place.write("runs/a-3/mine.txt", "");
    fs::create_dir_all(place.path("runs/a-10/model")).unwrap();
    assert_eq!(run_in(&place, &["run", "m.toml", "--set", "seed=5"]).0, "runs/a-4");
    check_kept(&before, &files(&place.path("runs/a")), "the first run");
    // The same command is the same run, which a gap before it does not change.
    fs::remove_dir_all(place.path("runs/a-3")).unwrap();
    for (args, expect) in [(&SLOWER[..], "runs/a-2"), (&["run", "m.toml", "--set", "seed=5"], "runs/a-4")] {
        let (run, said) = run_in(&place, args);
        assert_eq!(run, expect);
        assert!(said.contains("is finished"), "{said}");
    }
    // Only the length: it goes on where it is.
    let (run, said) = run_in(&place, &[&SLOWER[..], &["--set", "train.epochs=5"]].concat());
    assert_eq!(run, "runs/a-2");
    assert!(said.contains("goes on to 5 epochs"), "{said}");
    // A new start takes its own run's place, and no other's.
    let (run, said) = run_in(&place, &[&SLOWER[..], &["--fresh"]].concat());
    assert!(run == "runs/a-2" && !said.contains("is finished"), "{said}");
    check_kept(&before, &files(&place.path("runs/a")), "a new start of another run");
    // Other data is another run too; it comes where there is room.
    place.write("t.csv", table(12));
    assert_eq!(run_in(&place, &["run", "m.toml"]).0, "runs/a-3");
    check_kept(&before, &files(&place.path("runs/a")), "a run on other data");
}

/// None takes another's folder, whoever comes first; and none is told that somebody else has it.
#[test]
fn runs_that_are_begun_at_the_same_moment_get_folders_of_their_own() {
    let place = place();
    let rates = ["0.001", "0.002", "0.003", "0.004", "0.005", "0.006"];
    let begun = rates.map(|rate| {
        let set = format!("train.lr={rate}");
        let mut command = place.command(&["run", "m.toml", "--json", "--threads", "1", "--set", &set]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let mut folders = BTreeSet::new();
    for (rate, child) in rates.iter().zip(begun) {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{rate}: {said}");
        let result: Json = serde_json::from_slice(&output.stdout).unwrap();
        let run = result["run"].as_str().unwrap().to_owned();
        assert!(place.read(&format!("{run}/manifest.toml")).contains(&format!("lr = {rate}\n")), "{run}");
        folders.insert(run);
    }
    let expect = ["runs/a", "runs/a-2", "runs/a-3", "runs/a-4", "runs/a-5", "runs/a-6"];
    assert_eq!(folders, expect.map(str::to_owned).into());
    assert!(place.path("runs").join(latest(&place)).join("result.json").exists());
}

/// One that was killed goes on in its own folder, and comes to what it would have come to in any.
#[test]
fn an_interrupted_run_goes_on_in_its_own_folder() {
    let place = place();
    place.json(&["run", "m.toml"]);
    let long =
        [&SLOWER[..], &["--set", "train.epochs=40", "--set", "train.checkpoint_every_steps=1"]].concat();
    place.json(&[&long[..], &["--out", "calm"]].concat());
    let mut child = place.start(&long);
    while common::checkpoints(&place.path("runs/a-2")).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(run_in(&place, &long).0, "runs/a-2");
    common::check_same(&essence(&place, "runs/a-2"), &essence(&place, "calm"), "gone on with");
}

/// A folder that was named is that folder: what is in it is kept, and a free one is named.
#[test]
fn a_folder_that_is_named_is_no_other() {
    let place = place();
    place.json(&["run", "m.toml"]);
    place.json(&SLOWER);
    let before = files(&place.path("runs/a"));
    for args in [
        &["run", "m.toml", "--set", "seed=9", "--out", "runs/a"][..],
        // The manifest that a run keeps names its folder.
        &["run", "runs/a", "--set", "seed=9"],
    ] {
        let errors = place.refused(args);
        assert_eq!(errors[0]["code"], "run.changed");
        let help = errors[0]["help"].as_str().unwrap();
        assert!(help.contains("--out runs/a-3") && help.contains("--fresh"), "{help}");
    }
    check_kept(&before, &files(&place.path("runs/a")), "refused");
    let (run, _) = run_in(&place, &["run", "m.toml", "--set", "seed=9", "--out", "runs/a", "--fresh"]);
    assert_eq!(run, "runs/a");
    // Something that is no run is in nobody's way but of whom it is in.
    let place = self::place();
    place.write("runs/a/thesis.txt", "years of work");
    assert_eq!(place.refused(&["run", "m.toml"])[0]["code"], "run.folder");
}

/// A search for a rate is written where the run will be, and looking at a run finds it where it is.
#[test]
fn commands_about_a_run_find_its_folder() {
    let place = place();
    let tune = ["tune-lr", "m.toml", "--steps", "4"];
    assert_eq!(place.json(&tune)["numbers"], "runs/a/tune-lr.json");
    assert_eq!(run_in(&place, &["run", "m.toml"]).0, "runs/a");
    assert_eq!(place.json(&tune)["numbers"], "runs/a/tune-lr.json");
    let deeper = ["--set", "model={ name = \"mlp\", hidden = [3] }"];
    let other = place.json(&[&tune[..], &deeper].concat());
    assert_eq!(other["numbers"], "runs/a-2/tune-lr.json");
    let ran = place.json(&[&["run", "m.toml"][..], &deeper].concat());
    assert_eq!(ran["run"], "runs/a-2");
    for (set, run) in [(&[][..], "runs/a"), (&deeper[..], "runs/a-2")] {
        let evaluated = place.json(&[&["eval", "m.toml"], set].concat());
        assert_eq!(evaluated["run"], run);
        let result: Json = serde_json::from_str(&place.read(&format!("{run}/result.json"))).unwrap();
        assert_eq!(evaluated["weights_sha256"], result["weights_sha256"]);
        assert_eq!(place.json(&[&["eval", "m.toml", "t.csv"], set].concat())["run"], run);
    }
    // A manifest that has changed since is still evaluated with the model that is there.
    assert_eq!(place.json(&["eval", "m.toml", "--set", "train.lr=0.5"])["run"], "runs/a");
}

#[test]
fn latest_is_the_run_that_was_begun_or_gone_on_with_last() {
    let place = place();
    place.json(&["run", "m.toml"]);
    assert_eq!(latest(&place), "a");
    place.json(&SLOWER);
    assert_eq!(latest(&place), "a-2");
    place.json(&["run", "m.toml", "--out", "runs/b"]);
    assert_eq!(latest(&place), "b");
    assert_eq!(place.json(&["eval", "runs/latest/model"])["run"], "runs/b");
    // One that is finished was neither.
    place.json(&["run", "m.toml"]);
    assert_eq!(latest(&place), "b");
    place.json(&["run", "runs/a-2", "--set", "train.epochs=4"]);
    assert_eq!(latest(&place), "a-2");
    // Elsewhere nothing is left beside a run.
    place.json(&["run", "m.toml", "--out", "elsewhere/c"]);
    assert!(!place.path("elsewhere/latest").exists());
    let listed = place.json(&["runs"]);
    let mut names: Vec<&str> =
        listed["runs"].as_array().unwrap().iter().filter_map(|run| run["run"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 3, "{listed}");
    // Whoever names it is told of the run itself.
    assert_eq!(place.json(&["eval", "runs/latest"])["run"], "runs/a-2");
    for (command, more) in [("predict", "t.csv"), ("export", "latest.onnx")] {
        let [through, named] = ["runs/latest", "runs/a-2"].map(|run| place.json(&[command, run, more]));
        assert_eq!(through, named);
    }
    let compared = place.json(&["runs", "compare", "a", "latest"]);
    assert_eq!(compared["runs"][1]["run"], "runs/a-2", "{compared}");
    assert_eq!(place.json(&["run", "runs/latest", "--set", "train.epochs=6"])["run"], "runs/a-2");
}

/// Where there are no links, a file with the name does; and what somebody else calls `latest` stays.
#[test]
fn latest_may_be_a_file_and_may_be_taken() {
    let place = place();
    place.json(&["run", "m.toml"]);
    fs::remove_file(place.path("runs/latest")).unwrap();
    place.write("runs/latest", "a\n");
    assert_eq!(place.json(&["eval", "runs/latest"])["run"], "runs/a");
    assert_eq!(place.json(&["predict", "runs/latest", "t.csv"]), place.json(&["predict", "runs/a", "t.csv"]));
    assert_eq!(place.json(&["runs"])["runs"].as_array().unwrap().len(), 1);
    place.json(&SLOWER);
    assert_eq!(latest(&place), "a-2");
    fs::remove_file(place.path("runs/latest")).unwrap();
    place.write("runs/latest/kept.txt", "mine");
    place.json(&["run", "m.toml", "--set", "seed=3"]);
    assert_eq!(place.read("runs/latest/kept.txt"), "mine");
    // A run of that name has another folder.
    assert_eq!(run_in(&place, &["run", "m.toml", "--set", "name=\"latest\""]).0, "runs/latest-run");
}

/// What a model fills in by its data stands in the manifest that the run keeps, in its package and in its report; and that
/// manifest is the run's own, by whatever it was begun.
#[test]
fn a_kept_manifest_has_what_the_model_filled_in() {
    let place = place();
    let realmlp = ["--set", "model={ name = \"realmlp\", hidden = [4] }", "--set", "train={}"];
    place.write("t.csv", table(40));
    let command = [&["run", "m.toml"][..], &realmlp].concat();
    assert_eq!(run_in(&place, &command).0, "runs/a");
    for file in ["runs/a/manifest.toml", "runs/a/model/manifest.toml", "runs/a/report.html"] {
        let text = place.read(file);
        for line in ["epochs = 256\n", "batch = 256\n", "lr = 0.07\n", "drop_last = true\n"] {
            assert!(text.contains(line), "{file} has no {line}: {text}");
        }
    }
    // The same run by the manifest as it was written, and by the one that is kept.
    for args in [&command[..], &["run", "runs/a"]] {
        let (run, said) = run_in(&place, args);
        assert!(run == "runs/a" && said.contains("is finished"), "{said}");
    }
    let result: Json = serde_json::from_str(&place.read("runs/a/result.json")).unwrap();
    assert_eq!(place.json(&["eval", "runs/a"])["weights_sha256"], result["weights_sha256"]);
    let errors = place.refused(&["run", "runs/a", "--set", "train.batch=8"]);
    assert_eq!(errors[0]["code"], "run.changed");
    let (run, said) = run_in(&place, &["run", "runs/a", "--set", "train.epochs=260"]);
    assert!(run == "runs/a" && said.contains("goes on to 260 epochs"), "{said}");
    // Other data is another run, wherever the manifest is the same.
    place.write("t.csv", table(44));
    assert_eq!(run_in(&place, &command).0, "runs/a-2");
    assert_eq!(run_in(&place, &[&command[..], &["--fresh"]].concat()).0, "runs/a-2");
}

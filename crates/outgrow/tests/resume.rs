//! Runs that are killed, damaged or begun again: what comes out is what an undisturbed run gives, bit for bit.

mod common;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use common::{Dice, Essence, Place, check_same, checkpoint_parts, checkpoints, essence, files, flip_bit};
use serde_json::Value as Json;

/// Everything that must survive a crash is in this run: batch norm's running statistics, dropout's random stream, two
/// moments of Adam, a schedule, the best weights so far, a short last batch (some of whose micro-shards are all
/// padding) and an order of its own in each epoch.
const MANIFEST: &str = r#"
seed = 3
[data]
source = "synthetic:glyphs"
samples = 300
test = { samples = 60 }
split = { validation = 0.1 }
[model]
layers = [
  { conv = 3, kernel = 5, stride = 3 },
  { batch_norm = true },
  { activation = "relu" },
  { flatten = true },
  { dropout = 0.2 },
  { dense = 64, activation = "relu" },
  { dense = 10, activation = "softmax" },
]
[train]
epochs = 8
batch = 24
micro_shards = 4
optimizer = "adam"
lr = 0.002
schedule = "cosine"
early_stopping = { patience = 1000 }
eval_every_steps = 5
checkpoint_every_steps = 5
log_every_steps = 1
"#;

const EACH_STEP: &str = "train.checkpoint_every_steps=1";

/// A place with an undisturbed run in `calm`, how it ended and how long it took.
fn calm(manifest: &str) -> (Place, Essence, Duration) {
    let place = Place::with(manifest);
    place.json(&["data", "prepare", "m.toml"]);
    let started = Instant::now();
    place.json(&["run", "m.toml", "--out", "calm"]);
    let took = started.elapsed();
    let essence = essence(&place, "calm");
    (place, essence, took)
}

/// Waits until `ready` and kills the process. Says whether it was killed, not ended by itself.
fn kill_when(mut child: Child, mut ready: impl FnMut() -> bool) -> bool {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return false;
        }
        if ready() {
            child.kill().unwrap();
            return !child.wait().unwrap().success();
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// The files that are being written in a folder.
fn being_written(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".tmp-"))).collect()
}

/// Steps of the newest checkpoint.
fn newest(run: &Path) -> u64 {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    checkpoints(run).last().map_or(0, |path| stem(path).trim_start_matches("step-").parse().unwrap())
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Any time.
    Random,
    /// While a checkpoint is being written.
    Writing,
    /// As soon as a checkpoint has its name.
    Written,
}

/// One process of a run, killed at a moment. Says whether it was killed.
fn strike(
    place: &Place,
    out: &str,
    flags: &[&str],
    moment: Moment,
    dice: &mut Dice,
    whole: Duration,
) -> bool {
    let run = place.path(out);
    let folder = run.join("checkpoints");
    let child = place.start(&[&["run", "m.toml", "--out", out], flags].concat());
    let begun = newest(&run);
    // A few checkpoints on, so that the run gets somewhere.
    let steps = 1 + (dice.fraction() * 30.0) as u64;
    let (started, delay) = (Instant::now(), whole.mul_f64(dice.fraction()));
    match moment {
        Moment::Random => kill_when(child, || started.elapsed() >= delay),
        Moment::Writing => {
            kill_when(child, || newest(&run) >= begun + steps && !being_written(&folder).is_empty())
        }
        Moment::Written => kill_when(child, || newest(&run) >= begun + steps),
    }
}

/// Kills runs `kills` times in all, each resumed by the same command until it is finished, and compares every one with
/// the undisturbed run. Gives how many kills left a checkpoint half written.
fn storm(moment: Moment, flags: &[&str], kills: usize, seed: u64) -> usize {
    let (place, expect, whole) = calm(MANIFEST);
    let mut dice = Dice(seed);
    let (mut killed, mut torn, mut runs) = (0, 0, 0);
    while killed < kills {
        let out = format!("run-{runs}");
        runs += 1;
        assert!(runs <= 20 * kills, "{moment:?}: processes end before they can be killed");
        while killed < kills && strike(&place, &out, flags, moment, &mut dice, whole) {
            killed += 1;
            torn += usize::from(!being_written(&place.path(&out).join("checkpoints")).is_empty());
        }
        let result = place.json(&[&["run", "m.toml", "--out", &out], flags].concat());
        assert_eq!(
            essence(&place, &out),
            expect,
            "{moment:?}, seed {seed}, run {runs}, after {killed} kills"
        );
        assert!(result["train_seconds"].as_f64().unwrap() > 0.0);
        assert!(being_written(&place.path(&out).join("checkpoints")).is_empty(), "temporary files are left");
    }
    torn
}

#[test]
fn killed_at_any_moment() {
    storm(Moment::Random, &[], 10, 1);
    storm(Moment::Random, &["--set", EACH_STEP], 10, 2);
}

#[test]
fn killed_while_a_checkpoint_is_written() {
    let torn = storm(Moment::Writing, &["--set", EACH_STEP], 10, 3);
    assert!(torn > 0, "no kill left a checkpoint half written");
}

/// The lines of the log must be on the disk before the checkpoint that comes after them.
#[test]
fn killed_as_soon_as_a_checkpoint_has_its_name() {
    storm(Moment::Written, &[], 10, 4);
}

/// Time adds up: the seconds of the first process are in the checkpoint that the second goes on from.
#[test]
fn seconds_and_samples_add_up() {
    let (place, expect, _) = calm(MANIFEST);
    let run = place.path("r");
    let child = place.start(&["run", "m.toml", "--out", "r"]);
    assert!(kill_when(child, || newest(&run) >= 40));
    let newest = checkpoints(&run).pop().unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    let header = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]).replace('\\', "");
    let saved = header.split("\"train_ns\":").nth(1).expect("the time is in the checkpoint");
    let saved: String = saved.chars().take_while(char::is_ascii_digit).collect();
    let result = place.json(&["run", "m.toml", "--out", "r"]);
    assert!(result["train_seconds"].as_f64().unwrap() > saved.parse::<f64>().unwrap() * 1e-9);
    // 270 samples in each of 8 epochs, none twice and none left out.
    assert_eq!((result["steps"].as_u64(), result["samples"].as_u64()), (Some(96), Some(2160)));
    check_same(&essence(&place, "r"), &expect, "resumed");
}

/// A table of several shards, so that preparation can be interrupted between them.
fn table(rows: usize) -> String {
    let mut dice = Dice(9);
    let mut text = String::from("x,y,colour,label\n");
    for _ in 0..rows {
        let (x, y) = (dice.fraction(), dice.fraction());
        let colour = ["red", "green", "blue"][(dice.next() % 3) as usize];
        text.push_str(&format!("{x:.6},{y:.6},{colour},{}\n", if x > y { "yes" } else { "no" }));
    }
    text
}

const TABLE: &str = r#"
[data]
source = "csv"
files = "table.csv"
label = "label"
split = { validation = 0.1, test = 0.1 }
normalize = "standard"
clean = [{ drop_duplicates = true }, { one_hot = { columns = "text" } }]
[model]
name = "logistic"
[train]
steps = 20
batch = 32
"#;

#[test]
fn killed_while_data_is_prepared() {
    let place = Place::with(TABLE);
    place.write("table.csv", table(30_000));
    let started = Instant::now();
    place.json(&["run", "m.toml", "--out", "calm", "--cache", "c0"]);
    let whole = started.elapsed();
    let (expect, prepared) = (essence(&place, "calm"), files(&place.path("c0")));
    assert!(prepared.keys().filter(|path| path.to_string_lossy().contains("train-")).count() > 1);
    let mut dice = Dice(5);
    for attempt in 1..=8 {
        let (cache, out) = (format!("c{attempt}"), format!("r{attempt}"));
        let args = ["run", "m.toml", "--out", &out, "--cache", &cache];
        for _ in 0..2 {
            let (started, delay) = (Instant::now(), whole.mul_f64(dice.fraction()));
            let folder = || std::fs::read_dir(place.path(&cache)).ok()?.next()?.ok().map(|e| e.path());
            // Half of the kills fall into the writing of a shard or of the list of shards.
            let ready = || match attempt % 2 {
                0 => started.elapsed() >= delay,
                _ => started.elapsed() >= delay && folder().is_some_and(|f| !being_written(&f).is_empty()),
            };
            kill_when(place.start(&args), ready);
        }
        place.json(&args);
        check_same(&essence(&place, &out), &expect, &format!("attempt {attempt}"));
        let mut again = files(&place.path(&cache));
        // A kill just after the last record leaves what says how far preparation came, which harms nobody.
        again.retain(|path, _| !path.ends_with("progress.json"));
        assert!(again == prepared, "attempt {attempt}: {:?} {:?}", again.keys(), prepared.keys());
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let (place, expect, _) = calm(MANIFEST);
    let parts = [0.0, 0.001, 0.5, 0.999].map(|at| (at, true));
    for (i, (at, is_part)) in parts.into_iter().chain([(0.0, false), (0.6, false)]).enumerate() {
        let out = format!("r{i}");
        let run = place.path(&out);
        assert!(kill_when(place.start(&["run", "m.toml", "--out", &out]), || newest(&run) >= 20));
        let all = checkpoints(&run);
        assert!(all.len() >= 2);
        let record = all.last().unwrap();
        // A part may be there already whose record is not.
        let named = |part: &PathBuf| {
            let name = part.file_name().unwrap().to_string_lossy().into_owned();
            std::fs::read_to_string(record).unwrap().contains(&name)
        };
        let part = checkpoint_parts(&run).into_iter().find(named).unwrap();
        let damaged = if is_part { &part } else { record };
        flip_bit(damaged, at);
        let bytes = std::fs::read(damaged).unwrap();
        let done = place.run(&["run", "m.toml", "--out", &out, "--json"]);
        done.object();
        let name = damaged.file_name().unwrap().to_string_lossy().into_owned();
        assert!(done.stderr.contains("warning") && done.stderr.contains(&name), "{}", done.stderr);
        check_same(&essence(&place, &out), &expect, &format!("bit at {at}"));
        // It was passed over, not believed: training came by the same step again and replaced it, or removed it later.
        assert!(std::fs::read(damaged).map_or(true, |now| now != bytes));
    }
}

#[test]
fn a_finished_run_prints_the_same_object_again() {
    let place = Place::with(MANIFEST);
    let first = place.run(&["run", "m.toml", "--out", "r", "--json"]);
    first.object();
    let before = files(&place.path("r"));
    let second = place.run(&["run", "m.toml", "--out", "r", "--json"]);
    assert_eq!((second.code, &second.stdout), (0, &first.stdout));
    assert!(second.stderr.contains("finished") && !second.stderr.contains("epoch"), "{}", second.stderr);
    assert_eq!(files(&place.path("r")), before);
}

/// `train` does all but the evaluation; `run` adds just that.
#[test]
fn a_run_after_train_only_evaluates() {
    let (place, expect, _) = calm(MANIFEST);
    let trained = place.json(&["train", "m.toml", "--out", "r"]);
    assert!(trained.get("test").is_none());
    let done = place.run(&["run", "m.toml", "--out", "r", "--json"]);
    assert_eq!(done.object()["train_seconds"], trained["train_seconds"], "nothing was trained again");
    check_same(&essence(&place, "r"), &expect, "resumed");
}

#[test]
fn another_manifest_is_refused_unless_fresh() {
    let place = Place::with(MANIFEST);
    place.json(&["run", "m.toml", "--out", "r", "--set", "train.epochs=1"]);
    let before = files(&place.path("r"));
    for set in ["train.lr=0.1", "seed=4", "model.layers[5].dense=65", "data.samples=301"] {
        let errors = place.refused(&["run", "m.toml", "--out", "r", "--set", "train.epochs=1", "--set", set]);
        assert_eq!(errors[0]["code"], "run.changed", "{set}");
        assert!(errors[0]["help"].as_str().unwrap().contains("--fresh"), "{set}");
        assert_eq!(files(&place.path("r")), before, "{set}");
    }
    // What only says how often something is written down is no change.
    for set in ["train.checkpoint_every_steps=1", "train.log_every_steps=7", "train.keep_checkpoints=1"] {
        place.json(&["run", "m.toml", "--out", "r", "--set", "train.epochs=1", "--set", set]);
    }
    let fresh = place.json(&["run", "m.toml", "--out", "r", "--fresh", "--set", "train.epochs=2"]);
    assert_eq!(fresh["steps"], 24);
    assert_ne!(files(&place.path("r")), before);
}

#[test]
fn threads_are_no_change() {
    let (place, expect, _) = calm(MANIFEST);
    let run = place.path("r");
    let child = place.start(&["run", "m.toml", "--out", "r", "--threads", "1"]);
    assert!(kill_when(child, || newest(&run) >= 30));
    place.json(&["run", "m.toml", "--out", "r", "--threads", "2"]);
    check_same(&essence(&place, "r"), &expect, "resumed");
}

/// A crash between any two of the files that begin a run leaves a folder that the same command goes on with.
#[test]
fn a_run_killed_at_its_very_start_goes_on() {
    let (place, expect, _) = calm(MANIFEST);
    for kept in [&[][..], &["run.json"], &["run.json", "manifest.toml"]] {
        let out = format!("r{}", kept.len());
        place.write(&format!("{out}/.lock"), "1\n");
        place.write(&format!("{out}/.tmp-1-0-run.json"), "{");
        for name in kept {
            std::fs::copy(place.path("calm").join(name), place.path(&out).join(name)).unwrap();
        }
        if !kept.is_empty() {
            // As it was before the run had ended.
            let mut run: Json = serde_json::from_str(&place.read(&format!("{out}/run.json"))).unwrap();
            assert!(run.as_object_mut().unwrap().remove("result_sha256").is_some());
            place.write(&format!("{out}/run.json"), run.to_string());
        }
        place.json(&["run", "m.toml", "--out", &out]);
        check_same(&essence(&place, &out), &expect, &format!("{kept:?}"));
        assert_eq!(place.read(&format!("{out}/manifest.toml")), place.read("calm/manifest.toml"), "{kept:?}");
    }
}

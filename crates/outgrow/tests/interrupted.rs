//! Runs that are asked to end, by Ctrl-C or by SIGTERM: they save their state and say how to go on, and that command gives
//! the bits of a run that nothing happened to.
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Dice, Done, Essence, Place, checkpoints};
use serde_json::Value as Json;

/// What a run can lose is in this one: running statistics, random numbers, moments, a schedule, the best weights, a short
/// last batch. Checkpoints come only at the end, or when it is asked to end.
const MANIFEST: &str = r#"
seed = 3
[data]
source = "synthetic:glyphs"
samples = 300
test = { samples = 60 }
split = { validation = 0.1 }
[model]
layers = [
  { flatten = true },
  { batch_norm = true },
  { dropout = 0.2 },
  { dense = 40, activation = "relu" },
  { dense = 10, activation = "softmax" },
]
[train]
epochs = 24
batch = 24
micro_shards = 4
optimizer = "adam"
lr = 0.002
schedule = "cosine"
early_stopping = { patience = 1000 }
checkpoint_every_steps = 100000
log_every_steps = 1
"#;
const EPOCHS: u64 = 24;

/// Long after whatever should have happened.
const HANGS: Duration = Duration::from_secs(60);

/// Sends a signal to a process, or with `-` before its number to all of its group.
fn signal(name: &str, to: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), "--", to]).status().unwrap();
    // It may have ended.
    let _ = sent;
}

/// Waits until a process has ended, and gives what it left.
fn wait(mut child: Child, stderr: String) -> Done {
    let until = Instant::now() + HANGS;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("the run hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{}", output.status));
    let more = String::from_utf8(output.stderr).unwrap();
    Done { code, stdout: String::from_utf8(output.stdout).unwrap(), stderr: stderr + &more }
}

/// Runs until so many epochs are told to be done, sends `name` to it or (`group`) to all of its group, and gives how it
/// ended.
fn strike(place: &Place, args: &[&str], epochs: u64, name: &str, group: bool) -> Done {
    let mut command = place.command(args);
    let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let (mut told, mut line, mut seen) = (String::new(), String::new(), 0);
    while seen < epochs && stderr.read_line(&mut line).unwrap() > 0 {
        seen += u64::from(line.starts_with("epoch "));
        told += &std::mem::take(&mut line);
    }
    let id = child.id().to_string();
    signal(name, &if group { format!("-{id}") } else { id });
    stderr.read_to_string(&mut told).unwrap();
    wait(child, told)
}

/// What a run came to, by however many workers.
fn essence(place: &Place, out: &str) -> Essence {
    let mut essence = common::essence(place, out);
    let of_group = ["workers", "transport", "all_reduce_seconds", "overlap", "links"];
    of_group.iter().for_each(|key| drop(essence.result.as_object_mut().unwrap().remove(*key)));
    essence
}

/// Checks what an interrupted run says, and gives the step after which it ended.
fn check_told(done: &Done, run: &str, name: &str) -> u64 {
    assert!(done.stderr.contains(&format!("{name} after step ")), "{}", done.stderr);
    let json: Json = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    assert_eq!((&json["interrupted"], &json["run"]), (&name.into(), &run.into()), "{json}");
    let go_on = json["go_on"].as_str().unwrap();
    assert!(done.stderr.contains(&format!("to go on: {go_on}\n")), "{}", done.stderr);
    json["step"].as_u64().unwrap()
}

/// Asks 20 times at random moments: each time the run ends after a step, with its state saved, and the command that it
/// names goes on.
#[test]
fn asked_to_end_at_random_moments() {
    let place = Place::with(MANIFEST);
    place.json(&["run", "m.toml", "--out", "calm"]);
    let expect = essence(&place, "calm");
    let mut dice = Dice(16);
    let (mut asked, mut runs, mut steps) = (0, 0, Vec::new());
    while asked < 20 {
        runs += 1;
        assert!(runs < 40, "runs end before they can be asked");
        let out = format!("run {runs}");
        let args = ["run", "m.toml", "--out", &out, "--json"];
        let before = asked;
        while asked < 20 {
            let (name, code) = [("INT", 130), ("TERM", 143)][(dice.next() % 2) as usize];
            let done = strike(&place, &args, 1 + dice.next() % (EPOCHS / 3), name, false);
            if done.code == 0 {
                break;
            }
            assert_eq!(done.code, code, "{done:?}");
            asked += 1;
            let step = check_told(&done, &out, &format!("SIG{name}"));
            steps.push(step);
            // The state is that of the step: nothing is done twice.
            assert!(checkpoints(&place.path(&out)).last().unwrap().ends_with(format!("step-{step:08}.json")));
            let go_on =
                serde_json::from_str::<Json>(&done.stdout).unwrap()["go_on"].as_str().unwrap().to_owned();
            assert!(go_on.ends_with(&format!(" run m.toml --out '{out}' --json")), "{go_on}");
            if asked % 7 == 0 {
                // The command as it is told, by a shell.
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", &go_on])
                    .current_dir(place.path(""))
                    .env("XDG_CACHE_HOME", place.path("cache"));
                common::finish(&mut shell, &go_on).object();
                break;
            }
        }
        place.run(&args).object();
        assert_eq!(essence(&place, &out), expect, "run {runs}, asked {} times", asked - before);
    }
    steps.sort_unstable();
    steps.dedup();
    assert!(steps.len() > 12, "at different steps: {steps:?}");
}

/// How a run ended that was asked to end after so long from its start: nothing where that was before it listened.
fn strike_after(place: &Place, args: &[&str], wait_for: Duration, name: &str) -> Option<Done> {
    let child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(wait_for);
    signal(name, &child.id().to_string());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code()?;
    Some(Done { code, stdout: text(output.stdout), stderr: text(output.stderr) })
}

/// Asks 20 times at moments spread over a whole run, from the start of the process to its end: while data is prepared,
/// programs are compiled, steps taken, the model evaluated and the report written. The same command gives the bits of a run
/// that nothing happened to.
#[test]
fn asked_to_end_at_random_moments_from_the_start_on() {
    let place = Place::with(&MANIFEST.replace("samples = 300", "samples = 3000"));
    let begun = Instant::now();
    place.json(&["run", "m.toml", "--out", "calm"]);
    let whole = begun.elapsed();
    let expect = essence(&place, "calm");
    let mut dice = Dice(61);
    let (mut asked, mut runs) = (0, 0);
    while asked < 20 {
        runs += 1;
        assert!(runs < 60, "runs end before they can be asked");
        std::fs::remove_dir_all(place.path("cache")).unwrap();
        let out = format!("r{runs}");
        let args = ["run", "m.toml", "--out", &out, "--json"];
        loop {
            let name = ["INT", "TERM"][(dice.next() % 2) as usize];
            let Some(done) = strike_after(&place, &args, whole.mul_f64(dice.fraction()), name) else {
                asked += 1;
                continue;
            };
            if done.code == 0 {
                break;
            }
            asked += 1;
            assert!(done.code == 130 || done.code == 143, "{done:?}");
            let json: Json = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
            assert_eq!(json["interrupted"], format!("SIG{name}"), "{json}");
            let go_on = json["go_on"].as_str().unwrap();
            assert!(go_on.ends_with(&format!(" run m.toml --out {out} --json")), "{go_on}");
            assert!(done.stderr.contains(&format!("to go on: {go_on}\n")), "{}", done.stderr);
            assert!(!done.stderr.contains("error"), "{}", done.stderr);
            if asked % 5 == 0 {
                break;
            }
        }
        place.run(&args).object();
        assert_eq!(essence(&place, &out), expect, "run {runs}");
    }
}

/// While data is prepared there is no run yet: what is prepared is kept, and who was to start anew still does.
#[test]
fn asked_to_end_while_data_is_prepared() {
    let manifest = MANIFEST.replace("samples = 300", "samples = 60000").replace("batch = 24", "batch = 6000");
    let place = Place::with(&manifest.replace("epochs = 24", "epochs = 2"));
    place.json(&["run", "m.toml", "--out", "calm"]);
    let expect = essence(&place, "calm");
    place.json(&["run", "m.toml", "--out", "r"]);
    for fresh in [true, false] {
        std::fs::remove_dir_all(place.path("cache")).unwrap();
        let args = ["run", "m.toml", "--out", "r", "--json", "--fresh"];
        let args = &args[..if fresh { 6 } else { 5 }];
        let before = common::files(&place.path("r"));
        let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !place.path("cache/outgrow/data").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        signal("INT", &child.id().to_string());
        let done = wait(child, String::new());
        assert_eq!(done.code, 130, "{done:?}");
        let json: Json = serde_json::from_str(&done.stdout).unwrap();
        assert!(json["interrupted"] == "SIGINT" && json["step"].is_null(), "{json}");
        assert_eq!(json["go_on"].as_str().unwrap().contains("--fresh"), fresh, "{json}");
        assert!(
            done.stderr.contains("SIGINT: what is prepared and saved so far is kept\n"),
            "{}",
            done.stderr
        );
        common::check_kept(&before, &common::files(&place.path("r")), "asked to end before it began");
        place.run(args).object();
        assert_eq!(essence(&place, "r"), expect);
    }
}

/// Asked while all work: by the terminal, which tells all processes, or by whoever knows the first one only. The whole
/// group ends, and any number of workers goes on.
#[test]
fn a_group_of_workers_ends_as_a_whole() {
    let place = Place::with(MANIFEST);
    place.json(&["run", "m.toml", "--out", "calm"]);
    let expect = essence(&place, "calm");
    let mut dice = Dice(5);
    // An optimiser whose state each worker has a range of, and one that all have alike.
    for (optimizer, transports) in [("adam", &["threads", "shm", "tcp"][..]), ("lamb", &["threads", "shm"])] {
        let set = format!("train.optimizer=\"{optimizer}\"");
        let expect = match optimizer {
            "adam" => expect.clone(),
            _ => {
                place.json(&["run", "m.toml", "--out", "calm-2", "--set", &set]);
                essence(&place, "calm-2")
            }
        };
        for transport in transports {
            for group in [false, true] {
                let out = format!("{optimizer}-{transport}-{group}");
                let all = ["run", "m.toml", "--out", &out, "--json", "--set", &set];
                let workers = ["--workers", "2", "--threads", "1", "--transport", transport];
                let args = [&all[..], &workers].concat();
                let done = strike(&place, &args, 1 + dice.next() % 6, "INT", group);
                assert_eq!(done.code, 130, "{out}: {done:?}");
                assert!(check_told(&done, &out, "SIGINT") > 0);
                assert!(!done.stderr.contains("error"), "{out}: {}", done.stderr);
                place.run(if group { &all } else { &args }).object();
                assert_eq!(essence(&place, &out), expect, "{out}");
            }
        }
    }
}

/// The metrics are in the file while the run goes on, long before a checkpoint.
#[test]
fn metrics_can_be_followed() {
    let place = Place::with(&MANIFEST.replace("epochs = 24", "epochs = 1000000"));
    let mut child = place.start(&["train", "m.toml", "--out", "r"]);
    wait_for_steps(&place, &mut child, 10);
    wait_for_steps(&place, &mut child, steps_logged(&place) + 10);
    assert!(checkpoints(&place.path("r")).is_empty(), "nobody has asked for one");
    signal("TERM", &child.id().to_string());
    assert_eq!(wait(child, String::new()).code, 143);
}

/// A first signal that has to wait for a long step may be followed by a second one, which ends the process at once.
#[test]
fn a_second_signal_ends_at_once() {
    // A step has 110 billion operations.
    let place = Place::with(
        &MANIFEST
            .replace("dense = 40", "dense = 2048, activation = \"relu\" },\n  { dense = 2048")
            .replace("samples = 300", "samples = 3600")
            .replace("batch = 24", "batch = 3200"),
    );
    let mut child = place.start(&["train", "m.toml", "--out", "r", "--threads", "1"]);
    wait_for_steps(&place, &mut child, 1);
    // The process is stopped meanwhile, so that both signals come within one step.
    let id = child.id().to_string();
    signal("STOP", &id);
    signal("TERM", &id);
    signal("INT", &id);
    signal("CONT", &id);
    let code = wait(child, String::new()).code;
    // Signals that wait are handled in any order.
    assert!([130, 143].contains(&code), "{code}");
    assert!(checkpoints(&place.path("r")).is_empty(), "it ended at once");
    // What was there is sound: the same command begins again, for there is no state.
    let done = strike(&place, &["train", "m.toml", "--out", "r", "--json"], 1, "TERM", false);
    assert_eq!(done.code, 143);
    let step = check_told(&done, "r", "SIGTERM");
    let log = place.read("r/metrics.jsonl");
    let last: Json = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert!(last["step"].as_u64().unwrap() <= step && log.lines().count() as u64 >= step);
}

/// How many steps a run has written down so far.
fn steps_logged(place: &Place) -> usize {
    std::fs::read_to_string(place.path("r/metrics.jsonl")).unwrap_or_default().lines().count()
}

/// Waits until a run that goes on has written down so many steps.
fn wait_for_steps(place: &Place, child: &mut Child, count: usize) {
    let until = Instant::now() + HANGS;
    while steps_logged(place) < count {
        assert!(
            child.try_wait().unwrap().is_none() && Instant::now() < until,
            "{} steps",
            steps_logged(place)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server answers what it has taken in, and has done its work then.
#[test]
fn a_server_ends_by_the_same_signals() {
    let place = Place::with(&MANIFEST.replace("epochs = 24", "epochs = 1"));
    place.json(&["train", "m.toml", "--out", "r"]);
    for name in ["INT", "TERM"] {
        let args = ["serve", "r", "--http", "127.0.0.1:0", "--json"];
        let mut child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("http://127.0.0.1:"), "{line}");
        signal(name, &child.id().to_string());
        assert_eq!(wait(child, String::new()).code, 0, "{name}");
    }
}

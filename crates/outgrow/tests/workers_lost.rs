//! Workers that are killed, and those who should not join: the run ends with their name, nothing hangs, and the same
//! command goes on to the bits of a run that nothing happened to.

mod common;

use common::{Dice, Done, Place};
use serde_json::Value as Json;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MANIFEST: &str = "seed = 5\n[data]\nsource = \"synthetic:glyphs\"\nsamples = 160\n\
    [model]\nname = \"mlp\"\nhidden = [300, 200]\n\
    [train]\nsteps = 100\nbatch = 16\nmicro_shards = 4\noptimizer = \"adam\"\nclip_norm = 1.0\ncheckpoint_every_steps = 2\n";

/// Nearly all of this run is evaluation, which the workers share: after every step, of a thousand times as much data.
#[cfg(target_os = "linux")]
const EVALUATES: &str = "seed = 5\n[data]\nsource = \"synthetic:glyphs\"\nsamples = 18000\nsplit = { validation = 0.9 }\n\
    [model]\nname = \"mlp\"\nhidden = [300, 200]\n\
    [train]\nsteps = 12\nbatch = 16\nmicro_shards = 4\noptimizer = \"adam\"\ncheckpoint_every_steps = 4\neval_every_steps = 1\n";

/// Long after whatever should have happened.
const HANGS: Duration = Duration::from_secs(30);

/// Waits until a process has ended, and gives what it left.
fn wait(mut child: Child) -> Done {
    let until = Instant::now() + HANGS;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("the run hangs: {:?}", child.wait_with_output().unwrap());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn start(place: &Place, flags: &[&str]) -> Child {
    let mut command =
        place.command(&[&["train", "m.toml", "--quiet", "--json", "--threads", "1"], flags].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The processes that a process has started.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let process: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let above: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (above == parent).then_some(process)
    });
    processes.collect()
}

#[cfg(target_os = "linux")]
fn kill(process: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
    // It may have ended.
    let _ = killed;
}

/// Kills one of three workers at a random moment of a run, or of its training, so many times: the run ends with its name,
/// all others end with it, and the same command goes on to the bits of a run that nothing happened to. Gives the messages
/// of those runs that lost a worker while they worked.
#[cfg(target_os = "linux")]
fn killed(manifest: &str, rounds: usize, in_training: bool, at_most_ms: u64) -> Vec<String> {
    let whole = Place::with(manifest);
    let expect = whole.json(&["train", "m.toml", "--quiet"]);
    let mut dice = Dice(7);
    let mut lost = Vec::new();
    for round in 0..rounds {
        let transport: &[&str] = [&["shm"][..], &["tcp"], &["tcp", "--no-tls"]][round % 3];
        let flags = [&["--workers", "3", "--out", "r", "--transport"], transport].concat();
        let place = Place::with(manifest);
        let child = start(&place, &flags);
        let until = Instant::now() + HANGS;
        // When the first worker is killed, the others have nobody to tell: they must end all the same.
        let first = child.id();
        let others = loop {
            let others = children(first);
            if others.len() == 2 || Instant::now() > until {
                break others;
            }
            thread::sleep(Duration::from_millis(1));
        };
        let begun = || place.path("r/checkpoints").read_dir().is_ok_and(|mut files| files.next().is_some());
        while in_training && !begun() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(dice.next() % at_most_ms));
        let victim = (dice.next() % 3) as usize;
        kill(if victim == 0 { first } else { others[victim - 1] });
        let done = wait(child);
        let until = Instant::now() + HANGS;
        while others.iter().any(|other| std::path::Path::new(&format!("/proc/{other}")).exists()) {
            assert!(Instant::now() < until, "round {round}: a worker outlives the run");
            thread::sleep(Duration::from_millis(5));
        }
        if victim > 0 && done.code != 0 {
            let worker = format!("worker {victim}");
            assert!(done.stderr.contains(&worker), "round {round}: {}", done.stderr);
            let error: Json = serde_json::from_str(&done.stdout).unwrap();
            let code = error["errors"][0]["code"].as_str().unwrap();
            assert!(["workers.lost", "workers.start"].contains(&code), "{error}");
            if code == "workers.lost" {
                lost.push(done.stderr);
            }
        }
        let end = place.json(&[&["train", "m.toml", "--quiet", "--threads", "1"], &flags[..]].concat());
        for what in ["weights_sha256", "validation"] {
            assert_eq!(end[what], expect[what], "round {round}");
        }
    }
    lost
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_is_killed_at_any_moment_ends_the_run_by_name() {
    let lost = killed(MANIFEST, 20, false, 600);
    assert!(lost.len() > 2, "many are killed while they work: {lost:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_is_killed_while_all_evaluate_ends_the_run_by_name() {
    let lost = killed(EVALUATES, 9, true, 300);
    let evaluating = lost.iter().filter(|text| text.contains("an evaluation")).count();
    assert!(evaluating > 0, "some are killed within an evaluation: {lost:?}");
}

/// A run that waits for one more worker, and the address and key that are needed to join it.
struct Waiting {
    place: Place,
    first: Child,
    address: String,
}

impl Waiting {
    fn new() -> Self {
        Self::in_place(Place::with(MANIFEST), &[])
    }

    fn in_place(place: Place, more: &[&str]) -> Self {
        let flags = ["--workers", "2", "--out", "r", "--listen", "127.0.0.1:0", "--key", "r.key"];
        let first = start(&place, &[&flags[..], more].concat());
        let until = Instant::now() + HANGS;
        while !place.path("r.key").exists() {
            assert!(Instant::now() < until, "no key is written");
            thread::sleep(Duration::from_millis(5));
        }
        let key = place.read("r.key");
        let address = key.lines().find_map(|line| line.strip_prefix("address = ")).unwrap();
        let address = address.trim_matches('"').to_owned();
        Self { place, first, address }
    }

    fn worker(&self, flags: &[&str]) -> Done {
        self.place.run(&[&["worker", "m.toml", "--threads", "1", "--json"], flags].concat())
    }
}

#[test]
fn a_worker_of_another_machine_joins_with_the_key_alone() {
    let waiting = Waiting::new();
    let expect = Place::with(MANIFEST).json(&["train", "m.toml", "--quiet"]);
    // Others come first, who may not: nothing becomes of that.
    let changed = waiting.worker(&["--key", "r.key", "--set", "train.lr=0.5"]);
    assert_eq!(changed.errors()[0]["code"], "workers.join");
    assert!(changed.stderr.contains("manifest"), "{}", changed.stderr);
    let key = waiting.place.read("r.key");
    let token = key.lines().find(|line| line.starts_with("token")).unwrap();
    waiting.place.write("wrong.key", key.replace(token, &format!("token = \"{}\"", "ab".repeat(32))));
    let wrong = waiting.worker(&["--key", "wrong.key"]);
    assert_eq!(wrong.errors()[0]["code"], "workers.join");
    let bare: String = key
        .lines()
        .filter(|line| line.starts_with("address") || line.starts_with("token"))
        .collect::<Vec<_>>()
        .join("\n");
    waiting.place.write("bare.key", bare + "\n");
    assert_eq!(
        waiting.worker(&["--key", "bare.key"]).errors()[0]["code"],
        "workers.join",
        "without certificates"
    );
    assert_eq!(waiting.worker(&["--key", "none.key"]).errors()[0]["code"], "workers.join");
    let garbage = std::net::TcpStream::connect(&waiting.address);
    std::io::Write::write_all(&mut garbage.unwrap(), &[0x47; 5000]).unwrap();
    let joined = waiting.worker(&["--join", &waiting.address, "--key", "r.key"]);
    assert_eq!(joined.object()["worker"], 1);
    assert!(joined.stderr.contains("joined as worker 1 of 2"), "{}", joined.stderr);
    let end = wait(waiting.first).object();
    assert_eq!(end["weights_sha256"], expect["weights_sha256"]);
    assert!(!waiting.place.path("r.key").exists(), "nobody can join any more");
}

#[test]
fn who_joins_a_run_that_has_ended_has_nothing_to_do() {
    let waiting = Waiting::new();
    let joined = waiting.worker(&["--key", "r.key"]);
    assert_eq!(joined.object()["worker"], 1);
    let Waiting { place, first, .. } = waiting;
    let end = wait(first).object();
    let again = Waiting::in_place(place, &[]);
    assert_eq!(again.worker(&["--key", "r.key"]).object()["worker"], 1);
    assert_eq!(wait(again.first).object(), end);
}

/// Processors differ. What one of them was told to take, or lacks, decides for all.
#[test]
fn workers_agree_on_their_kernels() {
    let path = "portable";
    let alone = Place::with(MANIFEST).json(&["train", "m.toml", "--quiet", "--kernel-path", path]);
    let waiting = Waiting::new();
    assert_eq!(waiting.worker(&["--key", "r.key", "--kernel-path", path]).object()["worker"], 1);
    let end = wait(waiting.first).object();
    assert_eq!(
        (&end["kernel_path"], &end["weights_sha256"]),
        (&alone["kernel_path"], &alone["weights_sha256"])
    );
    assert_eq!(end["kernel_path"], path);
    // Two that are told different things cannot.
    let usual = Place::with(MANIFEST).json(&["train", "m.toml", "--quiet", "--set", "train.steps=1"]);
    if usual["kernel_path"] != path {
        let told = usual["kernel_path"].as_str().unwrap();
        let waiting = Waiting::in_place(Place::with(MANIFEST), &["--kernel-path", told]);
        let refused = waiting.worker(&["--key", "r.key", "--kernel-path", path]);
        assert_eq!(refused.errors()[0]["code"], "workers.differ");
        assert!(refused.stderr.contains(path) && refused.stderr.contains(told), "{}", refused.stderr);
        assert_eq!(wait(waiting.first).errors()[0]["code"], "workers.differ");
    }
}

//! Whole runs (preparation, training, checkpoints, evaluation, package, report) on the simulated disk, which crashes at
//! every operation in turn: started again, as often as need be, they end with the same bytes as one that never crashed.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use outgrow::cli::{Cli, Command, RunArgs};
use outgrow::context::{Context, Failure, World};
use outgrow::places::{Environment, RunPlace};
use outgrow::session::Session;
use outgrow_env::{SimClock, SimStorage, StorageBackend};
use serde_json::Value as Json;

/// Columns that cleaning learns from, two layers with random numbers and running statistics of their own, and what
/// else has state: momentum, the best weights so far.
const MANIFEST: &str = r#"
[data]
source = "rows"
columns = ["a", "b", "y"]
label = "y"
task = "classify"
rows = [ROWS]
split = { validation = 0.2, test = 0.2 }
clean = [{ normalize = { columns = ["a"] } }, { filter = "b < 6" }]

[model]
layers = [{ dense = 6 }, { batch_norm = true }, { activation = "relu" }, { dropout = 0.2 }, { dense = 2 }]

[train]
steps = 9
batch = 8
micro_shards = 2
optimizer = "adam"
lr = 0.01
clip_norm = 1.0
eval_every_steps = 3
checkpoint_every_steps = 2
keep_checkpoints = 2
log_every_steps = 1
early_stopping = { patience = 5, restore_best = true }
"#;

const RUN: &str = "/run";
const CACHE: &str = "/cache";

struct Project {
    _folder: tempfile::TempDir,
    args: RunArgs,
}

impl Project {
    fn new() -> Self {
        Self::of_steps(9)
    }

    fn of_steps(steps: u64) -> Self {
        let rows: Vec<String> =
            (0..64).map(|i| format!("[{}, {}, {}]", i * 5 % 13, i % 7, i * 3 % 2)).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outgrow.toml");
        std::fs::write(
            &file,
            MANIFEST.replace("ROWS", &rows.join(", ")).replace("steps = 9", &format!("steps = {steps}")),
        )
        .unwrap();
        let command = ["outgrow".as_ref(), "run".as_ref(), file.as_os_str()];
        let flags = ["--threads", "1", "--cache", CACHE, "--out", RUN, "--quiet"].map(AsRef::as_ref);
        let Command::Run(args) = Cli::parse_from(command.into_iter().chain(flags)).command else {
            unreachable!("it says run")
        };
        Self { _folder: folder, args }
    }

    /// What a process does that is started on this disk. Time stands still, so that nothing that is written differs
    /// for that.
    fn start(&self, disk: &Arc<SimStorage>) -> Result<Json, Failure> {
        let output = Cli::parse_from(["outgrow", "--quiet", "schema"]).output;
        let world = World { storage: disk.clone(), clock: Arc::new(SimClock::new(0)) };
        let context = Context { world, ..Context::new(&output, Environment::default()) };
        let session = Session::open(&self.args.manifest, &self.args.processor, &context)?;
        session.run(&RunPlace { path: RUN.into(), is_given: true }, false, true, None)
    }
}

/// All files below a folder. What tells how much memory the process took is none of it, nor what says how far a
/// preparation came that a crash may undo the removal of.
fn files(disk: &SimStorage, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder).unwrap() {
            let path = folder.join(&entry.name);
            match entry.name.as_str() {
                _ if entry.is_folder => folders.push(path),
                "report.html" | "result.json" | "run.json" | "progress.json" => {}
                _ => drop(found.insert(path.clone(), disk.read(&path).unwrap())),
            }
        }
    }
    found
}

/// The result without what depends on the process that wrote it.
fn result(disk: &SimStorage) -> Json {
    let mut result: Json =
        serde_json::from_slice(&disk.read(&Path::new(RUN).join("result.json")).unwrap()).unwrap();
    result["peak_memory_bytes"].take();
    result
}

/// The names that differ, which say more than bytes do. A crash may undo the removal of a checkpoint that is too old to
/// be kept, so one that is older than all that are expected is no difference.
fn differing(expect: &BTreeMap<PathBuf, Vec<u8>>, found: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<PathBuf> {
    let is_checkpoint = |name: &Path| name.parent().is_some_and(|folder| folder.ends_with("checkpoints"));
    let oldest = expect.keys().find(|name| is_checkpoint(name));
    let more = found.keys().filter(|name| !expect.contains_key(*name));
    let more = more.filter(|name| !(is_checkpoint(name) && oldest.is_some_and(|oldest| *name < oldest)));
    let names = expect.keys().chain(more);
    names.filter(|name| expect.get(*name) != found.get(*name)).cloned().collect()
}

#[test]
fn a_crash_at_any_operation_changes_nothing_in_the_end() {
    let project = Project::new();
    let disk = Arc::new(SimStorage::new(0));
    project.start(&disk).unwrap();
    let operations = disk.disk().operations();
    let (expect, expect_result) = ([RUN, CACHE].map(|folder| files(&disk, folder)), result(&disk));
    let mut starts = 0;
    for at in 1..=operations {
        let disk = Arc::new(SimStorage::new(at));
        let mut next = at;
        // Every second disk crashes again, each time after fewer operations.
        while next > 0 {
            disk.disk().crash_at_operation(Some(next));
            starts += 1;
            let ended = project.start(&disk);
            assert_eq!(ended.is_err(), disk.disk().has_crashed(), "{ended:?}");
            disk.disk().restart();
            next = if at.is_multiple_of(2) { next / 2 } else { 0 };
        }
        starts += 1;
        project.start(&disk).unwrap_or_else(|e| panic!("after a crash at operation {at}: {e:?}"));
        for (expect, folder) in expect.iter().zip([RUN, CACHE]) {
            let differing = differing(expect, &files(&disk, folder));
            assert!(differing.is_empty(), "after a crash at operation {at}: {differing:?}");
        }
        assert_eq!(result(&disk), expect_result, "after a crash at operation {at}");
        assert!(disk.read(&Path::new(RUN).join("report.html")).unwrap().ends_with(b"</html>\n"));
    }
    println!("{operations} operations, {starts} processes");
}

/// A run that has ended, and crashes as it goes on to more steps, comes to what one run of so many steps does.
#[test]
fn a_crash_while_a_run_goes_on_to_another_length_changes_nothing() {
    let (project, short) = (Project::new(), Project::of_steps(6));
    let disk = Arc::new(SimStorage::new(0));
    project.start(&disk).unwrap();
    // A package that replaces one has other names for what differs; its index tells the right ones.
    let is_same = |name: &PathBuf| {
        let name = name.strip_prefix(RUN).unwrap().to_string_lossy().into_owned();
        !name.starts_with("model/manifest") && name != "model/package.json"
    };
    let kept = |disk: &SimStorage| {
        let mut files = files(disk, RUN);
        files.retain(|name, _| is_same(name));
        files
    };
    let (expect, expect_result) = (kept(&disk), result(&disk));
    let begun = |seed| {
        let disk = Arc::new(SimStorage::new(seed));
        short.start(&disk).unwrap();
        disk
    };
    let disk = begun(0);
    let before = disk.disk().operations();
    project.start(&disk).unwrap();
    let operations = disk.disk().operations() - before;
    assert!(operations > 20, "{operations}");
    for at in 1..=operations {
        let disk = begun(at);
        disk.disk().crash_at_operation(Some(at));
        let ended = project.start(&disk);
        assert_eq!(ended.is_err(), disk.disk().has_crashed(), "{ended:?}");
        disk.disk().restart();
        project.start(&disk).unwrap_or_else(|e| panic!("after a crash at operation {at}: {e:?}"));
        let differing = differing(&expect, &kept(&disk));
        assert!(differing.is_empty(), "after a crash at operation {at}: {differing:?}");
        assert_eq!(result(&disk), expect_result, "after a crash at operation {at}");
    }
}

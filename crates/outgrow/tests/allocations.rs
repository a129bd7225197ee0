//! What a step asks of the allocator on the thread that trains: nothing. Runs of two lengths differ by steps alone, so
//! what the longer one asks for more is what steps ask for.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use clap::Parser;
use outgrow::cli::{Cli, Command};
use outgrow::context::{Context, World};
use outgrow::places::{Environment, RunPlace};
use outgrow::session::Session;
use outgrow_env::{SimClock, SimStorage};

const MANIFEST: &str = r#"
[data]
source = "synthetic:glyphs"
samples = 12_000
split = { validation = 0.0, test = 0.0 }

[model]
layers = [
    { conv = 4, kernel = 3 }, { batch_norm = true }, { activation = "relu" }, { flatten = true }, { dropout = 0.2 },
    { dense = 10 },
]

[train]
batch = 8
micro_shards = 4
optimizer = "OPTIMIZER"
lr = 0.01
clip_norm = 1.0
log_every_steps = 1_000_000
steps = STEPS
"#;

/// How often the training thread asks for memory in a run of so many steps, all in the first epoch.
fn asked(optimizer: &str, steps: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outgrow.toml");
    let text = MANIFEST.replace("OPTIMIZER", optimizer).replace("STEPS", &steps.to_string());
    std::fs::write(&file, text).unwrap();
    let command = ["outgrow".as_ref(), "train".as_ref(), file.as_os_str()];
    let flags = ["--threads", "2", "--cache", "/cache", "--out", "/run", "--quiet"].map(AsRef::as_ref);
    let Command::Train(args) = Cli::parse_from(command.into_iter().chain(flags)).command else {
        unreachable!("it says train")
    };
    let output = Cli::parse_from(["outgrow", "--quiet", "schema"]).output;
    let world = World { storage: Arc::new(SimStorage::new(0)), clock: Arc::new(SimClock::new(0)) };
    let context = Context { world, ..Context::new(&output, Environment::default()) };
    let session = Session::open(&args.manifest, &args.processor, &context).unwrap();
    let asked = allocation_counter::measure(|| {
        let result =
            session.run(&RunPlace { path: "/run".into(), is_given: true }, false, false, None).unwrap();
        assert_eq!(result["steps"], steps);
    });
    asked.count_total
}

#[test]
fn a_step_asks_for_no_memory() {
    for optimizer in ["adam", "lamb"] {
        let (short, long) = (asked(optimizer, 200), asked(optimizer, 1_000));
        println!("{optimizer}: {short} allocations in 200 steps, {long} in 1,000");
        // Tables of random hashes ask for a little more or less from run to run; a step that asks does so 800 times.
        assert!(long.abs_diff(short) < 20, "{optimizer}: {short} and {long}");
    }
}

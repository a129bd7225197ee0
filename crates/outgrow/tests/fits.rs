//! Models that do not fit into the memory there is: refused before anything is asked for, with what would fit. The
//! shell's limit on addresses stands for a small machine, so that the tests mean the same on a large one.
#![cfg(target_os = "linux")]

mod common;

use std::process::Command;
use std::str::FromStr;

use common::{Done, Essence, Place};

const CONVOLUTIONS: &str = "[data]\nsource = \"synthetic:glyphs\"\nsamples = 2000\n[model]\nlayers = [LAYERS\n\
    { flatten = true }, { dense = 10 }]\n[train]\nsteps = 1\nbatch = 1900\noptimizer = \"sgd\"\n";

/// A manifest with so many convolutions, each of which keeps 16 values for each pixel.
fn convolutions(count: usize) -> String {
    let layer = "\n{ conv = 16, kernel = 1, activation = \"relu\" },";
    CONVOLUTIONS.replace("LAYERS", &layer.repeat(count))
}

/// Runs the binary with at most `kib` KiB of addresses.
fn limited(place: &Place, kib: usize, args: &str) -> Done {
    let binary = env!("CARGO_BIN_EXE_outgrow");
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {kib} && exec {binary} {args} --threads 2")])
        .current_dir(place.path(""))
        .env("XDG_CACHE_HOME", place.path("cache"))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// What stands behind `<key> = ` in the hint.
fn hinted<T: FromStr>(done: &Done, key: &str) -> Option<T> {
    let rest = done.stderr.split_once(&format!("`{key} = "))?.1;
    rest.split('`').next()?.parse().ok()
}

#[test]
fn a_run_that_does_not_fit_is_told_what_would() {
    let place = Place::with(&convolutions(12));
    // What prepares it would take some of the memory.
    place.json(&["data", "prepare", "m.toml"]);
    let limit = 1_500_000;
    let refused = limited(&place, limit, "train m.toml");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("[run.memory]"), "{refused:?}");
    let parts = hinted::<usize>(&refused, "train.micro_shards").unwrap();
    let fits = limited(&place, limit, &format!("train m.toml --set train.micro_shards={parts} --out parts"));
    assert_eq!(fits.code, 0, "{fits:?}");
    // The same batch, with values computed again.
    let gib = hinted::<f64>(&refused, "limits.memory_gib_max").unwrap();
    let fits = limited(&place, limit, &format!("train m.toml --set limits.memory_gib_max={gib} --out again"));
    assert_eq!(fits.code, 0, "{fits:?}");
    // A batch that cannot be cut in two.
    let odd = limited(&place, limit, "train m.toml --set train.batch=1899 --out odd");
    assert_eq!(odd.code, 1, "{odd:?}");
    let batch = hinted::<usize>(&odd, "train.batch").unwrap();
    assert!((100..1899).contains(&batch), "{odd:?}");
    let fits = limited(&place, limit, &format!("train m.toml --set train.batch={batch} --out fits"));
    assert_eq!(fits.code, 0, "{fits:?}");
    // The same model is too large to be evaluated in such batches.
    let eval = limited(&place, limit, "eval m.toml --out fits");
    assert!(eval.code == 1 && eval.stderr.contains("[run.memory]"), "{eval:?}");
}

#[test]
fn a_model_that_does_not_fit_is_refused() {
    let place = Place::with(&convolutions(100).replace("conv = 16", "conv = 64"));
    let model = "--set 'model={ name = \"mlp\", hidden = [20000000] }' --set train.batch=32";
    for args in ["train m.toml".into(), format!("train m.toml {model}")] {
        let refused = limited(&place, 8_000_000, &args);
        assert!(refused.code == 1 && refused.stderr.contains("[run.memory]"), "{args}: {refused:?}");
    }
}

/// Convolutions with normalisation, pooling, dropout and shortcuts between them, and a transformer on text.
const IMAGES: &str = r#"
[data]
source = "synthetic:glyphs"
samples = 200
test = { samples = 40 }
[model]
name = "resnet18"
stem = "small"
[train]
steps = 3
batch = 16
micro_shards = 2
optimizer = "adam"
"#;
const TEXT: &str = r#"
[data]
source = "text"
files = "t.txt"
context = 32
[model]
name = "gpt"
layers = 6
width = 64
dropout = 0.1
[train]
steps = 3
batch = 16
micro_shards = 2
optimizer = "lamb"
clip_norm = 1.0
clip_value = 1.0
"#;

/// What a run came to, but for how its memory was planned.
fn result(place: &Place, out: &str) -> Essence {
    let mut essence = common::essence(place, out);
    let planned = [
        "planned_memory_bytes",
        "naive_memory_bytes",
        "workers",
        "transport",
        "all_reduce_seconds",
        "overlap",
        "links",
    ];
    planned.iter().for_each(|key| drop(essence.result.as_object_mut().unwrap().remove(*key)));
    essence
}

/// A limit below what a run would take makes it compute values again, and gives the same bits; one that cannot be kept is
/// refused where it was written.
#[test]
fn limits_are_kept_with_the_same_bits() {
    for manifest in [IMAGES, TEXT] {
        let place = Place::with(manifest);
        place.write("t.txt", "All that is written is read again, and again.\n".repeat(400));
        let run = |out: &str, more: &[&str]| {
            let args = [&["run", "m.toml", "--out", out, "--verbose", "--threads", "2"], more].concat();
            let done = place.run(&args);
            assert_eq!(done.code, 0, "{done:?}");
            let json: serde_json::Value =
                serde_json::from_str(&place.read(&format!("{out}/result.json"))).unwrap();
            json["planned_memory_bytes"].as_u64().unwrap()
        };
        let free = run("free", &[]);
        let mut last = free;
        // The rest of what training takes is more than a step's values here, and the same each time.
        let needed = place.run(&["run", "m.toml", "--set", "limits.memory_gib_max=0.000001"]);
        assert_eq!(needed.code, 1, "{needed:?}");
        assert!(needed.stderr.contains("`limits.memory_gib_max` allows"), "{needed:?}");
        let least = needed
            .stderr
            .split_once("needs at least ")
            .unwrap()
            .1
            .split_once(" of memory")
            .unwrap()
            .0
            .to_owned();
        let (number, unit) = least.split_once(' ').unwrap();
        let scale = match unit {
            "KiB" => 1024f64.powi(-2),
            "MiB" => 1.0 / 1024.0,
            other => panic!("{other}"),
        };
        let least = number.parse::<f64>().unwrap() * scale;
        for part in [0.5, 0.05] {
            // Between the least that it can do with and what it takes.
            let gib = least + part * free as f64 / f64::from(1 << 30);
            let limit = format!("limits.memory_gib_max={gib:.6}");
            let out = format!("within {part}");
            let planned = run(&out, &["--set", &limit]);
            assert!(planned < last, "{planned} bytes within {gib} GiB, {last} before");
            assert_eq!(result(&place, &out), result(&place, "free"), "{part}");
            last = planned;
        }
        let limit = format!("limits.memory_gib_max={:.6}", least + 0.3 * free as f64 / f64::from(1 << 30));
        run("shared", &["--set", &limit, "--workers", "2", "--transport", "threads"]);
        assert_eq!(result(&place, "shared"), result(&place, "free"));
    }
}

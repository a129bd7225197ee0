//! Models that do not fit into the memory there is: refused before anything is asked for, with what would fit. The
//! shell's limit on addresses stands for a small machine, so that the tests mean the same on a large one.
#![cfg(target_os = "linux")]

mod common;

use std::process::Command;

use common::{Done, Place};

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

/// What stands behind `train.<key> = ` in the hint.
fn hinted(done: &Done, key: &str) -> Option<usize> {
    let rest = done.stderr.split_once(&format!("`train.{key} = "))?.1;
    rest.split('`').next()?.parse().ok()
}

#[test]
fn a_run_that_does_not_fit_is_told_what_would() {
    let place = Place::with(&convolutions(12));
    let limit = 1_500_000;
    let refused = limited(&place, limit, "train m.toml");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("[run.memory]"), "{refused:?}");
    let parts = hinted(&refused, "micro_shards").unwrap();
    let fits = limited(&place, limit, &format!("train m.toml --set train.micro_shards={parts} --out parts"));
    assert_eq!(fits.code, 0, "{fits:?}");
    // A batch that cannot be cut in two.
    let odd = limited(&place, limit, "train m.toml --set train.batch=1899 --out odd");
    assert_eq!(odd.code, 1, "{odd:?}");
    let batch = hinted(&odd, "batch").unwrap();
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

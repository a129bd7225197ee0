//! Small runs of the binary against the same steps worked out here in f64: weights of samples, short batches, clipping,
//! and when training stops.

mod common;

use common::{Place, weights};

const POINTS: [(f64, f64); 6] = [(1.0, 3.0), (2.0, -1.0), (0.5, 0.25), (-1.5, 2.0), (3.0, 1.0), (-2.0, 4.0)];
const LR: f64 = 0.05;

/// Linear regression on the six points, in order, from zero weights.
fn place() -> Place {
    let rows: Vec<String> = POINTS.iter().map(|(x, y)| format!("[{x}, {y}]")).collect();
    Place::with(&format!(
        "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\ntarget_scaling = false\nrows = [{}]\n\
        [model]\nname = \"linear\"\ninit = \"zeros\"\n\
        [train]\nepochs = 2\nbatch = 4\nshuffle = false\noptimizer = \"sgd\"\nlr = {LR}\n",
        rows.join(", ")
    ))
}

/// Two epochs of gradient descent on the mean squared error, with what `clip` makes of each gradient. Gives the
/// samples seen, the bias and the weight.
fn by_hand(drop_last: bool, clip: impl Fn([f64; 2]) -> [f64; 2]) -> (usize, [f64; 2]) {
    let (mut seen, mut w, mut b) = (0, 0.0, 0.0);
    for _ in 0..2 {
        for batch in POINTS.chunks(4).filter(|batch| batch.len() == 4 || !drop_last) {
            let n = batch.len() as f64;
            let error = |(x, y): &(f64, f64)| w * x + b - y;
            let of_w = batch.iter().map(|p| 2.0 * p.0 * error(p) / n).sum();
            let of_b = batch.iter().map(|p| 2.0 * error(p) / n).sum();
            let [of_b, of_w] = clip([of_b, of_w]);
            (w, b, seen) = (w - LR * of_w, b - LR * of_b, seen + batch.len());
        }
    }
    (seen, [b, w])
}

/// Checks a run with these keys changed, in one part and in several.
fn check(place: &Place, sets: &[&str], (seen, expect): (usize, [f64; 2])) {
    for parts in [1, 2, 4] {
        let parts = format!("train.micro_shards={parts}");
        let flags: Vec<&str> = sets.iter().chain([&parts.as_str()]).flat_map(|set| ["--set", set]).collect();
        let result = place.json(&[&["run", "m.toml", "--out", "r", "--fresh"][..], &flags].concat());
        assert_eq!(result["samples"], seen, "{flags:?}");
        let found = weights(&place.path("r"));
        assert_eq!(found.len(), expect.len());
        // By name: the bias comes first.
        for (found, expect) in found.iter().zip(expect) {
            assert!((found - expect).abs() < 1e-6, "{flags:?}: {found} in place of {expect}");
        }
    }
}

#[test]
fn padding_counts_for_nothing() {
    let place = place();
    let as_it_is = |gradient| gradient;
    assert_ne!(by_hand(false, as_it_is), by_hand(true, as_it_is));
    check(&place, &[], by_hand(false, as_it_is));
    check(&place, &["train.drop_last=true"], by_hand(true, as_it_is));
}

#[test]
fn gradients_are_clipped_by_value_then_by_norm() {
    let place = place();
    let value = |limit: f64| move |gradient: [f64; 2]| gradient.map(|g| g.clamp(-limit, limit));
    let norm = |largest: f64| {
        move |gradient: [f64; 2]| {
            let norm = gradient[0].hypot(gradient[1]);
            if norm > largest { gradient.map(|g| g * largest / norm) } else { gradient }
        }
    };
    let both = |gradient| norm(1.5)(value(1.25)(gradient));
    check(&place, &["train.clip_value=1.25"], by_hand(false, value(1.25)));
    check(&place, &["train.clip_norm=1.5"], by_hand(false, norm(1.5)));
    check(&place, &["train.clip_norm=1.5", "train.clip_value=1.25"], by_hand(false, both));
}

/// Whatever the loss does, no value is better than the first by a million: with a patience of three, training stops
/// after the fourth evaluation, and the weights of the first are the result.
#[test]
fn early_stopping_gives_the_best_weights() {
    let place = Place::with(
        "[data]\nsource = \"synthetic:glyphs\"\nsamples = 100\nsplit = { validation = 0.2 }\n\
        [model]\nname = \"mlp\"\nhidden = [8]\n[train]\nsteps = 100\nbatch = 16\neval_every_steps = 2\n",
    );
    let stop = |restore: bool| {
        format!("train.early_stopping={{ patience = 3, min_delta = 1e6, restore_best = {restore} }}")
    };
    for (restore, steps) in [(true, "2"), (false, "8")] {
        let out = format!("stopped-{restore}");
        let args = ["run", "m.toml", "--out", &out, "--set", &stop(restore)];
        let stopped = place.json(&args);
        assert_eq!((stopped["steps"].as_u64(), stopped["stopped_early"].as_bool()), (Some(8), Some(true)));
        let set = format!("train.steps={steps}");
        let short = place.json(&["run", "m.toml", "--out", &format!("short-{restore}"), "--set", &set]);
        assert_eq!(stopped["weights_sha256"], short["weights_sha256"], "{restore}");
        assert_eq!(stopped["validation"], short["validation"], "{restore}");
        // Killed before its result was written down, it does not train on.
        std::fs::remove_file(place.path(&out).join("result.json")).unwrap();
        let again = place.json(&args);
        for key in ["steps", "stopped_early", "weights_sha256", "train_seconds", "validation"] {
            assert_eq!(again[key], stopped[key], "{key}");
        }
    }
}

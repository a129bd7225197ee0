//! Classes of unequal size, and images that are changed at random: what the manifest's keys do to a run.

mod common;

use common::Place;
use serde_json::Value as Json;

/// Two classes that overlap, one of them rare: a model that minimises the plain loss calls (almost) nothing rare.
fn table() -> String {
    let mut csv = "x,kind\n".to_owned();
    for i in 0..3000u32 {
        // Spread evenly over 0 to 1 by the golden ratio.
        let u = (f64::from(i) * 0.618_033_988_749_895).fract();
        let rare = i % 12 == 0;
        csv.push_str(&format!(
            "{:.4},{}\n",
            if rare { u + 0.25 } else { u },
            if rare { "rare" } else { "usual" }
        ));
    }
    csv
}

const MANIFEST: &str = r#"
seed = 5
[data]
source = "csv"
files = "t.csv"
label = "kind"
split = { validation = 0, test = 0.3 }
[model]
layers = [{ dense = 2 }]
[train]
epochs = 20
batch = 50
lr = 0.05
"#;

/// Recall of the rare class and of the usual one.
fn recalls(result: &Json) -> [f64; 2] {
    ["rare", "usual"].map(|name| result["test_classes"][name]["recall"].as_f64().unwrap())
}

#[test]
fn rare_classes_count_when_they_are_balanced() {
    let place = Place::with(MANIFEST);
    place.write("t.csv", table());
    let run = |out: &str, set: &[&str]| {
        let flags: Vec<&str> = set.iter().flat_map(|s| ["--set", *s]).collect();
        recalls(&place.json(&[&["run", "m.toml", "--out", out], &flags[..]].concat()))
    };
    let [rare, usual] = run("plain", &[]);
    assert!(rare < 0.35 && usual > 0.9, "plain: {rare} and {usual}");
    for (out, set) in [
        ("weights", "train.class_weights=\"balanced\""),
        ("named", "train.class_weights={ rare = 11.0 }"),
        ("sampling", "train.sampling=\"balanced\""),
    ] {
        let [rare, usual] = run(out, &[set]);
        assert!(rare > 0.5 && usual > 0.5, "{out}: {rare} and {usual}");
    }
}

#[test]
fn what_cannot_be_balanced_or_changed_is_refused() {
    let place = Place::with(MANIFEST);
    place.write("t.csv", table());
    let check = |set: &str, item: &str, word: &str| {
        let errors = place.refused(&["run", "m.toml", "--out", "r", "--set", set]);
        assert!(errors[0]["item"].as_str().is_some_and(|i| i.starts_with(item)), "{errors:?}");
        assert!(errors[0].to_string().contains(word), "{errors:?}");
    };
    check("train.class_weights={ rear = 11.0 }", "train.class_weights.rear", "rare, usual");
    check("train.class_weights={ rare = 0.0 }", "train.class_weights.rare", "greater than 0");
    check("data.augment.flip=\"horizontal\"", "data.augment", "no images");
    assert!(!place.path("r/run.json").exists(), "nothing was begun");
}

#[test]
fn augmentation_leaves_the_prepared_data_as_it_is() {
    let manifest = "[data]\nsource = \"synthetic:glyphs\"\nsamples = 120\ntest = { samples = 40 }\n\
        [model]\nlayers = [{ flatten = true }, { dense = 10 }]\n[train]\nsteps = 6\nbatch = 30\n";
    let place = Place::with(manifest);
    let plain = place.json(&["run", "m.toml", "--out", "plain"]);
    let augment = "data.augment={ flip = \"horizontal\", mixup = 0.2 }";
    let changed = place.json(&["run", "m.toml", "--out", "changed", "--set", augment]);
    assert_ne!(plain["weights_sha256"], changed["weights_sha256"]);
    let data = |flags: &[&str]| place.json(&[&["data", "prepare", "m.toml"], flags].concat());
    let (one, other) = (data(&[]), data(&["--set", augment]));
    assert_eq!((&one["fingerprint"], &other["reused"]), (&other["fingerprint"], &true.into()));
    // Another augmentation is another run.
    let errors = place.refused(&["run", "m.toml", "--out", "plain", "--set", augment]);
    assert_eq!(errors[0]["code"], "run.changed");
}

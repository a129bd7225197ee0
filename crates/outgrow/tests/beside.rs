//! What stands beside training: manifests that extend others, templates that are listed, completion in shells, the best epoch
//! and the curves of a classifier.

mod common;

use std::fmt::Write as _;

use common::{Dice, Place};

const DATA: &str = "[data]\nsource = \"csv\"\nfiles = \"d.csv\"\nlabel = \"kind\"\n\
    split = { validation = 0.2, test = 0.3 }\nnormalize = \"standard\"\n";
const REST: &str = "[model]\nname = \"mlp\"\nhidden = [8]\n[train]\nepochs = 6\nbatch = 16\nlr = 0.03\n";

/// Rows of two classes that overlap.
fn table(kinds: &[&str]) -> String {
    let mut dice = Dice(9);
    let mut text = "a,b,kind\n".to_owned();
    for row in 0..200 {
        let class = row % kinds.len();
        let a = dice.fraction() + class as f64 * 0.3;
        writeln!(text, "{a},{},{}", dice.fraction(), kinds[class]).unwrap();
    }
    text
}

#[test]
fn a_manifest_takes_from_another_what_it_does_not_say() {
    let place = Place::new();
    place.write("d.csv", table(&["no", "yes"]));
    place.write("whole.toml", format!("name = \"x\"\n{DATA}{REST}").replace("lr = 0.03", "lr = 0.01"));
    place.write("shared/data.toml", DATA);
    place.write("shared/base.toml", format!("extends = \"data.toml\"\nname = \"x\"\n{REST}"));
    place.write("m.toml", "extends = \"shared/base.toml\"\n[train]\nlr = 0.01\n");
    let whole = place.json(&["run", "whole.toml", "--out", "a"]);
    let own = place.json(&["run", "m.toml", "--out", "b"]);
    assert_eq!(own["weights_sha256"], whole["weights_sha256"]);
    assert_eq!(place.read("a/manifest.toml"), place.read("b/manifest.toml"));
    // The report shows all there is, from whichever file.
    let page = place.read("b/report.html");
    assert!(["hidden = [8]", "lr = 0.01"].iter().all(|line| page.contains(line)), "{page}");
    // What is wrong is shown where it is.
    let refused = |text: &str, base: &str| {
        place.write("shared/base.toml", base);
        place.write("m.toml", text);
        place.refused(&["run", "m.toml", "--out", "c"])[0].clone()
    };
    let extends = "extends = \"shared/base.toml\"\n";
    let found = refused(extends, &format!("{DATA}{}", REST.replace("hidden", "hiden")));
    assert!(found["file"].as_str().is_some_and(|file| file.ends_with("base.toml")), "{found}");
    assert_eq!((&found["line"], &found["item"]), (&9.into(), &"model.hiden".into()));
    let found = refused(&format!("{extends}[train]\nlr = \"fast\"\n"), &format!("{DATA}{REST}"));
    assert_eq!((found["file"].as_str(), &found["line"]), (Some("m.toml"), &3.into()));
    let found = refused(extends, "name = \n");
    assert_eq!((found["code"].as_str(), &found["line"]), (Some("manifest.syntax"), &1.into()));
    assert!(found["file"].as_str().is_some_and(|file| file.ends_with("base.toml")), "{found}");
    let found = refused("extends = \"gone.toml\"\n", "");
    assert_eq!(found["item"], "extends of m.toml");
    let found = refused(extends, "extends = \"../m.toml\"\n");
    assert_eq!(found["code"], "manifest.extends");
}

#[test]
fn the_best_epoch_is_named_everywhere() {
    let place = Place::new();
    place.write("d.csv", table(&["no", "yes"]));
    let stopping = "early_stopping = { metric = \"accuracy\", patience = 9 }\n";
    place.write("m.toml", format!("{DATA}{REST}{stopping}"));
    let shown = place.run(&["run", "m.toml", "--out", "runs/m"]);
    let result: serde_json::Value = serde_json::from_str(&place.read("runs/m/result.json")).unwrap();
    let best = &result["best"];
    let lines = place.read("runs/m/metrics.jsonl");
    let values = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let validation = values.filter(|line| line["split"] == "validation");
    let accuracies: Vec<(f64, u64)> = validation
        .map(|line| (line["accuracy"].as_f64().unwrap(), line["epoch"].as_u64().unwrap()))
        .collect();
    let largest = accuracies.iter().map(|(accuracy, _)| *accuracy).fold(0.0, f64::max);
    let first = accuracies.iter().find(|(accuracy, _)| *accuracy == largest).unwrap();
    assert_eq!((best["value"].as_f64(), best["epoch"].as_u64()), (Some(first.0), Some(first.1)));
    assert_eq!((&best["metric"], &best["kept"]), (&"accuracy".into(), &true.into()));
    // The weights are those of that time.
    assert_eq!(result["validation"]["accuracy"], best["value"]);
    let said = format!("best        epoch {} (step ", first.1 + 1);
    assert!(
        shown.stdout.contains(&said) && shown.stdout.contains("whose weights are kept"),
        "{}",
        shown.stdout
    );
    assert!(place.read("runs/m/report.html").contains("whose weights are kept"));
    assert_eq!(&place.json(&["eval", "runs/m"])["best"], best);
    let runs = place.json(&["runs"]);
    assert_eq!(runs["runs"][0]["best"]["epoch"], best["epoch"]);
    // Without early stopping, the last weights are the model's.
    place.write("m.toml", format!("{DATA}{REST}"));
    let result = place.json(&["run", "m.toml", "--out", "runs/n"]);
    assert_eq!((&result["best"]["metric"], &result["best"]["kept"]), (&"loss".into(), &false.into()));
}

#[test]
fn classifiers_are_ranked() {
    let place = Place::new();
    place.write("m.toml", format!("{DATA}{REST}"));
    for kinds in [&["no", "yes"][..], &["u", "v", "w"]] {
        place.write("d.csv", table(kinds));
        let result = place.json(&["run", "m.toml", "--out", "r", "--fresh", "--set", "train.micro_shards=2"]);
        for kind in kinds {
            let class = &result["test_classes"][*kind];
            let area = |name: &str| class[name].as_f64().filter(|area| (0.0..=1.0).contains(area));
            assert!(area("auc").is_some() && area("average_precision").is_some(), "{class}");
        }
        if let [_, second] = kinds {
            let (auc, own) = (&result["test"]["auc"], &result["test_classes"][*second]["auc"]);
            assert_eq!(auc, own);
        }
        let page = place.read("r/report.html");
        assert!(page.contains("ROC (test)") && page.contains("Precision and recall (test)"));
        // Workers put together what they have seen.
        let args =
            ["run", "m.toml", "--out", "s", "--fresh", "--set", "train.micro_shards=2", "--workers", "2"];
        assert_eq!(place.json(&args)["test_classes"], result["test_classes"]);
    }
}

#[test]
fn augmented_samples_are_shown() {
    let place = Place::with(
        "[data]\nsource = \"synthetic:glyphs\"\nsamples = 40\naugment = { crop = { padding = 3 }, cutout = 9 }\n\
         [model]\nname = \"linear\"\n[train]\nepochs = 1\nbatch = 20\n",
    );
    place.json(&["run", "m.toml", "--out", "r"]);
    let page = place.read("r/report.html");
    assert!(page.contains("Training samples as augmented"));
    assert_eq!(page.matches("an augmented training sample").count(), 20);
    let found = &place.refused(&["run", "m.toml", "--out", "s", "--set", "data.augment.cutout=0"])[0];
    assert_eq!(
        (found["code"].as_str(), found["item"].as_str()),
        (Some("data.augment"), Some("data.augment.cutout (--set data.augment.cutout=0)"))
    );
}

#[test]
fn templates_are_listed_and_shells_complete() {
    let place = Place::new();
    let list = place.json(&["init", "--list"]);
    let names: Vec<&str> =
        list["templates"].as_array().unwrap().iter().map(|t| t["template"].as_str().unwrap()).collect();
    assert!(
        ["csv", "parquet"].iter().all(|name| names.contains(name)) && names.contains(&"glyphs"),
        "{names:?}"
    );
    assert!(!place.path("outgrow.toml").exists());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = place.run(&["completions", shell]);
        assert!(
            done.code == 0 && done.stdout.contains("folds") && done.stdout.contains("tune-lr"),
            "{shell}"
        );
    }
    // The script is one that a shell takes.
    place.write("complete.sh", place.run(&["completions", "bash"]).stdout);
    let checked = std::process::Command::new("bash").arg("-n").arg(place.path("complete.sh")).status();
    assert!(checked.is_ok_and(|status| status.success()));
}

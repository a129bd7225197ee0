//! `train.loss`: what is minimised is what the metrics tell, beside what is to be beaten by the same loss.

mod common;

use common::Place;
use serde_json::Value as Json;

const NUMBERS: &str = "[data]\nsource = \"csv\"\nfiles = \"t.csv\"\nlabel = \"y\"\nnormalize = \"standard\"\n\
    split = { validation = 0.2, test = 0.2 }\n[model]\nname = \"linear\"\n[train]\nepochs = 60\nbatch = 16\nlr = 0.02\n";
const CLASSES: &str = "[data]\nsource = \"synthetic:glyphs\"\nsamples = 300\ntest = { samples = 60 }\n\
    split = { validation = 0.2 }\n[model]\nname = \"mlp\"\nhidden = [16]\n[train]\nepochs = 3\nbatch = 20\n";

/// `y = 3 x + 1`, but of every tenth row, which is far above.
fn outliers() -> Place {
    let place = Place::with(NUMBERS);
    let row = |i: u32| {
        let x = f64::from(i * 37 % 101) / 10.0;
        format!("{x},{}\n", 3.0 * x + 1.0 + if i % 10 == 3 { 200.0 } else { 0.0 })
    };
    place.write("t.csv", format!("x,y\n{}", (0..300).map(row).collect::<String>()));
    place
}

fn number(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| panic!("{json}"))
}

fn near(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-5 * expected.abs(), "{what}: {got}, expected {expected}");
}

#[test]
fn losses_of_numbers_are_told_in_the_units_they_have() {
    let place = outliers();
    let run = |out: &str, sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        place.json(&[&["run", "m.toml", "--out", out][..], &sets].concat())
    };
    let plain = "data.target_scaling=false";
    let mse = run("mse", &[]);
    assert_eq!(mse["loss"]["name"], "mse");
    let mae = run("mae", &["train.loss=\"mae\""]);
    let own = run("own", &["train.loss=\"mae\"", plain]);
    let wide = run("wide", &["train.loss={ name = \"huber\", delta = 1e6 }", plain]);
    let narrow = run("narrow", &["train.loss={ name = \"huber\", delta = 1e-3 }", plain]);
    assert_eq!(narrow["loss"], serde_json::json!({ "name": "huber", "delta": 1e-3 }));
    // In standard deviations of the training data, the same on all parts of it.
    let deviation = number(&mae["train"]["mae"]) / number(&mae["train"]["loss"]);
    assert!(deviation > 40.0, "{deviation}");
    for of in [&mae["test"], &mae["validation"], &mae["baseline"]["test"], &mae["baseline"]["train"]] {
        near(number(&of["mae"]) / number(&of["loss"]), deviation, "a deviation");
    }
    for of in [&own["test"], &own["baseline"]["test"]] {
        near(number(&of["loss"]), number(&of["mae"]), "mae");
    }
    for of in [&wide["test"], &wide["baseline"]["test"]] {
        near(number(&of["loss"]), number(&of["rmse"]).powi(2) / 2.0, "huber of a large delta");
    }
    for of in [&narrow["test"], &narrow["baseline"]["test"]] {
        near(number(&of["loss"]), 1e-3 * (number(&of["mae"]) - 5e-4), "huber of a small delta");
    }
    // The same data has the same baseline but for its loss.
    for key in ["rmse", "mae", "r2"] {
        assert_eq!(mae["baseline"]["test"][key], mse["baseline"]["test"][key]);
    }
    // What is minimised is what it is good at: few wild rows move the line of the mean, and not that of the median.
    let off = |run: &str| {
        let answer = place.json(&["predict", run, "t.csv"]);
        let one = number(&answer["predictions"][0]["values"]["y"]);
        (one - 1.0).abs()
    };
    assert!(off("mae") < 3.0 && off("mse") > 10.0, "{} {}", off("mae"), off("mse"));
    let text = place.run(&[
        "run",
        "m.toml",
        "--out",
        "narrow",
        "--set",
        "train.loss={ name = \"huber\", delta = 1e-3 }",
        "--set",
        plain,
    ]);
    assert!(text.stdout.contains("loss        huber with delta 0.001"), "{}", text.stdout);
}

#[test]
fn the_focal_loss_leaves_the_log_loss_what_it_is() {
    let place = Place::with(CLASSES);
    let run = |out: &str, loss: &str| {
        place.json(&["run", "m.toml", "--out", out, "--set", &format!("train.loss={loss}")])
    };
    let (auto, zero) = (run("auto", "\"auto\""), run("zero", "{ name = \"focal\", gamma = 0 }"));
    assert_eq!(auto["loss"]["name"], "cross-entropy");
    for of in [&zero["test"], &auto["test"], &zero["baseline"]["test"]] {
        near(number(&of["loss"]), number(&of["log_loss"]), "gamma 0");
    }
    let focal = run("focal", "\"focal\"");
    assert_eq!(focal["loss"], serde_json::json!({ "name": "focal", "gamma": 2.0 }));
    for of in [&focal["test"], &focal["train"], &focal["baseline"]["test"]] {
        assert!(number(&of["loss"]) < number(&of["log_loss"]), "{of}");
    }
    assert_eq!(focal["baseline"]["test"]["log_loss"], auto["baseline"]["test"]["log_loss"]);
    // What is kept says the same again, and evaluates to it.
    let evaluated = place.json(&["eval", "focal"]);
    assert_eq!((&evaluated["loss"], &evaluated["test"]), (&focal["loss"], &focal["test"]));
    for (sets, code, item) in [
        (&["train.loss=\"huber\""][..], "train.loss", "train.loss"),
        (&["train.loss=\"focal\"", "train.label_smoothing=0.1"], "model.focal", "train.loss"),
        (&["train.loss=\"focal\"", "data.augment={ mixup = 0.2 }"], "model.focal", "train.loss"),
    ] {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let errors = place.refused(&[&["run", "m.toml", "--out", "x"][..], &sets].concat());
        assert_eq!(errors[0]["code"], code, "{errors:?}");
        assert!(errors[0]["item"].as_str().unwrap().starts_with(item), "{errors:?}");
    }
    for wrong in ["{ name = \"huber\", delta = 0 }", "{ name = \"focal\", gama = 1 }", "\"hubr\""] {
        let errors = place.refused(&["run", "m.toml", "--out", "x", "--set", &format!("train.loss={wrong}")]);
        assert!(errors[0]["code"].as_str().unwrap().starts_with("manifest."), "{wrong}: {errors:?}");
    }
}

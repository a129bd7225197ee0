//! Quantities that are predicted: in their own units wherever they are seen, beside what is to be beaten, by name where
//! there are several; and what a run says that it took its data for.

mod common;

use common::Place;
use serde_json::Value as Json;

/// `long = 5000 + 300 a` and `short = 0.02 b - 1`, of rows that no order of magnitude suits at once.
fn table() -> String {
    let mut text = String::from("a,b,long,short\n");
    for i in 0..200u32 {
        let (a, b) = (f64::from(i * 37 % 101) / 10.0, f64::from(i * 53 % 97) / 10.0);
        text.push_str(&format!("{a},{b},{},{}\n", 5000.0 + 300.0 * a, 0.02 * b - 1.0));
    }
    text
}

fn manifest(label: &str) -> String {
    format!(
        "[data]\nsource = \"csv\"\nfiles = \"t.csv\"\nlabel = {label}\nfeatures = [\"a\", \"b\"]\nnormalize = \"standard\"\n\
         split = {{ validation = 0.2, test = 0.2 }}\n[model]\nname = \"linear\"\n[train]\nepochs = 40\nbatch = 8\nlr = 0.01\n"
    )
}

/// The predictions of a run for the table, of the target of this name.
fn predicted(place: &Place, name: &str) -> Vec<f64> {
    let answer = place.json(&["predict", "r", "t.csv"]);
    let values = |one: &Json| one["values"][name].as_f64().unwrap_or_else(|| panic!("{one}"));
    answer["predictions"].as_array().unwrap().iter().map(values).collect()
}

fn number(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| panic!("{json}"))
}

#[test]
fn quantities_are_scaled_within_the_model_and_come_out_in_their_own_units() {
    let place = Place::with(&manifest("\"long\""));
    place.write("t.csv", table());
    let result = place.json(&["run", "m.toml", "--out", "r"]);
    // The deviation of `long` is some 870: after 600 steps of 0.01, nothing of that size is learned without scaling.
    assert!(number(&result["test"]["rmse"]) < 40.0, "{result}");
    let plain = place.json(&["run", "m.toml", "--out", "p", "--set", "data.target_scaling=false"]);
    assert!(number(&plain["test"]["rmse"]) > 4000.0, "{plain}");
    let rows = predicted(&place, "long");
    for (i, value) in rows.iter().enumerate() {
        let expected = 5000.0 + 300.0 * (i * 37 % 101) as f64 / 10.0;
        assert!((value - expected).abs() < 120.0, "row {i}: {value} for {expected}");
    }
    // An exported model gives the same numbers.
    place.json(&["export", "r", "m.onnx"]);
    let features: Vec<f32> = (0..4).map(|i| i as f32 * 0.5 - 1.0).collect();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend(118u16.to_le_bytes());
    npy.extend(format!("{header:<117}\n").bytes());
    npy.extend(features.iter().flat_map(|x| x.to_le_bytes()));
    place.write("x.npy", npy);
    let output = |model: &str, file: &str| {
        let done = place.run(&["infer", model, "--input", "features=x.npy", "--output", file]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        let bytes = std::fs::read(place.path(file)).unwrap();
        let numbers = bytes[bytes.len() - 8..].chunks(4);
        numbers.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
    };
    let (package, exported) = (output("r", "package.npy"), output("m.onnx", "exported.npy"));
    for (ours, theirs) in package.iter().zip(&exported) {
        assert!(*ours > 3000.0 && (ours - theirs).abs() < 0.01, "{package:?} {exported:?}");
    }
}

#[test]
fn several_targets_have_metrics_and_plots_by_name() {
    let place = Place::with(&manifest("[\"long\", \"short\"]"));
    place.write("t.csv", table());
    let result = place.json(&["run", "m.toml", "--out", "r"]);
    let of = |split: &str, name: &str| number(&result[split]["targets"][name]["rmse"]);
    let (long, short) = (of("test", "long"), of("test", "short"));
    assert!(long < 40.0 && short < 0.01, "{result}");
    let whole = ((long * long + short * short) / 2.0).sqrt();
    assert!((number(&result["test"]["rmse"]) / whole - 1.0).abs() < 1e-9, "{result}");
    // Of the mean: the deviation of each.
    let baseline = &result["baseline"]["train"]["targets"];
    assert!((800.0..950.0).contains(&number(&baseline["long"]["rmse"])), "{baseline}");
    assert!((0.05..0.06).contains(&number(&baseline["short"]["rmse"])), "{baseline}");
    let said = place.run(&["eval", "m.toml", "--out", "r"]).stdout;
    let test = said.lines().find(|line| line.starts_with("test")).unwrap();
    assert!(test.contains("(long RMSE ") && test.contains(", short RMSE "), "{said}");
    let page = place.read("r/report.html");
    for words in
        ["Predictions of long (test)", "Errors of short (test)", "RMSE of short", "Baseline: always the mean"]
    {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn a_run_begins_with_what_it_understood_and_ends_beside_its_baseline() {
    let place = Place::with(
        "[data]\nsource = \"csv\"\nfiles = \"t.csv\"\nlabel = \"y\"\nexclude = [\"note\"]\nsplit = { test = 0.25 }\n\
         clean = [{ one_hot = { columns = \"text\" } }]\nnormalize = \"standard\"\n\
         [model]\nname = \"linear\"\ninit = \"zeros\"\n[train]\nsteps = 1\nbatch = 8\nlr = 1e-60\n",
    );
    let row = |i: usize| {
        let red = i.is_multiple_of(5);
        format!("{i},{},n{i},{}\n", if red { "red" } else { "green" }, usize::from(red))
    };
    place.write("t.csv", format!("x,colour,note,y\n{}", (0..400).map(row).collect::<String>()));
    let done = place.run(&["run", "m.toml", "--out", "r"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!(
        lines[0].starts_with("note: the 2 whole numbers of `y`, 0 to 1, are taken for classes"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "data        400 rows: 300 train, 100 test, each class in the same proportions");
    assert_eq!(lines[2], "sees        1 number (x); 1 column as 0/1 for each of its values (colour 2)");
    assert_eq!(lines[3], "predicts    one of 2 classes: 0 320, 1 80");
    // A step of no length from zero: the first class, which is the frequent one, is answered to everything.
    let result: Json = serde_json::from_str(&place.read("r/result.json")).unwrap();
    assert_eq!(result["test"]["accuracy"], result["baseline"]["test"]["accuracy"]);
    let baseline = done.stdout.lines().find(|line| line.starts_with("baseline")).unwrap();
    assert!(baseline.ends_with("(test, always `0`)"), "{baseline}");
    let warning = "warning: on the test data the model does no better than answering always `0`";
    assert!(done.stderr.contains(warning), "{}", done.stderr);
    // One that has learned which colour is which does better.
    let trained = ["run", "m.toml", "--out", "t", "--set", "train.steps=300", "--set", "train.lr=0.05"];
    let done = place.run(&trained);
    assert!(done.code == 0 && !done.stderr.contains("warning"), "{}", done.stderr);
}

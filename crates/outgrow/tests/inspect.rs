//! `outgrow data inspect`: what it finds in data whose faults are known, as JSON, as text and as a page.

mod common;

use common::Place;
use serde_json::json;

const MANIFEST: &str = r#"
seed = 5
[data]
source = "csv"
files = "t.csv"
test = { files = "test.csv" }
label = "kind"
missing = ["?"]
split = { validation = 0 }
clean = [{ fill = { columns = "numeric", value = 0.0 } }, { one_hot = { columns = "text" } }]
[model]
layers = [{ dense = 2 }]
[train]
epochs = 1
"#;

/// A table of 200 rows, of which 20 have no `x`, and the last three repeat the first; the test data has two rows of the
/// training data, one of them with another label.
fn place() -> Place {
    let place = Place::with(MANIFEST);
    let row = |i: u32| {
        let x = if i % 10 == 3 { "?".to_owned() } else { i.to_string() };
        format!("{x},{},{}\n", ["red", "green", "blue"][(i % 3) as usize], ["a", "b"][(i % 2) as usize])
    };
    let mut train: String = (0..197).map(row).collect();
    train.push_str(&row(0).repeat(3));
    place.write("t.csv", format!("x,colour,kind\n{train}"));
    let test: String = (1000..1010).map(row).chain([row(4), "5,blue,a\n".to_owned()]).collect();
    place.write("test.csv", format!("x,colour,kind\n{test}"));
    place
}

#[test]
fn faults_are_found() {
    let place = place();
    let found = place.json(&["data", "inspect", "m.toml"]);
    let columns = found["columns"].as_array().unwrap();
    let names: Vec<_> = columns.iter().map(|c| (&c["name"], &c["kind"], &c["role"])).collect();
    assert_eq!(
        names,
        [
            (&json!("x"), &json!("number"), &json!("feature")),
            (&json!("colour"), &json!("text"), &json!("feature")),
            (&json!("kind"), &json!("text"), &json!("label")),
        ]
    );
    let x = &columns[0]["splits"][0];
    assert_eq!((&x["records"], &x["missing"]), (&json!(200), &json!(20)));
    assert_eq!((&x["numbers"]["min"], &x["numbers"]["max"]), (&json!(0.0), &json!(196.0)));
    let colours = &columns[1]["splits"][0]["texts"];
    assert_eq!((&colours["different"], &colours["top"][0]), (&json!(3), &json!(["red", 69])));
    let duplicates = &found["duplicates"];
    assert_eq!(duplicates["repeated"][0].as_u64().unwrap(), 3 + missing_repeats());
    assert_eq!(duplicates["contradictions"], 1 + contradictions_of_missing());
    assert_eq!(
        duplicates["leaks"],
        json!([{ "of": "test", "and": "train", "records": 2 + leaks_of_missing() }])
    );
    let text = place.run(&["data", "inspect", "m.toml"]).stdout;
    for word in ["warning: leakage", "duplicates:", "colour", "red (69)", "9.9 %"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// Rows without `x` are told apart by colour alone: 20 rows of three colours.
fn missing_repeats() -> u64 {
    20 - 3
}

/// Those of each colour have both labels, or one: rows 3, 13, 23, … are all odd, so that all have label b.
fn contradictions_of_missing() -> u64 {
    0
}

/// Row 1003 of the test data has no `x` either.
fn leaks_of_missing() -> u64 {
    1
}

#[test]
fn the_page_has_plots_and_pictures_and_needs_no_network() {
    let place = place();
    place.json(&["data", "inspect", "m.toml", "--html", "page.html"]);
    let page = place.read("page.html");
    for part in ["<svg", "Duplicates and leakage", "Of test also in train", "colour", "Classes"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(
        !page.contains("http://")
            || page.matches("http://").count() == page.matches("http://www.w3.org").count()
    );
    let glyphs = "[data]\nsource = \"synthetic:glyphs\"\nsamples = 60\n[model]\nname = \"mlp\"\nhidden = [8]\n[train]\nepochs = 1\n";
    place.write("g.toml", glyphs);
    let found = place.json(&["data", "inspect", "g.toml", "--html", "g.html"]);
    assert_eq!(found["page"], "g.html");
    let page = place.read("g.html");
    assert_eq!(page.matches("<figure>").count(), 24);
    assert!(
        page.contains("<figcaption>omega</figcaption>") || page.contains("<figcaption>alpha</figcaption>")
    );
    let refused = place.refused(&["data", "inspect", "g.toml", "--html", "nowhere/g.html"]);
    assert_eq!(refused[0]["item"], "--html");
}

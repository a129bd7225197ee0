//! `outgrow predict` on models that were trained a moment before: the same answers as in evaluation, and bad input
//! next to good.

mod common;

use common::{Place, flip_bit};
use outgrow_data::source::glyphs::{CLASS_NAMES, SIZE, glyph};
use serde_json::Value as Json;

const TRAIN: u64 = 800;
const TEST: u64 = 64;

/// Images are made smaller, so that those to be predicted must be as well.
const GLYPHS: &str = r#"
seed = 3
[data]
source = "synthetic:glyphs"
samples = 800
size = [14, 14]
test = { samples = 64 }
split = { validation = 0 }
[model]
layers = [{ flatten = true }, { dense = 48, activation = "relu" }, { dense = 10, activation = "softmax" }]
[train]
epochs = 6
batch = 32
lr = 0.003
"#;

fn png(pixels: &[u8], color: png::ColorType, side: usize) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side as u32, side as u32);
    encoder.set_color(color);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    file
}

/// An IDX file of glyphs `from` to `to`.
fn idx(from: u64, to: u64) -> Vec<u8> {
    let mut file = vec![0, 0, 8, 3];
    for extent in [(to - from) as u32, SIZE as u32, SIZE as u32] {
        file.extend(extent.to_be_bytes());
    }
    (from..to).for_each(|i| file.extend(glyph(3, i).0));
    file
}

fn predictions(json: &Json) -> &[Json] {
    json["predictions"].as_array().unwrap()
}

fn numbers(json: &Json) -> Vec<f64> {
    json.as_object().unwrap().values().map(|p| p.as_f64().unwrap()).collect()
}

fn check_close(a: &[f64], b: &[f64], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{what}: {a:?} and {b:?}");
}

#[test]
fn images_are_predicted_as_in_evaluation() {
    let place = Place::with(GLYPHS);
    let result = place.json(&["run", "m.toml", "--out", "run"]);
    place.write("train.idx", idx(0, TRAIN));
    place.write("test.idx", idx(TRAIN, TRAIN + TEST));

    // Every image of a split: the fraction of right answers is the one that the run found.
    for (file, split, first) in [("train.idx", "train", 0), ("test.idx", "test", TRAIN)] {
        let json = place.json(&["predict", "run", file]);
        let mut right = 0;
        for (i, prediction) in predictions(&json).iter().enumerate() {
            assert_eq!((&prediction["file"], &prediction["row"]), (&file.into(), &(i + 1).into()));
            let probabilities = numbers(&prediction["probabilities"]);
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{prediction}");
            let names: Vec<&String> = prediction["probabilities"].as_object().unwrap().keys().collect();
            assert_eq!(names, CLASS_NAMES);
            let best = probabilities.iter().copied().fold(0.0, f64::max);
            assert_eq!(prediction["probability"].as_f64(), Some(best));
            let class = prediction["class"].as_str().unwrap();
            assert_eq!(prediction["probabilities"][class].as_f64(), Some(best));
            right += u32::from(class == CLASS_NAMES[glyph(3, first + i as u64).1 as usize]);
        }
        let samples = predictions(&json).len() as f64;
        assert_eq!(samples, result[split]["samples"].as_f64().unwrap());
        assert!(
            (f64::from(right) / samples - result[split]["accuracy"].as_f64().unwrap()).abs() < 1e-9,
            "{split}"
        );
        // A model that had learned nothing would get a tenth right.
        assert!(f64::from(right) / samples > 0.3, "{split}");
    }

    // One image by itself, as grey and as colour, says the same as among others.
    let among = place.json(&["predict", "run/model", "test.idx"]);
    for i in [0, 17] {
        let pixels = glyph(3, TRAIN + i).0;
        place.write("grey.png", png(&pixels, png::ColorType::Grayscale, SIZE));
        let colour: Vec<u8> = pixels.iter().flat_map(|p| [*p; 3]).collect();
        place.write("colour.png", png(&colour, png::ColorType::Rgb, SIZE));
        let json = place.json(&["predict", "run", "grey.png", "colour.png"]);
        let expect = &predictions(&among)[i as usize];
        for prediction in predictions(&json) {
            assert_eq!((&prediction["class"], &prediction["row"]), (&expect["class"], &Json::Null));
            let got = numbers(&prediction["probabilities"]);
            check_close(&got, &numbers(&expect["probabilities"]), "alone and among others");
        }
    }
    let done = place.run(&["predict", "run", "grey.png", "colour.png"]);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!((done.code, lines.len()), (0, 3), "{}", done.stdout);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[0]), ["file", "class", "probability", "next"]);
    assert_eq!(words(lines[1])[0], "grey.png");
    assert_eq!(words(lines[1])[1..], words(lines[2])[1..]);
}

#[test]
fn bad_images_keep_no_good_one_from_its_answer() {
    let small =
        GLYPHS.replace("size = [14, 14]\n", "").replace("epochs = 6", "epochs = 1").replace("800", "40");
    let place = Place::with(&small);
    place.json(&["run", "m.toml", "--out", "run"]);
    let good = png(&glyph(3, 0).0, png::ColorType::Grayscale, SIZE);
    place.write("good.png", &good);
    place.write("cut.png", &good[..good.len() / 2]);
    // Of another size: it is resized, and one colour stays one colour.
    place.write("large.png", png(&[7; 40 * 40], png::ColorType::Grayscale, 40));
    place.write("flat.png", png(&[7; SIZE * SIZE], png::ColorType::Grayscale, SIZE));
    place.write("text.png", "no image");
    place.write("cut.idx", &idx(0, 2)[..800]);
    place.write("empty.png", "");
    place.write("folder/x", "");
    let files = [
        "good.png",
        "cut.png",
        "large.png",
        "flat.png",
        "text.png",
        "cut.idx",
        "empty.png",
        "folder",
        "none.png",
        "good.png",
    ];
    let done = place.run(&[&["predict", "run"], &files[..], &["--json"]].concat());
    let found: Vec<(String, String)> = done
        .errors()
        .iter()
        .map(|e| (e["code"].as_str().unwrap().to_owned(), e["file"].as_str().unwrap().to_owned()))
        .collect();
    // What only the transform finds comes once the records are put together.
    for (code, file) in [
        ("data.image.broken", "cut.png"),
        ("predict.image", "text.png"),
        ("data.idx.length", "cut.idx"),
        ("predict.image", "empty.png"),
        ("predict.file", "folder"),
        ("predict.file", "none.png"),
    ] {
        assert!(found.contains(&(code.into(), file.into())), "{code} {file}: {found:?}");
    }
    assert_eq!(found.len(), 6);
    let json: Json = serde_json::from_str(&done.stdout).unwrap();
    let answers = predictions(&json);
    let names: Vec<_> = answers.iter().map(|p| p["file"].as_str().unwrap()).collect();
    assert_eq!(names, ["good.png", "large.png", "flat.png", "good.png"]);
    for (a, b) in [(0, 3), (1, 2)] {
        assert_eq!(answers[a]["probabilities"], answers[b]["probabilities"]);
    }

    for (args, code) in [
        (&["predict", "nowhere", "good.png"][..], "predict.no-model"),
        (&["predict", "run", "good.png", "--tokens", "3"], "predict.option"),
        (&["predict", "run", "good.png", "--kernel-path", "abacus"], "cli.kernel-path"),
    ] {
        assert_eq!(place.refused(args)[0]["code"], code);
    }
    flip_bit(&place.path("run/model/weights.safetensors"), 0.5);
    assert_eq!(place.refused(&["predict", "run", "good.png"])[0]["code"], "store.package.damaged");
}

const PEOPLE: &str = r#"
[data]
source = "csv"
files = "people.csv"
label = "buys"
missing = ["?"]
exclude = ["id"]
split = { validation = 0, test = 0 }
clean = [
  { fill = { columns = ["age"], with = "mean" } },
  { normalize = { columns = ["age"] } },
  { fill = { columns = ["city"], value = "unknown" } },
  { one_hot = { columns = ["city"] } },
]
[model]
name = "logistic"
[train]
epochs = 60
batch = 8
lr = 0.1
"#;

/// Old people of Bern buy.
fn people() -> String {
    let mut text = String::from("id,age,city,buys\n");
    for i in 0..64 {
        let (age, bern) = (20 + i % 50, i % 3 != 0);
        let city = if i % 16 == 5 {
            "?"
        } else if bern {
            "Bern"
        } else {
            "Rome"
        };
        let age_text = if i % 16 == 9 { String::new() } else { age.to_string() };
        text += &format!("{i},{age_text},{city},{}\n", if age > 40 && bern { "yes" } else { "no" });
    }
    text
}

#[test]
fn tables_are_read_with_or_without_names_and_labels() {
    let place = Place::with(PEOPLE);
    place.write("people.csv", people());
    let result = place.json(&["run", "m.toml", "--out", "run"]);
    let training = place.json(&["predict", "run", "people.csv"]);
    let right = |(prediction, line): (&Json, &str)| line.ends_with(prediction["class"].as_str().unwrap());
    let lines = people();
    let right = predictions(&training).iter().zip(lines.lines().skip(1)).filter(|both| right(*both)).count();
    assert_eq!(right as f64 / 64.0, result["train"]["accuracy"].as_f64().unwrap());

    let tables = [
        "id,age,city,buys\n1,65,Bern,yes\n2,65,Rome,no\n3,?,?,\n4,22,Oslo,maybe\n",
        "city , age\nBern,65\nRome,65\n?,\nOslo,22\n",
        "1,65,Bern,yes\n2,65,Rome,no\n3,?,?,?\n4,22,Oslo,?\n",
        "1,65,Bern\n2,65,Rome\n3,?,\n4,22,Oslo\n",
        "65,Bern\n65,Rome\n ? ,?\n\"22\",Oslo\n",
        "{\"age\": 65, \"city\": \"Bern\", \"buys\": \"no\"}\n{\"city\": \"Rome\", \"age\": \"65\", \"x\": [1]}\n{\"city\": null}\n{\"city\": \"Oslo\", \"age\": 22}\n",
    ];
    let answers: Vec<Vec<Vec<f64>>> = tables
        .iter()
        .map(|table| {
            place.write("t.csv", table);
            let json = place.json(&["predict", "run", "t.csv"]);
            let rows: Vec<_> = predictions(&json).iter().map(|p| p["row"].as_u64().unwrap()).collect();
            assert_eq!(rows, [1, 2, 3, 4], "{table}");
            predictions(&json).iter().map(|p| numbers(&p["probabilities"])).collect()
        })
        .collect();
    for other in &answers[1..] {
        assert_eq!(other, &answers[0]);
    }
    // Classes are in the order of their names: no, yes.
    assert!(answers[0][0][1] > 0.5 && answers[0][1][1] < 0.5 && answers[0][3][1] < 0.5, "{answers:?}");
    assert!(answers[0].iter().flatten().all(|p| p.is_finite()));
}

#[test]
fn bad_rows_are_told_by_line_and_the_others_predicted() {
    // Without filling, a missing age is an error of its row.
    let place = Place::with(
        &PEOPLE
            .replace("{ fill = { columns = [\"age\"], with = \"mean\" } }", "{ drop_missing = [\"age\"] }"),
    );
    place.write("people.csv", people());
    place.json(&["run", "m.toml", "--out", "run"]);
    place.write("t.csv", "id,age,city\n1,50,Bern\n2,old,Bern\n3,50\n4,,Bern\n5,60,Rome\n");
    place.write("names.csv", "id,years,city\n1,50,Bern\n");
    place.write("wide.csv", "a,b,c,d,e,f\n1,2,3,4,5,6\n");
    place.write("bytes.csv", b"age,city\n30,\xff\n31,Bern\n");
    place.write("empty.csv", "");
    let done =
        place.run(&["predict", "run", "t.csv", "names.csv", "wide.csv", "bytes.csv", "empty.csv", "--json"]);
    let found: Vec<_> = done
        .errors()
        .iter()
        .map(|e| (e["code"].as_str().unwrap().to_owned(), e["file"].clone(), e["line"].as_u64()))
        .collect();
    for (code, file, line) in [
        ("data.csv.not-a-number", "t.csv", Some(3)),
        ("data.csv.ragged-row", "t.csv", Some(4)),
        ("data.missing-value", "t.csv", Some(5)),
        ("predict.columns", "names.csv", Some(1)),
        ("predict.columns", "wide.csv", Some(1)),
        ("data.csv.utf8", "bytes.csv", Some(2)),
        ("predict.empty", "empty.csv", None),
    ] {
        assert!(found.contains(&(code.into(), file.into(), line)), "{code} {file}: {found:?}");
    }
    assert_eq!(found.len(), 7);
    let json: Json = serde_json::from_str(&done.stdout).unwrap();
    let good: Vec<_> = predictions(&json)
        .iter()
        .map(|p| (p["file"].as_str().unwrap(), p["row"].as_u64().unwrap()))
        .collect();
    assert_eq!(good, [("t.csv", 1), ("t.csv", 5), ("bytes.csv", 2)]);
}

/// A table is answered row by row: in memory that the rows together would not fit into, and with no file left behind.
#[cfg(target_os = "linux")]
#[test]
fn long_tables_take_no_more_memory_than_short_ones() {
    const ROWS: usize = 200_000;
    let place = Place::with(PEOPLE);
    place.write("people.csv", people());
    place.json(&["run", "m.toml", "--out", "run"]);
    let csv: String = (0..ROWS).map(|i| format!("{i},{},Bern\n", 18 + i % 70)).collect();
    place.write("long.csv", format!("id,age,city\n{csv}"));
    let json = |i| format!("{{\"age\": {}, \"city\": \"Bern\"}}\n", 18 + i % 70);
    place.write("long.jsonl", (0..ROWS).map(json).collect::<String>());
    place.write("temporary/here", "");
    let mut answers = Vec::new();
    for (file, flag) in [("long.csv", "--json"), ("long.jsonl", "--json"), ("long.csv", "--quiet")] {
        let mut limited = std::process::Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_outgrow");
        limited.args(["-c", "ulimit -v 300000 && exec \"$@\"", "sh", binary, "predict", "run", file, flag]);
        limited.args(["--threads", "1"]).current_dir(place.path("")).env("TMPDIR", place.path("temporary"));
        let done = common::finish(&mut limited, file);
        assert_eq!(done.code, 0, "{}", done.stderr);
        answers.push(done.stdout);
    }
    assert_eq!(std::fs::read_dir(place.path("temporary")).unwrap().count(), 1, "a file was left behind");
    assert_eq!(answers[0].replace(".csv", ".jsonl"), answers[1]);
    let json: Json = serde_json::from_str(&answers[0]).unwrap();
    assert_eq!(predictions(&json).len(), ROWS);
    let lines: Vec<&str> = answers[2].lines().collect();
    assert_eq!(lines.len(), ROWS + 1);
    for (line, prediction) in lines[1..].iter().zip(predictions(&json)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1].parse::<u64>().ok(), prediction["row"].as_u64());
        assert_eq!(words[2], prediction["class"].as_str().unwrap());
    }
}

/// In a file whose lines end like those of Windows, and where empty lines and comments stand between, errors name and
/// quote the line that they are in.
#[test]
fn errors_quote_their_own_line_however_lines_end() {
    let place = Place::with(PEOPLE);
    place.write("people.csv", people());
    place.json(&["run", "m.toml", "--out", "run"]);
    let table = "id,age,city\n1,50,Bern\n\n2,old,Rome\n3,50\n4,40,Bern\n";
    for text in [table.to_owned(), table.replace('\n', "\r\n")] {
        place.write("t.csv", &text);
        let done = place.run(&["predict", "run", "t.csv", "--json"]);
        let lines: Vec<_> = done.errors().iter().map(|e| e["line"].as_u64()).collect();
        assert_eq!(lines, [Some(4), Some(5)], "{text:?}");
        assert!(
            done.stderr.contains("4 | 2,old,Rome\n") && done.stderr.contains("5 | 3,50\n"),
            "{}",
            done.stderr
        );
        let json: Json = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(predictions(&json).len(), 2);
        // And in training.
        place.write(
            "people.csv",
            people().replace("\n", if text.contains('\r') { "\r\n" } else { "\n" }) + "1,2\n",
        );
        let errors = place.refused(&["data", "prepare", "m.toml"]);
        assert_eq!(errors[0]["line"], 66);
    }
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(table.bytes().flat_map(|b| [b, 0])).collect();
    place.write("t.csv", &wide);
    assert_eq!(place.refused(&["predict", "run", "t.csv"])[0]["code"], "data.encoding");
    place.write("people.csv", &wide);
    assert_eq!(place.refused(&["data", "prepare", "m.toml"])[0]["code"], "data.encoding");
}

#[test]
fn numbers_are_predicted_under_their_names() {
    let place = Place::with(
        "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"price\"]\nlabel = \"price\"\n\
         split = { validation = 0, test = 0 }\nrows = [[0, 1], [1, 3], [2, 5], [3, 7]]\n\
         [model]\nname = \"linear\"\n[train]\nepochs = 500\nbatch = 4\noptimizer = \"sgd\"\nlr = 0.1\n",
    );
    place.json(&["run", "m.toml", "--out", "run"]);
    place.write("x.csv", "x\n10\n-1\n");
    let json = place.json(&["predict", "run", "x.csv"]);
    let values: Vec<f64> =
        predictions(&json).iter().map(|p| p["values"]["price"].as_f64().unwrap()).collect();
    assert!((values[0] - 21.0).abs() < 0.01 && (values[1] + 1.0).abs() < 0.01, "{values:?}");
    let done = place.run(&["predict", "run", "x.csv"]);
    assert_eq!(done.stdout.lines().next(), Some("file   row  price"));
}

const TEXT: &str = r#"
[data]
source = "text"
files = "text.txt"
context = 8
split = { validation = 0, test = 0 }
[model]
name = "gpt"
layers = 1
heads = 2
width = 16
[train]
steps = 150
batch = 16
lr = 0.01
"#;

#[test]
fn a_language_model_goes_on_with_a_text() {
    let place = Place::with(TEXT);
    place.write("text.txt", "abcd".repeat(400));
    place.json(&["train", "m.toml", "--out", "run"]);
    place.write("long.txt", "abcdabcdabcdab");
    place.write("short.txt", "bcd");
    let json =
        place.json(&["predict", "run", "long.txt", "short.txt", "--tokens", "12", "--temperature", "0"]);
    for (prediction, next, text) in
        [(&predictions(&json)[0], "c", "cdabcdabcdab"), (&predictions(&json)[1], "a", "abcdabcdabcd")]
    {
        assert!((numbers(&prediction["next"]).iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(prediction["next"][next].as_f64().unwrap() > 0.8, "{prediction}");
        assert_eq!(prediction["continuation"], text);
    }
    // Drawn texts follow from the seed.
    let drawn = |seed: &str| {
        let args = ["predict", "run", "long.txt", "--tokens", "40", "--temperature", "5", "--seed", seed];
        place.json(&args)["predictions"][0]["continuation"].clone()
    };
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    // Drawn from one token, a text is the likeliest, however high the temperature.
    let args = ["predict", "run", "long.txt", "--tokens", "12", "--temperature", "5", "--top-k", "1"];
    assert_eq!(place.json(&args)["predictions"][0]["continuation"], "cdabcdabcdab");
    let done = place.run(&["predict", "run", "short.txt", "--tokens", "0"]);
    assert!(done.code == 0 && done.stdout.starts_with("short.txt: next \"a\" "), "{}", done.stdout);

    place.write("strange.txt", "ab\nz");
    place.write("empty.txt", "");
    place.write("bytes.txt", b"ab\xff");
    let errors = place.refused(&["predict", "run", "strange.txt", "empty.txt", "bytes.txt", "short.txt"]);
    let codes: Vec<_> = errors.iter().map(|e| (e["code"].as_str().unwrap(), e["line"].as_u64())).collect();
    assert_eq!(
        codes,
        [("data.text.unknown-character", Some(1)), ("predict.empty", None), ("data.text.utf8", Some(1))]
    );
    let errors = place.refused(&["predict", "run", "short.txt", "--temperature=-1"]);
    assert_eq!(errors[0]["code"], "predict.option");
}

/// Bytes, and the tokens of a file that is gone when the model is used: the package holds what it needs.
#[test]
fn models_of_other_tokens_go_on_from_their_package_alone() {
    let sentence = "The model, naïve.\n";
    let mut kinds = vec!["byte"];
    if cfg!(feature = "tokenizers") {
        kinds.push("t.json");
    }
    for kind in kinds {
        let tokenizer = format!("source = \"text\"\ntokenizer = \"{kind}\"");
        let manifest = TEXT.replace("source = \"text\"", &tokenizer).replace("context = 8", "context = 24");
        let place = Place::with(&manifest);
        place.write("text.txt", sentence.repeat(100));
        if kind != "byte" {
            let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/tests/tokenizers/bpe.json");
            place.write(kind, std::fs::read(fixture).unwrap());
        }
        place.json(&["train", "m.toml", "--out", "run"]);
        if kind != "byte" {
            std::fs::remove_file(place.path(kind)).unwrap();
        }
        place.write("prompt.txt", sentence.repeat(3));
        let json = place.json(&["predict", "run", "prompt.txt", "--tokens", "30", "--temperature", "0"]);
        let text = predictions(&json)[0]["continuation"].as_str().unwrap();
        assert!(text.len() >= 19 && sentence.repeat(20).starts_with(text), "{kind}: {text:?}");
        let next = predictions(&json)[0]["next"].as_object().unwrap();
        assert_eq!(next.len(), 256, "{kind}");
        assert_eq!(place.run(&["data", "inspect", "m.toml"]).code == 0, kind == "byte");
    }
}

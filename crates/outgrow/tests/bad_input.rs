//! Bad input of every kind: a clear diagnostic, exit code 1, never a panic, and nothing lost that was there.
#![allow(clippy::type_complexity)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Place, check_kept, checkpoint_parts, checkpoints, files, flip_bit};
use parquet::data_type::DoubleType;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value as Json;

/// Files that take the place of good ones, what is set in the manifest, and what must be said about it.
struct Case<'a> {
    files: &'a [(&'a str, Vec<u8>)],
    set: &'a [&'a str],
    code: &'a str,
    /// Words of the diagnostic, wherever they stand in it.
    words: &'a [&'a str],
}

/// Trains on good files first. Then, for each case, the same command must be refused with this diagnostic, and all of
/// the finished run, of the prepared data and of the files must be as it was. Every case that fails is shown.
fn check(manifest: &str, good: &[(&str, Vec<u8>)], cases: &[Case<'_>]) {
    let place = Place::with(manifest);
    good.iter().for_each(|(name, content)| place.write(name, content));
    place.json(&["run", "m.toml", "--out", "r"]);
    let mut wrong = String::new();
    for case in cases {
        good.iter().chain(case.files).for_each(|(name, content)| place.write(name, content));
        let before = files(&place.path(""));
        let sets: Vec<&str> = case.set.iter().flat_map(|set| ["--set", set]).collect();
        // With --fresh as well: the old run goes only when a new one can begin.
        let done = place.run(&[&["run", "m.toml", "--out", "r", "--json", "--fresh"][..], &sets].concat());
        let what = format!("{} {:?} {:?}", case.code, case.set, case.words);
        match done.code {
            0 => wrong.push_str(&format!("{what}: nothing was found\n")),
            _ => wrong.push_str(&mistake(&done.errors(), case.code, case.words).unwrap_or_default()),
        }
        if done.code != 0 {
            check_kept(&before, &files(&place.path("")), &what);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What is missing in a refusal: an error of this code, all of these words in it, and something that helps.
fn mistake(errors: &[Json], code: &str, words: &[&str]) -> Option<String> {
    let Some(found) = errors.iter().find(|error| error["code"] == code) else {
        return Some(format!("{code} is not among {errors:#?}\n"));
    };
    let text = found.to_string();
    let helps = found.get("expected").is_some() || found.get("help").is_some();
    let missing: Vec<&&str> = words.iter().filter(|word| !text.contains(**word)).collect();
    (!missing.is_empty() || !helps).then(|| format!("{missing:?} is missing, help: {helps}, in {found:#}\n"))
}

fn check_error(errors: &[Json], code: &str, words: &[&str]) {
    assert_eq!(mistake(errors, code, words), None);
}

/// An IDX file: element type, dimensions, data.
fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
    bytes.extend(data);
    bytes
}

const IDX: &str = "[data]\nsource = \"idx\"\nimages = \"images\"\nlabels = \"labels\"\n\
    [model]\nname = \"mlp\"\nhidden = [4]\n[train]\nepochs = 1\nbatch = 8\n";

#[test]
fn idx_files() {
    let pixels: Vec<u8> = (0..40 * 6 * 6).map(|i| (i * 37 % 251) as u8).collect();
    let classes: Vec<u8> = (0..40).map(|i| i % 3).collect();
    let images = || idx(&[40, 6, 6], &pixels);
    let labels = || idx(&[40], &classes);
    let case = |file, content, code, words| (file, content, code, words);
    let cases = [
        case("images", vec![], "data.idx.header", &["images"][..]),
        case("images", images()[..10].to_vec(), "data.idx.header", &["images", "header"]),
        case("images", b"PNG, perhaps?".to_vec(), "data.idx.header", &["images"]),
        case("images", idx(&[u32::MAX, u32::MAX, u32::MAX], &pixels), "data.idx.length", &["4294967295"]),
        case("images", idx(&[4_000_000, 60, 60], &pixels), "data.idx.length", &["4000000", "fetch it again"]),
        case("images", images()[..900].to_vec(), "data.idx.length", &["900 bytes", "fetch it again"]),
        case("images", [images(), vec![0]].concat(), "data.idx.length", &["images"]),
        case("images", idx(&[0, 6, 6], &[]), "data.idx.count", &["40 labels for 0 images"]),
        case("labels", idx(&[39], &classes[1..]), "data.idx.count", &["39 labels for 40 images"]),
        case("labels", labels()[..5].to_vec(), "data.idx.header", &["labels"]),
        case("images", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 99], "data.read", &["images", "cut short"]),
        case("labels", idx(&[40], &[2; 40]), "data.one-class", &["2"]),
    ];
    let files: Vec<_> = cases.iter().map(|(file, content, ..)| [(*file, content.clone())]).collect();
    let mut all: Vec<Case<'_>> = (cases.iter().zip(&files))
        .map(|((_, _, code, words), files)| Case { files, set: &[], code, words })
        .collect();
    let none = [("images", idx(&[0, 6, 6], &[])), ("labels", idx(&[0], &[]))];
    all.push(Case { files: &none, set: &[], code: "data.empty", words: &["no record"] });
    let classes = &["data.classes=[\"a\",\"b\"]"];
    all.push(Case { files: &[], set: classes, code: "data.label-range", words: &["label 2", "images"] });
    check(IDX, &[("images", images()), ("labels", labels())], &all);
}

const CSV: &str = "[data]\nsource = \"csv\"\nfiles = \"t.csv\"\nlabel = \"y\"\n\
    [model]\nname = \"logistic\"\n[train]\nepochs = 1\nbatch = 8\n";

/// A good table of 40 rows, its lines 2 to 41, with one of them replaced.
fn csv(line: usize, with: &str) -> Vec<u8> {
    let mut lines: Vec<String> = vec!["x,z,y".into()];
    lines.extend((0..40).map(|i| format!("{i},{}.5,{}", i % 7, ["no", "yes"][i % 2])));
    if line > 0 {
        lines[line - 1] = with.to_owned();
    }
    (lines.join("\n") + "\n").into_bytes()
}

#[test]
fn csv_files() {
    let cases: [(Vec<u8>, &[&str], &str, &[&str]); 14] = [
        (vec![], &[], "data.empty", &["t.csv"]),
        (b"x,z,y\n".to_vec(), &[], "data.empty", &["t.csv"]),
        (csv(30, "1,2"), &[], "data.csv.ragged-row", &["\"line\":30", "2 fields", "3 fields"]),
        (csv(3, "1,2,yes,4"), &[], "data.csv.ragged-row", &["\"line\":3", "4 fields"]),
        (
            csv(41, "1,two,yes"),
            &["data.types={ z = \"number\" }"],
            "data.csv.not-a-number",
            &["\"line\":41", "two", "z"],
        ),
        (
            csv(9, "1,inf,yes"),
            &["data.types={ z = \"number\" }"],
            "data.csv.not-a-number",
            &["\"line\":9", "inf"],
        ),
        (csv(9, "1,,yes"), &[], "data.missing-value", &["z", "\"line\":9"]),
        (csv(9, "1,2,"), &[], "data.missing-label", &["\"line\":9", "drop_missing = [\\\"y\\\"]"]),
        (csv(1, "x,x,y"), &[], "data.columns", &["x"]),
        (csv(9, "1,\"2,yes"), &[], "data.csv.ragged-row", &["\"line\":9", "quotation marks"]),
        (csv(9, "1,2,ye\u{0}s"), &["data.classes=[\"no\",\"yes\"]"], "data.label-range", &["\"line\":9"]),
        (
            csv(9, "1,2,maybe"),
            &["data.classes=[\"no\",\"yes\"]"],
            "data.label-range",
            &["\"line\":9", "maybe"],
        ),
        (csv(0, ""), &["data.clean=[{ filter = \"x > 1000\" }]"], "data.empty", &["filter"]),
        (csv(0, ""), &["data.clean=[{ filter = \"x == 5\" }]"], "data.one-class", &["yes"]),
    ];
    let files: Vec<_> = cases.iter().map(|(content, ..)| [("t.csv", content.clone())]).collect();
    let all: Vec<Case<'_>> = (cases.iter().zip(&files))
        .map(|((_, set, code, words), files)| Case { files, set, code, words })
        .collect();
    check(CSV, &[("t.csv", csv(0, ""))], &all);
    let latin = [("t.csv", csv(9, "1,2,ja").iter().map(|b| if *b == b'j' { 0xe9 } else { *b }).collect())];
    let words = &["UTF-8", "\"line\":9"];
    check(CSV, &[("t.csv", csv(0, ""))], &[Case { files: &latin, set: &[], code: "data.csv.utf8", words }]);
}

/// Files of other kinds under the name of a table of text are told as what they are, with the source that reads them.
#[test]
fn tables_that_are_no_text() {
    for (start, words) in [
        (&b"PAR1\x15\x04\x15"[..], &["of Parquet", "`source = \\\"parquet\\\"`"][..]),
        (b"ARROW1\0\0\xff", &["of Arrow", "`source = \\\"arrow\\\"`"]),
        (b"\x93NUMPY\x01\0", &["of NumPy", "`source = \\\"npy\\\"`"]),
        (b"PK\x03\x04\x14\0", &["workbook", "as CSV"]),
    ] {
        let files = [("t.csv", start.to_vec())];
        let lines = &["data.source=\"json_lines\"", "data.files=\"t.csv\""][..];
        let cases = [&[][..], lines].map(|set| Case { files: &files, set, code: "data.not-text", words });
        check(CSV, &[("t.csv", csv(0, ""))], &cases);
    }
    let set = &["data.source=\"parquet\""][..];
    let case = Case { files: &[], set, code: "data.parquet.read", words: &["no Parquet file", "`csv`"] };
    check(CSV, &[("t.csv", csv(0, ""))], &[case]);
}

/// In a file whose lines end in CRLF, as spreadsheets write them, the line that is named and quoted is the one at fault:
/// in training and in predicting.
#[test]
fn lines_that_end_in_two_characters_are_counted_as_one() {
    let crlf = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace('\n', "\r\n");
    let place = Place::with(CSV);
    let words = |done: &common::Done, line: &str, quoted: &str| {
        let rows: Vec<&str> = done.stderr.lines().filter(|line| line.contains(" | ")).collect();
        assert_eq!(rows, [format!("{line} | {quoted}")], "{}", done.stderr);
    };
    place.write("t.csv", crlf(csv(30, "17,\"oh\nno\"")));
    words(&place.run(&["run", "m.toml", "--out", "r"]), "30", "17,\"oh");
    place.write("t.csv", crlf(csv(0, "")));
    place.json(&["run", "m.toml", "--out", "r"]);
    for (line, quoted) in [(30, "17"), (41, "1,two,yes")] {
        place.write("new.csv", crlf(csv(line, quoted)));
        let done = place.run(&["predict", "r", "new.csv"]);
        assert_eq!(done.code, 1);
        words(&done, &line.to_string(), quoted);
    }
}

const PARQUET: &str = "[data]\nsource = \"parquet\"\nfiles = \"t.parquet\"\nlabel = \"y\"\n\
    [model]\nname = \"linear\"\n[train]\nepochs = 1\nbatch = 8\n";

/// A Parquet file of two columns of numbers.
fn parquet_file() -> Vec<u8> {
    let schema = Arc::new(parse_message_type("message m { required double x; required double y; }").unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for factor in [1.0, 3.0] {
        let values: Vec<f64> = (0..500).map(|i| factor * f64::from(i * 7 % 101)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_files() {
    let good = parquet_file();
    let n = good.len();
    let mut garbled = good.clone();
    garbled[n - 200..n - 100].fill(0xff);
    let mut swollen = good.clone();
    swollen[n - 8..n - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let bad =
        [vec![], good[..n / 2].to_vec(), good[..n - 1].to_vec(), good[n / 2..].to_vec(), garbled, swollen];
    let files: Vec<_> = bad.into_iter().map(|content| [("t.parquet", content)]).collect();
    let case = |files| Case { files, set: &[], code: "data.parquet.read", words: &["t.parquet"] };
    let all: Vec<Case<'_>> = files.iter().map(|files| case(&files[..])).collect();
    check(PARQUET, &[("t.parquet", good)], &all);
}

const TEXT: &str = "[data]\nsource = \"text\"\nfiles = \"t.txt\"\ncontext = 8\n\
    [model]\nname = \"gpt\"\nlayers = 1\nheads = 2\nwidth = 8\n[train]\nsteps = 2\nbatch = 4\n";

#[test]
fn text_files() {
    let good = [("t.txt", "To be, or not to be, that is the question. ".repeat(5).into_bytes())];
    let files = [[("t.txt", vec![])], [("t.txt", b"To be".to_vec())], [("t.txt", vec![b'a', 0xff, b'b'])]];
    let cases = [
        Case { files: &files[0], set: &[], code: "data.empty", words: &[] },
        Case { files: &files[1], set: &[], code: "data.empty", words: &[] },
        Case { files: &files[2], set: &[], code: "data.text.utf8", words: &["UTF-8"] },
        Case { files: &[], set: &["data.context=100000"], code: "data.empty", words: &[] },
        Case { files: &[], set: &["data.context=0"], code: "data.context", words: &[] },
        Case { files: &[], set: &["model.heads=3"], code: "manifest.model.heads", words: &[] },
    ];
    check(TEXT, &good, &cases);
}

const GLYPHS: &str = "[data]\nsource = \"synthetic:glyphs\"\nsamples = 60\n\
    [model]\nname = \"mlp\"\nhidden = [8]\n[train]\nepochs = 1\nbatch = 8\n";

/// Keys that are unknown, contradict each other, or ask for what cannot be.
#[test]
fn manifests() {
    let cases: [(&[&str], &str, &[&str]); 24] = [
        (
            &["train.early_stopping={ patience = 3 }"],
            "train.early-stopping",
            &["no validation data", "split = { validation = 0.1 }"],
        ),
        (
            &["train.early_stopping={ metric = \"rmse\" }", "data.split={ validation = 0.2 }"],
            "train.early-stopping",
            &["no metric `rmse`", "loss, accuracy, top5"],
        ),
        (&["train.epoch=3"], "manifest.unknown-key", &["did you mean `epochs`"]),
        (&["train.seed=3"], "manifest.unknown-key", &["`seed` belongs at the top"]),
        (&["epochs=3"], "manifest.unknown-key", &["`epochs` belongs in `[train]`"]),
        (&["modle.name=\"mlp\""], "manifest.unknown-key", &["did you mean `model`"]),
        (&["train.steps=3"], "manifest.train.both", &["epochs", "steps"]),
        (&["train.micro_shards=3"], "manifest.train.micro-shards", &["power of two"]),
        (&["train.batch=6", "train.micro_shards=4"], "manifest.train.micro-shards", &["6", "4"]),
        (&["train.lr=-1"], "manifest.value", &["train.lr"]),
        (&["train.lr=\"fast\""], "manifest.value", &["train.lr"]),
        (&["data.split={ validation = 0.6, test = 0.4 }"], "data.split", &["nothing to train on"]),
        (
            &["data.split={ test = 0.4 }", "data.test={ samples = 5 }"],
            "data.split",
            &["contradict", "data.split.test"],
        ),
        (&["data.test=\"t.csv\""], "manifest.value", &["name the key: { files = \\\"t.csv\\\" }"]),
        (&["data.label=\"y\""], "data.key", &["synthetic:glyphs", "label"]),
        (&["data.samples=0"], "data.samples", &[]),
        (&["train.batch=64", "train.micro_shards=64"], "train.batch-too-large", &["64", "60", "at most 60"]),
        (&["train.epochs=6148914691236517206"], "train.too-long", &["6148914691236517206", "at most"]),
        (&["train.loss=\"mse\""], "train.loss", &["leave `train.loss` out"]),
        (&["model={ name = \"gpt\" }"], "model.inputs", &["gpt"]),
        (&["model.hidden=[4000000000]"], "model.size", &[]),
        (&["model.hidden=[80000000]"], "run.memory", &["memory", "no batch is small enough"]),
        (
            &["model={ layers = [{ conv = 4, kernel = 99 }, { flatten = true }, { dense = 10 }] }"],
            "graph.build",
            &["99", "28"],
        ),
        (&["model.weights=\"nowhere.safetensors\""], "model.weights", &["nowhere.safetensors"]),
    ];
    let all: Vec<Case<'_>> =
        cases.iter().map(|(set, code, words)| Case { files: &[], set, code, words }).collect();
    check(GLYPHS, &[], &all);
}

/// A run without an end.
const GO_ON: &[&str] = &[
    "run",
    "m.toml",
    "--out",
    "r",
    "--set",
    "train.epochs=100000",
    "--set",
    "train.checkpoint_every_steps=1",
    "--set",
    "train.log_every_steps=1",
];

/// A run that was killed after a few checkpoints: the place, and all that is in its folder.
fn interrupted(manifest: &str) -> (Place, BTreeMap<PathBuf, Vec<u8>>) {
    let place = Place::with(manifest);
    let mut child = place.start(GO_ON);
    while checkpoints(&place.path("r")).len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let files = files(&place.path("r"));
    (place, files)
}

#[test]
fn when_every_checkpoint_is_damaged_nothing_is_thrown_away() {
    let (place, _) = interrupted(GLYPHS);
    let all = checkpoints(&place.path("r"));
    // Some by their records, the others by their parts.
    let both = all.into_iter().zip(checkpoint_parts(&place.path("r"))).enumerate();
    let all: Vec<PathBuf> = both.map(|(i, (record, part))| if i % 2 == 0 { part } else { record }).collect();
    all.iter().enumerate().for_each(|(i, path)| flip_bit(path, [0.01, 0.5, 0.99][i % 3]));
    let before = files(&place.path("r"));
    let errors = place.refused(GO_ON);
    for path in &all {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(errors.iter().any(|error| error.to_string().contains(&name)), "{name}: {errors:#?}");
    }
    let after = files(&place.path("r"));
    check_kept(&before, &after, "damaged checkpoints");
    assert_eq!(before.len(), after.len());
}

#[test]
fn the_checkpoint_of_another_model_is_refused() {
    let (place, _) = interrupted(GLYPHS);
    let (other, _) = interrupted(&GLYPHS.replace("hidden = [8]", "hidden = [9]"));
    let foreign = checkpoints(&other.path("r")).pop().unwrap();
    // As the newest one.
    let copied = place.path("r/checkpoints/step-99999999.json");
    std::fs::copy(foreign, &copied).unwrap();
    let before = files(&place.path("r"));
    check_error(&place.refused(GO_ON), "store.checkpoint.model", &["step-99999999.json"]);
    check_kept(&before, &files(&place.path("r")), "the checkpoint of another model");
    // Without it the run goes on.
    std::fs::remove_file(copied).unwrap();
    let newest = checkpoints(&place.path("r")).pop().unwrap();
    kill_once_past(&place, &newest, &mut place.start(GO_ON));
}

/// Waits for a checkpoint after this one and kills the run.
fn kill_once_past(place: &Place, newest: &Path, child: &mut Child) {
    while checkpoints(&place.path("r")).pop().is_none_or(|path| path <= newest) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Other files of a run and of prepared data that changed after they were written.
#[test]
fn damaged_files_are_named() {
    let place = Place::with(GLYPHS);
    let prepared = place.json(&["data", "prepare", "m.toml"]);
    let data = PathBuf::from(prepared["data"].as_str().unwrap());
    place.json(&["run", "m.toml", "--out", "r"]);
    let cases = [
        (place.path("r/result.json"), 0.0, &["run"][..], "run.damaged", "result.json"),
        (place.path("r/run.json"), 0.0, &["run"], "run.damaged", "run.json"),
        (place.path("r/model/weights.safetensors"), 0.7, &["eval"], "store.package.damaged", "weights"),
        (place.path("r/model/package.json"), 0.5, &["eval"], "store.package.damaged", "package.json"),
        (data.join("train-00000.safetensors"), 0.8, &["run", "--fresh"], "data.shard.corrupt", "train-00000"),
        (data.join("dataset.json"), 0.5, &["run", "--fresh"], "data.manifest", "dataset.json"),
    ];
    for (path, at, command, code, word) in cases {
        let good = std::fs::read(&path).unwrap();
        flip_bit(&path, at);
        let before = files(&place.path(""));
        let args = [&[command[0], "m.toml", "--out", "r"], &command[1..]].concat();
        check_error(&place.refused(&args), code, &[word]);
        if command.len() == 1 {
            check_kept(&before, &files(&place.path("")), word);
        }
        std::fs::write(&path, good).unwrap();
        if command.len() > 1 {
            place.json(&args);
        }
    }
}

/// A damaged line of the log is left out with a warning; training does not hang on it.
#[test]
fn a_damaged_log_stops_nothing() {
    let (place, _) = interrupted(GLYPHS);
    // The log may be one line ahead of the newest checkpoint.
    let all = place.read("r/metrics.jsonl");
    let newest = checkpoints(&place.path("r")).pop().unwrap();
    let name = newest.file_stem().unwrap().to_string_lossy().into_owned();
    let step: usize = name.trim_start_matches("step-").parse().unwrap();
    let log: String = all.split_inclusive('\n').take(step).collect();
    assert_eq!(log.lines().count(), step);
    let (first, rest) = log.split_once('\n').unwrap();
    place.write("r/metrics.jsonl", format!("{first}\n{{\"step\": 1, oops\n{rest}"));
    let mut child = place.command(GO_ON).stderr(Stdio::piped()).spawn().unwrap();
    kill_once_past(&place, &newest, &mut child);
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("warning") && said.contains("metrics.jsonl"), "{said}");
    assert!(place.read("r/metrics.jsonl").starts_with(&log), "the good lines are kept");
}

/// A loss that is no longer finite stops the run at once, names the first op and its layer, and keeps the last good
/// checkpoint; so does an update that makes a weight infinite.
#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let place = Place::with(GLYPHS);
    let args =
        ["run", "m.toml", "--out", "r", "--set", "train.lr=1e30", "--set", "train.checkpoint_every_steps=1"];
    for _ in 0..2 {
        let errors = place.refused(&args);
        check_error(
            &errors,
            "train.non-finite",
            &["step 2", "first at op `", "of layer `", "train.lr", "checkpoint"],
        );
        let kept = checkpoints(&place.path("r"));
        assert_eq!(kept.len(), 1, "{kept:?}");
        let log = place.read("r/metrics.jsonl");
        assert!(log.contains("\"step\":1,") && !log.contains("\"step\":2,"), "{log}");
        assert!(!place.path("r/result.json").exists() && !place.path("r/model").exists());
    }
    let rows = "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\nrows = [[1e5, 2e5], [2e5, 4e5]]\n\
        [model]\nname = \"linear\"\n[train]\nsteps = 3\nbatch = 2\noptimizer = \"sgd\"\nlr = 1e30\n\
        checkpoint_every_steps = 1\n";
    let place = Place::with(rows);
    let errors = place.refused(&["run", "m.toml", "--out", "r"]);
    check_error(&errors, "train.non-finite", &["after step 1", "weight", "train.lr"]);
    assert!(checkpoints(&place.path("r")).is_empty(), "no checkpoint of infinite weights is written");
}

/// Runs a command with a memory file system of `kib` KiB mounted at `small` and copies what it holds to `copy`
/// afterwards. `None` where the system does not let a test mount one.
fn on_a_small_disk(place: &Place, kib: u32, args: &[&str]) -> Option<common::Done> {
    let mount = format!("mount -t tmpfs -o size={kib}k tmpfs small");
    std::fs::create_dir_all(place.path("small")).unwrap();
    let mut probe = Command::new("unshare");
    let possible = probe.args(["-rm", "sh", "-c", &mount]).current_dir(place.path("")).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        common::skipped("this system does not let a test mount a small disk");
        return None;
    }
    let binary = place.command(args);
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let script = format!(
        "{mount} && {{ '{}' {}; code=$?; cp -a small/. copy && exit $code; }}",
        env!("CARGO_BIN_EXE_outgrow"),
        quoted.join(" ")
    );
    std::fs::create_dir_all(place.path("copy")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]).current_dir(place.path("")).env_remove("OUTGROW_DATA");
    for (name, value) in binary.get_envs() {
        value.map(|value| command.env(name, value));
    }
    Some(common::finish(&mut command, "on a small disk"))
}

#[test]
fn a_full_disk_while_preparing() {
    let place = Place::with(GLYPHS);
    let args =
        ["run", "m.toml", "--out", "r", "--cache", "small/cache", "--set", "data.samples=3000", "--json"];
    let Some(done) = on_a_small_disk(&place, 1000, &args) else { return };
    let errors = done.errors();
    check_error(&errors, "data.no-space", &["space", "--cache"]);
    // Nothing there is half of something, and what is there is gone on from.
    let left = files(&place.path("copy"));
    assert!(left.values().map(Vec::len).sum::<usize>() < 1000 << 10);
    let calm = place.json(&["run", "m.toml", "--out", "calm", "--set", "data.samples=3000"]);
    let args = ["run", "m.toml", "--out", "r", "--cache", "copy/cache", "--set", "data.samples=3000"];
    assert_eq!(place.json(&args)["weights_sha256"], calm["weights_sha256"]);
}

/// However little space there is, and whichever file it runs out at, the run stops with a message and goes on from
/// where it was once there is space again.
#[test]
fn a_full_disk_while_training() {
    let place = Place::with(GLYPHS);
    let sets = [
        "--set",
        "train.epochs=4",
        "--set",
        "train.checkpoint_every_steps=3",
        "--set",
        "train.log_every_steps=1",
    ];
    let calm = place.json(&[&["run", "m.toml", "--out", "calm"][..], &sets].concat());
    let metrics = place.read("calm/metrics.jsonl");
    let whole: usize = files(&place.path("calm")).values().map(Vec::len).sum();
    for part in [0.02, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9] {
        let kib = (whole as f64 * part / 1024.0) as u32;
        let args = [&["run", "m.toml", "--out", "small/r", "--json"][..], &sets].concat();
        let Some(done) = on_a_small_disk(&place, kib, &args) else { return };
        let errors = done.errors();
        assert!(errors[0]["problem"].as_str().unwrap().contains("no space"), "{kib} KiB: {errors:#?}");
        let again = place.json(&[&["run", "m.toml", "--out", "copy/r"][..], &sets].concat());
        assert_eq!(again["weights_sha256"], calm["weights_sha256"], "{kib} KiB");
        assert!(place.read("copy/r/metrics.jsonl") == metrics, "{kib} KiB: metrics.jsonl");
        std::fs::remove_dir_all(place.path("copy")).unwrap();
    }
}

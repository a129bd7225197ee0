//! What the binary promises to people and machines: one JSON object, exit codes, flags, the run's folder, and where
//! data is looked for.

mod common;

use std::time::Duration;

use common::{Place, checkpoint_parts, checkpoints, files, finish};
use outgrow_env::LocalStorage;
use outgrow_store::safetensors;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

const CLASSES: &str = "[data]\nsource = \"synthetic:glyphs\"\nsamples = 120\ntest = { samples = 40 }\n\
    split = { validation = 0.2 }\n[model]\nname = \"mlp\"\nhidden = [20]\n[train]\nepochs = 2\nbatch = 16\n";
const NUMBERS: &str = "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\n\
    rows = [[1, 2], [2, 4], [3, 6], [4, 8]]\ntest = { rows = [[5, 10], [6, 12]] }\n\
    [model]\nname = \"linear\"\n[train]\nepochs = 1\nbatch = 4\n";
const TWO: &str = "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\n\
    rows = [[1, \"a\"], [2, \"a\"], [3, \"b\"], [4, \"b\"]]\ntest = { rows = [[0, \"a\"], [5, \"b\"]] }\n\
    [model]\nname = \"logistic\"\n[train]\nepochs = 1\nbatch = 4\n";
const TOKENS: &str = "[data]\nsource = \"text\"\nfiles = \"t.txt\"\ncontext = 8\nsplit = { test = 0.3 }\n\
    [model]\nname = \"gpt\"\nlayers = 1\nheads = 2\nwidth = 16\n[train]\nsteps = 2\nbatch = 4\n";

/// Checks the object of `outgrow run`: every required key with its type, and the metrics that apply to the task.
fn check_object(manifest: &str, steps: u64, metrics: &[&str]) {
    let place = Place::with(manifest);
    let done = place.run(&["run", "m.toml", "--out", "r", "--json"]);
    let result = done.object();
    assert_eq!(result["run"], "r");
    assert_eq!(result["steps"], steps);
    for key in ["train_seconds", "samples_per_s"] {
        assert!(result[key].as_f64().unwrap() > 0.0, "{key}: {result}");
    }
    assert!((0.0..=1.0).contains(&result["cpu_utilisation"].as_f64().unwrap()), "{result}");
    assert!(result["peak_memory_bytes"].as_u64().unwrap() > 1 << 20, "{result}");
    for split in ["train", "test"] {
        let mut names: Vec<&str> = result[split].as_object().unwrap().keys().map(String::as_str).collect();
        names.retain(|name| *name != "samples");
        assert_eq!(names, metrics, "{split}");
        for name in names {
            let value = result[split][name].as_f64().unwrap_or_else(|| panic!("{split} {name}: {result}"));
            let unbounded = ["loss", "log_loss", "rmse", "mae"].contains(&name);
            assert!(value >= 0.0 || name == "r2", "{split} {name}: {value}");
            assert!(value <= 1.0 || unbounded, "{split} {name}: {value}");
        }
    }
    let splits = place.json(&["data", "inspect", "m.toml"])["splits"].clone();
    for split in ["train", "test"] {
        assert_eq!(result[split]["samples"], splits[split], "{split}");
    }
    assert_eq!(result["weights_sha256"], digest(&place, "r"));
    // Progress went to stderr, not to a terminal: plain lines, one for each evaluation or, without one, epoch,
    // but not thousands.
    assert!(!done.stderr.contains(['\r', '\x1b']), "{}", done.stderr);
    let lines: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("epoch ")).collect();
    assert!((1..=101).contains(&lines.len()), "{}", done.stderr);
    assert!(lines.iter().all(|line| line.contains("train loss")), "{}", done.stderr);
    let validated = result.get("validation").is_some();
    assert!(lines.iter().all(|line| line.contains("validation loss") == validated), "{}", done.stderr);
    // `eval` measures the same of the same weights.
    let again = place.json(&["eval", "m.toml", "--out", "r"]);
    for key in ["run", "steps", "train_seconds", "samples_per_s", "train", "test", "weights_sha256"] {
        assert_eq!(again[key], result[key], "{key}");
    }
}

/// SHA-256 over all parameters and buffers in the order of their names, as little-endian bytes.
fn digest(place: &Place, out: &str) -> String {
    let path = place.path(out).join("model/weights.safetensors");
    let weights = safetensors::read(&LocalStorage::new(), &path).unwrap_or_else(|e| panic!("{e}"));
    let mut hasher = Sha256::new();
    for tensor in weights.tensors.values() {
        hasher.update(tensor.le_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Metrics of all that has classes.
const OF_CLASSES: [&str; 5] = ["f1", "f1_weighted", "precision", "recall", "log_loss"];

#[test]
fn one_object_with_what_applies() {
    check_object(CLASSES, 12, &[&["loss", "accuracy", "top5"], &OF_CLASSES[..]].concat());
    check_object(NUMBERS, 1, &["loss", "rmse", "mae", "r2"]);
    check_object(TWO, 1, &[&["loss", "accuracy", "auc"], &OF_CLASSES[..]].concat());
}

/// With batches of 4, 4 and 2 samples, an epoch's line has the mean over its samples, not the loss of its last batch.
#[test]
fn the_line_of_an_epoch_has_the_mean_loss_of_its_samples() {
    let rows: Vec<String> = (0..10).map(|i| format!("[{i}, {}.5]", i * i * 7 % 31)).collect();
    let place = Place::with(&format!(
        "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\nrows = [{}]\n\
         [model]\nname = \"linear\"\n[train]\nepochs = 3\nbatch = 4\nlr = 0.1\nlog_every_steps = 1\n",
        rows.join(", ")
    ));
    let done = place.run(&["run", "m.toml", "--out", "r"]);
    let told =
        done.stderr.lines().filter_map(|line| line.split_once("train loss ")?.1.split_whitespace().next());
    let told: Vec<f64> = told.map(|number| number.parse().unwrap()).collect();
    let log = place.read("r/metrics.jsonl");
    let losses: Vec<f64> = log
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap()["loss"].as_f64().unwrap())
        .collect();
    assert_eq!((told.len(), losses.len()), (3, 9), "{}", done.stderr);
    for (told, steps) in told.iter().zip(losses.chunks(3)) {
        let mean = (4.0 * steps[0] + 4.0 * steps[1] + 2.0 * steps[2]) / 10.0;
        assert!(
            (told / mean - 1.0).abs() < 1e-3 && (told / steps[2] - 1.0).abs() > 1e-3,
            "{told} of {steps:?}"
        );
    }
}

#[test]
fn one_object_for_a_language_model() {
    let place = Place::with(TOKENS);
    place.write("t.txt", "How much wood would a woodchuck chuck if a woodchuck could chuck wood? ".repeat(9));
    let result = place.json(&["run", "m.toml", "--out", "r"]);
    for split in ["train", "test"] {
        let (loss, perplexity) = (&result[split]["loss"], &result[split]["perplexity"]);
        let expect = loss.as_f64().unwrap().exp();
        assert!((perplexity.as_f64().unwrap() / expect - 1.0).abs() < 1e-9, "{result}");
    }
    assert_eq!(result["weights_sha256"], digest(&place, "r"));
}

#[test]
fn train_gives_an_object_without_metrics() {
    let place = Place::with(CLASSES);
    let result = place.json(&["train", "m.toml", "--out", "r"]);
    for key in ["run", "steps", "train_seconds", "samples_per_s", "weights_sha256", "cpu_utilisation"] {
        assert!(!result[key].is_null(), "{key}: {result}");
    }
    assert_eq!(result["weights_sha256"], digest(&place, "r"));
    assert!(!place.path("r/report.html").exists());
}

#[test]
fn people_get_text() {
    let place = Place::with(CLASSES);
    let done = place.run(&["run", "m.toml"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for word in ["train", "validation", "test", "accuracy", "samples/s", "runs/m/report.html", "runs/m/model"]
    {
        assert!(done.stdout.contains(word), "{word}: {}", done.stdout);
    }
    assert!(place.path("runs/m/report.html").is_file());
    let quiet = place.run(&["run", "m.toml", "--out", "q", "--quiet"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    assert!(quiet.stdout.contains("accuracy"));
}

#[test]
fn exit_codes_and_errors() {
    let place = Place::with(CLASSES);
    place.write("broken.toml", "[data\n");
    // Done.
    assert_eq!(place.run(&["run", "m.toml", "--quiet"]).code, 0);
    // Failed: diagnostics on stderr, and with --json as one object on stdout.
    for args in [
        &["run", "nowhere.toml"][..],
        &["train", "broken.toml"],
        &["eval", "m.toml", "--out", "nowhere"],
        &["run", "m.toml", "--kernel-path", "abacus"],
        &["run", "m.toml", "--threads", "1000000"],
        &["data", "prepare", "m.toml", "--threads", "1000000"],
        &["run", "m.toml", "--set", "train.batch=0"],
        &["run", "m.toml", "--out", "m.toml"],
        &["run", "m.toml", "--out", "m.toml/below"],
    ] {
        assert!(!place.refused(args).is_empty());
        let plain = place.run(args);
        assert_eq!((plain.code, plain.stdout.as_str()), (1, ""), "{args:?}");
        let quiet = place.run(&[args, &["--quiet"]].concat());
        assert!(quiet.code == 1 && quiet.stderr.contains("error"), "{args:?}: {}", quiet.stderr);
    }
    // Wrong usage.
    for args in [
        &["run", "m.toml", "--sett", "seed=1"][..],
        &["run", "m.toml", "--threads", "0"],
        &["run", "m.toml", "--threads", "many"],
        &["run", "m.toml", "n.toml"],
    ] {
        let done = place.run(args);
        assert!(done.code == 2 && done.stdout.is_empty() && !done.stderr.is_empty(), "{args:?}: {done:?}");
        let json = place.run(&[args, &["--json"]].concat());
        assert_eq!((json.code, &json.stderr), (2, &done.stderr), "{args:?}");
        let errors: Json = serde_json::from_str(&json.stdout).unwrap_or_else(|e| panic!("{e}: {json:?}"));
        let error = &errors["errors"][0];
        assert_eq!(error["code"], "cli.usage");
        assert!(done.stderr.contains(error["problem"].as_str().unwrap()), "{error}");
        assert!(error["help"].is_string(), "{error}");
    }
    let colour = place.run(&["schema", "--color", "red", "--json"]);
    let errors: Json = serde_json::from_str(&colour.stdout).unwrap();
    assert_eq!(errors["errors"][0]["expected"], "auto, always, never");
    // Help is what was asked for, also with --json.
    let help = place.run(&["run", "--help", "--json"]);
    assert!(help.code == 0 && help.stdout.contains("Usage:"), "{help:?}");
}

#[test]
fn set_overrides_any_key() {
    let place = Place::with(CLASSES);
    let sets = ["train.epochs=1", "train.batch=50", "model.hidden=[7]", "data.samples=200", "seed=9"];
    let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let result = place.json(&[&["run", "m.toml", "--out", "r"][..], &args].concat());
    assert_eq!(result["parameters"], 28 * 28 * 7 + 7 + 7 * 10 + 10);
    let rows =
        result["train"]["samples"].as_u64().unwrap() + result["validation"]["samples"].as_u64().unwrap();
    assert_eq!(rows, 200);
    let resolved = place.read("r/manifest.toml");
    for line in ["epochs = 1", "batch = 50", "hidden = [7]", "samples = 200", "seed = 9"] {
        assert!(resolved.contains(line), "{line}: {resolved}");
    }
    // The resolved manifest is one to run, and names the same run.
    let again = Place::with(&resolved);
    assert_eq!(again.json(&["run", "m.toml", "--out", "r"])["weights_sha256"], result["weights_sha256"]);
    let errors = place.refused(&["run", "m.toml", "--set", "train.epoch=1"]);
    assert!(errors[0]["help"].as_str().unwrap().contains("epochs"), "{errors:?}");
}

/// A second run into the same folder is refused as long as the first one lives, and harms it in nothing.
#[test]
fn a_folder_has_one_run_at_a_time() {
    let place = Place::with(CLASSES);
    let long = [
        "run",
        "m.toml",
        "--out",
        "r",
        "--set",
        "train.epochs=1000000",
        "--set",
        "train.checkpoint_every_steps=9",
    ];
    let mut first = place.start(&long);
    while checkpoints(&place.path("r")).is_empty() {
        assert!(first.try_wait().unwrap().is_none(), "the first run ended by itself");
        std::thread::sleep(Duration::from_millis(2));
    }
    for more in [&[][..], &["--fresh"]] {
        let errors = place.refused(&[&long[..], more].concat());
        assert_eq!(errors[0]["code"], "run.folder");
        let id = first.id().to_string();
        assert!(errors[0]["problem"].as_str().unwrap().contains(&id), "{errors:?}");
        assert!(errors[0]["help"].as_str().unwrap().contains("--out"), "{errors:?}");
    }
    assert!(first.try_wait().unwrap().is_none(), "the first run goes on");
    assert!(!checkpoints(&place.path("r")).is_empty());
    // Another folder, and the same prepared data, are free.
    place.json(&["run", "m.toml", "--out", "other"]);
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock died with its process.
    let errors = place.refused(&["run", "m.toml", "--out", "r", "--set", "train.lr=0.5"]);
    assert_eq!(errors[0]["code"], "run.changed");
}

#[test]
fn a_run_leaves_all_that_belongs_to_it() {
    let place = Place::with(CLASSES);
    place.json(&["run", "m.toml", "--out", "r", "--set", "train.checkpoint_every_steps=3"]);
    let files = files(&place.path("r"));
    // Parts have names by their content.
    let name = |path: &std::path::PathBuf| match path.to_string_lossy().strip_suffix(".safetensors") {
        Some(stem) if stem.starts_with("checkpoints") => format!("{}-", stem.rsplit_once('-').unwrap().0),
        _ => path.to_string_lossy().into_owned(),
    };
    let names: Vec<String> = files.keys().map(name).collect();
    let expect = [
        "checkpoints/step-00000006-",
        "checkpoints/step-00000006.json",
        "checkpoints/step-00000009-",
        "checkpoints/step-00000009.json",
        "checkpoints/step-00000012-",
        "checkpoints/step-00000012.json",
        "manifest.toml",
        "metrics.jsonl",
        "model/graph.txt",
        "model/manifest.toml",
        "model/package.json",
        "model/transform.json",
        "model/weights.safetensors",
        "report.html",
        "result.json",
        "run.json",
    ];
    assert_eq!(names, expect);
    let lines: Vec<Json> =
        place.read("r/metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |split: &str| lines.iter().filter(|line| line["split"] == split).collect::<Vec<_>>();
    let steps: Vec<u64> = of("train").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=12).collect::<Vec<u64>>());
    assert_eq!(
        of("validation").iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(),
        [6, 12]
    );
    for line in &lines {
        assert!(
            line["loss"].as_f64().is_some_and(f64::is_finite) && line["epoch"].as_u64().is_some(),
            "{line}"
        );
    }
    for part in checkpoint_parts(&place.path("r")) {
        let read = safetensors::read(&LocalStorage::new(), &part);
        assert!(read.is_ok(), "any tool that reads safetensors can look into a checkpoint");
    }
}

/// The page loads nothing from anywhere and shows what the issue names.
#[test]
fn the_report_needs_no_network() {
    let place = Place::with(CLASSES);
    place.json(&["run", "m.toml", "--out", "r"]);
    let page = place.read("r/report.html");
    let lower = page.to_lowercase();
    assert!(lower.starts_with("<!doctype html>") && lower.trim_end().ends_with("</html>"));
    for address in ["http://", "https://"] {
        for (at, _) in lower.match_indices(address) {
            // The name of the SVG language is the one address in it; nothing is loaded by it.
            assert!(lower[at..].starts_with("http://www.w3.org/"), "{}", &lower[at..at + 60]);
        }
    }
    for loader in ["<script src", "<link", "@import", "src=\"//", "url(//", "<iframe", "fetch("] {
        assert!(!lower.contains(loader), "{loader}");
    }
    for word in ["loss", "accuracy", "confusion", "memory", "spent computing", "data:image/png;base64,"] {
        assert!(lower.contains(word), "{word}");
    }
}

/// The same page in a real browser, where there is one.
#[test]
fn the_report_opens_in_a_browser() {
    let place = Place::with(CLASSES);
    place.json(&["run", "m.toml", "--out", "r"]);
    let browser = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        std::process::Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success())
    });
    let Some(browser) = browser else {
        common::skipped("there is no Chromium");
        return;
    };
    let address = format!("file://{}", place.path("r/report.html").display());
    let profile = format!("--user-data-dir={}", place.path("profile").display());
    let mut command = std::process::Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        &profile,
    ]);
    let done = finish(command.args(["--dump-dom", &address]).current_dir(place.path("")), browser);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("<svg") && done.stdout.contains("Confusion"), "the page is empty");
}

/// A table with this many rows.
fn table(rows: usize) -> String {
    let lines: String = (0..rows).map(|i| format!("{i},{}\n", 2 * i)).collect();
    format!("x,y\n{lines}")
}

/// Relative paths: the folder of `--data`, else that of `$OUTGROW_DATA`, else the manifest's own.
#[test]
fn data_is_looked_for_in_three_places() {
    let place = Place::new();
    place.write(
        "manifests/m.toml",
        NUMBERS.replace("\"rows\"", "\"csv\"\nfiles = \"sets/t.csv\"").replace(
            "columns = [\"x\", \"y\"]\nlabel = \"y\"\nrows = [[1, 2], [2, 4], [3, 6], [4, 8]]\ntest = { rows = [[5, 10], [6, 12]] }\n",
            "label = \"y\"\n",
        ),
    );
    let rows = |flags: &[&str], variable: Option<&str>| -> Result<Json, Json> {
        let args = [&["data", "prepare", "manifests/m.toml", "--json"][..], flags].concat();
        let mut command = place.command(&args);
        if let Some(folder) = variable {
            command.env("OUTGROW_DATA", place.path(folder));
        }
        let done = finish(&mut command, "prepare");
        if done.code == 0 { Ok(done.object()["rows_in"].clone()) } else { Err(done.errors()[0].clone()) }
    };
    let missing = rows(&["--data", "given"], Some("variable")).unwrap_err();
    assert_eq!(missing["code"], "data.not-found");
    for folder in ["given/sets/t.csv", "variable/sets/t.csv", "manifests/sets/t.csv"] {
        assert!(missing["expected"].as_str().unwrap().contains(folder), "{missing}");
    }
    place.write("manifests/sets/t.csv", table(11));
    assert_eq!(rows(&[], None).unwrap(), 11);
    assert_eq!(rows(&["--data", "given"], Some("variable")).unwrap(), 11);
    place.write("variable/sets/t.csv", table(22));
    assert_eq!(rows(&["--data", "given"], Some("variable")).unwrap(), 22);
    assert_eq!(rows(&[], Some("variable")).unwrap(), 22);
    assert_eq!(rows(&[], None).unwrap(), 11);
    place.write("given/sets/t.csv", table(33));
    assert_eq!(rows(&["--data", "given"], Some("variable")).unwrap(), 33);
    // A well-known data set that is missing says where to get it.
    let mnist = "[data]\nsource = \"idx\"\nimages = \"mnist/a.gz\"\nlabels = \"mnist/b.gz\"\n";
    place.write("manifests/m.toml", format!("{mnist}{}", &NUMBERS[NUMBERS.find("[model]").unwrap()..]));
    let help = rows(&[], None).unwrap_err()["help"].as_str().unwrap().to_owned();
    assert!(help.contains("train-images-idx3-ubyte.gz"), "{help}");
}

/// What is prepared once serves every later run, and what has changed is prepared anew.
#[test]
fn prepared_data_is_kept_and_told_apart() {
    let place = Place::with(&NUMBERS.replace(
        "source = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\nrows = [[1, 2], [2, 4], [3, 6], [4, 8]]\n",
        "source = \"csv\"\nfiles = \"t.csv\"\nlabel = \"y\"\n",
    ).replace("test = { rows = [[5, 10], [6, 12]] }\n", ""));
    place.write("t.csv", table(8));
    place.json(&["run", "m.toml", "--out", "r", "--cache", "mine"]);
    let prepare = || place.json(&["data", "prepare", "m.toml", "--cache", "mine"]);
    assert_eq!(prepare()["reused"], true);
    assert!(!place.path("cache/outgrow").exists(), "the user's cache is not touched");
    place.write("t.csv", table(9));
    assert_eq!(prepare()["reused"], false);
    // The run was of other data: it is not continued with these.
    let errors = place.refused(&["run", "m.toml", "--out", "r", "--cache", "mine"]);
    assert_eq!(errors[0]["code"], "run.changed");
}

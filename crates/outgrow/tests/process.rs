//! The binary as people and scripts meet it: output, errors and exit codes.

use std::path::Path;
use std::process::{Command, Output};

use expect_test::{Expect, expect};
use serde_json::Value as Json;

fn outgrow(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outgrow"))
        .args(args)
        .current_dir(folder)
        .env_remove("OUTGROW_DATA")
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, stdout and stderr at once.
fn check(folder: &Path, args: &[&str], expect: Expect) {
    let output = outgrow(folder, args);
    let code = output.status.code().expect("an exit code");
    let all = format!("exit {code}\n{}---\n{}", text(&output.stdout), text(&output.stderr));
    expect.assert_eq(&all.replace('\x1b', "␛"));
}

const SMALL: &str = "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\n\
    rows = [[1, 2], [2, 4], [3, 6], [4, 8]]\n[model]\nname = \"linear\"\n[train]\nepochs = 1\nbatch = 4\n";

#[test]
fn init_writes_a_manifest_once() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    check(
        here,
        &["init"],
        expect![[r#"
        exit 0
        wrote outgrow.toml: drawings of ten characters, made up on the spot: needs no files
        next: outgrow run outgrow.toml
        ---
    "#]],
    );
    let written = std::fs::read_to_string(here.join("outgrow.toml")).unwrap();
    check(
        here,
        &["init"],
        expect![[r#"
        exit 1
        ---
        error: there is a file of this name already [init.file]
          --> outgrow.toml
           = help: choose another name, or add --force to replace it
    "#]],
    );
    assert_eq!(std::fs::read_to_string(here.join("outgrow.toml")).unwrap(), written);
    check(
        here,
        &["init", "--force", "--template", "csv", "--json"],
        expect![[r#"
        exit 0
        {"manifest":"outgrow.toml","template":"csv"}
        ---
    "#]],
    );
    check(
        here,
        &["init", "--template", "csvs", "other.toml"],
        expect![[r#"
        exit 1
        ---
        error: there is no template `csvs` [init.template]
           = expected: one of: glyphs (drawings of ten characters, made up on the spot: needs no files); csv (a table in a CSV file, one column of which is predicted); parquet (a table in a Parquet file, one column of which is predicted); folder (images (PNG, JPEG or WebP) in a folder for each class); images (images (PNG or JPEG) and their classes in Parquet files, as on the Hugging Face Hub); text (a language model over the characters of a text)
    "#]],
    );
    check(
        here,
        &["init", "no/such/folder.toml"],
        expect![[r#"
            exit 1
            ---
            error: the manifest cannot be written: No such file or directory (os error 2) [init.file]
              --> no/such/folder.toml
               = help: name a file in a folder that is there and that may be written to, on a disk with room
        "#]],
    );
}

#[test]
fn the_schema_is_json_and_knows_every_section() {
    let folder = tempfile::tempdir().unwrap();
    for flags in [&["schema"][..], &["schema", "--json"]] {
        let output = outgrow(folder.path(), flags);
        assert!(output.status.success());
        let schema: Json = serde_json::from_slice(&output.stdout).unwrap();
        for section in ["data", "model", "train"] {
            assert!(schema["properties"][section].is_object(), "{section}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
    assert_eq!(text(&outgrow(folder.path(), &["schema", "--json"]).stdout).lines().count(), 1);
}

#[test]
fn mistakes_in_a_manifest_are_shown_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.toml"), SMALL.replace("epochs", "epoch").replace("linear", "liner"))
        .unwrap();
    check(
        folder.path(),
        &["data", "inspect", "m.toml"],
        expect![[r#"
            exit 1
            ---
            error: `name` cannot be "liner" [manifest.value]
             --> m.toml:7:8 (model.name)
              |
            7 | name = "liner"
              |        ^^^^^^^
              = expected: one of "linear", "logistic", "mlp", "realmlp", "lenet", "resnet18", "resnet34", "resnet50", "gpt", "wide-deep", "onnx"
              = help: did you mean "linear"?

            error: unknown key `epoch` [manifest.unknown-key]
             --> m.toml:9:1 (train.epoch)
              |
            9 | epoch = 1
              | ^^^^^
              = help: did you mean `epochs`?
        "#]],
    );
    check(
        folder.path(),
        &["data", "inspect", "m.toml", "--json", "--color", "always"],
        expect![[r#"
            exit 1
            {"errors":[{"code":"manifest.value","file":"m.toml","line":7,"column":8,"item":"model.name","problem":"`name` cannot be \"liner\"","expected":"one of \"linear\", \"logistic\", \"mlp\", \"realmlp\", \"lenet\", \"resnet18\", \"resnet34\", \"resnet50\", \"gpt\", \"wide-deep\", \"onnx\"","help":"did you mean \"linear\"?"},{"code":"manifest.unknown-key","file":"m.toml","line":9,"column":1,"item":"train.epoch","problem":"unknown key `epoch`","help":"did you mean `epochs`?"}]}
            ---
            ␛[1;31merror␛[0m: ␛[1m`name` cannot be "liner"␛[0m [manifest.value]
             ␛[34m-->␛[0m m.toml:7:8 (model.name)
              ␛[34m|␛[0m
            ␛[34m7␛[0m ␛[34m|␛[0m name = "liner"
              ␛[34m|␛[0m        ␛[1;31m^^^^^^^␛[0m
              ␛[34m=␛[0m expected: one of "linear", "logistic", "mlp", "realmlp", "lenet", "resnet18", "resnet34", "resnet50", "gpt", "wide-deep", "onnx"
              ␛[34m=␛[0m ␛[32mhelp␛[0m: did you mean "linear"?

            ␛[1;31merror␛[0m: ␛[1munknown key `epoch`␛[0m [manifest.unknown-key]
             ␛[34m-->␛[0m m.toml:9:1 (train.epoch)
              ␛[34m|␛[0m
            ␛[34m9␛[0m ␛[34m|␛[0m epoch = 1
              ␛[34m|␛[0m ␛[1;31m^^^^^␛[0m
              ␛[34m=␛[0m ␛[32mhelp␛[0m: did you mean `epochs`?
        "#]],
    );
    check(
        folder.path(),
        &["data", "inspect", "missing.toml"],
        expect![[r#"
        exit 1
        ---
        error: the manifest cannot be read: No such file or directory (os error 2) [manifest.file]
          --> missing.toml
           = help: `outgrow init` writes a manifest to start from
    "#]],
    );
    check(
        folder.path(),
        &["data", "inspect", "."],
        expect![[r#"
            exit 1
            ---
            error: the manifest is not a file [manifest.file]
              --> .
               = expected: a TOML file, such as `outgrow init` writes, or the folder of a run
        "#]],
    );
    std::fs::write(folder.path().join("bytes.toml"), b"seed = 1\nname = \"\xff\"\n").unwrap();
    check(
        folder.path(),
        &["data", "inspect", "bytes.toml"],
        expect![[r#"
            exit 1
            ---
            error: the manifest is not UTF-8 text [manifest.file]
              --> bytes.toml:2
               = help: save it as UTF-8
        "#]],
    );
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["fly"][..],
        &["data"],
        &["schema", "--colour", "always"],
        &["data", "prepare", "--threads", "0"],
        &[],
    ] {
        assert_eq!(outgrow(folder.path(), args).status.code(), Some(2), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["help", "data"], &["data", "prepare", "--help"]] {
        assert_eq!(outgrow(folder.path(), args).status.code(), Some(0), "{args:?}");
    }
    let help = text(&outgrow(folder.path(), &["--help"]).stdout);
    assert!(help.contains("Exit codes:") && help.contains("Examples:"));
}

#[test]
fn data_is_prepared_once_inspected_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.toml"), SMALL).unwrap();
    let read = |args: &[&str]| -> Json {
        let output = outgrow(folder.path(), args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = read(&["data", "prepare", "m.toml", "--json"]);
    assert_eq!(
        (&first["reused"], &first["rows_in"], &first["rows_left"]),
        (&false.into(), &4.into(), &4.into())
    );
    let second = read(&["data", "inspect", "m.toml", "--json"]);
    assert_eq!((&second["reused"], &second["fingerprint"]), (&true.into(), &first["fingerprint"]));
    assert_eq!(read(&["data", "verify", "m.toml", "--json"])["verified"], true);

    // A flipped bit in a shard is found, and the shard is named.
    let data = Path::new(first["data"].as_str().unwrap()).to_owned();
    let shard = std::fs::read_dir(folder.path().join(&data))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("train")))
        .expect("a shard of the training split");
    let mut bytes = std::fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let output = outgrow(folder.path(), &["data", "verify", "m.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&*shard.file_name().unwrap().to_string_lossy()),
        "{}",
        text(&output.stderr)
    );
}

fn check_changed(from: &str, to: &str, expect: Expect) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.toml"), SMALL.replace(from, to)).unwrap();
    check(folder.path(), &["data", "prepare", "m.toml"], expect);
}

#[test]
fn mistakes_that_only_the_data_shows_point_into_the_manifest() {
    check_changed(
        "label = \"y\"",
        "label = \"z\"",
        expect![[r#"
        exit 1
        ---
        error: there is no column `z` [data.unknown-column]
         --> m.toml:4:9 (data.label)
          |
        4 | label = "z"
          |         ^^^
          = expected: one of: x, y
    "#]],
    );
    check_changed(
        "[3, 6]",
        "[3]",
        expect![[r#"
        exit 1
        ---
        error: the row has 1 field [data.rows.row]
         --> m.toml:5:25 (data.rows[2])
          |
        5 | rows = [[1, 2], [2, 4], [3], [4, 8]]
          |                         ^
          = expected: 2 fields
    "#]],
    );
    check_changed(
        "[model]",
        "split = { test = 1.5 }\n[model]",
        expect![[r#"
        exit 1
        ---
        error: the split leaves nothing to train on [data.split]
         --> m.toml:6:1 (data.split)
          |
        6 | split = { test = 1.5 }
          | ^^^^^
          = expected: fractions from 0 that add up to less than 1
    "#]],
    );
    check_changed(
        "source = \"rows\"",
        "source = \"csv\"\nfiles = \"x.csv\"",
        expect![[r#"
            exit 1
            ---
            error: source `csv` does not take `rows` [data.key]
             --> m.toml:6:8 (data.rows)
              |
            6 | rows = [[1, 2], [2, 4], [3, 6], [4, 8]]
              |        ^
              = expected: one of: files, columns, header, delimiter, trim, comment, missing, types, label, task, features, exclude, source, test, split, seed, classes, target_scaling, normalize, augment, storage, sql, clean, sha256, download_limit
        "#]],
    );
    check_changed(
        "epochs = 1",
        "epochs = 1\n[serve]\nport = 80",
        expect![[r#"
            exit 1
            ---
            error: `[serve]` is not available yet [manifest.reserved]
              --> m.toml:10:2 (serve)
               |
            10 | [serve]
               |  ^^^^^
               = expected: the sections [data], [model], [train], [limits], [cluster] and [report]
               = help: remove the section; it is kept for serving, which this version cannot do
        "#]],
    );
}

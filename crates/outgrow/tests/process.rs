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
    expect.assert_eq(&format!("exit {code}\n{}---\n{}", text(&output.stdout), text(&output.stderr)));
}

const SMALL: &str = "[data]\nsource = \"rows\"\ncolumns = [\"x\", \"y\"]\nlabel = \"y\"\n\
    rows = [[1, 2], [2, 4], [3, 6], [4, 8]]\n[model]\nname = \"linear\"\n[train]\nepochs = 1\nbatch = 4\n";

#[test]
fn init_writes_a_manifest_once() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    check(here, &["init"], expect![[r#""#]]);
    let written = std::fs::read_to_string(here.join("outgrow.toml")).unwrap();
    check(here, &["init"], expect![[r#""#]]);
    assert_eq!(std::fs::read_to_string(here.join("outgrow.toml")).unwrap(), written);
    check(here, &["init", "--force", "--template", "csv", "--json"], expect![[r#""#]]);
    check(here, &["init", "--template", "csvs", "other.toml"], expect![[r#""#]]);
    check(here, &["init", "no/such/folder.toml"], expect![[r#""#]]);
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
    check(folder.path(), &["data", "inspect", "m.toml"], expect![[r#""#]]);
    check(folder.path(), &["data", "inspect", "m.toml", "--json", "--color", "always"], expect![[r#""#]]);
    check(folder.path(), &["data", "inspect", "missing.toml"], expect![[r#""#]]);
    check(folder.path(), &["data", "inspect", "."], expect![[r#""#]]);
    std::fs::write(folder.path().join("bytes.toml"), b"seed = 1\nname = \"\xff\"\n").unwrap();
    check(folder.path(), &["data", "inspect", "bytes.toml"], expect![[r#""#]]);
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

#[test]
fn mistakes_that_only_the_data_shows_point_into_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    for (change, expect) in [
        (("source = \"rows\"", "source = \"row\""), expect![[r#""#]]),
        (("label = \"y\"", "label = \"z\""), expect![[r#""#]]),
        (("[3, 6]", "[3, \"x\"]"), expect![[r#""#]]),
        (("epochs = 1", "epochs = 1\n[serve]\nport = 80"), expect![[r#""#]]),
    ] {
        std::fs::write(folder.path().join("m.toml"), SMALL.replace(change.0, change.1)).unwrap();
        check(folder.path(), &["data", "prepare", "m.toml"], expect);
    }
}

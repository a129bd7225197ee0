//! The repository is tidy, and every rule finds what it is there for.

use serde_json::json;
use std::path::Path;
use xtask::tidy::{
    File, Violation, check, check_layers, check_markdown, check_sources, check_text, read_files,
};

#[test]
fn the_repository_is_tidy() {
    let violations = check(&xtask::root()).unwrap();
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "{} rules broken:\n{}", list.len(), list.join("\n"));
}

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

/// The violations as `path:line: problem`.
fn told(violations: &[Violation]) -> Vec<String> {
    violations.iter().map(|v| format!("{}:{}: {}", v.file, v.line, v.problem)).collect()
}

#[test]
fn rules_for_sources() {
    let long = |n: usize| format!("//! Long.\n{}", "\n".repeat(n - 1));
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("a/good.rs", "//! What it is.\nfn f() {}\n".to_owned(), &[]),
        ("a/bare.rs", "fn f() {}\n".to_owned(), &["a/bare.rs:1: the module does not open with `//!`"]),
        ("a/empty.rs", String::new(), &["a/empty.rs:1: the module does not open with `//!`"]),
        ("a/hollow.rs", "//!\n//! x\n".to_owned(), &["a/hollow.rs:1: the module does not open with `//!`"]),
        ("a/limit.rs", long(800), &[]),
        ("a/long.rs", long(801), &["a/long.rs:801: the file has 801 lines, at most 800 are allowed"]),
        ("a/long.txt", long(801), &[]),
        (
            "a/block.rs",
            "//! It.\nlet x = unsafe { 1 };".to_owned(),
            &["a/block.rs:2: unsafe code outside crates/kernels"],
        ),
        (
            "a/item.rs",
            "//! It.\npub unsafe fn f() {}".to_owned(),
            &["a/item.rs:2: unsafe code outside crates/kernels"],
        ),
        (
            "a/allow.rs",
            concat!("//! It.\n#![allow(", "unsafe_code)]").to_owned(),
            &["a/allow.rs:2: unsafe code outside crates/kernels"],
        ),
        ("a/word.rs", "//! It.\n// unsafe { }\nlet s = \"unsafe\"; let not_unsafe = 1;".to_owned(), &[]),
        ("crates/kernels/src/x.rs", "//! It.\nunsafe { 1 }".to_owned(), &[]),
        ("crates/env/src/storage/map.rs", "//! It.\nunsafe { 1 }".to_owned(), &[]),
        (
            "crates/env/src/storage/local.rs",
            "//! It.\nunsafe { 1 }".to_owned(),
            &["crates/env/src/storage/local.rs:2: unsafe code outside crates/kernels"],
        ),
    ];
    for (path, text, expected) in cases {
        assert_eq!(told(&check_sources(&[file(path, &text)])), expected, "{path}");
    }
}

#[test]
fn rules_for_text() {
    let text = format!("fine\nsee {}wo{}\n<<<<<<< HEAD\n", "/", "rk/main");
    let violations = check_text(&[file("docs/x.md", &text)]);
    assert_eq!(
        told(&violations),
        [
            format!("docs/x.md:2: `/{}/` is a path of one machine", "work"),
            "docs/x.md:3: a merge was not finished".into()
        ]
    );
}

#[test]
fn rules_for_layers() {
    let manifest = |name: &str, dependencies: &str| {
        let text = format!(
            "[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n[dependencies]\n{dependencies}"
        );
        file(&format!("crates/{name}/Cargo.toml"), &text)
    };
    let package = |name: &str, dependencies: &[(&str, Option<&str>)]| {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, kind)| json!({"name": name, "kind": kind, "path": "somewhere"}))
            .chain([json!({"name": "serde", "kind": null})])
            .collect();
        json!({"name": name, "manifest_path": format!("any/crates/{name}/Cargo.toml"), "dependencies": dependencies})
    };
    let metadata = json!({"packages": [
        package("tensor", &[("outgrow-ir", Some("dev"))]),
        package("ir", &[("outgrow-tensor", None), ("outgrow-kernels", None)]),
        package("store", &[("outgrow-env", None), ("outgrow-train", Some("build"))]),
        package("novel", &[]),
        json!({"name": "xtask", "manifest_path": "any/xtask/Cargo.toml", "dependencies": []}),
    ]});
    let files = [
        manifest("tensor", "outgrow-ir"),
        manifest("ir", "outgrow-tensor.workspace = true\noutgrow-kernels.workspace = true"),
        manifest("store", "outgrow-train.workspace = true"),
        file("crates/novel/Cargo.toml", "[package]\nname = \"novel\"\n"),
    ];
    assert_eq!(
        told(&check_layers(&metadata, &files)),
        [
            "crates/ir/Cargo.toml:7: `ir` (layer 1) depends on `kernels` (layer 1)",
            "crates/store/Cargo.toml:6: `store` (layer 2) depends on `train` (layer 5)",
            "crates/novel/Cargo.toml:1: the crate does not use the workspace's lints",
            "crates/novel/Cargo.toml:2: the crate `novel` has no layer",
        ]
    );
}

#[test]
fn rules_for_markdown() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("examples/good.toml", "");
    write("docs/page.md", "[up](../README.md) [web](https://x.y) [here](#part) [gone](gone.md)\n");
    write("crates/outgrow/src/main.rs", "//! It.\nenum Command {\n    Run(Arguments),\n    TuneLr,\n}\n");
    write("target/ignored.md", "[gone](gone.md)");
    let readme = "`cargo run --release -- run examples/good.toml`, `outgrow fly`\n```sh\n\
        $ cargo run --release -- tune-lr examples/gone.toml # slow\ncargo xtask tidy\ncargo xtask clean\n.ci/run\n```\n";
    write("README.md", readme);
    let files = read_files(folder.path()).unwrap();
    assert!(files.iter().all(|f| Path::new(&f.path).is_relative() && !f.path.starts_with("target")));
    assert_eq!(
        told(&check_markdown(folder.path(), &files)),
        [
            "README.md:1: the program has no command `fly`",
            "README.md:3: there is no file `examples/gone.toml`",
            "README.md:5: there is no task `clean`",
            "README.md:6: there is no file `.ci/run`",
            "docs/page.md:1: the link to `gone.md` leads nowhere",
        ]
    );
}

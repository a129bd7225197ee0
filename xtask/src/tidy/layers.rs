//! The layer graph: a crate may depend only on crates of lower layers, never on its siblings. Dev-dependencies are
//! exempt.

use super::{File, Violation};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Every crate of `crates/` with its layer, as ARCHITECTURE.md has it.
const LAYERS: &[(&str, u32)] = &[
    ("tensor", 0),
    ("env", 0),
    ("ir", 1),
    ("kernels", 1),
    ("passes", 2),
    ("onnx", 2),
    ("models", 2),
    ("transform", 2),
    ("store", 2),
    ("sql", 3),
    ("plan", 3),
    ("runtime", 4),
    ("data", 5),
    ("train", 5),
    ("compress", 6),
    ("tasks", 6),
    ("predict", 6),
    ("serve", 7),
    ("outgrow", 8),
];

/// What `cargo metadata` says about the workspace's own packages.
pub fn metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cargo metadata did not print JSON")
}

/// Checks the dependencies among the workspace's crates.
pub fn check_layers(metadata: &Value, files: &[File]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in array(&metadata["packages"]) {
        let Some((folder, manifest)) = manifest_of(package, files) else { continue };
        let at = |text: &str| manifest.lines().find(|(_, line)| line.contains(text)).map_or(1, |(n, _)| n);
        if !manifest.text.contains("[lints]\nworkspace = true") {
            violations.push(manifest.violation(
                1,
                "the crate does not use the workspace's lints",
                "add `[lints]` with `workspace = true`",
            ));
        }
        let Some(layer) = layer_of(folder) else {
            violations.push(manifest.violation(
                at("name ="),
                format!("the crate `{folder}` has no layer"),
                "add it to LAYERS in xtask/src/tidy/layers.rs and to ARCHITECTURE.md",
            ));
            continue;
        };
        for dependency in array(&package["dependencies"]) {
            let name = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"] == "dev" || !is_ours(dependency) {
                continue;
            }
            let folder_of_dependency = name.strip_prefix("outgrow-").unwrap_or(name);
            if layer_of(folder_of_dependency).is_none_or(|below| below >= layer) {
                let theirs = layer_of(folder_of_dependency).map_or("none".to_owned(), |l| l.to_string());
                violations.push(manifest.violation(
                    at(name),
                    format!(
                        "`{folder}` (layer {layer}) depends on `{folder_of_dependency}` (layer {theirs})"
                    ),
                    "depend only on lower layers: move what both need further down, or meet through `store`",
                ));
            }
        }
    }
    violations
}

fn layer_of(folder: &str) -> Option<u32> {
    LAYERS.iter().find(|(name, _)| *name == folder).map(|(_, layer)| *layer)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether a dependency is a path within the workspace.
fn is_ours(dependency: &Value) -> bool {
    dependency["path"].is_string()
}

/// The folder below `crates/` of a package, with its Cargo.toml. Packages elsewhere (xtask) belong to no layer.
fn manifest_of<'a>(package: &'a Value, files: &'a [File]) -> Option<(&'a str, &'a File)> {
    let path = package["manifest_path"].as_str()?;
    let (before, name) = path.strip_suffix("/Cargo.toml")?.rsplit_once('/')?;
    let file = files.iter().find(|f| f.path == format!("crates/{name}/Cargo.toml"))?;
    before.ends_with("crates").then_some((name, file))
}

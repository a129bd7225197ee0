//! `cargo xtask deny`: licences, bans and sources of all dependencies, with all features and for all platforms, by the
//! rules of `deny.toml`. That file is cargo-deny's, which says the same and more (advisories) where it is installed.

use crate::tidy::Violation;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const RULES: &str = "deny.toml";
const LOCK: &str = "Cargo.lock";

/// What of `deny.toml` is checked here.
#[derive(Debug, Deserialize)]
pub struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// Checks all dependencies of the workspace at `root`.
pub fn check(root: &Path) -> Result<Vec<Violation>> {
    let rules = std::fs::read_to_string(root.join(RULES)).with_context(|| format!("cannot read {RULES}"))?;
    let rules: Rules = toml::from_str(&rules).with_context(|| format!("cannot read {RULES}"))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata did not print JSON")?;
    let lock = std::fs::read_to_string(root.join(LOCK)).with_context(|| format!("cannot read {LOCK}"))?;
    check_packages(&rules, &metadata, &lock)
}

/// Checks what Cargo's metadata says of each package. Places are lines of the lock file.
pub fn check_packages(rules: &Rules, metadata: &Value, lock: &str) -> Result<Vec<Violation>> {
    let allowed: Vec<spdx::Licensee> = rules
        .licenses
        .allow
        .iter()
        .map(|text| spdx::Licensee::parse(text).with_context(|| format!("{RULES}: `{text}` is no licence")))
        .collect::<Result<_>>()?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut violations = Vec::new();
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        let mut broken = |problem: String, help: &str| {
            let line = line_of(lock, name, version);
            let problem = format!("`{name}` {version} {problem}");
            violations.push(Violation { file: LOCK.to_owned(), line, problem, help: help.to_owned() });
        };
        // What has no source is this workspace's own.
        let Some(source) = package["source"].as_str() else { continue };
        if let Some(banned) = rules.bans.deny.iter().find(|banned| banned.name == name) {
            broken("is banned".to_owned(), &banned.reason);
        }
        let registry = source.strip_prefix("registry+").unwrap_or_default();
        if !rules.sources.allow_registry.iter().any(|allowed| allowed == registry) {
            broken(format!("comes from {source}"), "take it from a registry that deny.toml allows");
        }
        if let Some(problem) = licence_problem(package["license"].as_str(), &allowed) {
            broken(problem, "do without it, or allow its licence in deny.toml if it may be shipped");
        }
    }
    Ok(violations)
}

/// Why a package of this licence may not be used, if so.
fn licence_problem(licence: Option<&str>, allowed: &[spdx::Licensee]) -> Option<String> {
    let Some(licence) = licence else { return Some("names no licence".to_owned()) };
    // Older packages have `MIT/Apache-2.0`.
    match spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX) {
        Err(error) => Some(format!("has the licence `{licence}`, which cannot be read: {}", error.reason)),
        Ok(expression) => {
            let fits = expression.evaluate(|req| allowed.iter().any(|licensee| licensee.satisfies(req)));
            (!fits).then(|| format!("has the licence `{licence}`"))
        }
    }
}

/// The line of a package in the lock file, counted from 1.
fn line_of(lock: &str, name: &str, version: &str) -> usize {
    let (name, version) = (format!("name = \"{name}\""), format!("version = \"{version}\""));
    let lines: Vec<&str> = lock.lines().collect();
    lines.windows(2).position(|pair| pair[0] == name && pair[1] == version).map_or(1, |at| at + 1)
}

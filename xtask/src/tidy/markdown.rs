//! Rules for Markdown: links lead somewhere, and the commands that the README shows exist.

use super::{File, Violation};
use std::path::Path;

/// Where the binary's commands are defined.
const BINARY: &str = "crates/outgrow/src/";

/// Checks all Markdown files.
pub fn check_markdown(root: &Path, files: &[File]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|f| f.path.ends_with(".md")) {
        let folder = root.join(Path::new(&file.path).parent().unwrap_or(Path::new("")));
        let mut in_code = false;
        for (number, line) in file.lines() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            } else if !in_code {
                for target in links(line).filter(|target| !folder.join(target).exists()) {
                    violations.push(file.violation(
                        number,
                        format!("the link to `{target}` leads nowhere"),
                        "link to a file that exists, relative to this one",
                    ));
                }
            }
            if file.path == "README.md" {
                let commands: Vec<&str> =
                    if in_code { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
                for problem in commands.iter().flat_map(|command| command_problems(root, files, command)) {
                    violations.push(file.violation(
                        number,
                        problem,
                        "show only commands that work on a fresh checkout",
                    ));
                }
            }
        }
    }
    violations
}

/// The targets of links and images in a line that are files: `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#', ' ']).next())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
}

/// What is wrong with a command line, when it is one of ours.
fn command_problems(root: &Path, files: &[File], command: &str) -> Vec<String> {
    let command = command.trim().trim_start_matches("$ ").split(" #").next().unwrap_or_default();
    let mut problems = Vec::new();
    let arguments: Vec<&str> = if let Some(rest) = command.strip_prefix("cargo run ") {
        rest.split_once("-- ").map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect())
    } else if let Some(rest) = command.strip_prefix("outgrow ") {
        rest.split_whitespace().collect()
    } else if let Some(rest) = command.strip_prefix("cargo xtask ") {
        if rest.split_whitespace().next() != Some("tidy") {
            problems.push(format!("there is no task `{rest}`"));
        }
        return problems;
    } else if command.starts_with(".ci/") || command.starts_with("./") {
        command.split_whitespace().collect()
    } else {
        return problems;
    };
    if command.starts_with("cargo run") || command.starts_with("outgrow ") {
        let name = arguments.first().filter(|a| a.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        if let Some(name) = name.filter(|name| !name.starts_with('-') && !is_command(files, name)) {
            problems.push(format!("the program has no command `{name}`"));
        }
    }
    let paths = arguments.iter().filter(|a| {
        ["examples/", "docs/", "benchmarks/", ".ci/", "./"].iter().any(|start| a.starts_with(start))
    });
    problems.extend(paths.filter(|p| !root.join(p).exists()).map(|p| format!("there is no file `{p}`")));
    problems
}

/// Whether the binary's sources name the command, as text or as a variant: `tune-lr` or `TuneLr`.
fn is_command(files: &[File], name: &str) -> bool {
    let quoted = format!("\"{name}\"");
    let variant: String = name
        .split('-')
        .map(|part| part[..1.min(part.len())].to_ascii_uppercase() + part.get(1..).unwrap_or_default())
        .collect();
    let is_variant = |line: &str| {
        line.trim_start()
            .strip_prefix(variant.as_str())
            .is_some_and(|rest| rest.starts_with(['(', ' ', ',', '{']))
    };
    files
        .iter()
        .filter(|f| f.path.starts_with(BINARY))
        .any(|f| f.text.contains(&quoted) || f.text.lines().any(is_variant))
}

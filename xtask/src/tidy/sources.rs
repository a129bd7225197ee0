//! Rules for Rust files: module docs, size, `unsafe`.

use super::{File, Violation};

/// Longest Rust file in lines.
const LINES_MAX: usize = 800;
/// Longer files, each with its number of lines. They may only shrink; lower the number when they do.
const GRANDFATHERED: &[(&str, usize)] = &[];
/// The only places that may contain unsafe code: the kernels, where files are mapped, and memory that workers share.
const UNSAFE_ALLOWED: [&str; 5] = [
    "crates/kernels/",
    "crates/env/src/storage/map.rs",
    "crates/env/src/transport/memory.rs",
    "crates/env/src/transport/ring.rs",
    "crates/env/src/transport/shared_memory/file.rs",
];

/// Checks every Rust file.
pub fn check_sources(files: &[File]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|f| f.path.ends_with(".rs")) {
        check_docs(file, &mut violations);
        check_size(file, &mut violations);
        if !UNSAFE_ALLOWED.iter().any(|place| file.path.starts_with(place)) {
            check_unsafe(file, &mut violations);
        }
    }
    violations
}

fn check_docs(file: &File, violations: &mut Vec<Violation>) {
    let first = file.text.lines().next().unwrap_or_default();
    let documented = first.strip_prefix("//!").is_some_and(|text| text.trim().len() > 1);
    if !documented {
        violations.push(file.violation(
            1,
            "the module does not open with `//!`",
            "say in its first line what the module is and why it is there",
        ));
    }
}

fn check_size(file: &File, violations: &mut Vec<Violation>) {
    let lines = file.lines().count();
    match GRANDFATHERED.iter().find(|(path, _)| *path == file.path) {
        None if lines > LINES_MAX => violations.push(file.violation(
            LINES_MAX + 1,
            format!("the file has {lines} lines, at most {LINES_MAX} are allowed"),
            "split it by subject",
        )),
        Some((_, limit)) if lines > *limit => violations.push(file.violation(
            limit + 1,
            format!("the file has grown from {limit} to {lines} lines"),
            "it may only shrink: split it by subject",
        )),
        Some((_, limit)) if lines < *limit => violations.push(file.violation(
            1,
            format!("the file has shrunk from {limit} to {lines} lines"),
            "lower its number in GRANDFATHERED in xtask/src/tidy/sources.rs, or remove it there",
        )),
        _ => {}
    }
}

fn check_unsafe(file: &File, violations: &mut Vec<Violation>) {
    for (number, line) in file.lines() {
        let code = line.split("//").next().unwrap_or_default();
        if opens_unsafe(code) || code.contains(concat!("allow(", "unsafe_code")) {
            violations.push(file.violation(
                number,
                "unsafe code outside crates/kernels",
                "write it safely, or move it into crates/kernels with its reason",
            ));
        }
    }
}

/// Whether the keyword `unsafe` opens a block, item or attribute in this code.
fn opens_unsafe(code: &str) -> bool {
    code.match_indices("unsafe").any(|(at, word)| {
        let is_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
        let after = code[at + word.len()..].trim_start();
        let opens =
            ["{", "(", "fn ", "impl ", "impl<", "trait ", "extern "].iter().any(|s| after.starts_with(s));
        is_word && opens
    })
}

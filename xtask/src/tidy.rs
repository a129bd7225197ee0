//! `cargo xtask tidy`: the rules of this repository that neither compiler nor linter knows. All violations are
//! reported, each with its place and how to mend it. Adding a rule is one function, and one line in [`check`].

mod layers;
mod markdown;
mod sources;
mod text;

pub use layers::check_layers;
pub use markdown::check_markdown;
pub use sources::check_sources;
pub use text::check_text;

use anyhow::{Context, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", ".git", "runs", "artifacts"];

/// Files that the repository must have.
const REQUIRED: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "deny.toml",
    ".ci/run",
];

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The file, relative to the root.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// How to mend it.
    pub help: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n  help: {}", self.file, self.line, self.problem, self.help)
    }
}

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path from the root, with `/` between the parts.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl File {
    fn violation(&self, line: usize, problem: impl Into<String>, help: impl Into<String>) -> Violation {
        Violation { file: self.path.clone(), line, problem: problem.into(), help: help.into() }
    }

    /// The lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }
}

/// Checks the repository at `root` by every rule.
pub fn check(root: &Path) -> Result<Vec<Violation>> {
    let files = read_files(root)?;
    let metadata = layers::metadata(root)?;
    let mut violations = check_layers(&metadata, &files);
    violations.extend(check_sources(&files));
    violations.extend(check_text(&files));
    violations.extend(check_markdown(root, &files));
    violations.extend(REQUIRED.iter().filter(|path| !root.join(path).is_file()).map(|path| Violation {
        file: (*path).to_owned(),
        line: 1,
        problem: "the file is missing".to_owned(),
        help: "every checkout has it: write it".to_owned(),
    }));
    violations.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(violations)
}

/// Reads all text files below `root`, ordered by path.
pub fn read_files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        for entry in full.read_dir().with_context(|| format!("cannot list {}", full.display()))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.iter().any(|s| entry.file_name() == *s) {
                folders.push(path);
            } else if kind.is_file()
                // What is not text (images, test data) has no lines to check.
                && let Ok(text) = String::from_utf8(std::fs::read(entry.path())?)
            {
                let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
                files.push(File { path: parts.join("/"), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

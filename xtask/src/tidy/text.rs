//! Words that no file may contain: paths of one developer's machine make nobody else's checkout work.

use super::{File, Violation};

/// Each is written in two pieces, so that this list does not find itself.
const FORBIDDEN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/home", "/"),
    concat!("/Users", "/"),
    concat!("/tmp/", "brief"),
    concat!("/opt/", "peers"),
];

/// Checks every text file.
pub fn check_text(files: &[File]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        for (number, line) in file.lines() {
            if let Some(word) = FORBIDDEN.iter().find(|word| line.contains(**word)) {
                violations.push(file.violation(
                    number,
                    format!("`{word}` is a path of one machine"),
                    "use a path relative to the repository, an argument or a documented variable",
                ));
            }
            if ["<<<<<<< ", ">>>>>>> "].iter().any(|mark| line.starts_with(mark)) {
                violations.push(file.violation(number, "a merge was not finished", "resolve the conflict"));
            }
        }
    }
    violations
}

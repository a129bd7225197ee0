//! Every example and every template of `outgrow init` reads and holds together.

use std::path::{Path, PathBuf};

use outgrow::manifest::{self, TEMPLATES, commented};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect()
}

#[test]
fn every_example_reads() {
    let mut names = Vec::new();
    for path in examples() {
        let manifest = manifest::load(&path, &[]).unwrap_or_else(|found| panic!("{found}"));
        names.push(manifest.name);
    }
    names.sort();
    let expect = [
        "adult-ftrl",
        "cifar10-resnet18",
        "cifar10-resnet50",
        "glyphs",
        "linear",
        "mnist",
        "mnist-lenet",
        "mnist-mlp",
        "shakespeare-gpt",
    ];
    assert_eq!(names, expect);
}

#[test]
fn every_template_reads_and_documents_every_key_of_training() {
    for template in TEMPLATES {
        let text = commented(template);
        let name = template.name;
        let manifest = manifest::parse(&text).unwrap_or_else(|found| panic!("{name}: {found}\n{text}"));
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{name}");
        // Each key that is offered in a comment is accepted when the comment's mark is taken off, or contradicts
        // another key; it is never unknown or of a wrong kind. With a backtick it is an example within a sentence.
        let mut section = "";
        let mut offered = Vec::new();
        for line in text.lines() {
            section = line.strip_prefix('[').map_or(section, |rest| rest.trim_end_matches(']'));
            let key = line.strip_prefix("# ").and_then(|comment| comment.split_once(" = "));
            offered.extend(
                key.filter(|(key, value)| !key.contains(' ') && !value.contains('`'))
                    .map(|(key, value)| (section, key, value)),
            );
        }
        assert!(offered.len() >= 10, "{name}: {offered:?}");
        for (section, key, value) in offered {
            if let Err(found) = manifest::parse_with(&text, None, &[format!("{section}.{key}={value}")]) {
                let code = found.0[0].code;
                assert!(code.starts_with("manifest.train."), "{name}: {key}: {found}");
            }
        }
        assert!(!manifest.fingerprint(None).is_empty());
    }
}

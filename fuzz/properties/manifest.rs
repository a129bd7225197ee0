//! The manifest with its `--set` flags: one that is accepted is written with its defaults filled in and read back as
//! the same; one that is refused says why, at a place that exists. Flags follow the text, each after a zero byte.

use outgrow::diagnose::{Palette, render};
use outgrow::manifest::parse_with;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or_default();
    let flags: Vec<String> = parts.map(str::to_owned).collect();
    let manifest = match parse_with(text, None, &flags) {
        Ok(manifest) => manifest,
        Err(found) => {
            assert!(!found.0.is_empty() && !render(&found, Palette::new(false)).is_empty());
            for diagnostic in &found.0 {
                assert!(!diagnostic.problem.is_empty(), "a refusal says why");
                let line = diagnostic.place.line.unwrap_or(1);
                assert!((1..=text.split('\n').count()).contains(&line), "{diagnostic}");
            }
            return;
        }
    };
    let written = manifest.resolved_toml(None);
    let back = parse_with(&written, None, &[]).unwrap_or_else(|found| panic!("{found}\n{written}"));
    assert_eq!(back.resolved(None), manifest.resolved(None), "{written}");
    assert_eq!(back.fingerprint(None), manifest.fingerprint(None));
}

//! The list of a model package's parts: one that is accepted names plain files in the package's own folder, each once.
//! A random change is stopped by the checksum, so each list is also read with its checksum put right.

use outgrow_store::package::{INDEX, parse_index};
use outgrow_store::sha256;
use serde_json::Value;
use std::collections::BTreeSet;

pub fn check(data: &[u8]) {
    read(data);
    if let Some(sealed) = sealed(data) {
        read(&sealed);
    }
}

fn read(data: &[u8]) {
    let index = match parse_index(data) {
        Ok(index) => index,
        Err(found) => {
            assert!(!found.0.is_empty() && !found.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    let files: BTreeSet<&str> = index.parts.iter().map(|part| part.file.as_str()).collect();
    assert_eq!(files.len(), index.parts.len());
    for file in files {
        assert!(!file.contains(['/', '\\', '\0']) && !file.starts_with('.') && file != INDEX, "{file}");
    }
    let written = serde_json::to_vec(&index).expect("what was read can be written");
    assert_eq!(parse_index(&written).expect("what was written can be read"), index);
}

/// The same list with its checksum as it should be.
fn sealed(data: &[u8]) -> Option<Vec<u8>> {
    let mut json: Value = serde_json::from_slice(data).ok()?;
    let line = |json: &Value, key: &str| match json.get(key)? {
        Value::String(text) => Some(format!("{text}\n")),
        other => Some(format!("{other}\n")),
    };
    let mut text = line(&json, "format")? + &line(&json, "version")?;
    for part in json.get("parts")?.as_array()? {
        for key in ["name", "file", "bytes", "sha256"] {
            text += &line(part, key)?;
        }
    }
    *json.get_mut("sha256")? = sha256::hex(text.as_bytes()).into();
    serde_json::to_vec(&json).ok()
}

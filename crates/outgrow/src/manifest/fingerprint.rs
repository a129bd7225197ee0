//! The resolved manifest and its fingerprint: by it a run knows whether it is asked to continue what it began.

use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use super::ManifestSpec;

/// Keys that say how or how often something is done, but have no part in the result.
const NOT_COUNTED: &[&str] = &[
    "/name",
    "/limits",
    "/cluster",
    "/report",
    "/data/storage",
    "/train/checkpoint_every_steps",
    "/train/checkpoint_every_seconds",
    "/train/keep_checkpoints",
    "/train/log_every_steps",
];

/// Keys that say how long training is.
const LENGTH: &[&str] = &["/train/epochs", "/train/steps"];

/// The manifest with its defaults filled in.
pub(super) fn resolved(spec: &ManifestSpec, name: &str) -> Json {
    let mut json = serde_json::to_value(spec).unwrap_or_default();
    json["name"] = Json::from(name);
    without_null(&mut json);
    json
}

/// SHA-256 of the canonical form: no white space, keys sorted.
pub(super) fn fingerprint(resolved: &Json) -> String {
    fingerprint_without(resolved, &[])
}

/// The same, however long training is.
pub(super) fn without_length(resolved: &Json) -> String {
    fingerprint_without(resolved, LENGTH)
}

fn fingerprint_without(resolved: &Json, more: &[&str]) -> String {
    let mut counted = resolved.clone();
    for path in NOT_COUNTED.iter().chain(more) {
        if let Some((parent, key)) = path.rsplit_once('/')
            && let Some(table) = counted.pointer_mut(parent).and_then(Json::as_object_mut)
        {
            table.shift_remove(key);
        }
    }
    let digest = Sha256::digest(sorted(counted).to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(json: Json) -> Json {
    match json {
        Json::Array(items) => Json::Array(items.into_iter().map(sorted).collect()),
        Json::Object(table) => {
            let mut entries: Vec<_> = table.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// TOML knows no null: a key without a value is left out.
fn without_null(json: &mut Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(without_null),
        Json::Object(table) => {
            table.retain(|_, value| !value.is_null());
            table.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

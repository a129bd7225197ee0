//! The record of a checkpoint: which parts make it up, and what is not tensors.

use super::{NOT_OURS, State, VERSION, damaged, other_version};
use crate::sha256::{self, HEX_DIGITS};
use outgrow_ir::{Diagnostic, Diagnostics};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const FORMAT: &str = "outgrow-checkpoint";
/// What stands before and after the digest, at the end of the file.
const BEFORE_DIGEST: &str = ",\"record_sha256\":\"";
const AFTER_DIGEST: &str = "\"}\n";

/// One part of a checkpoint, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFile {
    /// The file in the folder of the checkpoint.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, which the format defines.
    pub sha256: String,
}

/// What commits a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Steps done.
    pub step: u64,
    /// Fingerprint of the model and of whatever else must be the same for this state to be continued.
    pub model: String,
    /// What is not tensors.
    pub state: State,
    /// The parts.
    pub parts: Vec<PartFile>,
}

/// The record as JSON has it, without its digest.
#[derive(Serialize)]
struct Written<'a> {
    format: &'a str,
    version: u32,
    step: u64,
    model: &'a str,
    state: &'a State,
    parts: &'a [PartFile],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    step: u64,
    model: String,
    state: State,
    parts: Vec<PartFile>,
    /// These three were looked at before.
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u32,
    #[serde(rename = "record_sha256")]
    _sha256: String,
}

/// What tells whether the rest can be read.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u64,
}

impl Record {
    /// The file's content: a function of the record alone.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Diagnostics> {
        let Self { step, model, state, parts } = self;
        let written = Written { format: FORMAT, version: VERSION, step: *step, model, state, parts };
        let json = serde_json::to_string(&written)
            .map_err(|e| Diagnostic::fault("store.checkpoint.write", e.to_string()))?;
        let open = json.strip_suffix('}').unwrap_or(&json);
        let mut bytes = format!("{open}{BEFORE_DIGEST}{}{AFTER_DIGEST}", "0".repeat(HEX_DIGITS)).into_bytes();
        let digest = sha256::hex(&bytes);
        let end = bytes.len() - AFTER_DIGEST.len();
        bytes[end - HEX_DIGITS..end].copy_from_slice(digest.as_bytes());
        Ok(bytes)
    }

    /// Reads and verifies a file's content.
    ///
    /// # Errors
    /// When it is not one that [`Record::to_bytes`] gives, or names files that are no parts.
    pub fn parse(bytes: &[u8]) -> Result<Self, Diagnostics> {
        let kind: Kind = serde_json::from_slice(bytes).map_err(|e| no_record(&e))?;
        if kind.format != FORMAT {
            let problem = format!("unknown format `{}`", kind.format);
            return Err(Diagnostic::new("store.checkpoint.format", problem)
                .expected(FORMAT)
                .hint(NOT_OURS)
                .into());
        }
        if kind.version != u64::from(VERSION) {
            return Err(other_version(kind.version).into());
        }
        check_digest(bytes)?;
        let Read { step, model, state, parts, .. } =
            serde_json::from_slice(bytes).map_err(|e| no_record(&e))?;
        check_names(&parts)?;
        Ok(Self { step, model, state, parts })
    }
}

fn no_record(error: &serde_json::Error) -> Diagnostic {
    Diagnostic::new("store.checkpoint.format", format!("not a valid record of a checkpoint: {error}"))
        .line(error.line())
        .column(error.column())
        .hint("the file changed after it was written; use an earlier checkpoint")
}

fn check_digest(bytes: &[u8]) -> Result<(), Diagnostics> {
    let found = bytes.strip_suffix(AFTER_DIGEST.as_bytes()).and_then(|open| open.split_last_chunk());
    let Some((before, digest)) = found.filter(|(before, _)| before.ends_with(BEFORE_DIGEST.as_bytes()))
    else {
        return Err(damaged("the record does not end with its checksum").into());
    };
    let digest: &[u8; HEX_DIGITS] = digest;
    let mut hasher = sha256::Hasher::new();
    hasher.update(before);
    hasher.update(&[b'0'; HEX_DIGITS]);
    hasher.update(AFTER_DIGEST.as_bytes());
    if hasher.hex().as_bytes() == digest {
        return Ok(());
    }
    Err(damaged("the checksum of the record differs").into())
}

/// Names are file names in the checkpoint's own folder and nothing else, each once.
fn check_names(parts: &[PartFile]) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut seen = BTreeSet::new();
    for PartFile { file, .. } in parts {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
        if !file.starts_with("step-") || !file.bytes().all(plain) {
            problems.push(
                Diagnostic::new("store.checkpoint.part", format!("`{file}` cannot name a part"))
                    .expected("step-NUMBER-TAG.safetensors"),
            );
        }
        if !seen.insert(file) {
            problems.push(
                Diagnostic::new("store.checkpoint.part", "the record names the part twice")
                    .item(file.clone())
                    .hint(NOT_OURS),
            );
        }
    }
    problems.into_result(())
}

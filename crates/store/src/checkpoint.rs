//! One checkpoint: the whole training state at one step, as the bytes of one file.
//!
//! The file is a safetensors file, so any tool that reads those can look at the tensors. Its metadata holds:
//!
//! | key | value |
//! |---|---|
//! | `outgrow.checkpoint` | version of this format |
//! | `outgrow.step` | the step |
//! | `outgrow.model` | fingerprint of the model that it belongs to |
//! | `outgrow.state` | JSON object of the named parts |
//! | `outgrow.sha256` | JSON object: SHA-256 of each tensor's bytes by name |
//! | `outgrow.header_sha256` | SHA-256 of everything before the data, with these 64 digits read as zeros |
//!
//! The last two cover every byte of the file, since no byte of the data is outside a tensor.

use crate::safetensors::{self, LENGTH_BYTES};
use crate::sha256::{self, HEX_DIGITS};
use bytes::Bytes;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::Tensor;
use serde_json::Value;
use std::collections::BTreeMap;

/// Version of the format that is written.
const VERSION: &str = "1";
/// What to do about a file that is sound and yet no checkpoint.
const NOT_OURS: &str = "the file was not written by this program, or by another version of it";
/// What stands in front of the header's digest, and nowhere else: within a JSON string the quotes are escaped.
const DIGEST_MARK: &[u8] = b"\"outgrow.header_sha256\":\"";
const DIGEST_KEY: &str = "outgrow.header_sha256";

/// The whole training state at one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// Fingerprint of the model and of whatever else must be the same for this state to be continued.
    pub model: String,
    /// Named parts that are not tensors: epoch, position of the loader, random streams, metrics so far. Floats come
    /// back bit for bit; JSON has no infinities and no NaN.
    pub state: BTreeMap<String, Value>,
    /// Parameters, buffers and optimiser state, in groups told apart by a prefix: see [`Checkpoint::insert_group`].
    pub tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Adds tensors under `group/`.
    pub fn insert_group(&mut self, group: &str, tensors: &BTreeMap<String, Tensor>) {
        self.tensors.extend(tensors.iter().map(|(name, tensor)| (format!("{group}/{name}"), tensor.clone())));
    }

    /// Takes the tensors under `group/` out, without their prefix.
    pub fn take_group(&mut self, group: &str) -> BTreeMap<String, Tensor> {
        let prefix = format!("{group}/");
        let (taken, kept) =
            std::mem::take(&mut self.tensors).into_iter().partition(|(name, _)| name.starts_with(&prefix));
        self.tensors = kept;
        let taken: BTreeMap<String, Tensor> = taken;
        taken.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect()
    }

    /// A named part, or a diagnostic that says that it is missing.
    pub fn part(&self, name: &str) -> Result<&Value, Diagnostics> {
        self.state.get(name).ok_or_else(|| {
            Diagnostic::new("store.checkpoint.part", "the checkpoint has no such part")
                .item(name)
                .expected(format!("parts there are: {}", names(self.state.keys())))
                .into()
        })
    }

    /// The file's content: a function of the checkpoint alone.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Diagnostics> {
        let header = self.header()?;
        let data: usize = self.tensors.values().map(Tensor::bytes).sum();
        let mut bytes = Vec::with_capacity(header.len() + data);
        safetensors::write_parts(&mut bytes, &header, &self.tensors)
            .map_err(|e| Diagnostic::fault("store.checkpoint.write", e.to_string()))?;
        Ok(bytes)
    }

    /// Everything before the data, with the digests in place.
    pub(crate) fn header(&self) -> Result<Vec<u8>, Diagnostics> {
        let digests: BTreeMap<&String, String> =
            self.tensors.iter().map(|(name, tensor)| (name, sha256::hex(&tensor.le_bytes()))).collect();
        let metadata = [
            ("outgrow.checkpoint", VERSION.to_owned()),
            ("outgrow.step", self.step.to_string()),
            ("outgrow.model", self.model.clone()),
            ("outgrow.state", serde_json::json!(self.state).to_string()),
            ("outgrow.sha256", serde_json::json!(digests).to_string()),
            (DIGEST_KEY, "0".repeat(HEX_DIGITS)),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut header = safetensors::header(&self.tensors, &metadata)?;
        let digest = sha256::hex(&header);
        if let Some(at) = digest_position(&header) {
            header[at..at + HEX_DIGITS].copy_from_slice(digest.as_bytes());
        }
        Ok(header)
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Where the digits of the header's digest stand.
fn digest_position(header: &[u8]) -> Option<usize> {
    let at = header.windows(DIGEST_MARK.len()).position(|window| window == DIGEST_MARK)? + DIGEST_MARK.len();
    (at + HEX_DIGITS <= header.len()).then_some(at)
}

fn damaged(problem: impl Into<String>) -> Diagnostic {
    Diagnostic::new("store.checkpoint.damaged", problem)
        .hint("the file changed after it was written; use an earlier checkpoint")
}

/// Reads a checkpoint from the bytes of its file, which its tensors share, and verifies all of them.
pub fn parse(file: impl Into<Bytes>) -> Result<Checkpoint, Diagnostics> {
    let file = file.into();
    check_header_digest(&file)?;
    let header = safetensors::parse_header(&file)?;
    let field = |key: &str| {
        header.metadata.get(key).map(String::as_str).ok_or_else(|| {
            Diagnostics::from(
                Diagnostic::new("store.checkpoint.field", "the checkpoint lacks a field")
                    .item(key)
                    .hint(NOT_OURS),
            )
        })
    };
    let version = field("outgrow.checkpoint")?;
    if version != VERSION {
        return Err(Diagnostic::new(
            "store.checkpoint.version",
            format!("format version {version} is unknown"),
        )
        .expected(format!("version {VERSION}"))
        .hint("use the version of the program that wrote the file")
        .into());
    }
    let step = field("outgrow.step")?;
    let step = step.parse().map_err(|_| invalid("outgrow.step", format!("`{step}` is not a step")))?;
    let state = json(field("outgrow.state")?, "outgrow.state")?;
    let digests: BTreeMap<String, String> = json(field("outgrow.sha256")?, "outgrow.sha256")?;
    let mut problems = Diagnostics::default();
    for (name, data) in header.data(&file) {
        if digests.get(name).is_none_or(|digest| *digest != sha256::hex(&data)) {
            problems.push(damaged("the tensor's checksum differs").item(name));
        }
    }
    problems.into_result(())?;
    Ok(Checkpoint { step, model: field("outgrow.model")?.to_owned(), state, tensors: header.tensors(&file)? })
}

fn invalid(key: &str, problem: String) -> Diagnostic {
    Diagnostic::new("store.checkpoint.field", problem).item(key).hint(NOT_OURS)
}

fn json<T: serde::de::DeserializeOwned>(text: &str, key: &str) -> Result<T, Diagnostics> {
    serde_json::from_str(text).map_err(|e| invalid(key, format!("not valid JSON: {e}")).into())
}

fn check_header_digest(bytes: &[u8]) -> Result<(), Diagnostics> {
    let text = safetensors::header_text(bytes)?;
    let header = &bytes[..LENGTH_BYTES + text.len()];
    let Some(at) = digest_position(header) else {
        return Err(Diagnostic::new(
            "store.checkpoint.format",
            "the file is not a checkpoint, or is damaged",
        )
        .expected(format!("a safetensors file with the metadata key {DIGEST_KEY}"))
        .into());
    };
    let end = at + HEX_DIGITS;
    let mut hasher = sha256::Hasher::new();
    hasher.update(&header[..at]);
    hasher.update(&[b'0'; HEX_DIGITS]);
    hasher.update(&header[end..]);
    if hasher.hex().as_bytes() == &header[at..end] {
        Ok(())
    } else {
        Err(damaged("the checksum of the header differs").into())
    }
}

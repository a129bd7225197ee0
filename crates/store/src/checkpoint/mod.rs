//! Checkpoints: the whole training state at one step, as *parts* that different processes may write, each the range of
//! the state that it holds, and one *record*, written last, that names them and so commits them.
//!
//! | file | holds |
//! |---|---|
//! | `step-00000123-TAG.safetensors` | a part; TAG is the beginning of its checksum, so that no part ever takes the place of another |
//! | `step-00000123.json` | the record |
//!
//! A part is a safetensors file, so any tool that reads those can look at the tensors. A tensor of which a part holds
//! all elements is there by its name and with its shape. One that is cut is there as pieces of rank one, `NAME[FROM..TO]`,
//! of elements in row-major order. The metadata of a part holds:
//!
//! | key | value |
//! |---|---|
//! | `outgrow.part` | version of this format |
//! | `outgrow.step` | the step |
//! | `outgrow.model` | fingerprint of the model that it belongs to |
//! | `outgrow.pieces` | JSON object: for each piece by its name, the tensor, its shape, and the first of the elements |
//! | `outgrow.sha256` | JSON object: for each tensor or piece by its name, SHA-256 of each 4 MiB of its bytes |
//!
//! The checksum of a part is the SHA-256 of everything before its data. Since the metadata has the checksums of the data,
//! it covers the file, and yet some elements can be read and verified without all the others.
//!
//! The record is one line of JSON: format, version, step, model, state (an object of the named parts that are not tensors),
//! the parts (each with its file, its length and its checksum), and last `record_sha256`, the SHA-256 of the whole file with
//! these 64 digits read as zeros. Nothing says by how many a checkpoint was written: what the parts hold must give each
//! element of each tensor once.

pub(crate) mod part;
mod record;
mod stored;

pub use part::{Part, Piece};
pub use record::{PartFile, Record};
pub use stored::Stored;

use outgrow_ir::Diagnostic;
use serde_json::Value;
use std::collections::BTreeMap;

/// What of a training state is not tensors, by name: progress, metrics so far. Floats come back bit for bit; JSON has no
/// infinities and no NaN.
pub type State = BTreeMap<String, Value>;

/// Version of the format that is written.
const VERSION: u32 = 2;
/// What to do about a file that is sound and yet no checkpoint.
const NOT_OURS: &str = "the file was not written by this program, or by another version of it";

fn damaged(problem: impl Into<String>) -> Diagnostic {
    Diagnostic::new("store.checkpoint.damaged", problem)
        .hint("the file changed after it was written; use an earlier checkpoint")
}

fn invalid(key: &str, problem: impl Into<String>) -> Diagnostic {
    Diagnostic::new("store.checkpoint.field", problem).item(key).hint(NOT_OURS)
}

fn other_version(found: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new("store.checkpoint.version", format!("format version {found} is unknown"))
        .expected(format!("version {VERSION}"))
        .hint("use the version of the program that wrote the file")
}

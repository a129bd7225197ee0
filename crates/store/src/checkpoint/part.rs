//! One part of a checkpoint: what one process holds of the state, as the bytes of one file.

use super::record::PartFile;
use super::stored::Extent;
use super::{NOT_OURS, VERSION, damaged, invalid, other_version};
use crate::safetensors::{self, Header};
use crate::sha256;
use bytes::Bytes;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::{DType, Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Bytes of data that a checksum covers: little enough that some elements are verified without much of the rest, and
/// much beside the digits of the checksum.
pub(super) const CHUNK_BYTES: usize = 4 << 20;
/// Digits of the checksum in a part's file name.
const TAG_DIGITS: usize = 12;
/// What the name of a part's file ends with.
pub(crate) const SUFFIX: &str = ".safetensors";

/// Elements of a tensor that is cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Extents of the whole tensor.
    pub shape: Shape,
    /// Which of its elements, in row-major order, is the first one here.
    pub from: usize,
    /// The elements, a tensor of rank one.
    pub elements: Tensor,
}

/// What one process holds of the state of one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// Steps done.
    pub step: u64,
    /// Fingerprint of the model and of whatever else must be the same for this state to be continued.
    pub model: String,
    /// The tensors that are here with all their elements, in groups told apart by a prefix, as `param/dense.weight`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Pieces of others, by the names of the tensors.
    pub pieces: BTreeMap<String, Piece>,
}

/// What the metadata say of a piece.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPiece {
    of: String,
    shape: Vec<u64>,
    from: u64,
}

/// A part that can be written: its tensors and pieces as the file has them, and everything before them.
pub(crate) struct Encoded {
    header: Vec<u8>,
    tensors: BTreeMap<String, Tensor>,
    /// How it is named, its length and its checksum.
    pub file: PartFile,
}

impl Encoded {
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        safetensors::write_parts(out, &self.header, &self.tensors)
    }
}

impl Part {
    /// The part's file, which is a function of the part alone. The tensors' bytes are shared.
    pub(crate) fn encode(&self) -> Result<Encoded, Diagnostics> {
        let mut tensors = self.tensors.clone();
        let mut pieces = BTreeMap::new();
        for (of, piece) in &self.pieces {
            let end = piece.from.saturating_add(piece.elements.elements());
            let name = format!("{of}[{}..{end}]", piece.from);
            if end > piece.shape.elements() || piece.elements.shape().rank() != 1 {
                let problem = format!("elements {} to {end} are no piece of {}", piece.from, piece.shape);
                return Err(Diagnostic::fault("store.checkpoint.piece", problem).item(of).into());
            }
            if tensors.insert(name.clone(), piece.elements.clone()).is_some() {
                let problem = "a tensor has the name of another one's piece";
                return Err(Diagnostic::new("store.checkpoint.piece", problem)
                    .item(name)
                    .hint("give the tensor another name")
                    .into());
            }
            let shape = piece.shape.iter().map(|d| *d as u64).collect();
            pieces.insert(name, RawPiece { of: of.clone(), shape, from: piece.from as u64 });
        }
        let digests: BTreeMap<&String, Vec<String>> = tensors
            .iter()
            .map(|(name, tensor)| (name, tensor.le_bytes().chunks(CHUNK_BYTES).map(sha256::hex).collect()))
            .collect();
        let metadata = [
            ("outgrow.part", VERSION.to_string()),
            ("outgrow.step", self.step.to_string()),
            ("outgrow.model", self.model.clone()),
            ("outgrow.pieces", serde_json::json!(pieces).to_string()),
            ("outgrow.sha256", serde_json::json!(digests).to_string()),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let header = safetensors::header(&tensors, &metadata)?;
        let data = tensors.values().map(|tensor| tensor.bytes() as u64).sum::<u64>();
        let sha256 = sha256::hex(&header);
        let file = PartFile {
            file: format!("{}{}{SUFFIX}", prefix(self.step), &sha256[..TAG_DIGITS]),
            bytes: header.len() as u64 + data,
            sha256,
        };
        Ok(Encoded { header, tensors, file })
    }

    /// The part as the bytes of its file, and what a record says of it.
    ///
    /// # Errors
    /// When a piece is none of its tensor, or two have one name.
    pub fn to_bytes(&self) -> Result<(PartFile, Vec<u8>), Diagnostics> {
        let encoded = self.encode()?;
        let mut bytes = Vec::new();
        encoded.write(&mut bytes).map_err(|e| Diagnostic::fault("store.checkpoint.write", e.to_string()))?;
        Ok((encoded.file, bytes))
    }
}

/// What the file names of a step's parts begin with.
pub(crate) fn prefix(step: u64) -> String {
    format!("step-{step:08}-")
}

/// What a part's file says that it holds: elements of tensors, by the names of these.
pub(super) type Held = Vec<(String, DType, Shape, Extent)>;

/// Looks at everything but the data of a part's file.
///
/// # Errors
/// When the file is not the one that a record names, or is no part of this step and model.
pub(super) fn open(file: &Bytes, named: &PartFile, step: u64, model: &str) -> Result<Held, Diagnostics> {
    if file.len() as u64 != named.bytes {
        let problem = format!("the part has {} bytes, expected {}", file.len(), named.bytes);
        return Err(damaged(problem).into());
    }
    let header = safetensors::parse_header(file)?;
    let field = |key: &str| {
        header.metadata.get(key).map(String::as_str).ok_or_else(|| invalid(key, "the part lacks a field"))
    };
    let version = field("outgrow.part")?;
    if version != VERSION.to_string() {
        return Err(other_version(version).into());
    }
    let found = field("outgrow.step")?;
    if found != step.to_string() {
        let problem = format!("the part is of step {found}");
        return Err(Diagnostic::new("store.checkpoint.step", problem)
            .expected(format!("a part of step {step}"))
            .hint("the file was put in the place of another; use an earlier checkpoint")
            .into());
    }
    if sha256::hex(header.before_data(file)) != named.sha256 {
        return Err(damaged("the checksum of the part's header differs").into());
    }
    let found = field("outgrow.model")?;
    if found != model {
        return Err(other_model(found, model).into());
    }
    let pieces: BTreeMap<String, RawPiece> = json(field("outgrow.pieces")?, "outgrow.pieces")?;
    let digests: BTreeMap<String, Vec<String>> = json(field("outgrow.sha256")?, "outgrow.sha256")?;
    held(file, &header, pieces, digests)
}

fn held(
    file: &Bytes,
    header: &Header,
    mut pieces: BTreeMap<String, RawPiece>,
    mut digests: BTreeMap<String, Vec<String>>,
) -> Result<Held, Diagnostics> {
    let mut held = Vec::new();
    for (entry, data) in header.entries().zip(header.data(file)) {
        let sums = digests.remove(&entry.name).unwrap_or_default();
        if sums.len() != data.len().div_ceil(CHUNK_BYTES) {
            let problem = format!("{} checksums of {} bytes", sums.len(), data.len());
            return Err(invalid(&entry.name, problem).into());
        }
        let (of, shape, from) = match pieces.remove(&entry.name) {
            Some(piece) => whole_shape(&entry.name, &entry.shape, piece)?,
            None => (entry.name.clone(), entry.shape.clone(), 0),
        };
        let extent = Extent::new(from, entry.shape.elements(), data, sums, entry.name.clone());
        held.push((of, entry.dtype, shape, extent));
    }
    if let Some(name) = pieces.keys().next() {
        return Err(invalid(name, "the metadata name a piece that is not there").into());
    }
    Ok(held)
}

/// The tensor that a piece of these extents is of, that tensor's extents, and where in it the piece begins.
fn whole_shape(name: &str, stored: &Shape, piece: RawPiece) -> Result<(String, Shape, usize), Diagnostics> {
    let dims: Option<Vec<usize>> = piece.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let shape = dims.and_then(|dims| Shape::checked(dims, 1));
    match (shape, usize::try_from(piece.from).ok()) {
        (Some(shape), Some(from))
            if stored.rank() == 1
                && from.checked_add(stored.elements()).is_some_and(|end| end <= shape.elements()) =>
        {
            Ok((piece.of, shape, from))
        }
        _ => {
            let problem = format!(
                "{} elements from {} on are no piece of {:?}",
                stored.elements(),
                piece.from,
                piece.shape
            );
            Err(invalid(name, problem).into())
        }
    }
}

pub(crate) fn other_model(found: &str, expected: &str) -> Diagnostic {
    Diagnostic::new("store.checkpoint.model", format!("the checkpoint is of another model, `{found}`"))
        .expected(format!("a checkpoint of the model `{expected}`"))
        .hint("use another folder, or the manifest that the checkpoint was made with")
}

fn json<T: serde::de::DeserializeOwned>(text: &str, key: &str) -> Result<T, Diagnostics> {
    serde_json::from_str(text).map_err(|e| {
        Diagnostic::new("store.checkpoint.field", format!("not valid JSON: {e}"))
            .item(key)
            .hint(NOT_OURS)
            .into()
    })
}

//! The safetensors format: named tensors in one file (<https://huggingface.co/docs/safetensors>).
//!
//! A file is the header's length (8 bytes, little-endian), the header (a JSON object that gives each tensor's type,
//! shape and place in the data, and strings under `__metadata__`), then the data. Every byte of the data belongs to
//! exactly one tensor.

use crate::{StoreError, in_file};
use bytes::Bytes;
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::{DType, Shape, Tensor};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

/// Longest header that is read: the limit of the format's own implementation.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Bytes in front of the header that hold its length.
const LENGTH_BYTES: usize = 8;
/// The data starts at a multiple of this, so that every element is aligned when the file is mapped.
const ALIGNMENT: usize = 8;
/// A damaged header can be wrong in every entry; this many are told.
const PROBLEMS_MAX: usize = 20;
const METADATA: &str = "__metadata__";

/// Named tensors with strings that describe them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SafeTensors {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The strings under `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a file's content. Rejects everything that the format forbids. The tensors share the file's bytes, which may
/// be a mapped file's (see [`Tensor::from_shared`]); of these only the header is looked at.
pub fn parse(file: impl Into<Bytes>) -> Result<SafeTensors, Diagnostics> {
    let file = file.into();
    let header = parse_header(&file)?;
    let tensors = header.tensors(&file)?;
    Ok(SafeTensors { tensors, metadata: header.metadata })
}

/// The file's content for these tensors: a function of them alone, so equal tensors give equal bytes.
pub fn to_bytes(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Diagnostics> {
    let mut bytes = header(tensors, metadata)?;
    bytes.reserve(tensors.values().map(Tensor::bytes).sum());
    for (_, tensor) in data_order(tensors) {
        bytes.extend_from_slice(&tensor.le_bytes());
    }
    Ok(bytes)
}

/// Reads a file, which may be anybody's: it is not mapped.
pub fn read(storage: &dyn StorageBackend, path: &Path) -> Result<SafeTensors, StoreError> {
    Ok(parse(storage.read(path)?).map_err(|d| in_file(d, path))?)
}

/// Writes a file, durably and atomically.
pub fn write(
    storage: &dyn StorageBackend,
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    let header = header(tensors, metadata)?;
    Ok(storage.write_with(path, &mut |out| write_parts(out, &header, tensors))?)
}

/// Writes a header that [`header`] made, and the data that belongs to it.
pub(crate) fn write_parts(
    out: &mut dyn Write,
    header: &[u8],
    tensors: &BTreeMap<String, Tensor>,
) -> io::Result<()> {
    out.write_all(header)?;
    data_order(tensors).iter().try_for_each(|(_, tensor)| out.write_all(&tensor.le_bytes()))
}

/// The tensors in the order of their data: wide elements first, so that all are aligned, then by name.
fn data_order(tensors: &BTreeMap<String, Tensor>) -> Vec<(&String, &Tensor)> {
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().bytes()));
    order
}

/// The format's name of an element type.
fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "BOOL",
        DType::U8 => "U8",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::BF16 => "BF16",
        DType::F32 => "F32",
        DType::F64 => "F64",
    }
}

/// One tensor in the header, as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The bytes of a file up to its data.
pub(crate) fn header(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Diagnostics> {
    if tensors.contains_key(METADATA) {
        return Err(Diagnostic::new(
            "store.safetensors.name",
            format!("a tensor cannot be named {METADATA}"),
        )
        .hint("give it another name")
        .into());
    }
    let mut json = serde_json::Map::new();
    if !metadata.is_empty() {
        json.insert(METADATA.to_owned(), serde_json::json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in data_order(tensors) {
        let end = offset + tensor.bytes() as u64;
        let shape: Vec<u64> = tensor.shape().iter().map(|d| *d as u64).collect();
        json.insert(
            name.clone(),
            serde_json::json!({"dtype": dtype_name(tensor.dtype()), "shape": shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let text = serde_json::Value::Object(json).to_string();
    let length = text.len().next_multiple_of(ALIGNMENT);
    if length as u64 > HEADER_BYTES_MAX {
        return Err(Diagnostic::new(
            "store.safetensors.header",
            format!("the header would be {length} bytes long"),
        )
        .expected(format!("at most {HEADER_BYTES_MAX} bytes"))
        .into());
    }
    let mut bytes = (length as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(LENGTH_BYTES + length, b' ');
    Ok(bytes)
}

/// A header that fits its file.
pub(crate) struct Header {
    entries: Vec<Entry>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Where the data starts in the file.
    data_start: usize,
}

/// One tensor in the header.
pub(crate) struct Entry {
    pub name: String,
    pub dtype: DType,
    pub shape: Shape,
    begin: usize,
    end: usize,
}

impl Header {
    /// The tensors, in the order of their data.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The bytes of each of them.
    pub(crate) fn data(&self, file: &Bytes) -> impl Iterator<Item = Bytes> {
        let data = file.slice(self.data_start..);
        self.entries.iter().map(move |e| data.slice(e.begin..e.end))
    }

    /// Everything before the data.
    pub(crate) fn before_data<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        &file[..self.data_start]
    }

    /// The tensors themselves, which share the file's bytes.
    pub(crate) fn tensors(&self, file: &Bytes) -> Result<BTreeMap<String, Tensor>, Diagnostics> {
        let mut tensors = BTreeMap::new();
        for (entry, bytes) in self.entries.iter().zip(self.data(file)) {
            let name = entry.name.clone();
            let tensor = Tensor::from_shared(entry.dtype, entry.shape.clone(), bytes)
                .map_err(|e| Diagnostic::fault("store.safetensors.size", e.to_string()).item(name.clone()))?;
            tensors.insert(name, tensor);
        }
        Ok(tensors)
    }
}

/// The header's JSON text of a file, which is shorter than the file says when the file is cut short.
fn header_text(file: &[u8]) -> Result<&[u8], Diagnostics> {
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Diagnostic::new(
            "store.safetensors.short",
            format!("the file has only {} bytes", file.len()),
        )
        .expected("a safetensors file: 8 bytes with the header's length, the header, the data")
        .into());
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX || length > rest.len() as u64 {
        return Err(Diagnostic::new(
            "store.safetensors.header",
            format!("the header is said to be {length} bytes long, {} bytes follow", rest.len()),
        )
        .expected(format!("a safetensors file with a header of at most {HEADER_BYTES_MAX} bytes"))
        .hint("the file is cut short, damaged, or not a safetensors file")
        .into());
    }
    Ok(&rest[..length as usize])
}

/// Reads and checks the header of a file.
pub(crate) fn parse_header(file: &[u8]) -> Result<Header, Diagnostics> {
    let text = header_text(file)?;
    let raw: RawHeader = serde_json::from_slice(text).map_err(|e| {
        Diagnostic::new("store.safetensors.header", format!("the header is not valid: {e}"))
            .expected("a JSON object of {\"dtype\", \"shape\", \"data_offsets\"} by tensor name")
    })?;
    let data_start = LENGTH_BYTES + text.len();
    let data_bytes = file.len() - data_start;
    let mut problems = Diagnostics::default();
    let mut metadata = BTreeMap::new();
    for (key, value) in raw.metadata {
        if metadata.insert(key.clone(), value).is_some() {
            problems.push(duplicate(&key));
        }
    }
    let mut names = BTreeSet::new();
    let mut entries = Vec::new();
    for (name, raw) in raw.entries {
        if !names.insert(name.clone()) {
            problems.push(duplicate(&name));
        }
        match to_entry(name, &raw, data_bytes) {
            Ok(entry) => entries.push(entry),
            Err(problem) => problems.0.extend(problem.0),
        }
        if problems.0.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if problems.0.is_empty() {
        check_coverage(&mut entries, data_bytes, &mut problems);
    }
    problems.into_result(Header { entries, metadata, data_start })
}

fn duplicate(name: &str) -> Diagnostic {
    Diagnostic::new("store.safetensors.duplicate", "the name occurs twice")
        .item(name)
        .expected("a name for each tensor")
}

fn to_entry(name: String, raw: &RawEntry, data_bytes: usize) -> Result<Entry, Diagnostics> {
    let problem = |code, text: String| Diagnostic::new(code, text).item(name.clone());
    let Some(dtype) = DType::ALL.into_iter().find(|d| dtype_name(*d) == raw.dtype) else {
        let known = DType::ALL.map(dtype_name).join(", ");
        return Err(problem("store.safetensors.dtype", format!("unknown element type `{}`", raw.dtype))
            .expected(format!("one of {known}"))
            .hint("convert the tensor to F32 or BF16 before saving it")
            .into());
    };
    let (begin, end) = raw.data_offsets;
    if begin > end || end > data_bytes as u64 {
        return Err(problem(
            "store.safetensors.bounds",
            format!("its data is said to be at bytes {begin} to {end} of {data_bytes}"),
        )
        .hint("the file is cut short or damaged")
        .into());
    }
    let dims: Option<Vec<usize>> = raw.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    match dims.and_then(|dims| Shape::checked(dims, dtype.bytes())) {
        Some(shape) if (shape.elements() * dtype.bytes()) as u64 == end - begin => Ok(Entry {
            shape,
            dtype,
            // Both are at most `data_bytes`.
            begin: begin as usize,
            end: end as usize,
            name,
        }),
        _ => Err(problem(
            "store.safetensors.size",
            format!("a {} tensor of shape {:?} does not have {} bytes", raw.dtype, raw.shape, end - begin),
        )
        .hint("the header and the data do not belong together: write the file again")
        .into()),
    }
}

/// Sorts the entries by place and checks that they cover the data without gap or overlap.
fn check_coverage(entries: &mut [Entry], data_bytes: usize, problems: &mut Diagnostics) {
    entries.sort_by_key(|e| (e.begin, e.end));
    let mut covered = 0;
    for entry in entries.iter() {
        if entry.begin != covered {
            let what =
                if entry.begin < covered { "overlaps the one before" } else { "leaves a gap before it" };
            problems.push(
                Diagnostic::new("store.safetensors.layout", format!("its data {what}"))
                    .item(entry.name.clone())
                    .expected(format!("data from byte {covered} on, found from byte {}", entry.begin)),
            );
            return;
        }
        covered = entry.end;
    }
    if covered != data_bytes {
        problems.push(
            Diagnostic::new(
                "store.safetensors.layout",
                format!("{} bytes at the end belong to no tensor", data_bytes - covered),
            )
            .expected(format!("{covered} bytes of data, found {data_bytes}")),
        );
    }
}

/// The header as JSON has it, duplicates included.
#[derive(Default)]
struct RawHeader {
    entries: Vec<(String, RawEntry)>,
    metadata: Vec<(String, String)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        header.metadata.extend(map.next_value::<Pairs>()?.0);
                    } else {
                        header.entries.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// A JSON object of strings, duplicates included.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

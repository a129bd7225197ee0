//! A checkpoint as it lies in its files: which tensors there are, and any elements of them, verified as they are read.

use super::part::{self, CHUNK_BYTES};
use super::record::{PartFile, Record};
use super::{NOT_OURS, damaged};
use crate::{StoreError, in_file, sha256};
use bytes::Bytes;
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::{DType, Shape, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A checkpoint whose parts are mapped. All that says what is where has been verified; elements are when they are read,
/// each once.
#[derive(Debug)]
pub struct Stored {
    record: Record,
    tensors: BTreeMap<String, StoredTensor>,
}

#[derive(Debug)]
struct StoredTensor {
    dtype: DType,
    shape: Shape,
    /// One after the other, without gap or overlap.
    extents: Vec<Extent>,
}

/// Elements of a tensor that lie in one file.
#[derive(Debug)]
pub(super) struct Extent {
    /// Elements of the tensor before them.
    from: usize,
    elements: usize,
    data: Bytes,
    /// Checksums of the data, each of [`CHUNK_BYTES`] but for the last.
    digests: Vec<String>,
    /// Which of them have been found to be right.
    verified: Vec<AtomicBool>,
    /// Their name in the file.
    name: String,
    file: PathBuf,
}

impl Extent {
    pub fn new(from: usize, elements: usize, data: Bytes, digests: Vec<String>, name: String) -> Self {
        let verified = digests.iter().map(|_| AtomicBool::new(false)).collect();
        Self { from, elements, data, digests, verified, name, file: PathBuf::new() }
    }

    fn end(&self) -> usize {
        self.from + self.elements
    }

    /// These of its bytes, all verified.
    fn bytes(&self, bytes: Range<usize>) -> Result<Bytes, Diagnostics> {
        for chunk in bytes.start / CHUNK_BYTES..bytes.end.div_ceil(CHUNK_BYTES) {
            if self.verified[chunk].load(Ordering::Relaxed) {
                continue;
            }
            let end = ((chunk + 1) * CHUNK_BYTES).min(self.data.len());
            if sha256::hex(&self.data[chunk * CHUNK_BYTES..end]) != self.digests[chunk] {
                let problem = "the tensor's checksum differs";
                return Err(damaged(problem).item(self.name.clone()).file(self.file.clone()).into());
            }
            self.verified[chunk].store(true, Ordering::Relaxed);
        }
        Ok(self.data.slice(bytes))
    }
}

impl Stored {
    /// Opens the checkpoint that a record in this folder commits: maps its parts and verifies all but their data.
    ///
    /// # Errors
    /// When a part is missing, damaged or another one, or when they do not give each element of each tensor once: all
    /// that is wrong is told.
    pub fn open(storage: &dyn StorageBackend, folder: &Path, record: Record) -> Result<Self, StoreError> {
        let mut found: BTreeMap<String, StoredTensor> = BTreeMap::new();
        let mut problems = Diagnostics::default();
        for named in &record.parts {
            let path = folder.join(&named.file);
            let held = match map(storage, &path, named) {
                Ok(file) => part::open(&file, named, record.step, &record.model),
                Err(e) => Err(e.into_diagnostics()),
            };
            match held.map_err(|found| in_file(found, &path)) {
                Ok(held) => held.into_iter().for_each(|(name, dtype, shape, extent)| {
                    let tensor = found.entry(name.clone()).or_insert_with(|| StoredTensor {
                        dtype,
                        shape: shape.clone(),
                        extents: Vec::new(),
                    });
                    if (tensor.dtype, &tensor.shape) != (dtype, &shape) {
                        let (problem, first) = (
                            format!("one part says {dtype}{shape}"),
                            format!("{}{}", tensor.dtype, tensor.shape),
                        );
                        problems.push(differs(&name, problem).expected(first).file(path.clone()));
                    }
                    tensor.extents.push(Extent { file: path.clone(), ..extent });
                }),
                Err(found) => problems.0.extend(found.0),
            }
        }
        // What a part lacks that cannot be read would be told of each of its tensors.
        if problems.0.is_empty() {
            found.iter_mut().for_each(|(name, tensor)| tensor.join(name, &mut problems));
        }
        Ok(problems.into_result(Self { record, tensors: found })?)
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.record.step
    }

    /// What is not tensors, by name; or a diagnostic that says that it is missing.
    ///
    /// # Errors
    /// When there is no such part.
    pub fn state(&self, name: &str) -> Result<&Value, Diagnostics> {
        self.record.state.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.record.state.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Diagnostic::new("store.checkpoint.state", "the checkpoint has no such part of the state")
                .item(name)
                .expected(format!("parts there are: {names}"))
                .into()
        })
    }

    /// The record that commits it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The tensors with their types and extents, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, DType, &Shape)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype, &tensor.shape))
    }

    /// Verifies all elements.
    ///
    /// # Errors
    /// All that are damaged.
    pub fn verify(&self) -> Result<(), Diagnostics> {
        let mut problems = Diagnostics::default();
        for extent in self.tensors.values().flat_map(|tensor| &tensor.extents) {
            if let Err(found) = extent.bytes(0..extent.data.len()) {
                problems.0.extend(found.0);
            }
        }
        problems.into_result(())
    }

    /// Elements of a tensor in row-major order, as a tensor of rank one. Only these, with what is covered by the same
    /// checksums, are looked at. They share the file's bytes where they lie in one part.
    ///
    /// # Errors
    /// When there are no such elements, or they are damaged.
    pub fn read(&self, name: &str, elements: Range<usize>) -> Result<Tensor, Diagnostics> {
        let tensor = self.find(name)?;
        let count = tensor.shape.elements();
        if elements.start > elements.end || elements.end > count {
            let problem = format!("elements {} to {} of {count}", elements.start, elements.end);
            return Err(Diagnostic::fault("store.checkpoint.range", problem).item(name).into());
        }
        let width = tensor.dtype.bytes();
        let first = tensor.extents.partition_point(|extent| extent.end() <= elements.start);
        let reached = tensor.extents[first..].iter().take_while(|extent| extent.from < elements.end);
        let bytes = reached.map(|extent| {
            let low = elements.start.max(extent.from) - extent.from;
            let high = elements.end.min(extent.end()) - extent.from;
            extent.bytes(low * width..high * width)
        });
        let mut bytes: Vec<Bytes> = bytes.collect::<Result<_, _>>()?;
        let bytes = if bytes.len() == 1 { bytes.remove(0) } else { bytes.concat().into() };
        Tensor::from_shared(tensor.dtype, [elements.len()], bytes)
            .map_err(|e| Diagnostic::fault("store.checkpoint.range", e.to_string()).item(name).into())
    }

    /// A whole tensor.
    ///
    /// # Errors
    /// When there is none of this name, or it is damaged.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Diagnostics> {
        let shape = self.find(name)?.shape.clone();
        let all = self.read(name, 0..shape.elements())?;
        all.reshaped(shape)
            .map_err(|e| Diagnostic::fault("store.checkpoint.range", e.to_string()).item(name).into())
    }

    fn find(&self, name: &str) -> Result<&StoredTensor, Diagnostics> {
        self.tensors.get(name).ok_or_else(|| {
            Diagnostic::new("store.checkpoint.tensor", "the checkpoint has no such tensor")
                .item(name)
                .hint(NOT_OURS)
                .into()
        })
    }
}

impl StoredTensor {
    /// Puts what the parts hold of a tensor in order, and checks that it is all of it, once.
    fn join(&mut self, name: &str, problems: &mut Diagnostics) {
        // Empty ones, which stand at the place of others, come first.
        self.extents.sort_by_key(|extent| (extent.from, extent.elements));
        let mut covered = 0;
        for extent in &self.extents {
            if extent.from != covered {
                let (low, high) = (extent.from.min(covered), extent.from.max(covered));
                let what = if extent.from < covered { "are there twice" } else { "are in no part" };
                let problem = format!("its elements {low} to {high} {what}");
                problems.push(differs(name, problem).file(extent.file.clone()));
                return;
            }
            covered = extent.end();
        }
        let count = self.shape.elements();
        if covered != count {
            problems.push(differs(name, format!("its elements {covered} to {count} are in no part")));
        }
    }
}

fn differs(name: &str, problem: String) -> Diagnostic {
    Diagnostic::new("store.checkpoint.incomplete", problem)
        .item(name)
        .hint("the parts do not belong together; use an earlier checkpoint")
}

fn map(storage: &dyn StorageBackend, path: &Path, named: &PartFile) -> Result<Bytes, StoreError> {
    match storage.map(path) {
        Err(e) if e.is_not_found() => {
            let problem = format!("the part is missing, expected {} bytes", named.bytes);
            Err(Diagnostics::from(
                Diagnostic::new("store.checkpoint.missing", problem).hint("use an earlier checkpoint"),
            )
            .into())
        }
        file => Ok(file?),
    }
}

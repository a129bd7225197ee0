//! Shards: the files that prepared records are stored in. A shard is a safetensors file with one tensor per stored
//! field, whose first dimension counts the records; of a text, it holds one tensor of tokens.

use crate::Split;
use crate::files::storage_problem;
use crate::manifest::{Progress, ShardInfo, SplitInfo, shard_name};
use crate::shards::ShardFiles;
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_store::{safetensors, sha256};
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::StoredField;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most records in a shard.
const RECORDS_MAX: u64 = 8192;
/// Most bytes of records in a shard (a single larger record has one to itself).
const BYTES_MAX: u64 = 64 << 20;
/// Tokens in a shard of text.
pub(crate) const TOKENS: u64 = 8 << 20;
/// Name of the tensor that holds a text's tokens.
pub(crate) const TOKENS_NAME: &str = "tokens";

/// How many records of `record_bytes` go into one shard. It depends on nothing else, so a resumed preparation cuts
/// where the interrupted one did.
pub(crate) fn records_per_shard(record_bytes: usize) -> u64 {
    (BYTES_MAX / (record_bytes as u64).max(1)).clamp(1, RECORDS_MAX)
}

/// Writes the shards of all splits and keeps `progress.json` up to date, so that an interrupted preparation can go
/// on where it was.
pub(crate) struct ShardWriter<'a> {
    storage: &'a dyn StorageBackend,
    folder: PathBuf,
    fields: Vec<StoredField>,
    per_shard: u64,
    /// How many classes the target counts; 0 when it is no class.
    classes: usize,
    progress: Progress,
    /// Shards that were finished before this writer began.
    kept: [usize; 3],
    open: [OpenShard; 3],
    /// Records that were assigned to each split so far.
    assigned: [u64; 3],
}

/// A shard that is being filled.
#[derive(Default)]
struct OpenShard {
    buffers: Vec<Vec<u8>>,
    records: u64,
}

impl<'a> ShardWriter<'a> {
    /// A writer that goes on from `progress`. Shards listed there whose files are not intact are made again.
    pub fn new(
        storage: &'a dyn StorageBackend,
        folder: &Path,
        fields: Vec<StoredField>,
        per_shard: u64,
        classes: usize,
        mut progress: Progress,
    ) -> Self {
        for split in &mut progress.splits {
            // Shards are finished in order: the first that is not intact ends what can be kept.
            let intact = split.shards.iter().take_while(|s| read(storage, folder, s).is_ok()).count();
            split.shards.truncate(intact);
        }
        let kept = [0, 1, 2].map(|i| progress.splits[i].shards.len());
        Self {
            storage,
            folder: folder.to_path_buf(),
            fields,
            per_shard,
            classes,
            progress,
            kept,
            open: Default::default(),
            assigned: [0; 3],
        }
    }

    /// Takes a place for the next record of a split. Answers whether the record has to be stored: it need not when
    /// its shard was finished before.
    pub fn assign(&mut self, split: Split) -> bool {
        self.assign_many(split, 1) == 1
    }

    /// Takes `n` places and answers how many of those records, the last ones, have to be stored.
    pub fn assign_many(&mut self, split: Split, n: u64) -> u64 {
        let i = split.index();
        let from = self.assigned[i];
        self.assigned[i] += n;
        let kept: u64 = self.progress.splits[i].shards[..self.kept[i]].iter().map(|s| s.records).sum();
        self.assigned[i].saturating_sub(from.max(kept)).min(n)
    }

    /// Records assigned to each split.
    pub fn assigned(&self) -> [u64; 3] {
        self.assigned
    }

    /// Stores `records` records, given as bytes of each field, in the order of their assignment.
    ///
    /// # Errors
    /// When a finished shard cannot be written.
    pub fn push(&mut self, split: Split, records: u64, fields: &[Vec<u8>]) -> Result<(), Diagnostic> {
        let widths: Vec<usize> = (self.fields.iter()).map(|f| f.record_bytes().unwrap_or(0)).collect();
        let mut done = 0;
        while done < records {
            let open = &mut self.open[split.index()];
            open.buffers.resize(self.fields.len(), Vec::new());
            let n = (self.per_shard - open.records).min(records - done);
            for ((buffer, bytes), width) in open.buffers.iter_mut().zip(fields).zip(&widths) {
                buffer.extend_from_slice(&bytes[done as usize * width..(done + n) as usize * width]);
            }
            open.records += n;
            done += n;
            if open.records == self.per_shard {
                self.close(split)?;
            }
        }
        Ok(())
    }

    /// Writes the shard that is being filled.
    fn close(&mut self, split: Split) -> Result<(), Diagnostic> {
        let open = std::mem::take(&mut self.open[split.index()]);
        if open.records == 0 {
            return Ok(());
        }
        let mut tensors = BTreeMap::new();
        let mut classes = vec![0u64; self.classes];
        for (field, bytes) in self.fields.iter().zip(&open.buffers) {
            let shape = [&[open.records as usize], field.shape.as_slice()].concat();
            let tensor = Tensor::from_le_bytes(field.dtype, shape, bytes)
                .map_err(|e| Diagnostic::fault("data.shard.field", format!("field `{}`: {e}", field.name)))?;
            if field.name == "target" && self.classes > 0 {
                for label in tensor.as_slice::<i32>().unwrap_or_default() {
                    classes[*label as usize] += 1;
                }
            }
            tensors.insert(field.name.clone(), tensor);
        }
        let bytes = safetensors::to_bytes(&tensors, &BTreeMap::new()).map_err(first)?;
        let shards = &mut self.progress.splits[split.index()].shards;
        let file = shard_name(split, shards.len());
        self.storage.write(&self.folder.join(&file), &bytes).map_err(|e| storage_problem(&e))?;
        shards.push(ShardInfo {
            file,
            bytes: bytes.len() as u64,
            sha256: sha256::hex(&bytes),
            records: open.records,
            classes,
        });
        self.save()
    }

    /// Writes down how far preparation has come.
    pub fn save(&self) -> Result<(), Diagnostic> {
        let path = self.folder.join(crate::manifest::PROGRESS);
        crate::manifest::write(self.storage, &path, &self.progress)
    }

    /// Writes the last shards and returns all of them.
    ///
    /// # Errors
    /// When they cannot be written, or the source gave other records than when the kept shards were made.
    pub fn finish(mut self) -> Result<[SplitInfo; 3], Diagnostic> {
        for split in Split::ALL {
            self.close(split)?;
            let stored = self.progress.splits[split.index()].records();
            let assigned = self.assigned[split.index()];
            if stored != assigned {
                return Err(Diagnostic::new(
                    "data.source-changed",
                    format!(
                        "{stored} records are stored in split `{split}`, but the source now gives {assigned}"
                    ),
                )
                .hint("the source changed while it was read; run again"));
            }
        }
        Ok(self.progress.splits)
    }
}

/// The first of several diagnostics.
fn first(diagnostics: Diagnostics) -> Diagnostic {
    let mut all = diagnostics.0.into_iter();
    all.next().unwrap_or_else(|| Diagnostic::fault("data.shard", "the shard cannot be used"))
}

/// Reads a shard's file and checks its length and checksum.
///
/// # Errors
/// A diagnostic that names the file and both checksums.
pub(crate) fn read(
    storage: &dyn StorageBackend,
    folder: &Path,
    shard: &ShardInfo,
) -> Result<Vec<u8>, Diagnostic> {
    let path = folder.join(&shard.file);
    let corrupt = |problem: String, expected: String| {
        Diagnostic::new("data.shard.corrupt", problem)
            .file(&path)
            .expected(expected)
            .hint("the stored data was damaged: remove this file, and it will be prepared again")
    };
    let bytes = match storage.read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.is_not_found() => {
            return Err(corrupt("the shard is not there".into(), format!("a file of {} bytes", shard.bytes)));
        }
        Err(e) => return Err(storage_problem(&e)),
    };
    if bytes.len() as u64 != shard.bytes {
        return Err(corrupt(
            format!("the shard has {} bytes", bytes.len()),
            format!("{} bytes", shard.bytes),
        ));
    }
    let actual = sha256::hex(&bytes);
    if actual != shard.sha256 {
        return Err(corrupt(
            format!("the shard has the checksum {actual}"),
            format!("the checksum {}", shard.sha256),
        ));
    }
    Ok(bytes)
}

/// The tensors of a shard, checked against the fields they must have.
///
/// # Errors
/// As [`read`]; or when the file is intact but holds something else.
pub(crate) fn load(
    source: &dyn ShardFiles,
    shard: &ShardInfo,
    fields: &[StoredField],
) -> Result<Vec<Tensor>, Diagnostic> {
    let bytes = source.read(shard)?;
    let path = &shard.file;
    let mut content = safetensors::parse(bytes).map_err(|d| first(d).file(path))?;
    let mut tensors = Vec::new();
    for field in fields {
        let shape = [&[shard.records as usize], field.shape.as_slice()].concat();
        let tensor = content.tensors.remove(&field.name);
        match tensor.filter(|t| t.dtype() == field.dtype && t.shape().dims() == shape) {
            Some(tensor) => tensors.push(tensor),
            None => {
                return Err(Diagnostic::new(
                    "data.shard.field",
                    format!("the shard has no field `{}`", field.name),
                )
                .file(path)
                .expected(format!("{} {shape:?}", field.dtype)));
            }
        }
    }
    Ok(tensors)
}

/// The one field that a shard of text has: tokens of one byte, of two bytes (the lower first), or `i32`, as narrow
/// as the vocabulary allows.
pub(crate) fn token_field(vocabulary: usize) -> StoredField {
    let (dtype, shape) = match vocabulary {
        0..=0x100 => (DType::U8, Vec::new()),
        0x101..=0x1_0000 => (DType::U8, vec![2]),
        _ => (DType::I32, Vec::new()),
    };
    StoredField { name: TOKENS_NAME.into(), dtype, shape }
}

/// Where the data of each field begins in a shard's file that is intact.
pub(crate) fn field_offsets(file: &[u8], fields: &[StoredField]) -> Option<Vec<u64>> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    let length = u64::from_le_bytes(*length);
    let header: serde_json::Value =
        serde_json::from_slice(rest.get(..usize::try_from(length).ok()?)?).ok()?;
    let begin =
        |f: &StoredField| header[f.name.as_str()]["data_offsets"][0].as_u64()?.checked_add(8 + length);
    fields.iter().map(begin).collect()
}

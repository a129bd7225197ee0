//! The stored records of one split, in memory when they are few enough, else read from their shards one by one.

use crate::manifest::ShardInfo;
use crate::shard;
use crate::shards::ShardFiles;
use bytes::Bytes;
use outgrow_ir::Diagnostic;
use outgrow_tensor::{DType, Tensor, TensorError};
use outgrow_transform::StoredField;
use std::sync::{Arc, OnceLock};

/// The stored records (or tokens) of one split.
#[derive(Debug)]
pub(crate) struct SplitData {
    pub fields: Vec<StoredField>,
    /// Records, or tokens.
    pub records: u64,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// One tensor per field.
    Memory(Vec<Tensor>),
    Files(Vec<ShardFile>, Arc<dyn ShardFiles>),
}

/// A shard that is read piece by piece.
#[derive(Debug)]
struct ShardFile {
    info: ShardInfo,
    /// Number of its first record.
    first: u64,
    /// Where each field's data begins in the file; known once the whole file was found intact.
    offsets: OnceLock<Vec<u64>>,
}

/// Values appended to a batch's field.
pub(crate) enum Sink<'a> {
    /// Stored bytes: pixels.
    U8(&'a mut Vec<u8>),
    /// Features or regression targets.
    F32(&'a mut Vec<f32>),
    /// Indexes or classes.
    I32(&'a mut Vec<i32>),
}

impl SplitData {
    /// Opens the shards of a split. Those that together have at most `memory_bytes` are read whole and verified at
    /// once; otherwise each is verified when it is first used.
    ///
    /// # Errors
    /// A diagnostic that names a damaged shard.
    pub fn open(
        source: &Arc<dyn ShardFiles>,
        shards: &[ShardInfo],
        fields: Vec<StoredField>,
        memory_bytes: u64,
    ) -> Result<Self, Diagnostic> {
        let records = shards.iter().map(|s| s.records).sum();
        let bytes: u64 = shards.iter().map(|s| s.bytes).sum();
        let kept = if bytes <= memory_bytes {
            Kept::Memory(load_all(&**source, shards, &fields, records)?)
        } else {
            let mut first = 0;
            let mut files = Vec::new();
            for info in shards {
                files.push(ShardFile { info: info.clone(), first, offsets: OnceLock::new() });
                first += info.records;
            }
            Kept::Files(files, source.clone())
        };
        Ok(Self { fields, records, kept })
    }

    /// Appends `count` consecutive records of a field, from record `from` on, to `out`.
    ///
    /// # Errors
    /// A diagnostic that names a damaged shard. In memory it cannot fail.
    pub fn read(&self, field: usize, from: u64, count: u64, out: &mut Sink<'_>) -> Result<(), Diagnostic> {
        let width: usize = self.fields[field].shape.iter().product();
        let (files, source) = match &self.kept {
            Kept::Memory(tensors) => {
                let range = from as usize * width..(from + count) as usize * width;
                let tensor = &tensors[field];
                return match out {
                    Sink::U8(out) => tensor.as_slice().map(|v| out.extend_from_slice(&v[range])),
                    Sink::F32(out) => tensor.as_slice().map(|v| out.extend_from_slice(&v[range])),
                    Sink::I32(out) if tensor.dtype() == DType::U8 => {
                        tensor.as_slice().map(|v| append_tokens(&v[range], width, out))
                    }
                    Sink::I32(out) => tensor.as_slice().map(|v| out.extend_from_slice(&v[range])),
                }
                .map_err(wrong_type);
            }
            Kept::Files(files, source) => (files, source),
        };
        let (mut at, end) = (from, from + count);
        while at < end {
            let number = files.partition_point(|f| f.first <= at) - 1;
            let file = &files[number];
            let n = (file.first + file.info.records).min(end) - at;
            let offset = file.offsets(&**source, &self.fields)?[field];
            let record_bytes = (width * self.fields[field].dtype.bytes()) as u64;
            let start = offset + (at - file.first) * record_bytes;
            let bytes = source.read_range(&file.info, start, (n * record_bytes) as usize)?;
            append(self.fields[field].dtype, width, &bytes, out)?;
            at += n;
        }
        Ok(())
    }

    /// The stored pixels of a record's field without a copy, when they are in memory.
    pub fn pixels(&self, field: usize, record: u64) -> Option<&[u8]> {
        let Kept::Memory(tensors) = &self.kept else { return None };
        let pixels = tensors[field].as_slice::<u8>().ok()?;
        let width: usize = self.fields[field].shape.iter().product();
        pixels.get(record as usize * width..(record as usize + 1) * width)
    }
}

fn wrong_type(error: TensorError) -> Diagnostic {
    Diagnostic::fault("data.field-type", error.to_string())
}

fn wrong_sink() -> Diagnostic {
    Diagnostic::fault("data.field-type", "a stored field has an element type that it cannot have")
}

/// Tokens of one or two bytes.
fn append_tokens(bytes: &[u8], width: usize, out: &mut Vec<i32>) {
    match width {
        2 => out.extend(bytes.as_chunks::<2>().0.iter().map(|t| i32::from(u16::from_le_bytes(*t)))),
        _ => out.extend(bytes.iter().map(|t| i32::from(*t))),
    }
}

fn append(dtype: DType, width: usize, bytes: &[u8], out: &mut Sink<'_>) -> Result<(), Diagnostic> {
    match (dtype, out) {
        (DType::U8, Sink::U8(out)) => out.extend_from_slice(bytes),
        (DType::U8, Sink::I32(out)) => append_tokens(bytes, width, out),
        (DType::F32, Sink::F32(out)) => {
            out.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
        (DType::I32, Sink::I32(out)) => {
            out.extend(bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)));
        }
        _ => return Err(wrong_sink()),
    }
    Ok(())
}

/// All shards' tensors of each field, one after the other.
fn load_all(
    source: &dyn ShardFiles,
    shards: &[ShardInfo],
    fields: &[StoredField],
    records: u64,
) -> Result<Vec<Tensor>, Diagnostic> {
    let elements = |field: &StoredField| records as usize * field.shape.iter().product::<usize>();
    let mut whole: Vec<Vec<u8>> =
        fields.iter().map(|field| Vec::with_capacity(elements(field) * field.dtype.bytes())).collect();
    for info in shards {
        for (tensor, whole) in shard::load(source, info, fields)?.iter().zip(&mut whole) {
            whole.extend_from_slice(&tensor.le_bytes());
        }
    }
    let mut tensors = Vec::new();
    for (field, bytes) in fields.iter().zip(whole) {
        let shape = [&[records as usize], field.shape.as_slice()].concat();
        tensors.push(Tensor::from_shared(field.dtype, shape, Bytes::from(bytes)).map_err(wrong_type)?);
    }
    Ok(tensors)
}

impl ShardFile {
    /// Where the fields begin in the file, once its checksum was found right.
    fn offsets(&self, source: &dyn ShardFiles, fields: &[StoredField]) -> Result<&[u64], Diagnostic> {
        if let Some(offsets) = self.offsets.get() {
            return Ok(offsets);
        }
        let bytes = source.read(&self.info)?;
        let offsets =
            shard::field_offsets(&bytes, fields).ok_or_else(|| wrong_sink().file(&self.info.file))?;
        Ok(self.offsets.get_or_init(|| offsets))
    }
}

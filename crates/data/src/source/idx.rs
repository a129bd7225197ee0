//! IDX files, as MNIST ships them: <http://yann.lecun.com/exdb/mnist/>. A file is a magic number (two zero bytes, the
//! element type, the number of dimensions), the dimensions as big-endian 32-bit numbers, and the elements.

use super::{Context, Opened, Part, RecordSource, Records, SourceKind, check_test, require};
use crate::DataSpec;
use crate::files::{Finder, Found, content, is_gzip, read_problem, storage_problem};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::{Tensor, TensorError};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, Pixels, Record, Value};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// `source = "idx"`.
pub const KIND: SourceKind =
    SourceKind { name: "idx", keys: &["images", "labels", "size", "channels"], open };

const IMAGE: &str = "image";
const LABEL: &str = "label";
/// Largest number of dimensions.
const RANK_MAX: usize = 8;
/// Unpacked files larger than this are refused: far above any data set in this format, and it stops a compressed
/// file that unpacks without end.
const BYTES_MAX: u64 = 16 << 30;

/// What the header of an IDX file says.
struct Header {
    code: u8,
    element_bytes: usize,
    dims: Vec<usize>,
    start: usize,
}

impl Header {
    /// Bytes of the whole file, or none when that is absurd.
    fn file_bytes(&self) -> Option<usize> {
        let data = self.dims.iter().try_fold(self.element_bytes, |n, d| n.checked_mul(*d))?;
        data.checked_add(self.start).filter(|n| *n as u64 <= BYTES_MAX)
    }
}

/// Reads a header.
fn header(bytes: &[u8]) -> Result<Header, Diagnostic> {
    let fail = |problem: String| {
        Diagnostic::new("data.idx.header", problem).expected(
            "an IDX file: two zero bytes, the element type, the number of dimensions, the dimensions",
        )
    };
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(fail(format!("the file has only {} bytes", bytes.len())));
    };
    let [0, 0, code, rank] = *magic else {
        return Err(fail(format!("the file begins with {magic:02x?}")));
    };
    let element_bytes = match code {
        0x08 | 0x09 => 1,
        0x0b => 2,
        0x0c | 0x0d => 4,
        0x0e => 8,
        _ => return Err(fail(format!("there is no element type 0x{code:02x}"))),
    };
    let rank = usize::from(rank);
    if rank == 0 || rank > RANK_MAX {
        return Err(
            fail(format!("the file has {rank} dimensions")).expected(format!("1 to {RANK_MAX} dimensions"))
        );
    }
    if rest.len() < 4 * rank {
        return Err(fail("the file ends within its header".into()));
    }
    let dims = rest[..4 * rank].chunks_exact(4);
    let dims = dims.map(|d| u32::from_be_bytes([d[0], d[1], d[2], d[3]]) as usize).collect();
    Ok(Header { code, element_bytes, dims, start: 4 + 4 * rank })
}

/// Reads an IDX file's content into a tensor; 16-bit elements become `i32`.
///
/// # Errors
/// A diagnostic for a header that is wrong, or promises more or less data than there is.
pub fn parse(bytes: &[u8]) -> Result<Tensor, Diagnostic> {
    let header = header(bytes)?;
    let expected = header.file_bytes();
    if expected != Some(bytes.len()) {
        let shape: Vec<String> = header.dims.iter().map(ToString::to_string).collect();
        return Err(Diagnostic::new(
            "data.idx.length",
            format!("the header promises {} elements, the file has {} bytes", shape.join(" x "), bytes.len()),
        )
        .expected(expected.map_or_else(|| format!("at most {BYTES_MAX} bytes"), |n| format!("{n} bytes")))
        .hint("the file is cut short or damaged: fetch it again"));
    }
    let data = &bytes[header.start..];
    let shape = header.dims;
    fn each<const N: usize, T>(data: &[u8], convert: fn([u8; N]) -> T) -> Vec<T> {
        data.as_chunks::<N>().0.iter().map(|c| convert(*c)).collect()
    }
    let tensor = match header.code {
        0x08 => Tensor::new(shape, data.to_vec()),
        0x09 => Tensor::new(shape, data.iter().map(|b| i32::from(*b as i8)).collect()),
        0x0b => Tensor::new(shape, each(data, |c| i32::from(i16::from_be_bytes(c)))),
        0x0c => Tensor::new(shape, each(data, i32::from_be_bytes)),
        0x0d => Tensor::new(shape, each(data, f32::from_be_bytes)),
        _ => Tensor::new(shape, each(data, f64::from_be_bytes)),
    };
    tensor.map_err(|e: TensorError| Diagnostic::new("data.idx.length", e.to_string()))
}

/// The whole content of a file, unpacked when it is compressed.
fn read(storage: &Arc<dyn StorageBackend>, file: &Found) -> Result<Vec<u8>, Diagnostic> {
    if !is_gzip(&**storage, file)? {
        return storage.read(&file.path).map_err(|e| storage_problem(&e));
    }
    let problem = |e: std::io::Error| read_problem(&e, &file.path);
    // What the header promises bounds what is unpacked: a small file may unpack to almost anything.
    let mut reader = content(storage, file)?;
    let mut bytes = Vec::new();
    reader.by_ref().take(4 + 4 * RANK_MAX as u64).read_to_end(&mut bytes).map_err(problem)?;
    let expected = header(&bytes).map_err(|d| d.file(&file.path))?.file_bytes().unwrap_or(bytes.len());
    let more = (expected as u64 + 1).saturating_sub(bytes.len() as u64);
    reader.take(more).read_to_end(&mut bytes).map_err(problem)?;
    Ok(bytes)
}

/// The two files of a set, which are read when its records are first asked for: whether prepared data can be used
/// again shows without.
struct Pair {
    /// Images, labels.
    files: [Found; 2],
    set: OnceLock<Result<Set, Diagnostic>>,
}

impl Pair {
    fn find(finder: &Finder<'_>, images: &str, labels: &str, key: &str) -> Result<Self, Diagnostic> {
        let files = [
            finder.find_one(images, &format!("{key}.images"))?,
            finder.find_one(labels, &format!("{key}.labels"))?,
        ];
        Ok(Self { files, set: OnceLock::new() })
    }

    fn set(&self, storage: &Arc<dyn StorageBackend>) -> Result<&Set, Diagnostic> {
        self.set.get_or_init(|| Set::load(storage, &self.files)).as_ref().map_err(Clone::clone)
    }
}

/// Images with their labels, in memory.
struct Set {
    images: Tensor,
    labels: Tensor,
    path: Arc<Path>,
    shape: [usize; 3],
}

impl Set {
    fn load(storage: &Arc<dyn StorageBackend>, files: &[Found; 2]) -> Result<Self, Diagnostic> {
        let load = |file: &Found| read(storage, file).and_then(|b| parse(&b)).map_err(|d| d.file(&file.path));
        let (images, labels) = (load(&files[0])?, load(&files[1])?);
        let shape = match images.shape().dims() {
            [_, w] => [1, 1, *w],
            [_, h, w] => [1, *h, *w],
            [_, c, h, w] => [*c, *h, *w],
            other => {
                return Err(Diagnostic::new("data.idx.shape", format!("images with {} dimensions", other.len()))
                    .file(&files[0].path)
                    .expected("2 dimensions (count, width), 3 (count, height, width) or 4 (count, channels, height, width)"));
            }
        };
        outgrow_transform::image::check_size(shape[0], shape[1], shape[2])
            .map_err(|d| d.file(&files[0].path))?;
        images.as_slice::<u8>().map_err(|e| {
            Diagnostic::new("data.idx.type", e.to_string())
                .file(&files[0].path)
                .expected("images of 8-bit samples")
        })?;
        if labels.shape().rank() != 1 || labels.dtype().is_float() {
            return Err(Diagnostic::new("data.idx.shape", format!("labels of shape {}", labels.shape()))
                .file(&files[1].path)
                .expected("one whole number per image"));
        }
        if labels.elements() != images.shape()[0] {
            return Err(Diagnostic::new(
                "data.idx.count",
                format!("{} labels for {} images", labels.elements(), images.shape()[0]),
            )
            .file(&files[1].path)
            .expected("one label per image")
            .hint("the two files belong to different sets, or one is damaged"));
        }
        let path = Arc::from(files[0].path.as_path());
        Ok(Self { images, labels, path, shape })
    }

    fn record(&self, i: usize) -> Result<Record, Diagnostic> {
        let [channels, height, width] = self.shape;
        let n = channels * height * width;
        let pixels =
            self.images.as_slice::<u8>().map_err(|e| Diagnostic::new("data.idx.type", e.to_string()))?;
        let data = pixels[i * n..(i + 1) * n].to_vec();
        let values = vec![
            Value::Pixels(Pixels { channels, height, width, data }),
            Value::Number(self.labels.get_f64(i)),
        ];
        let origin = Origin { file: Some(self.path.clone()), line: None, row: i as u64 + 1 };
        Ok(Record { values, origin })
    }
}

struct IdxSource {
    storage: Arc<dyn StorageBackend>,
    columns: Columns,
    train: Pair,
    test: Option<Pair>,
}

fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    check_test(spec, &["images", "labels"])?;
    let images = require(&spec.images, "images", "idx")?;
    let labels = require(&spec.labels, "labels", "idx")?;
    let train = Pair::find(&context.finder, images, labels, "data")?;
    let test = match &spec.test {
        Some(test) => {
            let images = require(&test.images, "test.images", "idx")?;
            let labels = require(&test.labels, "test.labels", "idx")?;
            Some(Pair::find(&context.finder, images, labels, "data.test")?)
        }
        None => None,
    };
    let storage = context.finder.storage.clone();
    let columns =
        Columns(vec![Column::new(IMAGE, ColumnKind::Image), Column::new(LABEL, ColumnKind::Number)]);
    Ok(Opened::Records(Box::new(IdxSource { storage, columns, train, test })))
}

impl IdxSource {
    fn part(&self, part: Part) -> Option<&Pair> {
        match part {
            Part::Train => Some(&self.train),
            Part::Test => self.test.as_ref(),
        }
    }
}

impl RecordSource for IdxSource {
    fn columns(&self) -> &Columns {
        &self.columns
    }
    fn files(&self) -> Vec<Found> {
        std::iter::once(&self.train).chain(&self.test).flat_map(|s| s.files.clone()).collect()
    }
    fn default_label(&self) -> Option<&str> {
        Some(LABEL)
    }
    fn labels_are_classes(&self) -> bool {
        true
    }
    fn has_test(&self) -> bool {
        self.test.is_some()
    }
    fn count(&self, part: Part) -> Option<u64> {
        self.part(part)?.set(&self.storage).ok().map(|set| set.labels.elements() as u64)
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        Ok(match self.part(part) {
            Some(pair) => {
                let set = pair.set(&self.storage)?;
                Box::new((0..set.labels.elements()).map(|i| set.record(i)))
            }
            None => Box::new(std::iter::empty()),
        })
    }
}

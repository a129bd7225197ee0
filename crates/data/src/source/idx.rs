//! IDX files, as MNIST ships them: <http://yann.lecun.com/exdb/mnist/>. A file is a magic number (two zero bytes, the
//! element type, the number of dimensions), the dimensions as big-endian 32-bit numbers, and the elements.

use super::{Context, Opened, Part, RecordSource, Records, SourceKind, check_test, require};
use crate::files::{Finder, Found};
use crate::{Content, DataSpec};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, counted};
use outgrow_tensor::{Tensor, TensorError};
use outgrow_transform::image::check_size;
use outgrow_transform::{Column, ColumnKind, Columns, Origin, Pixels, Record, Value};
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// `source = "idx"`.
pub const KIND: SourceKind =
    SourceKind { name: "idx", keys: &["images", "labels", "size", "channels"], open };

const IMAGE: &str = "image";
const LABEL: &str = "label";
/// The element type of bytes without a sign.
const U8: u8 = 0x08;
/// Largest number of dimensions.
const RANK_MAX: usize = 8;
/// Unpacked files larger than this are refused: far above any data set in this format, and it stops a compressed
/// file that unpacks without end.
const BYTES_MAX: u64 = 16 << 30;
/// Bytes of the longest header.
const HEADER_BYTES_MAX: usize = 4 + 4 * RANK_MAX;
/// No byte packed by gzip unpacks to more than this (RFC 1951: 258 bytes from two bits, less what the codes take).
const GZIP_RATIO_MAX: u64 = 1032;

/// What the header of an IDX file says.
#[derive(Clone, Debug)]
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

    /// The diagnostic for a file that has not the bytes that the header promises.
    fn other_length(&self, bytes: impl std::fmt::Display) -> Diagnostic {
        let shape: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        Diagnostic::new(
            "data.idx.length",
            format!("the header promises {} elements, the file has {bytes} bytes", shape.join(" x ")),
        )
        .expected(match self.file_bytes() {
            Some(n) => format!("{n} bytes"),
            None => format!("at most {BYTES_MAX} bytes"),
        })
        .hint("the file is cut short or damaged: fetch it again")
    }

    /// `[channels, height, width]` of a file of images.
    fn image_shape(&self) -> Result<[usize; 3], Diagnostic> {
        let shape = match self.dims.as_slice() {
            [_, w] => [1, 1, *w],
            [_, h, w] => [1, *h, *w],
            [_, c, h, w] => [*c, *h, *w],
            other => {
                return Err(Diagnostic::new("data.idx.shape", format!("images with {} dimensions", other.len()))
                    .expected("2 dimensions (count, width), 3 (count, height, width) or 4 (count, channels, height, width)"));
            }
        };
        check_size(shape[0], shape[1], shape[2])?;
        if self.code != U8 {
            return Err(Diagnostic::new(
                "data.idx.type",
                format!("images of element type 0x{:02x}", self.code),
            )
            .expected("images of 8-bit samples, element type 0x08"));
        }
        Ok(shape)
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
        U8 | 0x09 => 1,
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
    if header.file_bytes() != Some(bytes.len()) {
        return Err(header.other_length(bytes.len()));
    }
    let data = bytes[header.start..].to_vec();
    tensor(header, data)
}

/// The tensor of a file's elements, of which there are as many as its header says.
fn tensor(header: Header, data: Vec<u8>) -> Result<Tensor, Diagnostic> {
    let shape = header.dims;
    fn each<const N: usize, T>(data: &[u8], convert: fn([u8; N]) -> T) -> Vec<T> {
        data.as_chunks::<N>().0.iter().map(|c| convert(*c)).collect()
    }
    let tensor = match header.code {
        U8 => Tensor::new(shape, data),
        0x09 => Tensor::new(shape, data.iter().map(|b| i32::from(*b as i8)).collect()),
        0x0b => Tensor::new(shape, each(&data, |c| i32::from(i16::from_be_bytes(c)))),
        0x0c => Tensor::new(shape, each(&data, i32::from_be_bytes)),
        0x0d => Tensor::new(shape, each(&data, f32::from_be_bytes)),
        _ => Tensor::new(shape, each(&data, f64::from_be_bytes)),
    };
    tensor.map_err(|e: TensorError| Diagnostic::fault("data.idx.length", e.to_string()))
}

/// A file whose header was read and found possible. Its elements, packed or not, come next: what they take is known
/// before any memory is asked for.
struct Body {
    header: Header,
    rest: Box<dyn Read + Send>,
    content: Content,
}

impl Body {
    fn open(content: Content) -> Result<Self, Diagnostic> {
        let (packed, bytes) = (content.is_gzip()?, content.bytes());
        let mut reader = content.open()?;
        let mut start = Vec::with_capacity(HEADER_BYTES_MAX);
        let read = reader.by_ref().take(HEADER_BYTES_MAX as u64).read_to_end(&mut start);
        read.map_err(|e| content.unreadable(&e))?;
        let header = header(&start).map_err(|d| content.place(d))?;
        let possible = match header.file_bytes() {
            Some(n) if packed => n as u64 <= bytes.saturating_mul(GZIP_RATIO_MAX),
            Some(n) => n as u64 == bytes,
            None => false,
        };
        if !possible {
            let bytes = if packed { format!("{bytes} packed") } else { bytes.to_string() };
            return Err(content.place(header.other_length(bytes)));
        }
        start.drain(..header.start.min(start.len()));
        let rest = Box::new(Cursor::new(start).chain(reader));
        Ok(Self { header, rest, content })
    }

    /// The next `n` bytes.
    fn take(&mut self, n: usize) -> Result<Vec<u8>, Diagnostic> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(n).map_err(|_| {
            let problem = format!("there is no memory for {n} bytes of elements");
            self.content.place(
                Diagnostic::new("data.idx.memory", problem).expected("a file that fits into memory").hint(
                    "divide the data among several files, or use images in a folder or in Parquet files",
                ),
            )
        })?;
        let read = self.rest.by_ref().take(n as u64).read_to_end(&mut bytes);
        read.map_err(|e| self.content.unreadable(&e))?;
        if bytes.len() < n {
            return Err(self.content.place(self.header.other_length("fewer")));
        }
        Ok(bytes)
    }

    /// Whether the file ends here, as it should.
    fn end(&mut self) -> Result<(), Diagnostic> {
        let mut more = Vec::new();
        let read = self.rest.by_ref().take(1).read_to_end(&mut more);
        match read.map_err(|e| self.content.unreadable(&e))? {
            0 => Ok(()),
            _ => Err(self.content.place(self.header.other_length("more"))),
        }
    }

    /// All elements.
    fn all(mut self) -> Result<(Header, Vec<u8>), Diagnostic> {
        let n = self.header.file_bytes().unwrap_or(0).saturating_sub(self.header.start);
        let bytes = self.take(n)?;
        self.end()?;
        Ok((self.header, bytes))
    }
}

/// The images of a file, read one after the other. After an error there are no more.
///
/// # Errors
/// A diagnostic when the file is no IDX file of images.
pub fn images(
    content: &Content,
) -> Result<impl Iterator<Item = Result<Pixels, Diagnostic>> + Send + use<>, Diagnostic> {
    let mut body = Body::open(content.clone())?;
    let [channels, height, width] = body.header.image_shape().map_err(|d| content.place(d))?;
    let mut left = body.header.dims[0];
    let mut ended = false;
    Ok(std::iter::from_fn(move || {
        let next = match left {
            0 if ended => return None,
            0 => body.end().map(|()| None),
            _ => body.take(channels * height * width).map(Some),
        };
        ended = left == 0 || next.is_err();
        left = if ended { 0 } else { left - 1 };
        next.map(|data| data.map(|data| Pixels { channels, height, width, data })).transpose()
    }))
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
    images: Vec<u8>,
    labels: Tensor,
    path: Arc<Path>,
    shape: [usize; 3],
}

impl Set {
    /// Both headers are compared before any element is read: images may unpack to thousands of times their file.
    fn load(storage: &Arc<dyn StorageBackend>, [images, labels]: &[Found; 2]) -> Result<Self, Diagnostic> {
        let open = |file: &Found| Body::open(Content::File(storage.clone(), file.clone()));
        let (pixels, classes) = (open(images)?, open(labels)?);
        let shape = pixels.header.image_shape().map_err(|d| d.file(&images.path))?;
        let of = match classes.header.dims.as_slice() {
            [of] if !matches!(classes.header.code, 0x0d | 0x0e) => *of,
            _ => return Err(label_shape(&classes.header).file(&labels.path)),
        };
        let count = pixels.header.dims[0];
        if of != count {
            return Err(Diagnostic::new(
                "data.idx.count",
                format!("{} for {}", counted(of, "label"), counted(count, "image")),
            )
            .file(&labels.path)
            .expected("one label per image")
            .hint("the two files belong to different sets, or one is damaged"));
        }
        let (header, data) = classes.all()?;
        let labels = tensor(header, data).map_err(|d| d.file(&labels.path))?;
        let (_, pixels) = pixels.all()?;
        Ok(Self { images: pixels, labels, path: Arc::from(images.path.as_path()), shape })
    }

    fn record(&self, i: usize) -> Record {
        let [channels, height, width] = self.shape;
        let n = channels * height * width;
        let data = self.images[i * n..(i + 1) * n].to_vec();
        let values = vec![
            Value::Pixels(Pixels { channels, height, width, data }),
            Value::Number(self.labels.get_f64(i)),
        ];
        let origin = Origin { file: Some(self.path.clone()), line: None, row: i as u64 + 1 };
        Record { values, origin }
    }
}

fn label_shape(header: &Header) -> Diagnostic {
    let shape: Vec<String> = header.dims.iter().map(ToString::to_string).collect();
    let problem = format!("labels of shape [{}] and element type 0x{:02x}", shape.join(", "), header.code);
    Diagnostic::new("data.idx.shape", problem).expected("one whole number per image")
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
                Box::new((0..set.labels.elements()).map(|i| Ok(set.record(i))))
            }
            None => Box::new(std::iter::empty()),
        })
    }
}

//! One array: where it lies in its file, and reading its rows piece by piece.

use crate::files::{FileReader, Found, read_problem, storage_problem};
use flate2::Crc;
use flate2::read::DeflateDecoder;
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use outgrow_store::npy::NpyHeader;
use outgrow_tensor::{Tensor, TensorError};
use std::io::Read;
use std::sync::Arc;

/// Bytes of a file that hold any header.
const HEADER_BYTES: u64 = 10_012;
/// A larger row is refused.
const ROW_BYTES_MAX: usize = 1 << 28;
/// Rows are read in pieces of about so many bytes; more where a row is scattered over the file.
const PIECE_BYTES: usize = 1 << 20;
const SCATTERED_PIECE_BYTES: usize = 1 << 24;
/// A compressed array whose first index runs fastest can only be read whole, which is done up to this size.
const WHOLE_BYTES_MAX: usize = 1 << 30;

/// Where the bytes of an array file are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// As they are, from byte `start` on.
    Plain {
        /// The first byte.
        start: u64,
        /// Their checksum, where there is one.
        crc: Option<u32>,
    },
    /// Compressed, in an archive.
    Deflated {
        /// The first byte.
        start: u64,
        /// Bytes in the archive.
        packed: u64,
        /// Checksum of the unpacked bytes.
        crc: u32,
    },
}

/// An array in a file.
#[derive(Clone, Debug)]
pub(super) struct Array {
    /// Its name in the archive, or what it stands for.
    pub name: String,
    /// The file.
    pub file: Found,
    pub header: NpyHeader,
    pub place: Place,
}

impl Array {
    /// Reads the header of an array of `bytes` bytes.
    pub fn open(
        storage: &Arc<dyn StorageBackend>,
        file: &Found,
        name: &str,
        place: Place,
        bytes: u64,
    ) -> Result<Self, Diagnostic> {
        let at = |d: Diagnostic| d.file(&file.path).item(format!("array `{name}`"));
        let mut start = Vec::new();
        let mut reader = place.reader(storage, file, true).take(HEADER_BYTES.min(bytes));
        reader.read_to_end(&mut start).map_err(|e| at(read_problem(&e, &file.path)))?;
        let header = NpyHeader::parse(&start).map_err(&at)?;
        if header.data_start as u64 + header.data_bytes as u64 != bytes {
            let problem = format!("the array has {bytes} bytes");
            return Err(at(Diagnostic::new("data.npy.length", problem)
                .expected(format!(
                    "{} bytes, as its header says",
                    header.data_start as u64 + header.data_bytes as u64
                ))
                .hint("the file is cut short or damaged: fetch it again")));
        }
        if header.row_bytes() > ROW_BYTES_MAX || header.row_bytes() == 0 {
            let problem = format!("a row of the array has {} bytes", header.row_bytes());
            return Err(at(
                Diagnostic::new("data.npy.shape", problem).expected(format!("1 to {ROW_BYTES_MAX} bytes"))
            ));
        }
        let scattered = header.is_fortran() && matches!(place, Place::Deflated { .. });
        if scattered && header.data_bytes > WHOLE_BYTES_MAX {
            return Err(at(Diagnostic::new(
                "data.npy.order",
                "the array is large, compressed and in Fortran's order, and could only be read whole",
            )
            .expected(format!("at most {WHOLE_BYTES_MAX} bytes"))
            .hint("save it with `numpy.savez`, or convert it with `numpy.ascontiguousarray` before")));
        }
        Ok(Self { name: name.into(), file: file.clone(), header, place })
    }

    /// Rows that are read at a time.
    pub fn rows_per_piece(&self) -> usize {
        let bytes = if self.header.is_fortran() { SCATTERED_PIECE_BYTES } else { PIECE_BYTES };
        (bytes / self.header.row_bytes().max(1)).max(1)
    }

    /// Starts reading at the first row.
    pub fn rows(&self, storage: &Arc<dyn StorageBackend>) -> Result<Rows, Diagnostic> {
        let mut rows = Rows { array: self.clone(), storage: storage.clone(), next: 0, from: From::Runs };
        if !self.header.is_fortran() {
            let mut stream = self.place.reader(storage, &self.file, false);
            let mut head = vec![0; self.header.data_start];
            stream.read_exact(&mut head).map_err(|e| read_problem(&e, &self.file.path))?;
            let mut crc = Crc::new();
            crc.update(&head);
            rows.from = From::Stream(stream, crc);
        } else if let Place::Deflated { .. } = self.place {
            let mut whole = Vec::new();
            let bytes = (self.header.data_start + self.header.data_bytes) as u64;
            let reader = self.place.reader(storage, &self.file, false);
            reader.take(bytes).read_to_end(&mut whole).map_err(|e| read_problem(&e, &self.file.path))?;
            let mut crc = Crc::new();
            crc.update(&whole);
            rows.check(&crc)?;
            rows.from = From::Whole(whole);
        }
        Ok(rows)
    }
}

impl Place {
    fn reader(&self, storage: &Arc<dyn StorageBackend>, file: &Found, little: bool) -> Box<dyn Read + Send> {
        let reader = FileReader::new(storage.clone(), file);
        let at = |start: u64| if little { reader.starting_at(start) } else { reader.going_on_at(start) };
        match self {
            Self::Plain { start, .. } => Box::new(at(*start)),
            Self::Deflated { start, packed, .. } => Box::new(DeflateDecoder::new(at(*start).take(*packed))),
        }
    }

    fn crc(&self) -> Option<u32> {
        match self {
            Self::Plain { crc, .. } => *crc,
            Self::Deflated { crc, .. } => Some(*crc),
        }
    }
}

/// Where rows are taken from.
enum From {
    /// The file's content, row after row, with the checksum so far.
    Stream(Box<dyn Read + Send>, Crc),
    /// The whole file's content in memory.
    Whole(Vec<u8>),
    /// Many places of the file.
    Runs,
}

/// The rows of an array, in their order.
pub(super) struct Rows {
    array: Array,
    storage: Arc<dyn StorageBackend>,
    next: usize,
    from: From,
}

impl Rows {
    /// The next `count` rows, of which there must be as many.
    pub fn take(&mut self, count: usize) -> Result<Tensor, Diagnostic> {
        let header = &self.array.header;
        let path = &self.array.file.path;
        let runs = header.row_runs(self.next, count);
        self.next += count;
        let mut bytes = Vec::with_capacity(runs.runs * runs.bytes);
        match &mut self.from {
            From::Stream(stream, crc) => {
                bytes.resize(runs.bytes, 0);
                stream.read_exact(&mut bytes).map_err(|e| read_problem(&e, path))?;
                crc.update(&bytes);
            }
            From::Whole(whole) => {
                for run in 0..runs.runs {
                    let at = header.data_start + runs.start + run * runs.stride;
                    bytes.extend(whole.get(at..at + runs.bytes).ok_or_else(cut_short)?);
                }
            }
            From::Runs => {
                let Place::Plain { start, .. } = self.array.place else { return Err(cut_short()) };
                for run in 0..runs.runs {
                    let at = start + (header.data_start + runs.start + run * runs.stride) as u64;
                    let piece = self.storage.read_range(path, at, runs.bytes);
                    bytes.extend(piece.map_err(|e| storage_problem(&e))?);
                }
            }
        }
        if let From::Stream(_, crc) = &self.from
            && self.next == header.rows()
        {
            self.check(crc)?;
        }
        header.of_rows(count).tensor(&bytes).map_err(|d| d.file(path))
    }

    fn check(&self, crc: &Crc) -> Result<(), Diagnostic> {
        if self.array.place.crc().is_none_or(|expected| expected == crc.sum()) {
            return Ok(());
        }
        Err(Diagnostic::new("data.npy.damaged", "the array's checksum is not that of the archive")
            .file(&self.array.file.path)
            .item(format!("array `{}`", self.array.name))
            .hint("the file is damaged: fetch it again"))
    }
}

fn cut_short() -> Diagnostic {
    Diagnostic::new("data.npy.length", "the array ends before its last row")
        .hint("the file is cut short or damaged: fetch it again")
}

/// A tensor's failure, which no file can cause any more.
pub(super) fn tensor_problem(e: &TensorError) -> Diagnostic {
    Diagnostic::fault("data.npy.type", e.to_string())
}

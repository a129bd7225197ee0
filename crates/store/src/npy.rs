//! NumPy's `.npy` arrays (NEP 1): read with every size checked against the bytes that are there, so that a hostile
//! header allocates nothing, and written as NumPy itself writes them.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

use half::f16;
use outgrow_ir::Diagnostic;
use outgrow_tensor::{DType, Shape, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";
/// A header is a line of text; NumPy itself refuses longer ones.
const HEADER_BYTES_MAX: usize = 10_000;
/// NumPy's own limit on dimensions.
const RANK_MAX: usize = 64;

/// How an element is stored in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Unsigned,
    Float,
}

/// What the header of an array says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpyHeader {
    /// The element type the array is read as: `f2` is widened to f32, `i1`, `i2` and `u2` to i32, `u4` to i64.
    pub dtype: DType,
    /// The extents, outermost first.
    pub shape: Shape,
    /// Where the elements begin in the file, in bytes.
    pub data_start: usize,
    /// How many bytes the elements take in the file.
    pub data_bytes: usize,
    kind: Kind,
    width: usize,
    big_endian: bool,
    fortran: bool,
}

/// Where some rows of an array lie among its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRuns {
    /// How many runs there are.
    pub runs: usize,
    /// Where the first one begins, in bytes.
    pub start: usize,
    /// Bytes of each.
    pub bytes: usize,
    /// Bytes from the begin of one to the begin of the next.
    pub stride: usize,
}

fn bad(problem: impl Into<String>) -> Diagnostic {
    Diagnostic::new("store.npy", problem).expected("an array as `numpy.save` writes it")
}

impl NpyHeader {
    /// Reads the header of an array; `bytes` is the file or its beginning.
    ///
    /// # Errors
    /// When it is no array, or of an element type that no tensor can hold.
    pub fn parse(bytes: &[u8]) -> Result<Self, Diagnostic> {
        if !bytes.starts_with(MAGIC) {
            return Err(bad("the file is no NumPy array"));
        }
        let (length, start) = match bytes.get(6..12) {
            Some([1, _, a, b, ..]) => (usize::from(u16::from_le_bytes([*a, *b])), 10),
            Some([2 | 3, _, a, b, c, d]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12),
            Some(_) => return Err(bad(format!("version {} of the format is not known", bytes[6]))),
            None => return Err(bad("the file ends in its header")),
        };
        if length > HEADER_BYTES_MAX {
            return Err(bad(format!("the header of {length} bytes is longer than {HEADER_BYTES_MAX}")));
        }
        let text = bytes.get(start..start + length).ok_or_else(|| bad("the file ends in its header"))?;
        let text = std::str::from_utf8(text).map_err(|_| bad("the header is no text"))?;
        let descr = quoted(field(text, "descr")?)?;
        let (kind, width, big_endian, dtype) = element(descr)?;
        let fortran = match field(text, "fortran_order")? {
            t if t.starts_with("True") => true,
            t if t.starts_with("False") => false,
            _ => return Err(bad("`fortran_order` is neither True nor False")),
        };
        let dims = extents(field(text, "shape")?)?;
        let shape = Shape::checked(dims.as_slice(), width.max(dtype.bytes()));
        let shape = shape.ok_or_else(|| bad(format!("an array of {dims:?} is too large")))?;
        let data_bytes = shape.elements() * width;
        let data_start = start + length;
        Ok(Self { dtype, shape, data_start, data_bytes, kind, width, big_endian, fortran })
    }

    /// The tensor whose elements, in the file's form, are `data`.
    ///
    /// # Errors
    /// When `data` is not as long as the header says.
    pub fn tensor(&self, data: &[u8]) -> Result<Tensor, Diagnostic> {
        if data.len() != self.data_bytes {
            let problem =
                format!("{} bytes of elements where the header says {}", data.len(), self.data_bytes);
            return Err(bad(problem));
        }
        let shape = if self.fortran {
            Shape::new(self.shape.dims().iter().rev().copied().collect::<Vec<_>>())
        } else {
            self.shape.clone()
        };
        let direct = self.width == self.dtype.bytes() && self.kind != Kind::Bool && !self.big_endian;
        let stored = if direct || self.kind == Kind::Bool {
            Tensor::from_le_bytes(self.dtype, shape, data).map_err(|e| bad(e.to_string()))?
        } else {
            let at = |i: usize| &data[i * self.width..(i + 1) * self.width];
            match self.kind {
                Kind::Float => Tensor::from_f64(self.dtype, shape, |i| float(at(i), self.big_endian)),
                _ => Tensor::from_i64(self.dtype, shape, |i| self.int(at(i))),
            }
        };
        Ok(if self.fortran { self.transposed(&stored) } else { stored })
    }

    /// The extent of the first dimension; 1 for a single number.
    pub fn rows(&self) -> usize {
        self.shape.dims().first().copied().unwrap_or(1)
    }

    /// Bytes that one row, an index of the first dimension, takes in the file.
    pub fn row_bytes(&self) -> usize {
        self.shape.dims().iter().skip(1).product::<usize>() * self.width
    }

    /// Whether the first index runs fastest in the file, so that a row's elements lie apart.
    pub fn is_fortran(&self) -> bool {
        self.fortran && self.shape.rank() > 1
    }

    /// Where the elements of the rows `from` to `from + count` lie: how many runs of bytes, the place of the first
    /// one counted from `data_start`, the bytes of each, and from the begin of one to the begin of the next.
    pub fn row_runs(&self, from: usize, count: usize) -> RowRuns {
        if self.is_fortran() {
            let (start, bytes) = (from * self.width, count * self.width);
            return RowRuns {
                runs: self.row_bytes() / self.width,
                start,
                bytes,
                stride: self.rows() * self.width,
            };
        }
        let bytes = count * self.row_bytes();
        RowRuns { runs: 1, start: from * self.row_bytes(), bytes, stride: bytes }
    }

    /// The header of an array of `count` of this array's rows, whose elements are the bytes of
    /// [`NpyHeader::row_runs`], one run after the other.
    pub fn of_rows(&self, count: usize) -> Self {
        let mut dims = self.shape.dims().to_vec();
        dims.iter_mut().take(1).for_each(|first| *first = count);
        let data_bytes = count * self.row_bytes();
        Self { shape: Shape::new(dims), data_bytes, ..self.clone() }
    }

    fn int(&self, bytes: &[u8]) -> i64 {
        let bits = bits(bytes, self.big_endian);
        let unused = 64 - 8 * self.width as u32;
        if self.kind == Kind::Int { (bits << unused) as i64 >> unused } else { bits as i64 }
    }

    /// An array whose first index runs fastest, in the order in which the last one does.
    fn transposed(&self, stored: &Tensor) -> Tensor {
        let mut index = vec![0; self.shape.rank()];
        let source = |i: usize, index: &mut Vec<usize>| {
            *index = self.shape.unravel(i);
            index.reverse();
            stored.shape().ravel(index)
        };
        if self.dtype.is_float() {
            Tensor::from_f64(self.dtype, self.shape.clone(), |i| stored.get_f64(source(i, &mut index)))
        } else {
            Tensor::from_i64(self.dtype, self.shape.clone(), |i| stored.get_i64(source(i, &mut index)))
        }
    }
}

/// What follows `'key':` in the header's dictionary.
fn field<'a>(header: &'a str, key: &str) -> Result<&'a str, Diagnostic> {
    let found = [format!("'{key}'"), format!("\"{key}\"")].into_iter().find_map(|k| {
        let rest = header[header.find(&k)? + k.len()..].trim_start();
        rest.strip_prefix(':').map(str::trim_start)
    });
    found.ok_or_else(|| bad(format!("the header has no `{key}`")))
}

fn quoted(text: &str) -> Result<&str, Diagnostic> {
    let inner = text.strip_prefix(['\'', '"']).and_then(|t| t.split(['\'', '"']).next());
    inner.ok_or_else(|| {
        bad("the array is of records").expected("an array of one element type").hint("save its columns apart")
    })
}

fn element(descr: &str) -> Result<(Kind, usize, bool, DType), Diagnostic> {
    let (kind, width, dtype) = match descr.trim_start_matches(['<', '>', '=', '|']) {
        "b1" | "?" => (Kind::Bool, 1, DType::Bool),
        "u1" => (Kind::Unsigned, 1, DType::U8),
        "i1" => (Kind::Int, 1, DType::I32),
        "i2" => (Kind::Int, 2, DType::I32),
        "u2" => (Kind::Unsigned, 2, DType::I32),
        "i4" => (Kind::Int, 4, DType::I32),
        "u4" => (Kind::Unsigned, 4, DType::I64),
        "i8" => (Kind::Int, 8, DType::I64),
        "f2" => (Kind::Float, 2, DType::F32),
        "f4" => (Kind::Float, 4, DType::F32),
        "f8" => (Kind::Float, 8, DType::F64),
        _ => {
            let expected = "bool, u8, integers of up to 32 bits, i64, f16, f32 or f64";
            let problem = format!("the array's element type `{descr}` has no tensor");
            return Err(Diagnostic::new("store.npy", problem)
                .expected(expected)
                .hint("convert it with `astype`"));
        }
    };
    Ok((kind, width, descr.starts_with('>'), dtype))
}

fn extents(text: &str) -> Result<Vec<usize>, Diagnostic> {
    let inner = text.strip_prefix('(').and_then(|t| t.split_once(')')).map(|(inner, _)| inner);
    let inner = inner.ok_or_else(|| bad("`shape` is no tuple"))?;
    let parts = inner.split(',').map(str::trim).filter(|p| !p.is_empty());
    let number = |p: &str| p.parse::<usize>().map_err(|_| bad(format!("`{p}` is no extent")));
    let dims = parts.take(RANK_MAX + 1).map(number).collect::<Result<Vec<_>, _>>()?;
    if dims.len() > RANK_MAX {
        return Err(bad(format!("the array has more than {RANK_MAX} dimensions")));
    }
    Ok(dims)
}

fn bits(bytes: &[u8], big_endian: bool) -> u64 {
    let shift = |n: u64, b: &u8| n << 8 | u64::from(*b);
    if big_endian { bytes.iter().fold(0, shift) } else { bytes.iter().rev().fold(0, shift) }
}

fn float(bytes: &[u8], big_endian: bool) -> f64 {
    let bits = bits(bytes, big_endian);
    match bytes.len() {
        2 => f16::from_bits(bits as u16).to_f64(),
        4 => f64::from(f32::from_bits(bits as u32)),
        _ => f64::from_bits(bits),
    }
}

/// Reads an array.
///
/// # Errors
/// When it is no array, of an element type that no tensor can hold, or not as long as its header says.
pub fn read_npy(bytes: &[u8]) -> Result<Tensor, Diagnostic> {
    let header = NpyHeader::parse(bytes)?;
    let data = bytes.get(header.data_start..).unwrap_or_default();
    header.tensor(data)
}

/// The bytes of a `.npy` file of this tensor; bf16, which NumPy lacks, becomes f32.
pub fn write_npy(tensor: &Tensor) -> Vec<u8> {
    let descr = match tensor.dtype() {
        DType::Bool => "|b1",
        DType::U8 => "|u1",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::BF16 | DType::F32 => "<f4",
        DType::F64 => "<f8",
    };
    let dims: String = tensor.shape().dims().iter().map(|d| format!("{d}, ")).collect();
    let dims = if tensor.shape().rank() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    // Elements begin at a multiple of 64 bytes: 10 bytes go before the header, a line feed ends it.
    let padding = (64 - (header.len() + 11) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    if tensor.dtype() == DType::BF16 {
        let wide = Tensor::from_f64(DType::F32, tensor.shape().clone(), |i| tensor.get_f64(i));
        bytes.extend_from_slice(&wide.le_bytes());
    } else {
        bytes.extend_from_slice(&tensor.le_bytes());
    }
    bytes
}

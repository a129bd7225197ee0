//! Content that is read from its start, wherever it lies: a file of a storage, or bytes in memory.

use crate::files::{Found, GZIP, content, is_gzip, read_problem};
use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Something to read, as often as need be.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file.
    File(Arc<dyn StorageBackend>, Found),
    /// Bytes in memory, as a request brings them.
    Memory(Bytes),
}

impl Content {
    /// A reader from the start, unpacked where the content is compressed by gzip.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, Diagnostic> {
        match self {
            Self::File(storage, found) => content(storage, found),
            Self::Memory(bytes) => {
                let reader = bytes.clone().reader();
                Ok(if self.is_gzip()? { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
            }
        }
    }

    /// Whether it is compressed by gzip, told by its first bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_gzip(&self) -> Result<bool, Diagnostic> {
        match self {
            Self::File(storage, found) => is_gzip(&**storage, found),
            Self::Memory(bytes) => Ok(bytes.starts_with(&GZIP)),
        }
    }

    /// Its length as it lies there, packed or not.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(_, found) => found.bytes,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(_, found) => Some(&found.path),
            Self::Memory(_) => None,
        }
    }

    /// Says in which file something is wrong, where it is one.
    pub fn place(&self, diagnostic: Diagnostic) -> Diagnostic {
        match self.path() {
            Some(path) => diagnostic.file(path),
            None => diagnostic,
        }
    }

    /// A failure to read it as a diagnostic.
    pub fn unreadable(&self, error: &io::Error) -> Diagnostic {
        let mut diagnostic = read_problem(error, Path::new(""));
        diagnostic.place.file = self.path().map(Path::to_owned);
        diagnostic
    }
}

/// A reader of what another one gives, unpacked where that is compressed by gzip.
///
/// # Errors
/// When it cannot be read from.
pub fn unpacked(mut reader: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::new();
    reader.by_ref().take(2).read_to_end(&mut start)?;
    let is_gzip = start == GZIP;
    let whole = Read::chain(io::Cursor::new(start), reader);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

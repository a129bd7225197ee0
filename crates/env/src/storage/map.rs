//! Mapped files. Beside the kernels this is the only place with `unsafe` code: the system shows a file as memory, and
//! nothing but a contract says that it stays as it is.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

use bytes::Bytes;
use memmap2::MmapOptions;
use std::fs::File;
use std::io;

/// The first `length` bytes of a file, mapped for reading.
///
/// # Errors
/// When the file is shorter by now, or the system cannot map it.
pub(super) fn map(file: &File, length: u64) -> io::Result<Bytes> {
    if file.metadata()?.len() < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile"));
    }
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // SAFETY: what is borrowed from the mapping must not change. Who maps a file promises that nobody changes it in
    // place (see `StorageBackend::map`); files that were replaced or removed live on until they are unmapped.
    let mapped = unsafe { MmapOptions::new().len(length).map(file)? };
    Ok(Bytes::from_owner(mapped))
}

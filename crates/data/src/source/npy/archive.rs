//! The arrays of a `.npz` file: a zip archive of `.npy` files. Only its directory is read through the `zip` crate;
//! the arrays are unpacked piece by piece, and no further than their headers say.

use super::array::{Array, Place};
use crate::files::{FileReader, Found};
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use zip::{CompressionMethod, ZipArchive};

/// More arrays than this are refused.
const ARRAYS_MAX: usize = 1024;
/// An array that unpacks to more bytes is refused.
const UNPACKED_BYTES_MAX: u64 = 1 << 36;
/// How a member's name ends.
const ENDING: &str = ".npy";

fn broken(file: &Found, why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new("data.npz.read", format!("the archive cannot be read: {why}"))
        .file(&file.path)
        .expected("an archive as `numpy.savez` or `numpy.savez_compressed` writes it")
        .hint("the file may be cut short or damaged: fetch it again")
}

/// All arrays of an archive, in its order.
pub(super) fn arrays(storage: &Arc<dyn StorageBackend>, file: &Found) -> Result<Vec<Array>, Diagnostic> {
    let members = catch_unwind(AssertUnwindSafe(|| members(storage, file)));
    let members = members.map_err(|_| broken(file, "the reader gave up"))??;
    let mut names = BTreeSet::new();
    let mut arrays = Vec::new();
    for (name, place, bytes) in members {
        if !names.insert(name.clone()) {
            return Err(broken(file, format!("there are two arrays `{name}`")));
        }
        arrays.push(Array::open(storage, file, &name, place, bytes)?);
    }
    if arrays.is_empty() {
        return Err(broken(file, "it holds no array"));
    }
    Ok(arrays)
}

/// Name, place and unpacked length of each.
fn members(storage: &Arc<dyn StorageBackend>, file: &Found) -> Result<Vec<(String, Place, u64)>, Diagnostic> {
    let reader = FileReader::new(storage.clone(), file).starting_at(0);
    let mut archive = ZipArchive::new(reader).map_err(|e| broken(file, e))?;
    if archive.len() > ARRAYS_MAX {
        return Err(broken(file, format!("it holds more than {ARRAYS_MAX} files")));
    }
    let mut found = Vec::new();
    for i in 0..archive.len() {
        let member = archive.by_index_raw(i).map_err(|e| broken(file, e))?;
        let name = member.name().map_err(|e| broken(file, e))?.into_owned();
        let Some(name) = name.strip_suffix(ENDING) else { continue };
        let fail = |why: String| Err(broken(file, why));
        if member.encrypted() {
            return fail(format!("array `{name}` is encrypted"));
        }
        let (bytes, packed, crc) = (member.size(), member.compressed_size(), member.crc32());
        let Some(start) = member.data_start() else {
            return fail(format!("where array `{name}` begins is not known"));
        };
        if bytes > UNPACKED_BYTES_MAX {
            return fail(format!("array `{name}` unpacks to {bytes} bytes, more than {UNPACKED_BYTES_MAX}"));
        }
        if start.checked_add(packed).is_none_or(|end| end > file.bytes) {
            return fail(format!("array `{name}` reaches beyond the end of the file"));
        }
        let place = match member.compression() {
            CompressionMethod::Stored if packed == bytes => Place::Plain { start, crc: Some(crc) },
            CompressionMethod::Stored => return fail(format!("array `{name}` has two lengths")),
            // Deflate's own number in the format, whether or not the `zip` crate was built to unpack it.
            method if method == CompressionMethod::DEFLATE => Place::Deflated { start, packed, crc },
            method => return fail(format!("array `{name}` is compressed by {method:?}")),
        };
        found.push((name.to_owned(), place, bytes));
    }
    Ok(found)
}

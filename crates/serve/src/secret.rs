//! Files that hold secrets: read whole, and refused where anybody on the machine could read them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use outgrow_ir::Diagnostic;

/// A small file, whole.
///
/// # Errors
/// When it cannot be read, or is larger.
pub(crate) fn read(
    path: &Path,
    code: &'static str,
    item: &str,
    bytes_max: usize,
) -> Result<Vec<u8>, Diagnostic> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        Diagnostic::new(code, format!("it cannot be read: {error}"))
            .file(path)
            .item(item)
            .hint("name a file that is there, and that this process may read")
    })?;
    if bytes.len() > bytes_max {
        let problem = Diagnostic::new(code, "it is too large").file(path).item(item);
        return Err(problem.expected(format!("{bytes_max} bytes at most")));
    }
    Ok(bytes)
}

/// Refuses a file that everybody may read, or change. Its group may: servers often get their keys by one.
///
/// # Errors
/// When that is so.
pub(crate) fn refuse_if_open(path: &Path, code: &'static str, hint: &str) -> Result<(), Diagnostic> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What cannot be asked was read a moment ago.
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o006 != 0 {
            let problem =
                format!("everybody on this machine may read or change it (mode {:o})", mode & 0o777);
            return Err(Diagnostic::new(code, problem).file(path).expected("a file of its owner").hint(hint));
        }
    }
    Ok(())
}

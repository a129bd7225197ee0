//! The fingerprint of prepared data: what it depends on, and nothing else.

use crate::DataSpec;
use crate::files::{FileReader, Found, read_problem};
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use outgrow_store::sha256::Hasher;
use std::io::Read;
use std::sync::Arc;

/// Larger files are not read whole for the fingerprint: hashing a terabyte at every start would take longer than
/// many a training step is worth. Of those, the length and the two ends count.
const WHOLE_BYTES_MAX: u64 = 4 << 30;
/// How much of each end counts.
const END_BYTES: u64 = 16 << 20;

/// SHA-256 over the section as written, the seed, the engine that runs its statement, and every file's name as written, length and content. Where the
/// files lie does not matter, nor when they were written.
pub(crate) fn fingerprint(
    spec: &DataSpec,
    seed: u64,
    engine: Option<&str>,
    files: &[Found],
    storage: &Arc<dyn StorageBackend>,
    progress: &dyn Fn(u64),
) -> Result<String, Diagnostic> {
    let mut hasher = Hasher::new();
    let json =
        serde_json::to_string(&spec.stored()).map_err(|e| Diagnostic::fault("data.json", e.to_string()))?;
    hasher.update(&crate::manifest::FORMAT.to_le_bytes());
    hasher.update(&seed.to_le_bytes());
    hasher.update(json.as_bytes());
    hasher.update(engine.unwrap_or_default().as_bytes());
    let mut done = 0;
    for file in files {
        hasher.update(&(file.shown.len() as u64).to_le_bytes());
        hasher.update(file.shown.as_bytes());
        hasher.update(&file.bytes.to_le_bytes());
        let mut reader = FileReader::new(storage.clone(), file);
        if file.bytes > WHOLE_BYTES_MAX {
            let mut start = reader.take(END_BYTES);
            let mut buffer = Vec::new();
            start.read_to_end(&mut buffer).map_err(|e| read_problem(&e, &file.path))?;
            hasher.update(&buffer);
            let end = storage
                .read_range(&file.path, file.bytes - END_BYTES, END_BYTES as usize)
                .map_err(|e| crate::files::storage_problem(&e))?;
            hasher.update(&end);
            continue;
        }
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = reader.read(&mut buffer).map_err(|e| read_problem(&e, &file.path))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            done += n as u64;
            progress(done);
        }
    }
    Ok(hasher.hex())
}

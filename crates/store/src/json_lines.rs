//! A durable log of JSON objects, one per line: the metrics of a run.
//!
//! A crash may tear the last line, and training that resumes from a checkpoint repeats the steps after it. So the log
//! is cut back when it is opened: the torn end and the lines of later steps go.

use crate::StoreError;
use crate::appender::Appender;
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// Appends JSON objects to a file.
#[derive(Debug)]
pub struct JsonLines {
    file: Appender,
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The objects, in order.
    pub lines: Vec<Value>,
    /// Damaged lines, which were left out. A torn end is not told: it is what a crash leaves.
    pub damaged: Diagnostics,
    /// The bytes that hold `lines`.
    kept: Vec<u8>,
}

impl JsonLines {
    /// Opens a log to go on after `step`: lines are kept up to the first one whose `"step"` is greater. A log that
    /// does not exist is begun with the first line. Returns what the log holds.
    pub fn resume(
        storage: Arc<dyn StorageBackend>,
        path: impl Into<PathBuf>,
        step: u64,
    ) -> Result<(Self, Parsed), StoreError> {
        let path = path.into();
        let bytes = match storage.read(&path) {
            Err(e) if e.is_not_found() => Vec::new(),
            bytes => bytes?,
        };
        let mut parsed = parse(&bytes, step);
        parsed.damaged = crate::in_file(parsed.damaged, &path);
        if parsed.kept != bytes {
            storage.write(&path, &parsed.kept)?;
        }
        Ok((Self { file: Appender::new(storage, path) }, parsed))
    }

    /// Adds an object. It is on the disk after the next [`JsonLines::flush`], which this calls by itself when much is
    /// waiting.
    pub fn push(&mut self, object: &Value) -> Result<(), StoreError> {
        // A line break within a string is escaped, so an object is always one line.
        self.file.push(format!("{object}\n").as_bytes())
    }

    /// Makes all lines so far durable. On an error none of the waiting ones is in the file, and they go on waiting.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.file.flush()
    }

    /// Has all lines so far written by a thread, so that they can soon be seen in the file, without waiting for that. While
    /// lines are still being written, this does nothing.
    ///
    /// # Errors
    /// When the lines of the time before could not be written; they go on waiting.
    pub fn flush_beside(&mut self) -> Result<(), StoreError> {
        self.file.flush_beside()
    }
}

/// Reads a log up to the first line whose `"step"` is greater than `last_step`.
pub fn parse(bytes: &[u8], last_step: u64) -> Parsed {
    let mut parsed = Parsed::default();
    // What follows the last line break is torn, or nothing.
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let lines: Vec<&[u8]> = bytes[..whole].split_inclusive(|b| *b == b'\n').collect();
    for (i, line) in lines.iter().enumerate() {
        match serde_json::from_slice::<Value>(line) {
            Ok(value) if value.is_object() => {
                if value["step"].as_u64().is_some_and(|step| step > last_step) {
                    break;
                }
                parsed.kept.extend_from_slice(line);
                parsed.lines.push(value);
            }
            // A crash may also leave zeros where the end of the file should be.
            _ if i + 1 == lines.len() => {}
            _ => parsed.damaged.push(
                Diagnostic::new("store.json-lines.damaged", "the line is not a JSON object")
                    .line(i + 1)
                    .hint("the file changed after it was written; the line is left out"),
            ),
        }
    }
    parsed
}

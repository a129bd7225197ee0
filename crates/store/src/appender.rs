//! A file that grows: bytes wait until there are enough of them, or somebody wants them there, and are then appended
//! durably, at once or by a thread.

use crate::StoreError;
use outgrow_env::{StorageBackend, StorageError};
use outgrow_ir::{Diagnostic, Diagnostics};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Bytes are written at the latest when so many are waiting.
const BUFFER_BYTES: usize = 1 << 16;

/// How writing went: if it failed, with the bytes that are not in the file.
type Written = Result<(), (Vec<u8>, StorageError)>;

/// Appends bytes to a file.
#[derive(Debug)]
pub(crate) struct Appender {
    storage: Arc<dyn StorageBackend>,
    path: PathBuf,
    waiting: Vec<u8>,
    /// Bytes that are being written meanwhile, and come back if they cannot be.
    writing: Option<JoinHandle<Written>>,
}

impl Appender {
    /// To this file, which is begun with the first bytes if it does not exist.
    pub fn new(storage: Arc<dyn StorageBackend>, path: PathBuf) -> Self {
        Self { storage, path, waiting: Vec::new(), writing: None }
    }

    /// Adds bytes. They are on the disk after the next [`Appender::flush`], which this calls by itself when many are
    /// waiting.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Makes all bytes so far durable. On an error none of the waiting ones is in the file, and they go on waiting.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.wait()?;
        if !self.waiting.is_empty() {
            self.storage.append(&self.path, &self.waiting)?;
            self.waiting.clear();
        }
        Ok(())
    }

    /// Has all bytes so far written by a thread, so that they can soon be seen in the file, without waiting for that. While
    /// some are still being written, this does nothing.
    ///
    /// # Errors
    /// When those of the time before could not be written; they go on waiting.
    pub fn flush_beside(&mut self) -> Result<(), StoreError> {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return Ok(());
        }
        self.wait()?;
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (storage, path, bytes) = (self.storage.clone(), self.path.clone(), self.waiting.clone());
        let write = move || storage.append(&path, &bytes).map_err(|error| (bytes, error));
        match thread::Builder::new().name("metrics".into()).spawn(write) {
            Ok(writing) => {
                self.writing = Some(writing);
                self.waiting.clear();
                Ok(())
            }
            // Where the system starts no thread, they are written here.
            Err(_) => self.flush(),
        }
    }

    /// Waits for the bytes that are being written.
    fn wait(&mut self) -> Result<(), StoreError> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        match writing.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err((bytes, error))) => {
                self.waiting.splice(..0, bytes);
                Err(error.into())
            }
            Err(_) => Err(Diagnostics::from(Diagnostic::fault(
                "store.append",
                "the thread that wrote to a file panicked",
            ))
            .into()),
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            // Whoever wants to know has called `flush`.
            let _ = writing.join();
        }
    }
}

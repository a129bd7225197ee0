//! Checkpoints of a trainer: snapshots of its state, written in the background while training goes on, and where
//! training goes on from.

use crate::nonfinite::check_finite;
use crate::observe::{TrainEvent, TrainObserver};
use crate::trainer::Trainer;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_store::checkpoint::{Part, State};
use outgrow_store::{CheckpointStore, StoreError};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A checkpoint that is on the disk: its step and its record.
type Written = Result<(u64, PathBuf), StoreError>;

/// Writes checkpoints, one after the other, each in a thread of its own. Dropping it waits for the last one.
#[derive(Debug)]
pub(crate) struct Saver {
    store: CheckpointStore,
    writing: Option<JoinHandle<Written>>,
}

impl Saver {
    pub fn new(store: CheckpointStore) -> Self {
        Self { store, writing: None }
    }

    /// Whether a checkpoint is ready to be told of.
    fn has_ended(&self) -> bool {
        self.writing.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for the checkpoint that is being written, if there is one.
    fn wait(&mut self) -> Result<Option<(u64, PathBuf)>, Diagnostics> {
        let Some(writing) = self.writing.take() else { return Ok(None) };
        let lost = |_| Diagnostic::fault("train.checkpoint", "the thread that wrote a checkpoint panicked");
        Ok(Some(writing.join().map_err(lost)?.map_err(|e| e.into_diagnostics())?))
    }

    /// Begins to write a checkpoint. Where the system starts no thread, it is written when this returns.
    fn start(&mut self, part: Part, state: State) -> Result<Option<(u64, PathBuf)>, Diagnostics> {
        debug_assert!(self.writing.is_none(), "one checkpoint is written at a time");
        let (store, snapshot) = (self.store.clone(), Arc::new((part, state)));
        let write = {
            let (store, snapshot) = (store.clone(), snapshot.clone());
            move || Ok((snapshot.0.step, store.save(&snapshot.0, &snapshot.1)?))
        };
        match thread::Builder::new().name("checkpoint".into()).spawn(write) {
            Ok(writing) => self.writing = Some(writing),
            Err(_) => {
                let (part, state) = &*snapshot;
                let path = store.save(part, state).map_err(|e| e.into_diagnostics())?;
                return Ok(Some((part.step, path)));
            }
        }
        Ok(None)
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            // Whoever is dropped has failed already, or has waited.
            let _ = writing.join();
        }
    }
}

fn tell(written: Option<(u64, PathBuf)>, observer: &mut dyn TrainObserver) {
    if let Some((step, path)) = written {
        observer.on_event(&TrainEvent::Checkpointed { step, path: &path });
    }
}

impl Trainer {
    /// Goes on from the newest sound checkpoint, if there is one; says whether there was.
    pub fn resume(&mut self, observer: &mut dyn TrainObserver) -> Result<bool, Diagnostics> {
        let Some(saver) = &self.saver else { return Ok(false) };
        let Some(loaded) = saver.store.load_latest().map_err(|e| e.into_diagnostics())? else {
            return Ok(false);
        };
        for problem in &loaded.skipped.0 {
            observer.on_event(&TrainEvent::Skipped { problem: &problem.to_string() });
        }
        self.state.restore(&loaded.stored, &self.state.whole())?;
        Ok(true)
    }

    /// Begins to write a checkpoint of the state as it is, unless it is not worth one.
    ///
    /// # Errors
    /// When the state is not finite, when the observer cannot keep what it was told, or when the checkpoint before could
    /// not be written.
    pub(crate) fn save(&mut self, observer: &mut dyn TrainObserver) -> Result<(), Diagnostics> {
        if let Some(group) = &self.group {
            self.step.collect(&mut self.state, &mut group.lock())?;
        }
        if self.saver.is_none() {
            return observer.sync();
        }
        // There is memory for one snapshot at a time.
        self.wait_saved(observer)?;
        let snapshot = self.state.to_part(&self.options.fingerprint, &self.state.whole())?;
        check_finite(&snapshot)?;
        observer.sync()?;
        if let Some(saver) = &mut self.saver {
            tell(saver.start(snapshot, self.state.progress())?, observer);
        }
        Ok(())
    }

    /// Tells of a checkpoint that has been written meanwhile.
    pub(crate) fn poll_saved(&mut self, observer: &mut dyn TrainObserver) -> Result<(), Diagnostics> {
        match &mut self.saver {
            Some(saver) if saver.has_ended() => tell(saver.wait()?, observer),
            _ => {}
        }
        Ok(())
    }

    /// Waits until the last checkpoint is on the disk.
    pub(crate) fn wait_saved(&mut self, observer: &mut dyn TrainObserver) -> Result<(), Diagnostics> {
        if let Some(saver) = &mut self.saver {
            tell(saver.wait()?, observer);
        }
        Ok(())
    }
}

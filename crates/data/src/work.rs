//! What one preparation works with, and what it makes, whatever the source gives.

use crate::manifest::SplitInfo;
use crate::split::Splitter;
use crate::{CleanReport, DataSpec};
use outgrow_env::{Remote, StorageBackend};
use outgrow_transform::Transform;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Progress is told once in so many records.
pub(crate) const PROGRESS_EVERY: u64 = 512;

/// Where to look for data, where to keep it, and how to go about it.
pub struct PrepareOptions<'a> {
    /// Where all files are.
    pub storage: Arc<dyn StorageBackend>,
    /// What URLs are read through.
    pub remote: Arc<dyn Remote>,
    /// Folders that relative paths are looked up in, in their order.
    pub roots: Vec<PathBuf>,
    /// The folder that prepared data is kept in, each data set in a folder named by its fingerprint.
    pub cache: PathBuf,
    /// Seed of the split and of generated data, unless the manifest gives one.
    pub seed: u64,
    /// Threads that decode images. The result does not depend on their number.
    pub threads: usize,
    /// Told from time to time how far it is.
    pub progress: &'a (dyn Fn(&PrepareProgress) + Sync),
}

/// How far preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareProgress {
    /// What is being done: `downloading`, `checking` (bytes of the source files), `splitting`, `fitting` or `storing` (records or characters).
    pub phase: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, when that is known.
    pub total: Option<u64>,
}

/// One preparation.
pub(crate) struct Work<'a> {
    /// What is asked for.
    pub spec: &'a DataSpec,
    /// Where files are, and how to go about it.
    pub options: &'a PrepareOptions<'a>,
    /// The folder of the data set.
    pub folder: &'a Path,
    /// Divides records among the splits.
    pub splitter: &'a Splitter,
    /// The transform that was fitted before, by which all of this is a test split.
    pub fitted: Option<&'a Transform>,
}

/// The fitted transform, the report and the stored splits.
pub(crate) type Made = (Transform, CleanReport, [SplitInfo; 3]);

impl Work<'_> {
    /// Tells now and then how far it is.
    pub fn tell(&self, phase: &'static str, done: u64, total: Option<u64>) {
        if done.is_multiple_of(PROGRESS_EVERY) {
            (self.options.progress)(&PrepareProgress { phase, done, total });
        }
    }
}

//! Where shards are read from: a folder, or several places.

use crate::files::storage_problem;
use crate::manifest::ShardInfo;
use crate::replicas::Fault;
use crate::shard;
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Gives the content of shards.
pub(crate) trait ShardFiles: Debug + Send + Sync {
    /// A shard's file, whose length and checksum were found right.
    fn read(&self, shard: &ShardInfo) -> Result<Vec<u8>, Diagnostic>;

    /// A part of a shard's file that [`ShardFiles::read`] found right before.
    fn read_range(&self, shard: &ShardInfo, offset: u64, length: usize) -> Result<Vec<u8>, Diagnostic>;

    /// Copies that could not be used, where others served.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// Shards in one folder.
#[derive(Debug)]
pub(crate) struct FolderShards {
    storage: Arc<dyn StorageBackend>,
    folder: PathBuf,
}

impl FolderShards {
    pub fn new(storage: Arc<dyn StorageBackend>, folder: &Path) -> Self {
        Self { storage, folder: folder.to_path_buf() }
    }
}

impl ShardFiles for FolderShards {
    fn read(&self, shard: &ShardInfo) -> Result<Vec<u8>, Diagnostic> {
        shard::read(&*self.storage, &self.folder, shard)
    }

    fn read_range(&self, shard: &ShardInfo, offset: u64, length: usize) -> Result<Vec<u8>, Diagnostic> {
        let path = self.folder.join(&shard.file);
        self.storage.read_range(&path, offset, length).map_err(|e| storage_problem(&e))
    }
}

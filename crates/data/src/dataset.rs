//! A prepared data set: what a folder that [`prepare`](crate::prepare) made holds.

use crate::manifest::{DATASET, FORMAT, Manifest};
use crate::shard::{self, token_field};
use crate::split_data::SplitData;
use crate::{CleanReport, DataLoader, DataSpec, LoaderOptions, Split};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Batch, OutputSchema, StoredField, Transform};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Splits of at most this many bytes are kept in memory.
const MEMORY_BYTES: u64 = 1 << 30;

/// An open data set. It is cheap to clone; the clones share what was read.
#[derive(Clone, Debug)]
pub struct Dataset(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn StorageBackend>,
    folder: PathBuf,
    manifest: Manifest,
    memory_bytes: u64,
    splits: [OnceLock<Arc<SplitData>>; 3],
}

impl Dataset {
    /// Opens a folder. Records are read when they are first asked for.
    ///
    /// # Errors
    /// A diagnostic when the folder holds no data set, a damaged one, or one of another version.
    pub fn open(storage: Arc<dyn StorageBackend>, folder: &Path) -> Result<Self, Diagnostics> {
        Self::open_with(storage, folder, MEMORY_BYTES)
    }

    /// As [`Dataset::open`], keeping splits of at most `memory_bytes` in memory.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_with(
        storage: Arc<dyn StorageBackend>,
        folder: &Path,
        memory_bytes: u64,
    ) -> Result<Self, Diagnostics> {
        let path = folder.join(DATASET);
        let Some(manifest) = crate::manifest::read::<Manifest>(&*storage, &path)? else {
            return Err(Diagnostic::new("data.not-prepared", "the folder holds no prepared data")
                .file(folder)
                .expected(format!("a file {DATASET}"))
                .hint("prepare the data first, with `outgrow data prepare`")
                .into());
        };
        if manifest.format != FORMAT {
            return Err(Diagnostic::new("data.format", format!("the data has format {}", manifest.format))
                .file(path)
                .expected(format!("format {FORMAT}"))
                .hint("remove the folder; the data will be prepared again")
                .into());
        }
        let (folder, splits) = (folder.to_path_buf(), Default::default());
        Ok(Self(Arc::new(Inner { storage, folder, manifest, memory_bytes, splits })))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Hash of all that the data set depends on.
    pub fn fingerprint(&self) -> &str {
        &self.0.manifest.fingerprint
    }

    /// The manifest's section that the data set was prepared from.
    pub fn spec(&self) -> &DataSpec {
        &self.0.manifest.spec
    }

    /// The fitted transform from raw records to tensors.
    pub fn transform(&self) -> &Transform {
        &self.0.manifest.transform
    }

    /// The model's inputs and target.
    pub fn schema(&self) -> OutputSchema {
        self.transform().schema()
    }

    /// What became of the records.
    pub fn report(&self) -> &CleanReport {
        &self.0.manifest.report
    }

    /// Samples in a split: its records, or for text the windows that an epoch of it has.
    pub fn samples(&self, split: Split) -> u64 {
        let stored = self.stored(split);
        match &self.transform().assembly.text {
            Some(text) => crate::loader::windows(stored, text.context as u64, split),
            None => stored,
        }
    }

    /// Records, or tokens of text, that are stored of a split.
    pub fn stored(&self, split: Split) -> u64 {
        self.0.manifest.splits[split.index()].records()
    }

    /// Records of each class in a split; empty when the target is no class.
    pub fn class_counts(&self, split: Split) -> Vec<u64> {
        self.0.manifest.splits[split.index()].classes()
    }

    /// The stored fields.
    pub(crate) fn fields(&self) -> Vec<StoredField> {
        match &self.transform().assembly.text {
            Some(text) => vec![token_field(text.vocabulary.len())],
            None => self.transform().assembly.stored_fields(),
        }
    }

    /// The files of a split's shards.
    pub(crate) fn shard_files(&self, split: Split) -> Vec<PathBuf> {
        let shards = &self.0.manifest.splits[split.index()].shards;
        shards.iter().map(|s| self.0.folder.join(&s.file)).collect()
    }

    /// Where the files are.
    pub(crate) fn storage(&self) -> &dyn StorageBackend {
        &*self.0.storage
    }

    /// The records of a split.
    pub(crate) fn split(&self, split: Split) -> Result<Arc<SplitData>, Diagnostic> {
        let inner = &*self.0;
        if let Some(data) = inner.splits[split.index()].get() {
            return Ok(data.clone());
        }
        let shards = &inner.manifest.splits[split.index()].shards;
        let data = SplitData::open(&inner.storage, &inner.folder, shards, self.fields(), inner.memory_bytes)?;
        Ok(inner.splits[split.index()].get_or_init(|| Arc::new(data)).clone())
    }

    /// Starts loading batches of a split.
    ///
    /// # Errors
    /// A diagnostic for a split without samples, a batch that training data cannot fill, or a damaged shard.
    pub fn loader(&self, split: Split, options: LoaderOptions) -> Result<DataLoader, Diagnostic> {
        DataLoader::new(self, split, options)
    }

    /// Sample `i` of a split, in the order in which the records are stored, as a batch of one.
    ///
    /// # Errors
    /// A diagnostic when there is no such sample, or its shard is damaged.
    pub fn sample(&self, split: Split, i: u64) -> Result<Batch, Diagnostic> {
        crate::loader::sample(self, split, i)
    }

    /// Reads every shard and checks it against its checksum.
    ///
    /// # Errors
    /// All shards that are damaged or missing, by name.
    pub fn verify(&self) -> Result<(), Diagnostics> {
        let mut problems = Diagnostics::default();
        let fields = self.fields();
        for info in self.0.manifest.splits.iter().flat_map(|s| &s.shards) {
            if let Err(problem) = shard::load(&*self.0.storage, &self.0.folder, info, &fields) {
                problems.push(problem);
            }
        }
        problems.into_result(())
    }
}

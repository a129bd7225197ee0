//! A prepared data set: what a folder that [`prepare`](crate::prepare) made holds.

use crate::manifest::ShardInfo;
use crate::manifest::{DATASET, FORMAT, Manifest};
use crate::replicas::{Fault, Replicas, ReplicatedShards, Version};
use crate::shard::{self, token_field};
use crate::shards::{FolderShards, ShardFiles};
use crate::split_data::SplitData;
use crate::{CleanReport, DataLoader, DataSpec, LoaderOptions, Split};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Batch, OutputSchema, StoredField, Target, Transform};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Splits of at most this many bytes are kept in memory.
const MEMORY_BYTES: u64 = 1 << 30;

/// An open data set. It is cheap to clone; the clones share what was read.
#[derive(Clone, Debug)]
pub struct Dataset(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Arc<dyn ShardFiles>,
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
        check_format(&manifest, &path)?;
        let shards = Arc::new(FolderShards::new(storage, folder));
        let (folder, splits) = (folder.to_path_buf(), Default::default());
        Ok(Self(Arc::new(Inner { shards, folder, manifest, memory_bytes, splits })))
    }

    /// Opens a version of a replicated data set: shards are read from wherever a good copy is, and it stays this version
    /// whatever is committed meanwhile.
    ///
    /// # Errors
    /// When the version is of another format.
    pub fn open_version(replicas: &Replicas, version: &Version) -> Result<Self, Diagnostics> {
        Self::open_version_with(replicas, version, MEMORY_BYTES)
    }

    /// As [`Dataset::open_version`], keeping splits of at most `memory_bytes` in memory.
    ///
    /// # Errors
    /// As [`Dataset::open_version`].
    pub fn open_version_with(
        replicas: &Replicas,
        version: &Version,
        memory_bytes: u64,
    ) -> Result<Self, Diagnostics> {
        let manifest = version.record.dataset.clone();
        let home = replicas.places.first().map_or("", |place| place.name());
        let folder = Path::new(home).join(&replicas.name);
        check_format(&manifest, &folder)?;
        let shards = Arc::new(ReplicatedShards::new(replicas.clone()));
        Ok(Self(Arc::new(Inner { shards, folder, manifest, memory_bytes, splits: Default::default() })))
    }

    /// Copies that could not be used so far, where others served.
    pub fn faults(&self) -> Vec<Fault> {
        self.0.shards.faults()
    }

    /// What `dataset.json` holds.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Where the shards are read from.
    pub(crate) fn shards(&self) -> &dyn ShardFiles {
        &*self.0.shards
    }

    /// The folder; of a replicated data set, that of its home.
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
        let mut counts = self.0.manifest.splits[split.index()].classes();
        if let Target::Class { names } = self.schema().target {
            // A split without records has no shard to count in.
            counts.resize(names.len(), 0);
        }
        counts
    }

    /// The stored fields.
    pub(crate) fn fields(&self) -> Vec<StoredField> {
        match &self.transform().assembly.text {
            Some(text) => vec![token_field(text.vocabulary.len())],
            None => self.transform().assembly.stored_fields(),
        }
    }

    /// A split's shards.
    pub(crate) fn shard_infos(&self, split: Split) -> &[ShardInfo] {
        &self.0.manifest.splits[split.index()].shards
    }

    /// The records of a split.
    pub(crate) fn split(&self, split: Split) -> Result<Arc<SplitData>, Diagnostic> {
        let inner = &*self.0;
        if let Some(data) = inner.splits[split.index()].get() {
            return Ok(data.clone());
        }
        let shards = &inner.manifest.splits[split.index()].shards;
        let data = SplitData::open(&inner.shards, shards, self.fields(), inner.memory_bytes)?;
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

    /// A hash of the records of a split that does not depend on their order: the same images from Parquet files and
    /// from a folder have the same.
    ///
    /// # Errors
    /// A diagnostic that names a damaged shard.
    pub fn content_hash(&self, split: Split) -> Result<String, Diagnostic> {
        crate::content_hash::content_hash(&*self.split(split)?, self.transform().assembly.text.is_some())
    }

    /// Reads every shard and checks it against its checksum.
    ///
    /// # Errors
    /// All shards that are damaged or missing, by name.
    pub fn verify(&self) -> Result<(), Diagnostics> {
        let mut problems = Diagnostics::default();
        let fields = self.fields();
        for info in self.0.manifest.splits.iter().flat_map(|s| &s.shards) {
            if let Err(problem) = shard::load(self.shards(), info, &fields) {
                problems.push(problem);
            }
        }
        problems.into_result(())
    }
}

fn check_format(manifest: &Manifest, path: &Path) -> Result<(), Diagnostic> {
    if manifest.format == FORMAT {
        return Ok(());
    }
    Err(Diagnostic::new("data.format", format!("the data has format {}", manifest.format))
        .file(path)
        .expected(format!("format {FORMAT}"))
        .hint("remove the folder; the data will be prepared again"))
}

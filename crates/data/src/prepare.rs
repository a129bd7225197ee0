//! Preparation: from a source to a folder of shards. Whatever interrupts it, the next run goes on where it was and
//! ends with the same bits; the file that makes the folder a data set is written last.

use crate::download::{Downloads, LIMIT_BYTES};
use crate::files::{Finder, Web, storage_problem};
use crate::fit::{TrainingRecords, canonical, class_count, empty, fit, one_class};
use crate::manifest::{DATASET, FORMAT, Manifest, PROGRESS, Progress, SplitInfo};
use crate::pieces::in_pieces;
use crate::shard::{ShardWriter, records_per_shard};
use crate::source::{self, Context, Opened, Part, RecordSource};
use crate::split::Splitter;
use crate::{CleanReport, DataSpec, Split, fingerprint, manifest, tokens};
use outgrow_env::{Remote, StorageBackend};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Columns, Record, Run, Target, Transform, Value};
use std::path::PathBuf;
use std::sync::Arc;

/// The folder for temporary files in the cache: a name that no fingerprint has.
const TEMPORARY: &str = ".temporary";

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
    /// What is being done: `downloading`, `checking` (bytes of the source files), `fitting` or `storing` (records or characters).
    pub phase: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, when that is known.
    pub total: Option<u64>,
}

/// Prepared data.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The folder of the data set.
    pub folder: PathBuf,
    /// Hash of all that the data set depends on.
    pub fingerprint: String,
    /// Whether it was there already.
    pub reused: bool,
    /// What became of the records.
    pub report: CleanReport,
}

/// Records that are encoded at a time, by all threads together.
const BLOCK_RECORDS: usize = 2048;
/// The same for the bytes of their texts and images, before or after they are encoded.
const BLOCK_BYTES: usize = 64 << 20;
/// Progress is told once in so many records.
const PROGRESS_EVERY: u64 = 512;

/// Prepares the data that the manifest describes, or finds that it is prepared already.
///
/// # Errors
/// Everything that is wrong with the section or the source. Data that was prepared before stays as it is.
pub fn prepare(spec: &DataSpec, options: &PrepareOptions<'_>) -> Result<Prepared, Diagnostics> {
    prepare_identified(spec, options, &identify(spec, options)?)
}

/// A source, and what its data will be called.
pub(crate) struct Identified {
    source: Opened,
    splitter: Splitter,
    pub fingerprint: String,
}

/// Opens the source that a section names, fetching what is elsewhere.
pub(crate) fn open_source(
    spec: &DataSpec,
    options: &PrepareOptions<'_>,
) -> Result<(Opened, u64), Diagnostics> {
    let seed = spec.seed.unwrap_or(options.seed);
    let limit = spec.download_limit.map_or(LIMIT_BYTES, |gigabytes| (gigabytes * 1e9) as u64);
    let tell = |done, total| {
        (options.progress)(&PrepareProgress { phase: "downloading", done, total: Some(total) });
    };
    let (storage_of, remote) = (options.storage.clone(), options.remote.clone());
    let downloads = Downloads { storage: storage_of.clone(), remote, limit, progress: &tell };
    let sha256 = spec.sha256.clone().unwrap_or_default();
    let web = Some(Web { downloads, cache: &options.cache, sha256: &sha256 });
    let finder = Finder { storage: storage_of, roots: &options.roots, web };
    let temporary = options.cache.join(TEMPORARY);
    let source = source::open(spec, &Context { finder, seed, threads: options.threads, temporary })?;
    Ok((source, seed))
}

/// Opens the source and takes its fingerprint.
pub(crate) fn identify(spec: &DataSpec, options: &PrepareOptions<'_>) -> Result<Identified, Diagnostics> {
    let (source, seed) = open_source(spec, options)?;
    let (files, has_test, engine) = match &source {
        Opened::Records(source) => (source.files(), source.has_test(), source.engine()),
        Opened::Text(text) => (text.files(), text.has_test(), None),
    };
    let splitter = splitter_of(spec, seed, has_test)?;
    let total = Some(files.iter().map(|f| f.bytes).sum());
    let fingerprint =
        fingerprint::fingerprint(spec, seed, engine.as_deref(), &files, &options.storage, &|done| {
            (options.progress)(&PrepareProgress { phase: "checking", done, total });
        })?;
    Ok(Identified { source, splitter, fingerprint })
}

pub(crate) fn prepare_identified(
    spec: &DataSpec,
    options: &PrepareOptions<'_>,
    Identified { source, splitter, fingerprint }: &Identified,
) -> Result<Prepared, Diagnostics> {
    let storage = &*options.storage;
    let fingerprint = fingerprint.clone();
    let folder = options.cache.join(&fingerprint);
    if let Some(prepared) = finished(storage, &folder, &fingerprint)? {
        return Ok(prepared);
    }
    storage.create_folder(&folder).map_err(|e| storage_problem(&e))?;
    let _lock = storage.lock(&folder).map_err(|e| storage_problem(&e))?;
    // Another process may have finished while this one waited to start.
    if let Some(prepared) = finished(storage, &folder, &fingerprint)? {
        return Ok(prepared);
    }
    storage.sweep(&folder).map_err(|e| storage_problem(&e))?;
    let progress = earlier_progress(storage, &folder, &fingerprint);
    let work = Work { spec, options, folder: &folder, splitter };
    let (transform, report, splits) = match source {
        Opened::Records(source) => work.records(&**source, progress)?,
        Opened::Text(text) => tokens::prepare(&work, text, progress)?,
    };
    check(&transform, &splits)?;
    if matches!(source, Opened::Records(source) if source.has_test())
        && splits[Split::Test.index()].records() == 0
    {
        return Err(empty_test().into());
    }
    let manifest = Manifest {
        format: FORMAT,
        fingerprint: fingerprint.clone(),
        spec: spec.stored(),
        transform,
        report,
        splits,
    };
    manifest::write(storage, &folder.join(DATASET), &manifest)?;
    storage.remove_file(&folder.join(PROGRESS)).map_err(|e| storage_problem(&e))?;
    Ok(Prepared { folder, fingerprint, reused: false, report: manifest.report })
}

/// The splitter for the fractions that are asked for.
pub(crate) fn splitter_of(spec: &DataSpec, seed: u64, has_test: bool) -> Result<Splitter, Diagnostic> {
    let split = spec.split.clone().unwrap_or_default();
    let fail = |item: &str, problem: &str, expected: &str| {
        Err(Diagnostic::new("data.split", problem).item(item.to_owned()).expected(expected.to_owned()))
    };
    let sane = |f: f64| (0.0..1.0).contains(&f);
    if !sane(split.validation) || !sane(split.test) || split.validation + split.test >= 1.0 {
        return fail(
            "data.split",
            "the split leaves nothing to train on",
            "fractions from 0 that add up to less than 1",
        );
    }
    if has_test && split.test > 0.0 {
        return fail(
            "data.split.test",
            "`split.test` and a test set of its own contradict each other",
            "one of `data.test` and `data.split.test`",
        );
    }
    Ok(Splitter::new(seed, split.validation, split.test))
}

/// The data set in `folder`, when it is whole.
fn finished(
    storage: &dyn StorageBackend,
    folder: &std::path::Path,
    fingerprint: &str,
) -> Result<Option<Prepared>, Diagnostics> {
    let Some(manifest) = manifest::read::<Manifest>(storage, &folder.join(DATASET))? else {
        return Ok(None);
    };
    if manifest.fingerprint != fingerprint {
        return Err(moved(folder, &manifest.fingerprint, fingerprint).into());
    }
    for shard in manifest.splits.iter().flat_map(|s| &s.shards) {
        let path = folder.join(&shard.file);
        match storage.entry(&path).map_err(|e| storage_problem(&e))? {
            Some(entry) if entry.bytes == shard.bytes => {}
            // A shard that somebody removed is made again.
            None => return Ok(None),
            Some(_) => {
                crate::shard::read(storage, folder, shard)?;
            }
        }
    }
    let (folder, fingerprint) = (folder.to_path_buf(), fingerprint.to_owned());
    Ok(Some(Prepared { folder, fingerprint, reused: true, report: manifest.report }))
}

/// A whole data set in the place of another: a folder that was renamed, or copied over it.
fn moved(folder: &std::path::Path, found: &str, fingerprint: &str) -> Diagnostic {
    Diagnostic::new("data.moved", format!("the folder holds other data, whose fingerprint is {found}"))
        .file(folder)
        .expected(format!("the fingerprint {fingerprint}, as its name says"))
        .hint("the folder was renamed or copied here: give it back its name, or remove it, and the data will be prepared again")
}

/// How far an earlier preparation came. Where that cannot be read, nothing is taken from it.
fn earlier_progress(storage: &dyn StorageBackend, folder: &std::path::Path, fingerprint: &str) -> Progress {
    let whole = manifest::read::<Manifest>(storage, &folder.join(DATASET)).ok().flatten();
    let part = manifest::read::<Progress>(storage, &folder.join(PROGRESS)).ok().flatten();
    match (part, whole) {
        (Some(progress), _) if progress.fingerprint == fingerprint => progress,
        (_, Some(m)) if m.fingerprint == fingerprint => {
            Progress { fingerprint: fingerprint.into(), transform: Some(m.transform), splits: m.splits }
        }
        _ => Progress { fingerprint: fingerprint.into(), transform: None, splits: Default::default() },
    }
}

fn empty_test() -> Diagnostic {
    Diagnostic::new("data.empty", "no record is left in the test set")
        .item("data.test")
        .expected("at least one record, or no `data.test`")
        .hint(
            "its files may hold nothing but a header, or the steps of `data.clean` may leave out everything",
        )
}

/// Refuses what cannot be trained on.
fn check(transform: &Transform, splits: &[SplitInfo; 3]) -> Result<(), Diagnostic> {
    let train = &splits[Split::Train.index()];
    if train.records() == 0 {
        return Err(empty());
    }
    if let Target::Class { names } = transform.schema().target {
        let counts = train.classes();
        let mut there = counts.iter().enumerate().filter(|(_, n)| **n > 0);
        if let (Some((only, _)), None) = (there.next(), there.next()) {
            return Err(one_class(names.get(only).map_or("?", String::as_str)));
        }
    }
    Ok(())
}

/// One preparation.
pub(crate) struct Work<'a> {
    pub spec: &'a DataSpec,
    pub options: &'a PrepareOptions<'a>,
    pub folder: &'a std::path::Path,
    pub splitter: &'a Splitter,
}

/// The fitted transform, the report and the stored splits.
pub(crate) type Made = (Transform, CleanReport, [SplitInfo; 3]);

impl Work<'_> {
    pub fn tell(&self, phase: &'static str, done: u64, total: Option<u64>) {
        if done.is_multiple_of(PROGRESS_EVERY) {
            (self.options.progress)(&PrepareProgress { phase, done, total });
        }
    }

    fn records(&self, source: &dyn RecordSource, mut progress: Progress) -> Result<Made, Diagnostics> {
        let count = |part| source.count(part);
        let transform = match progress.transform.take() {
            Some(transform) => transform,
            None => {
                let tell = |done| self.tell("fitting", done, count(Part::Train));
                fit(self.spec, &TrainingRecords { source, splitter: self.splitter, progress: &tell })?
            }
        };
        let columns = transform.chain.columns(&transform.columns);
        let fields = transform.assembly.stored_fields();
        let record_bytes = fields.iter().try_fold(0usize, |n, f| n.checked_add(f.record_bytes()?));
        let Some(record_bytes) = record_bytes else {
            return Err(Diagnostic::new("data.too-large", "one record is larger than memory")
                .item("data")
                .hint("take smaller images or a shorter context")
                .into());
        };
        progress.transform = Some(transform.clone());
        let classes = class_count(&transform.assembly.target);
        let storage = &*self.options.storage;
        let per_shard = records_per_shard(record_bytes);
        let writer = ShardWriter::new(storage, self.folder, fields, per_shard, classes, progress);
        writer.save()?;
        let block_records = (BLOCK_BYTES / record_bytes.max(1)).clamp(1, BLOCK_RECORDS);
        let mut storing = Storing {
            transform: &transform,
            columns: &columns,
            threads: self.options.threads.max(1),
            block_records,
            writer,
            report: CleanReport { notes: source.notes(), ..CleanReport::default() },
            runs: Default::default(),
            missing: [(); 3].map(|()| vec![0; transform.columns.0.len()]),
            block: Vec::new(),
            block_bytes: 0,
        };
        let total = count(Part::Train).map(|n| n + count(Part::Test).unwrap_or(0));
        let mut done = 0;
        let mut content = Vec::new();
        for part in [Part::Train, Part::Test] {
            if part == Part::Test && !source.has_test() {
                continue;
            }
            for record in source.records(part)? {
                let record = record?;
                self.tell("storing", done, total);
                done += 1;
                canonical(&record, &mut content);
                let hash = self.splitter.hash(&content);
                let split = if part == Part::Test { Split::Test } else { self.splitter.assign(hash) };
                storing.take(split, record, hash.identity)?;
            }
        }
        let (report, splits) = storing.finish()?;
        Ok((transform, report, splits))
    }
}

/// The pass that cleans, encodes and stores all records.
struct Storing<'a> {
    transform: &'a Transform,
    /// The columns after the chain.
    columns: &'a Columns,
    threads: usize,
    block_records: usize,
    writer: ShardWriter<'a>,
    report: CleanReport,
    runs: [Run; 3],
    /// Missing raw values of each split, by column.
    missing: [Vec<u64>; 3],
    /// Cleaned records that wait to be encoded.
    block: Vec<(Split, Record)>,
    /// The bytes of their texts and images.
    block_bytes: usize,
}

impl Storing<'_> {
    fn take(&mut self, split: Split, mut record: Record, identity: u128) -> Result<(), Diagnostic> {
        let i = split.index();
        self.report.splits[i].rows_in += 1;
        for (count, value) in self.missing[i].iter_mut().zip(&record.values) {
            *count += u64::from(value.is_missing());
        }
        if self.transform.chain.prepare(&mut record, identity, &mut self.runs[i])?
            && self.writer.assign(split)
        {
            self.block_bytes += record.values.iter().map(Value::bytes).sum::<usize>();
            self.block.push((split, record));
            if self.block.len() == self.block_records || self.block_bytes >= BLOCK_BYTES {
                self.encode()?;
            }
        }
        Ok(())
    }

    /// Encodes the waiting records, each thread a consecutive piece of them, and stores them in their order.
    fn encode(&mut self) -> Result<(), Diagnostic> {
        let block = std::mem::take(&mut self.block);
        self.block_bytes = 0;
        let (transform, columns) = (self.transform, self.columns);
        let encoded =
            in_pieces(block.len(), self.threads, |range| encode_piece(transform, columns, &block[range]));
        for piece in encoded {
            for (split, (records, fields)) in Split::ALL.into_iter().zip(piece.ok_or_else(lost_thread)??) {
                self.writer.push(split, records, &fields)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(CleanReport, [SplitInfo; 3]), Diagnostic> {
        self.encode()?;
        let assigned = self.writer.assigned();
        for (i, split) in self.report.splits.iter_mut().enumerate() {
            split.rows_out = assigned[i];
            split.effects = self.runs[i].effects(self.columns);
            split.missing = (self.missing[i].iter().enumerate())
                .filter(|(_, n)| **n > 0)
                .map(|(c, n)| (self.transform.columns.0[c].name.clone(), *n))
                .collect();
        }
        Ok((self.report, self.writer.finish()?))
    }
}

fn lost_thread() -> Diagnostic {
    Diagnostic::new("data.thread", "a thread that encodes records ended before its work was done")
        .hint("this is a mistake of the program: please report it with the data that it was at")
}

/// For each split, the number of encoded records and the bytes of their fields.
type Encoded = [(u64, Vec<Vec<u8>>); 3];

fn encode_piece(
    transform: &Transform,
    columns: &Columns,
    records: &[(Split, Record)],
) -> Result<Encoded, Diagnostic> {
    let fields = transform.assembly.stored_fields().len();
    let mut encoded: Encoded = [(); 3].map(|()| (0, vec![Vec::new(); fields]));
    for (split, record) in records {
        let (count, buffers) = &mut encoded[split.index()];
        if !transform.assembly.store(record, columns, buffers)? {
            return Err(record
                .origin
                .place(Diagnostic::new("data.missing-label", "the label is missing").hint(
                    "leave such records out with { drop_missing = [\"the label\"] } in `data.clean`",
                )));
        }
        *count += 1;
    }
    Ok(encoded)
}

//! Preparation: from a source to a folder of shards. Whatever interrupts it, the next run goes on where it was and
//! ends with the same bits; the file that makes the folder a data set is written last.

use crate::download::{Downloads, LIMIT_BYTES};
use crate::files::{Finder, Web, storage_problem};
use crate::manifest::{DATASET, FORMAT, Manifest, PROGRESS, Progress, SplitInfo};
use crate::problems::{empty, empty_fold, empty_test, nothing_left, one_class};
use crate::source::{self, Context, Opened, Part};
use crate::split::Splitter;
use crate::stratify::stratified;
use crate::work::{PROGRESS_EVERY, PrepareOptions, PrepareProgress, Work};
use crate::{CleanReport, ColumnType, DataSpec, Split, fingerprint, manifest, records, tokens};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Target, Transform};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder for temporary files in the cache: a name that no fingerprint has.
const TEMPORARY: &str = ".temporary";

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

/// Prepares the data that the manifest describes, or finds that it is prepared already.
///
/// # Errors
/// Everything that is wrong with the section or the source. Data that was prepared before stays as it is.
pub fn prepare(spec: &DataSpec, options: &PrepareOptions<'_>) -> Result<Prepared, Diagnostics> {
    prepare_identified(spec, options, &identify(spec, options)?)
}

/// The numbers in the source, from 1, of the records that a split of prepared data holds, in the order in which they are
/// stored; `transform` is the one that they were prepared by. The source is read anew.
///
/// # Errors
/// When it cannot be read, or is one long text.
pub fn source_rows(
    spec: &DataSpec,
    options: &PrepareOptions<'_>,
    transform: &Transform,
    split: Split,
) -> Result<Vec<u64>, Diagnostics> {
    let Identified { source, splitter, .. } = identify(spec, options)?;
    let Opened::Records(source) = source else {
        return Err(Diagnostic::new("data.rows", "a text has no rows")
            .item("data.source")
            .expected("records")
            .into());
    };
    let splitter = stratified(spec, &*source, &splitter, &|_| ())?;
    Ok(records::rows(&*source, &splitter, transform, split)?)
}

/// A source, and what its data will be called.
pub(crate) struct Identified {
    pub source: Opened,
    pub splitter: Splitter,
    pub fingerprint: String,
}

/// Opens the source that a section names, with columns of these kinds, fetching what is elsewhere.
pub(crate) fn open_source(
    spec: &DataSpec,
    options: &PrepareOptions<'_>,
    kinds: BTreeMap<String, ColumnType>,
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
    let source = source::open(spec, &Context { finder, seed, threads: options.threads, temporary, kinds })?;
    Ok((source, seed))
}

/// Opens the source and takes its fingerprint.
pub(crate) fn identify(spec: &DataSpec, options: &PrepareOptions<'_>) -> Result<Identified, Diagnostics> {
    let (source, seed) = open_source(spec, options, BTreeMap::new())?;
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
    identified: &Identified,
) -> Result<Prepared, Diagnostics> {
    prepare_with(spec, options, identified, None)
}

/// Prepares what was identified, by this transform in place of one that is fitted, if it is given.
pub(crate) fn prepare_with(
    spec: &DataSpec,
    options: &PrepareOptions<'_>,
    Identified { source, splitter, fingerprint }: &Identified,
    fitted: Option<&Transform>,
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
    let mut progress = earlier_progress(storage, &folder, &fingerprint);
    if let Some(fitted) = fitted {
        progress.transform = Some(fitted.clone());
    }
    let splitter = match source {
        Opened::Records(source) if fitted.is_none() => {
            let total = source.count(Part::Train);
            let tell = |done: u64| {
                if done.is_multiple_of(PROGRESS_EVERY) {
                    (options.progress)(&PrepareProgress { phase: "splitting", done, total });
                }
            };
            stratified(spec, &**source, splitter, &tell)?
        }
        _ => splitter.clone(),
    };
    let work = Work { spec, options, folder: &folder, splitter: &splitter, fitted };
    let (transform, report, splits) = match source {
        Opened::Records(source) => records::prepare(&work, &**source, progress)?,
        Opened::Text(text) => tokens::prepare(&work, text, progress)?,
    };
    match fitted {
        None => {
            check(&transform, &splits)?;
            let fold = spec.split.as_ref().and_then(|split| split.fold);
            if let Some(fold) = fold.filter(|_| splits[Split::Test.index()].records() == 0) {
                return Err(empty_fold(fold).into());
            }
        }
        Some(_) if splits[Split::Test.index()].records() == 0 => return Err(nothing_left().into()),
        Some(_) => {}
    }
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

/// Most folds.
const FOLDS_MAX: u32 = 1000;

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
    let splitter = Splitter::new(seed, split.validation, split.test);
    let Some(fold) = split.fold else { return Ok(splitter) };
    if !(2..=FOLDS_MAX).contains(&fold.of) || !(1..=fold.of).contains(&fold.number) {
        let expected = format!("a number from 1 to `of`, and `of` from 2 to {FOLDS_MAX}");
        return fail("data.split.fold", "there is no such fold", &expected);
    }
    if split.test > 0.0 || has_test {
        return fail(
            "data.split.fold",
            "a fold is what is tested on, in place of other test data",
            "`fold`, or `split.test`, or `data.test`; `outgrow run --folds` leaves the latter two out",
        );
    }
    if split.validation + 1.0 / f64::from(fold.of) >= 1.0 {
        return fail(
            "data.split.validation",
            "besides the fold and the validation data, nothing is left to train on",
            "a smaller fraction, or more folds",
        );
    }
    Ok(splitter.with_fold(fold))
}

/// The data set in `folder`, when it is whole.
fn finished(
    storage: &dyn StorageBackend,
    folder: &Path,
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
fn moved(folder: &Path, found: &str, fingerprint: &str) -> Diagnostic {
    Diagnostic::new("data.moved", format!("the folder holds other data, whose fingerprint is {found}"))
        .file(folder)
        .expected(format!("the fingerprint {fingerprint}, as its name says"))
        .hint("the folder was renamed or copied here: give it back its name, or remove it, and the data will be prepared again")
}

/// How far an earlier preparation came. Where that cannot be read, nothing is taken from it.
fn earlier_progress(storage: &dyn StorageBackend, folder: &Path, fingerprint: &str) -> Progress {
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

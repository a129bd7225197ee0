//! From a manifest to an open data set: prepared here, found prepared, or taken from the places that keep it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use outgrow_data::files::IN_USE;
use outgrow_data::replicas::{Replicas, Version, prepare_replicated};
use outgrow_data::{
    Dataset, PrepareOptions, PrepareProgress, Prepared, Split, prepare, prepare_files, source_rows,
};
use outgrow_env::remote::is_url;
use outgrow_env::{FolderPlace, Place, StorageBackend};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::Transform;

use super::verbose;
use crate::cli::ManifestArgs;
use crate::context::{Context, Failure};
use crate::manifest::Manifest;
use crate::places::{bucket, data_cache, data_roots, remote};

/// How often it is looked whether somebody else still prepares the data.
const BETWEEN: Duration = Duration::from_millis(50);

/// An open data set.
pub struct OpenData {
    /// The data.
    pub dataset: Dataset,
    /// What preparing it did.
    pub prepared: Prepared,
    /// Where its copies are, and which version it is, when the manifest keeps it in several places.
    pub replicas: Option<(Replicas, Version)>,
}

/// Prepares the data of a manifest, or finds that it is prepared already, and opens it; with `pinned`, the version with
/// that fingerprint if there is one. Progress goes to stderr.
pub fn open_data(
    manifest: &Manifest,
    args: &ManifestArgs,
    threads: usize,
    context: &Context,
    pinned: Option<&str>,
) -> Result<OpenData, Failure> {
    let storage = context.world.storage.clone();
    let progress = context.progress();
    let tell = |at: &PrepareProgress| progress.phase(at.phase, at.done, at.total);
    let options = options(manifest, args, threads, context, &tell)?;
    let spec = &manifest.spec.data;
    let Some(places) = &spec.storage else {
        let prepared = patiently(context, || prepare(spec, &options));
        progress.finish();
        let prepared = prepared.map_err(|found| manifest.locate(found))?;
        verbose::prepared(&prepared, context);
        say_notes(&prepared, context);
        let dataset = Dataset::open(storage, &prepared.folder)?;
        return Ok(OpenData { dataset, prepared, replicas: None });
    };
    let replicas =
        Replicas::new(places, &manifest.name, &|name| open_place(manifest, &storage, context, name))
            .map_err(|found| manifest.locate(found.into()))?;
    let opened = patiently(context, || prepare_replicated(spec, &options, &replicas, pinned));
    progress.finish();
    let opened = opened.map_err(|found| manifest.locate(found))?;
    for fault in &opened.faults {
        context.note(&format!("warning: {fault}"));
    }
    verbose::prepared(&opened.prepared, context);
    say_notes(&opened.prepared, context);
    Ok(OpenData {
        dataset: opened.dataset,
        prepared: opened.prepared,
        replicas: Some((replicas, opened.version)),
    })
}

/// Prepares files that the model of a manifest is to be evaluated on, by the transform that belongs to it, and opens them.
pub fn open_files(
    manifest: &Manifest,
    args: &ManifestArgs,
    threads: usize,
    context: &Context,
    files: &[PathBuf],
    transform: &Transform,
) -> Result<Dataset, Failure> {
    let progress = context.progress();
    let tell = |at: &PrepareProgress| progress.phase(at.phase, at.done, at.total);
    let options = options(manifest, args, threads, context, &tell)?;
    // The manifest's own files are elsewhere: these are beside whoever names them.
    let name = |file: &PathBuf| {
        let text = file.to_string_lossy().into_owned();
        let whole = || std::path::absolute(file).map_or(text.clone(), |path| path.display().to_string());
        if is_url(&text) { text.clone() } else { whole() }
    };
    let files: Vec<String> = files.iter().map(name).collect();
    let prepared = patiently(context, || prepare_files(&manifest.spec.data, &files, transform, &options));
    progress.finish();
    // What is wrong with these files has no place in the manifest.
    let prepared = prepared?;
    say_notes(&prepared, context);
    Ok(Dataset::open(context.world.storage.clone(), &prepared.folder)?)
}

/// Prepares data, once nobody else does so in the same folder: then it is there. That may take as long as preparing it
/// does; who dies in the middle of it holds the folder no longer.
///
/// # Errors
/// What `prepare` fails by, but for a folder that is in use.
fn patiently<T>(context: &Context, prepare: impl Fn() -> Result<T, Diagnostics>) -> Result<T, Diagnostics> {
    let storage = &*context.world.storage;
    let mut said = false;
    loop {
        let found = match prepare() {
            Err(found) => found,
            done => return done,
        };
        let folder = match found.0.as_slice() {
            [one] if one.code == IN_USE => one.place.file.clone(),
            _ => None,
        };
        let Some(folder) = folder else { return Err(found) };
        if !std::mem::replace(&mut said, true) {
            context.note("another process prepares this data: waiting until it is there");
        }
        thread::sleep(BETWEEN);
        while storage.is_locked(&folder).unwrap_or(false) {
            thread::sleep(BETWEEN);
        }
    }
}

/// The numbers in the source, from 1, of the records in a split of the manifest's data.
pub fn rows_of(
    manifest: &Manifest,
    args: &ManifestArgs,
    threads: usize,
    context: &Context,
    data: &Dataset,
    split: Split,
) -> Result<Vec<u64>, Failure> {
    let options = options(manifest, args, threads, context, &|_| ())?;
    let rows = source_rows(&manifest.spec.data, &options, data.transform(), split);
    Ok(rows.map_err(|found| manifest.locate(found))?)
}

fn options<'a>(
    manifest: &Manifest,
    args: &ManifestArgs,
    threads: usize,
    context: &Context,
    progress: &'a (dyn Fn(&PrepareProgress) + Sync),
) -> Result<PrepareOptions<'a>, Diagnostic> {
    Ok(PrepareOptions {
        storage: context.world.storage.clone(),
        remote: remote(&context.environment)?,
        roots: data_roots(manifest, args, &context.environment),
        cache: data_cache(manifest, args, &context.environment),
        seed: manifest.seed,
        threads,
        progress,
    })
}

/// Says what the source does not read as one might expect.
fn say_notes(prepared: &Prepared, context: &Context) {
    for note in &prepared.report.notes {
        context.note(&format!("note: {note}"));
    }
}

/// A place by its name in the manifest; relative folders are beside the manifest, URLs are buckets.
fn open_place(
    manifest: &Manifest,
    storage: &Arc<dyn StorageBackend>,
    context: &Context,
    name: &str,
) -> Result<Arc<dyn Place>, Diagnostic> {
    if is_url(name) {
        return bucket(&context.environment, name).map_err(|d| d.item("data.storage.places"));
    }
    Ok(Arc::new(FolderPlace::new(storage.clone(), &manifest.home().join(name))))
}

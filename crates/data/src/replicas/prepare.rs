//! Preparing data that is kept in several places: taken from there when it is there, else prepared and committed.

use super::{Replicas, Version, commit};
use crate::prepare::{identify, prepare_identified};
use crate::{DataSpec, Dataset, PrepareOptions, PrepareProgress, Prepared};
use outgrow_ir::{Diagnostic, Diagnostics};

/// An open version, and how it came about.
#[derive(Debug)]
pub struct Replicated {
    /// The data.
    pub dataset: Dataset,
    /// What `prepare` would say of it.
    pub prepared: Prepared,
    /// Which version it is.
    pub version: Version,
    /// What was wrong with places on the way there; it was found all the same.
    pub faults: Vec<Diagnostic>,
}

/// Opens the version that holds what the section describes, committing one when there is none. With `pinned`, that
/// fingerprint is opened when a version has it, whatever the source holds by now. Where the source's files are not here,
/// the newest version serves that was prepared by the same section and seed.
///
/// # Errors
/// As [`prepare`](crate::prepare) and [`commit`].
pub fn prepare_replicated(
    spec: &DataSpec,
    options: &PrepareOptions<'_>,
    replicas: &Replicas,
    pinned: Option<&str>,
) -> Result<Replicated, Diagnostics> {
    if let Some(pinned) = pinned
        && let (Some(version), faults) = replicas.with_fingerprint(pinned)
    {
        return open(replicas, version, faults);
    }
    let seed = spec.seed.unwrap_or(options.seed);
    let identified = match identify(spec, options) {
        Ok(identified) => identified,
        Err(problems) => {
            let same = |version: &Version| {
                version.record.seed == seed && version.record.dataset.spec == spec.stored()
            };
            return match replicas.find(same) {
                (Some(version), faults) if is_missing(&problems) => open(replicas, version, faults),
                _ => Err(problems),
            };
        }
    };
    if let (Some(version), faults) = replicas.with_fingerprint(&identified.fingerprint) {
        return open(replicas, version, faults);
    }
    let prepared = prepare_identified(spec, options, &identified)?;
    let dataset = Dataset::open(options.storage.clone(), &prepared.folder)?;
    let committed = commit(replicas, &dataset, seed, &|done, total| {
        (options.progress)(&PrepareProgress { phase: "copying", done, total: Some(total) });
    })?;
    let dataset = Dataset::open_version(replicas, &committed.version)?;
    Ok(Replicated { dataset, prepared, version: committed.version, faults: Vec::new() })
}

fn open(replicas: &Replicas, version: Version, faults: Vec<Diagnostic>) -> Result<Replicated, Diagnostics> {
    let dataset = Dataset::open_version(replicas, &version)?;
    let prepared = Prepared {
        folder: dataset.folder().to_path_buf(),
        fingerprint: dataset.fingerprint().to_owned(),
        reused: true,
        report: dataset.report().clone(),
    };
    Ok(Replicated { dataset, prepared, version, faults })
}

/// Whether all that is wrong is that files are not there.
fn is_missing(problems: &Diagnostics) -> bool {
    problems.0.iter().all(|problem| problem.code == crate::files::NOT_FOUND)
}

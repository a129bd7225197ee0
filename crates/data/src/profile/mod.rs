//! What raw records hold, before anything is cleaned: kinds, missing values, distributions, duplicates, and records that
//! are in more than one split. One pass over the source, in memory that does not grow with values, only (for duplicates)
//! with the number of different records.

mod column;
mod duplicates;

pub use column::{ColumnProfile, NumberProfile, SplitColumn, TextProfile};
pub use duplicates::{Duplicates, Leak};

use crate::fit::{canonical, with_roles};
use crate::prepare::{open_source, splitter_of};
use crate::source::{Opened, Part, RecordSource};
use crate::stratify::stratified;
use crate::{DataSpec, PrepareOptions, PrepareProgress, Split};
use column::ColumnWatch;
use duplicates::DuplicateWatch;
use outgrow_ir::Diagnostics;
use outgrow_transform::{Pixels, Record, Role, Value, image};
use serde::Serialize;

/// What raw records hold.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Records of each split, before cleaning, in the order of [`Split::ALL`].
    pub records: [u64; 3],
    /// The columns.
    pub columns: Vec<ColumnProfile>,
    /// Records that occur more than once.
    pub duplicates: Duplicates,
    /// Some images of the training split.
    #[serde(skip)]
    pub images: Vec<SampleImage>,
}

/// An image with its label.
#[derive(Clone, Debug)]
pub struct SampleImage {
    /// What its label columns hold.
    pub label: String,
    /// The decoded image.
    pub pixels: Pixels,
}

/// Images that are shown.
const IMAGES: usize = 24;
/// Larger images are made smaller to be shown.
const IMAGE_SIDE: usize = 96;
/// Progress is told once in so many records.
const PROGRESS_EVERY: u64 = 512;

/// Looks at every record of a source; nothing for a source that is one long text.
///
/// # Errors
/// As [`prepare`](crate::prepare): what is wrong with the section or the source.
pub fn profile(spec: &DataSpec, options: &PrepareOptions<'_>) -> Result<Option<Profile>, Diagnostics> {
    let (source, seed) = open_source(spec, options, Default::default())?;
    let Opened::Records(source) = source else { return Ok(None) };
    let splitter = splitter_of(spec, seed, source.has_test())?;
    let total = total(&*source);
    let tell = |done: u64| {
        if done.is_multiple_of(PROGRESS_EVERY) {
            (options.progress)(&PrepareProgress { phase: "inspecting", done, total });
        }
    };
    let splitter = stratified(spec, &*source, &splitter, &tell)?;
    let columns = with_roles(spec, &*source)?;
    let mut watches: Vec<ColumnWatch> = columns.0.iter().map(ColumnWatch::new).collect();
    let mut duplicates = DuplicateWatch::default();
    let mut images = Images::new(&columns.0.iter().map(|c| c.role).collect::<Vec<_>>());
    let mut records = [0; 3];
    let (mut done, mut content) = (0, Vec::new());
    for part in [Part::Train, Part::Test] {
        if part == Part::Test && !source.has_test() {
            continue;
        }
        for record in source.records(part)? {
            let record = record?;
            tell(done);
            done += 1;
            canonical(&record, &mut content);
            let hash = splitter.hash(&content);
            let split = if part == Part::Test { Split::Test } else { splitter.assign(hash, &record.values) };
            records[split.index()] += 1;
            for (watch, value) in watches.iter_mut().zip(&record.values) {
                watch.see(split, value, hash.identity);
            }
            let of = |role| parts(&record, &columns.0, |r| r == role);
            duplicates.see(split, &parts(&record, &columns.0, |r| r != Role::Label), &of(Role::Label));
            if split == Split::Train {
                images.see(&record, hash.identity);
            }
        }
    }
    Ok(Some(Profile {
        records,
        columns: watches.into_iter().map(ColumnWatch::finish).collect(),
        duplicates: duplicates.finish(),
        images: images.finish(),
    }))
}

fn total(source: &dyn RecordSource) -> Option<u64> {
    source.count(Part::Train).map(|n| n + source.count(Part::Test).unwrap_or(0))
}

/// The canonical content of a record's columns of some roles.
fn parts(record: &Record, columns: &[outgrow_transform::Column], wanted: impl Fn(Role) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let values = record.values.iter().zip(columns).filter(|(_, column)| wanted(column.role));
    values.for_each(|(value, _)| value.canonical_bytes(&mut out));
    out
}

/// Keeps the images whose content hashes lowest: a random choice that is the same every time.
struct Images {
    labels: Vec<usize>,
    kept: std::collections::BTreeMap<u128, SampleImage>,
}

impl Images {
    fn new(roles: &[Role]) -> Self {
        let labels = (0..roles.len()).filter(|i| roles[*i] == Role::Label).collect();
        Self { labels, kept: Default::default() }
    }

    fn see(&mut self, record: &Record, identity: u128) {
        let is_image = |v: &&Value| matches!(v, Value::Encoded(_) | Value::Pixels(_));
        let Some(value) = record.values.iter().find(is_image) else { return };
        let last = self.kept.last_key_value().map(|(identity, _)| *identity);
        if self.kept.len() >= IMAGES && last.is_some_and(|last| identity > last) {
            return;
        }
        let Ok(pixels) = image::pixels(value, None) else { return };
        let label: Vec<String> = self.labels.iter().map(|i| column::shown(&record.values[*i])).collect();
        self.kept.insert(identity, SampleImage { label: label.join(", "), pixels: smaller(pixels) });
        if self.kept.len() > IMAGES {
            self.kept.pop_last();
        }
    }

    /// By label, so that classes stand together.
    fn finish(self) -> Vec<SampleImage> {
        let mut images: Vec<SampleImage> = self.kept.into_values().collect();
        images.sort_by(|a, b| a.label.cmp(&b.label));
        images
    }
}

fn smaller(pixels: Pixels) -> Pixels {
    let side = pixels.height.max(pixels.width);
    if side <= IMAGE_SIDE {
        return pixels;
    }
    let scaled = |n: usize| (n * IMAGE_SIDE / side).max(1);
    image::resize(&pixels, scaled(pixels.height), scaled(pixels.width))
}

//! Splits in which every class has its part: by chance alone, a rare class may be missing from the test data, or from
//! training.

use crate::fit::{canonical, with_roles};
use crate::source::{Part, RecordSource};
use crate::split::{ByClass, Splitter};
use crate::target_fit::TargetFit;
use crate::{DataSpec, SplitSpec};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Role, TargetEncoder};
use std::collections::BTreeMap;

/// In classes of more records, chance already keeps the proportions within some percent of the class's part. They are
/// divided exactly where the manifest asks for it, since all their places have to be in memory for that.
const BY_CHANCE_ABOVE: u64 = 1000;
/// Labels that are as rare on average are hardly classes, and no split could give each its part.
const RECORDS_MIN: u64 = 5;

/// The records of one class.
#[derive(Default)]
struct Class {
    /// Their places, unless there are too many.
    places: Vec<u64>,
    records: u64,
}

/// Classes, by their labels' canonical bytes.
type Classes = BTreeMap<Vec<u8>, Class>;

/// The splitter that gives every class its part, where labels are classes; else the one that is given.
///
/// # Errors
/// When the manifest asks for it and there are no classes, or when the records cannot be read.
pub(crate) fn stratified(
    spec: &DataSpec,
    source: &dyn RecordSource,
    splitter: &Splitter,
    progress: &dyn Fn(u64),
) -> Result<Splitter, Diagnostics> {
    let split = spec.split.clone().unwrap_or_default();
    if split.stratify == Some(false) || split.validation + split.test == 0.0 {
        return Ok(splitter.clone());
    }
    let asked = split.stratify == Some(true);
    let most = if asked { u64::MAX } else { BY_CHANCE_ABOVE };
    match classes(spec, source, splitter, most, progress)? {
        Some((column, classes)) if asked || are_frequent(&classes) => {
            let bounds = bounds(classes, most, &split);
            let by_class = (!bounds.is_empty()).then_some(ByClass { column, bounds });
            Ok(splitter.clone().with_classes(by_class))
        }
        None if asked => Err(Diagnostic::new("data.split.stratify", "there are no classes to stratify by")
            .item("data.split.stratify")
            .expected("one label of classes")
            .hint("say `task = \"classify\"` if the label's values are classes, or leave `stratify` out")
            .into()),
        _ => Ok(splitter.clone()),
    }
}

fn are_frequent(classes: &Classes) -> bool {
    classes.values().map(|class| class.records).sum::<u64>() >= RECORDS_MIN * classes.len() as u64
}

/// The column of the label and its classes; nothing where no class is predicted. What the
/// steps of `clean` will find wrong is left for them to say.
fn classes(
    spec: &DataSpec,
    source: &dyn RecordSource,
    splitter: &Splitter,
    most: u64,
    progress: &dyn Fn(u64),
) -> Result<Option<(usize, Classes)>, Diagnostics> {
    let columns = with_roles(spec, source)?;
    let [column] = columns.with_role(Role::Label)[..] else { return Ok(None) };
    let Ok(mut target) = TargetFit::new(spec, source, &columns) else { return Ok(None) };
    let mut classes = Classes::new();
    let (mut content, mut key) = (Vec::new(), Vec::new());
    for (number, record) in source.records(Part::Train)?.enumerate() {
        let record = record?;
        progress(number as u64);
        if target.see(&record).is_err() || target.is_quantity() {
            return Ok(None);
        }
        key.clear();
        record.values[column].canonical_bytes(&mut key);
        canonical(&record, &mut content);
        if !classes.contains_key(&key) {
            classes.insert(key.clone(), Class::default());
        }
        if let Some(class) = classes.get_mut(&key) {
            class.records += 1;
            if class.records <= most {
                class.places.push(splitter.hash(&content).place());
            }
        }
    }
    Ok(match target.finish() {
        Ok(TargetEncoder::ClassName { .. } | TargetEncoder::ClassNumber { .. }) => Some((column, classes)),
        _ => None,
    })
}

/// Below which places the records of each class are for testing, and for validation. Parts are rounded so that they add up
/// over the classes, and every class keeps a record to be trained on.
fn bounds(classes: Classes, most: u64, split: &SplitSpec) -> BTreeMap<Vec<u8>, [u64; 2]> {
    let mut before = 0;
    let mut bounds = BTreeMap::new();
    for (key, mut class) in classes {
        if class.records > most {
            continue;
        }
        let records = class.places.len();
        let part = |fraction: f64| {
            let up_to = |n: usize| (n as f64 * fraction).round() as usize;
            up_to(before + records) - up_to(before)
        };
        let test = part(split.test).min(records - 1);
        let validation = part(split.validation).min(records - 1 - test);
        class.places.sort_unstable();
        bounds.insert(key, [class.places[test], class.places[test + validation]]);
        before += records;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_every_class_is_trained_on() {
        let class = |n: u64| Class { places: (0..n).rev().map(|i| 10 * i).collect(), records: n };
        let check = |sizes: &[u64], split: SplitSpec, expect: &[[u64; 2]]| {
            let classes = sizes.iter().enumerate().map(|(i, n)| (vec![i as u8], class(*n))).collect();
            let found: Vec<[u64; 2]> = bounds(classes, 1000, &split).into_values().collect();
            // Places are ten times their number in their order.
            assert_eq!(found, expect.iter().map(|b| b.map(|n| 10 * n)).collect::<Vec<_>>(), "{sizes:?}");
        };
        let split = |validation, test| SplitSpec { validation, test, stratify: None };
        check(&[50, 50, 50], split(0.1, 0.2), &[[10, 15], [10, 15], [10, 15]]);
        // Of 4 · 3 records 10 % are one.
        check(&[3, 3, 3, 3], split(0.0, 0.1), &[[0, 0], [1, 1], [0, 0], [0, 0]]);
        check(&[1, 2, 1001], split(0.4, 0.5), &[[0, 0], [1, 1]]);
    }
}

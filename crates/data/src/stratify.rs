//! Splits in which every class has its part: by chance alone, a rare class may be missing from the test data, or from
//! training.

use crate::fit::{canonical, with_roles};
use crate::source::{Part, RecordSource};
use crate::split::{ByClass, Cut, PLACES, Splitter};
use crate::target_fit::TargetFit;
use crate::{DataSpec, SplitSpec};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Origin, Role, TargetEncoder};
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
    /// Where the first of them is from.
    first: Origin,
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
    if split.stratify == Some(false) || (split.fold.is_none() && split.validation + split.test == 0.0) {
        return Ok(splitter.clone());
    }
    let asked = split.stratify == Some(true);
    let most = if asked { u64::MAX } else { BY_CHANCE_ABOVE };
    let found = classes(spec, source, splitter, most, progress)?;
    if let Some((_, classes)) = &found
        && split.fold.is_some()
    {
        known_in_all_folds(classes)?;
    }
    match found {
        Some((column, classes)) if asked || are_frequent(&classes) => {
            let cuts = cuts(classes, most, &split);
            let by_class = (!cuts.is_empty()).then_some(ByClass { column, cuts });
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

/// Refuses a class that some fold tests and knows nothing of.
fn known_in_all_folds(classes: &Classes) -> Result<(), Diagnostic> {
    let Some(class) = classes.values().find(|class| class.records < 2) else { return Ok(()) };
    let problem = "the class has a single record, of which nothing is known in the fold that it is tested in";
    Err(class.first.place(
        Diagnostic::new("data.split.fold", problem)
            .expected("at least two records of each class")
            .hint("leave it out of the data, or join it with another class"),
    ))
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
            classes.insert(key.clone(), Class { first: record.origin.clone(), ..Class::default() });
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

/// Where the places of each class are cut. Parts are rounded so that they add up over the classes, and every class keeps a
/// record to be trained on, unless it has only one that is for testing in some fold.
fn cuts(classes: Classes, most: u64, split: &SplitSpec) -> BTreeMap<Vec<u8>, Cut> {
    let mut before = 0;
    let mut cuts = BTreeMap::new();
    for (key, mut class) in classes {
        if class.records > most {
            continue;
        }
        let records = class.places.len();
        let part = |fraction: f64| {
            let up_to = |n: usize| (n as f64 * fraction).round() as usize;
            up_to(before + records) - up_to(before)
        };
        let (from, test) = match split.fold {
            // Fold by fold: the records of all classes, one after the other, take turns.
            Some(fold) => {
                let of = fold.of as usize;
                let up_to = |n: usize, number: usize| (n + of - 1 - number) / of;
                let count = |number: usize| up_to(before + records, number) - up_to(before, number);
                let number = fold.number as usize - 1;
                ((0..number).map(count).sum(), count(number))
            }
            None => (0, part(split.test).min(records - 1)),
        };
        let validation = part(split.validation).min((records - test).saturating_sub(1));
        class.places.sort_unstable();
        // Behind the last one, the first one follows.
        let place = |rank: usize| match rank {
            rank if rank < records => class.places[rank],
            rank if rank == records => PLACES,
            rank => class.places[rank - records],
        };
        let [test, validation, train] = [from, from + test, from + test + validation].map(place);
        cuts.insert(key, Cut { test, validation, train });
        before += records;
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FoldSpec, Split};

    fn classes_of(sizes: &[u64]) -> Classes {
        let class = |n: u64| Class {
            places: (0..n).rev().map(|i| 10 * i + 5).collect(),
            records: n,
            ..Class::default()
        };
        sizes.iter().enumerate().map(|(i, n)| (vec![i as u8], class(*n))).collect()
    }

    #[test]
    fn parts_add_up_and_every_class_is_trained_on() {
        let check = |sizes: &[u64], split: SplitSpec, expect: &[[u64; 2]]| {
            let found = cuts(classes_of(sizes), 1000, &split).into_values();
            let found: Vec<_> = found.map(|cut| (cut.test, cut.validation, cut.train)).collect();
            let expect: Vec<_> = expect.iter().map(|[test, all]| (5, 10 * test + 5, 10 * all + 5)).collect();
            assert_eq!(found, expect, "{sizes:?}");
        };
        let split = |validation, test| SplitSpec { validation, test, ..SplitSpec::default() };
        check(&[50, 50, 50], split(0.1, 0.2), &[[10, 15], [10, 15], [10, 15]]);
        // Of 4 · 3 records 10 % are one.
        check(&[3, 3, 3, 3], split(0.0, 0.1), &[[0, 0], [1, 1], [0, 0], [0, 0]]);
        check(&[1, 2, 1001], split(0.4, 0.5), &[[0, 0], [1, 1]]);
    }

    /// Each record of each class is tested in one fold, folds are of equal size within one record, in all and in each class,
    /// and what is validated on is neither tested nor all that is left.
    #[test]
    fn folds_divide_each_class_evenly() {
        for (sizes, of, validation) in
            [(&[50, 31, 8][..], 5, 0.2), (&[3, 4, 5], 2, 0.0), (&[7, 1, 2], 10, 0.1), (&[12], 3, 0.5)]
        {
            let mut tested = BTreeMap::new();
            let mut totals = Vec::new();
            for number in 1..=of {
                let fold = Some(FoldSpec { number, of });
                let split = SplitSpec { validation, fold, ..SplitSpec::default() };
                let cuts = cuts(classes_of(sizes), 1000, &split);
                let mut total = 0;
                for (class, size) in sizes.iter().enumerate() {
                    let cut = &cuts[&vec![class as u8]];
                    let mut counts = [0u64; 3];
                    for record in 0..*size {
                        let part = cut.assign(10 * record + 5);
                        counts[part.index()] += 1;
                        if part == Split::Test {
                            *tested.entry((class, record)).or_insert(0) += 1;
                        }
                    }
                    let even = size / u64::from(of);
                    assert!((even..=even + 1).contains(&counts[2]), "{counts:?} of {sizes:?}");
                    assert!(counts[0] > 0 || counts[2] == *size, "{counts:?} of {sizes:?}");
                    total += counts[2];
                }
                totals.push(total);
            }
            let all = sizes.iter().sum::<u64>() as usize;
            assert!(tested.len() == all && tested.values().all(|n| *n == 1), "{tested:?}");
            assert!(totals.iter().max().unwrap() - totals.iter().min().unwrap() <= 1, "{totals:?}");
        }
    }
}

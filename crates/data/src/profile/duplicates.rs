//! Records that occur more than once: within a split they weigh double, and in two splits they let a model be tested on
//! what it was trained on.

use crate::Split;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Records that occur more than once. Two are the same when all their columns but the label are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Different records.
    pub different: u64,
    /// Records that repeat an earlier one of their own split, in the order of [`Split::ALL`].
    pub repeated: [u64; 3],
    /// Different records that occur with different labels.
    pub contradictions: u64,
    /// Records of one split that are in another as well.
    pub leaks: Vec<Leak>,
    /// Whether later records were not looked at, since there are too many different ones.
    pub cut: bool,
}

/// Records of one split that are in another as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// The split whose records they are: the one that is evaluated on.
    pub of: Split,
    /// The split that has them as well.
    pub and: Split,
    /// How many records of the first.
    pub records: u64,
}

/// Different records that are told apart: about 1.5 GB of memory.
const RECORDS_MAX: usize = 20_000_000;

#[derive(Default)]
pub(super) struct DuplicateWatch {
    seen: HashMap<u128, Seen>,
    cut: bool,
}

struct Seen {
    counts: [u32; 3],
    /// Hash of the first record's label.
    label: u64,
    contradicted: bool,
}

impl DuplicateWatch {
    /// Sees a record by the canonical content of its features and of its label.
    pub fn see(&mut self, split: Split, features: &[u8], label: &[u8]) {
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(features)[..16]);
        let key = u128::from_le_bytes(key);
        let mut hash = [0; 8];
        hash.copy_from_slice(&Sha256::digest(label)[..8]);
        let label = u64::from_le_bytes(hash);
        if self.seen.len() >= RECORDS_MAX && !self.seen.contains_key(&key) {
            self.cut = true;
            return;
        }
        let seen = self.seen.entry(key).or_insert(Seen { counts: [0; 3], label, contradicted: false });
        seen.counts[split.index()] = seen.counts[split.index()].saturating_add(1);
        seen.contradicted |= seen.label != label;
    }

    pub fn finish(self) -> Duplicates {
        let mut found =
            Duplicates { different: self.seen.len() as u64, cut: self.cut, ..Duplicates::default() };
        let pairs = [
            (Split::Test, Split::Train),
            (Split::Validation, Split::Train),
            (Split::Test, Split::Validation),
        ];
        let mut leaks = [0; 3];
        for seen in self.seen.values() {
            found.contradictions += u64::from(seen.contradicted);
            for (repeated, count) in found.repeated.iter_mut().zip(seen.counts) {
                *repeated += u64::from(count.saturating_sub(1));
            }
            for (leak, (of, and)) in leaks.iter_mut().zip(pairs) {
                if seen.counts[and.index()] > 0 {
                    *leak += u64::from(seen.counts[of.index()]);
                }
            }
        }
        let leaks = pairs.into_iter().zip(leaks).filter(|(_, records)| *records > 0);
        found.leaks = leaks.map(|((of, and), records)| Leak { of, and, records }).collect();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_leaks_and_contradictions_are_counted() {
        let mut watch = DuplicateWatch::default();
        for (split, features, label) in [
            (Split::Train, "a", "1"),
            (Split::Train, "a", "1"),
            (Split::Train, "b", "1"),
            (Split::Train, "c", "1"),
            (Split::Test, "a", "1"),
            (Split::Test, "c", "2"),
            (Split::Test, "c", "2"),
            (Split::Validation, "d", "1"),
            (Split::Test, "d", "1"),
        ] {
            watch.see(split, features.as_bytes(), label.as_bytes());
        }
        let found = watch.finish();
        assert_eq!((found.different, found.repeated, found.contradictions), (4, [1, 0, 1], 1));
        let leak = |of, and, records| Leak { of, and, records };
        assert_eq!(
            found.leaks,
            [leak(Split::Test, Split::Train, 3), leak(Split::Test, Split::Validation, 1)]
        );
    }
}

//! Splits: which records train a model, which validate it, and which test it.

use crate::spec::FoldSpec;
use outgrow_transform::Value;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What the model is trained on.
    Train,
    /// What training is watched by.
    Validation,
    /// What the trained model is judged by.
    Test,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// The place in [`Split::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Assigns records to splits by their content: the position of a record does not matter, and equal records land in the
/// same split. Nor do the other records matter, so that a data set can grow without records changing sides, but where
/// classes are divided each by itself.
#[derive(Clone, Debug)]
pub struct Splitter {
    seed: u64,
    validation: f64,
    test: f64,
    /// Where the places are cut, if one of several parts is for testing.
    fold: Option<Cut>,
    by_class: Option<Arc<ByClass>>,
}

/// Places are whole numbers below this.
pub(crate) const PLACES: u64 = 1 << 53;

/// Where places are cut, which count as a circle: those from `test` up to `validation` are for testing, those from there up
/// to `train` for validation, and all others for training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first for testing.
    pub test: u64,
    /// The first for validation.
    pub validation: u64,
    /// The first for training.
    pub train: u64,
}

impl Cut {
    /// The part that a place is in.
    pub fn assign(&self, place: u64) -> Split {
        let at = |place: u64| place.wrapping_sub(self.test) % PLACES;
        match at(place) {
            place if place < at(self.validation) => Split::Test,
            place if place < at(self.train) => Split::Validation,
            _ => Split::Train,
        }
    }

    /// For one of several parts of all places, and this fraction of all behind it.
    fn of_fold(fold: FoldSpec, validation: f64) -> Self {
        let bound = |number: u32| (u128::from(number) * u128::from(PLACES) / u128::from(fold.of)) as u64;
        let test_end = bound(fold.number);
        Self {
            test: bound(fold.number - 1),
            validation: test_end,
            train: test_end + (validation * PLACES as f64) as u64,
        }
    }
}

/// Where classes are cut that are divided each by itself.
#[derive(Clone, Debug)]
pub struct ByClass {
    /// The column of the label.
    pub column: usize,
    /// By the label's canonical bytes.
    pub cuts: BTreeMap<Vec<u8>, Cut>,
}

/// What a record's content determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash {
    /// Uniform in `[0, 1)` with 53 bits, as an integer.
    place: u64,
    /// For telling duplicates.
    pub identity: u128,
}

impl ByClass {
    fn of(&self, values: &[Value]) -> Option<Cut> {
        let mut key = Vec::new();
        values.get(self.column)?.canonical_bytes(&mut key);
        self.cuts.get(&key).copied()
    }
}

impl ContentHash {
    /// Where the record stands among others, in a random order that its content decides.
    pub fn place(&self) -> u64 {
        self.place
    }
}

impl Splitter {
    /// A splitter that sets aside these fractions.
    pub fn new(seed: u64, validation: f64, test: f64) -> Self {
        Self { seed, validation, test, fold: None, by_class: None }
    }

    /// The same with one of several parts for testing.
    pub fn with_fold(self, fold: FoldSpec) -> Self {
        Self { fold: Some(Cut::of_fold(fold, self.validation)), ..self }
    }

    /// Hashes a record's content (SHA-256 over the seed and the bytes).
    pub fn hash(&self, content: &[u8]) -> ContentHash {
        let digest = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(content).finalize();
        let mut place = [0; 8];
        let mut identity = [0; 16];
        place.copy_from_slice(&digest[..8]);
        identity.copy_from_slice(&digest[8..24]);
        ContentHash { place: u64::from_le_bytes(place) >> 11, identity: u128::from_le_bytes(identity) }
    }

    /// The same, with these classes divided each by itself. Equal records still land in the same split.
    pub fn with_classes(self, by_class: Option<ByClass>) -> Self {
        Self { by_class: by_class.map(Arc::new), ..self }
    }

    /// Whether there are classes that are divided each by itself.
    pub fn is_stratified(&self) -> bool {
        self.by_class.is_some()
    }

    /// The split of a record with this hash and these values.
    pub fn assign(&self, hash: ContentHash, values: &[Value]) -> Split {
        let by_class = self.by_class.as_ref().and_then(|classes| classes.of(values));
        if let Some(cut) = by_class.or(self.fold) {
            return cut.assign(hash.place);
        }
        let place = hash.place as f64 / (1u64 << 53) as f64;
        if place < self.test {
            Split::Test
        } else if place < self.test + self.validation {
            Split::Validation
        } else {
            Split::Train
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_tested_in_one_fold() {
        let assigned = |fold: Option<FoldSpec>, place: u64| {
            let splitter = Splitter::new(1, 0.3, 0.0);
            let splitter = fold.map_or(splitter.clone(), |fold| splitter.with_fold(fold));
            splitter.assign(ContentHash { place, identity: 0 }, &[])
        };
        for of in [2, 3, 7, 10] {
            let ends = (0..of).map(|i| (u128::from(i) * u128::from(PLACES) / u128::from(of)) as u64);
            let places = ends.flat_map(|end| [end, end + 1, end.wrapping_sub(1) % PLACES, end + PLACES / 20]);
            for place in places {
                let in_fold = |number| assigned(Some(FoldSpec { number, of }), place);
                let tested = (1..=of).filter(|n| in_fold(*n) == Split::Test).count();
                assert_eq!(tested, 1, "{place} of {of}");
            }
        }
        let second = |percent: u64| assigned(Some(FoldSpec { number: 2, of: 4 }), PLACES / 100 * percent);
        assert_eq!(
            [20, 30, 60, 85].map(second),
            [Split::Train, Split::Test, Split::Validation, Split::Train]
        );
        let last = |percent: u64| assigned(Some(FoldSpec { number: 4, of: 4 }), PLACES / 100 * percent);
        assert_eq!([80, 10, 35, 70].map(last), [Split::Test, Split::Validation, Split::Train, Split::Train]);
    }

    #[test]
    fn fractions_hold_and_content_decides() {
        let splitter = Splitter::new(1, 0.1, 0.2);
        let mut counts = [0; 3];
        for i in 0..20_000u64 {
            let hash = splitter.hash(&i.to_le_bytes());
            assert_eq!(hash, splitter.hash(&i.to_le_bytes()));
            counts[splitter.assign(hash, &[]).index()] += 1;
        }
        assert!((counts[1] - 2000i32).abs() < 200 && (counts[2] - 4000i32).abs() < 250, "{counts:?}");
        let other = Splitter::new(2, 0.1, 0.2);
        assert!((0..100u64).any(|i| other.hash(&i.to_le_bytes()) != splitter.hash(&i.to_le_bytes())));
    }
}

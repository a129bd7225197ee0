//! Splits: which records train a model, which validate it, and which test it.

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
    by_class: Option<Arc<ByClass>>,
}

/// Where classes are cut that are divided each by itself.
#[derive(Clone, Debug)]
pub struct ByClass {
    /// The column of the label.
    pub column: usize,
    /// By the label's canonical bytes: below which places a record is for testing, and for validation.
    pub bounds: BTreeMap<Vec<u8>, [u64; 2]>,
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
    fn of(&self, values: &[Value]) -> Option<[u64; 2]> {
        let mut key = Vec::new();
        values.get(self.column)?.canonical_bytes(&mut key);
        self.bounds.get(&key).copied()
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
        Self { seed, validation, test, by_class: None }
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
        if let Some([test, validation]) = self.by_class.as_ref().and_then(|classes| classes.of(values)) {
            return match hash.place {
                place if place < test => Split::Test,
                place if place < validation => Split::Validation,
                _ => Split::Train,
            };
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

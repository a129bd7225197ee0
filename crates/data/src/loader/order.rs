//! Which record comes at which place of an epoch. Every place is computed on its own, so a loader starts anywhere in
//! constant time, and threads or workers need not tell each other how far they are.

use super::LoaderOptions;
use crate::permutation::Permutation;
use outgrow_tensor::RngKey;
use std::sync::Arc;

/// What an epoch draws from.
#[derive(Debug)]
pub(super) struct Pool {
    /// Samples to choose from.
    pub samples: u64,
    /// Those that are used in an epoch.
    pub used: u64,
    /// The samples, where not all of the split are meant.
    pub subset: Option<Arc<Vec<u64>>>,
    /// With balanced sampling, the places in the pool of each class that there is.
    pub classes: Vec<Vec<u32>>,
}

/// The order of one epoch.
pub(super) enum Order<'a> {
    /// As stored, spread evenly where not all are used.
    Stored(&'a Pool),
    /// Each once.
    Shuffled(&'a Pool, Permutation),
    /// Each class as often as every other.
    Balanced(&'a Pool, RngKey),
}

impl Pool {
    /// The order of the epoch that `key` belongs to.
    pub fn order(&self, key: RngKey, options: &LoaderOptions) -> Order<'_> {
        if !self.classes.is_empty() {
            return Order::Balanced(self, key.fold_in_name("balance"));
        }
        if options.shuffle {
            return Order::Shuffled(self, Permutation::new(key.fold_in_name("order"), self.samples));
        }
        Order::Stored(self)
    }
}

impl Order<'_> {
    /// The sample at place `p` of the epoch.
    pub fn at(&self, p: u64) -> u64 {
        let (pool, place) = match self {
            Self::Stored(pool) => {
                (pool, (u128::from(p) * u128::from(pool.samples) / u128::from(pool.used)) as u64)
            }
            Self::Shuffled(pool, order) => (pool, order.at(p)),
            Self::Balanced(pool, key) => (pool, balanced(&pool.classes, *key, p)),
        };
        pool.subset.as_ref().map_or(place, |subset| subset[place as usize])
    }
}

/// Every `classes.len()` consecutive places hold one sample of each class, in an order of their own; a class's samples
/// come in a random order, each once before any comes again.
fn balanced(classes: &[Vec<u32>], key: RngKey, p: u64) -> u64 {
    let count = classes.len() as u64;
    let (round, slot) = (p / count, p % count);
    let class = Permutation::new(key.fold_in_name("classes").fold_in(round), count).at(slot) as usize;
    let places = &classes[class];
    let (cycle, at) = (round / places.len() as u64, round % places.len() as u64);
    let key = key.fold_in(class as u64).fold_in(cycle);
    u64::from(places[Permutation::new(key, places.len() as u64).at(at) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn classes_come_equally_often_and_their_samples_too() {
        let classes = vec![vec![0, 3], vec![1, 2, 4, 5, 6, 7], vec![8]];
        let key = RngKey::new(1);
        let chosen: Vec<u64> = (0..36).map(|p| balanced(&classes, key, p)).collect();
        let class = |sample: u64| classes.iter().position(|c| c.contains(&(sample as u32))).unwrap();
        for round in chosen.chunks(3) {
            let mut there: Vec<usize> = round.iter().map(|s| class(*s)).collect();
            there.sort_unstable();
            assert_eq!(there, [0, 1, 2]);
        }
        let mut counts = BTreeMap::new();
        chosen.iter().for_each(|s| *counts.entry(*s).or_insert(0) += 1);
        for (sample, count) in counts {
            assert_eq!(count, [6, 2, 12][class(sample)], "sample {sample}");
        }
        let other: Vec<u64> = (0..36).map(|p| balanced(&classes, RngKey::new(2), p)).collect();
        assert_ne!(chosen, other);
    }
}

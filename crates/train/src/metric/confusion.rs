//! The confusion matrix, and precision and recall of each class from it.

use serde::{Deserialize, Serialize};

/// How many samples of each class were taken for which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    classes: usize,
    /// `[target, predicted]` in row-major order.
    counts: Vec<u64>,
}

impl Confusion {
    /// The largest number of classes a matrix is kept for: 8 MB of counts.
    pub const CLASSES_MAX: usize = 1000;

    /// No samples yet. Nothing when there are more classes than [`Self::CLASSES_MAX`].
    pub fn new(classes: usize) -> Option<Self> {
        (classes <= Self::CLASSES_MAX).then(|| Self { classes, counts: vec![0; classes * classes] })
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Counts a sample of class `target` that was taken for `predicted`; one with a number that is no class is left out.
    pub fn add(&mut self, target: usize, predicted: usize) {
        if target < self.classes && predicted < self.classes {
            self.counts[target * self.classes + predicted] += 1;
        }
    }

    /// Counts another's samples too. Both must be of as many classes.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.classes, other.classes, "confusion matrices of different numbers of classes");
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// How many samples of class `target` were taken for `predicted`.
    pub fn count(&self, target: usize, predicted: usize) -> u64 {
        self.counts[target * self.classes + predicted]
    }

    /// The number of samples.
    pub fn samples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The fraction of samples that were taken for what they are.
    pub fn accuracy(&self) -> Option<f64> {
        ratio((0..self.classes).map(|class| self.count(class, class)).sum(), self.samples())
    }

    /// Of what was taken for `class`, the fraction that is; nothing when nothing was.
    pub fn precision(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), (0..self.classes).map(|target| self.count(target, class)).sum())
    }

    /// Twice what was rightly taken for `class`, of what was taken for it and what is of it; nothing when nothing is either.
    pub fn f1(&self, class: usize) -> Option<f64> {
        let taken: u64 = (0..self.classes).map(|target| self.count(target, class)).sum();
        let is: u64 = (0..self.classes).map(|predicted| self.count(class, predicted)).sum();
        ratio(2 * self.count(class, class), taken + is)
    }

    /// Of what is of `class`, the fraction that was taken for it; nothing when nothing is.
    pub fn recall(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), (0..self.classes).map(|predicted| self.count(class, predicted)).sum())
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(usize, usize)]) -> Confusion {
        let mut confusion = Confusion::new(3).unwrap();
        pairs.iter().for_each(|(target, predicted)| confusion.add(*target, *predicted));
        confusion
    }

    #[test]
    fn precision_and_recall() {
        let mut confusion = of(&[(0, 0), (0, 0), (0, 1), (7, 0), (0, 7)]);
        confusion.merge(&of(&[(1, 0), (0, 1)]));
        assert_eq!((confusion.classes(), confusion.samples(), confusion.count(0, 1)), (3, 5, 2));
        assert_eq!(confusion.accuracy(), Some(0.4));
        let each = |of: &dyn Fn(usize) -> Option<f64>| [of(0), of(1), of(2)];
        assert_eq!(each(&|c| confusion.precision(c)), [Some(2.0 / 3.0), Some(0.0), None]);
        assert_eq!(each(&|c| confusion.recall(c)), [Some(0.5), Some(0.0), None]);
        assert_eq!(each(&|c| confusion.f1(c)), [Some(4.0 / 7.0), Some(0.0), None]);
        assert_eq!(of(&[]).accuracy(), None);
    }

    #[test]
    fn too_many_classes_have_no_matrix() {
        assert!(Confusion::new(Confusion::CLASSES_MAX).is_some());
        assert!(Confusion::new(Confusion::CLASSES_MAX + 1).is_none());
    }
}

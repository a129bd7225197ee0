//! Precision, recall and F1 over classes, from how often each was right, was predicted and is.
//!
//! As scikit-learn has them: a class that was never predicted has a precision of 0, one that is never there a recall of 0,
//! and a mean over classes is of those that are there or were predicted.

/// Numbers of each class.
const EACH: usize = 3;

/// How often each class was predicted rightly, was predicted, and is. Counts are whole, so whoever adds them up in whatever
/// order gets the same, up to 2^53 samples.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassCounts {
    /// `[class, number]` in row-major order.
    numbers: Vec<f64>,
}

/// What one class's counts say.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scores {
    precision: f64,
    recall: f64,
    f1: f64,
    /// Samples that are of it.
    support: f64,
}

impl ClassCounts {
    /// No samples yet, of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { numbers: vec![0.0; EACH * classes] }
    }

    /// Counts a sample of a class that was taken for another; one of a number that is no class is left out, and one that
    /// was taken for none is no prediction.
    pub fn add(&mut self, actual: usize, predicted: Option<usize>) {
        self.add_many(actual, predicted, 1);
    }

    /// Counts so many of them.
    pub fn add_many(&mut self, actual: usize, predicted: Option<usize>, samples: u64) {
        let samples = samples as f64;
        let classes = self.numbers.len() / EACH;
        if actual >= classes {
            return;
        }
        self.numbers[EACH * actual + 2] += samples;
        if let Some(predicted) = predicted.filter(|predicted| *predicted < classes) {
            self.numbers[EACH * predicted + 1] += samples;
            self.numbers[EACH * actual] += if predicted == actual { samples } else { 0.0 };
        }
    }

    /// All numbers.
    pub fn numbers(&self) -> &[f64] {
        &self.numbers
    }

    /// Becomes the sum of what several say to be their [`ClassCounts::numbers`]; nothing if they are of other classes.
    pub fn merge(&mut self, all: &[Vec<f64>]) -> Option<()> {
        if all.iter().any(|numbers| numbers.len() != self.numbers.len()) {
            return None;
        }
        for (class, own) in self.numbers.iter_mut().enumerate() {
            *own = all.iter().map(|numbers| numbers[class]).sum();
        }
        Some(())
    }

    fn scores(&self) -> impl Iterator<Item = Scores> {
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let of = move |numbers: &[f64]| {
            let [right, predicted, support] = [numbers[0], numbers[1], numbers[2]];
            let (precision, recall) = (ratio(right, predicted), ratio(right, support));
            Scores { precision, recall, f1: ratio(2.0 * right, predicted + support), support }
        };
        let there = |numbers: &&[f64]| numbers[1] > 0.0 || numbers[2] > 0.0;
        self.numbers.chunks_exact(EACH).filter(there).map(of)
    }

    fn mean(&self, of: impl Fn(&Scores) -> f64) -> Option<f64> {
        let (sum, classes) = self.scores().fold((0.0, 0.0), |(sum, n), scores| (sum + of(&scores), n + 1.0));
        (classes > 0.0).then(|| sum / classes)
    }

    /// The part of all samples that were taken for their own class.
    pub fn accuracy(&self) -> Option<f64> {
        let each = self.numbers.chunks_exact(EACH);
        let (right, all) = each.fold((0.0, 0.0), |(right, all), one| (right + one[0], all + one[2]));
        (all > 0.0).then(|| right / all)
    }

    /// The mean of the classes' precisions.
    pub fn precision(&self) -> Option<f64> {
        self.mean(|scores| scores.precision)
    }

    /// The mean of the classes' recalls.
    pub fn recall(&self) -> Option<f64> {
        self.mean(|scores| scores.recall)
    }

    /// The mean of the classes' F1, the harmonic mean of precision and recall.
    pub fn f1(&self) -> Option<f64> {
        self.mean(|scores| scores.f1)
    }

    /// The same, each class with the weight of its samples.
    pub fn f1_weighted(&self) -> Option<f64> {
        let add = |(sum, all): (f64, f64), one: Scores| (sum + one.support * one.f1, all + one.support);
        let (sum, all) = self.scores().fold((0.0, 0.0), add);
        (all > 0.0).then(|| sum / all)
    }
}

//! Batches of samples as training consumes them, and where they come from. Who makes batches knows nothing of models,
//! and who learns from them nothing of data sets: they meet here.

use outgrow_ir::Diagnostic;
use outgrow_tensor::Tensor;
use std::ops::Range;

/// A batch of samples, or some of its rows, one after the other, where several share it. Every tensor's first dimension is
/// the number of rows, padding included. Rows have the same bits whether they come with the others or without.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The model's inputs in the order of [`OutputSchema::inputs`](crate::OutputSchema), each `[batch, …]`.
    pub inputs: Vec<Tensor>,
    /// What the model should answer: `i32 [batch]` for classes, `f32 [batch, width]` for regression,
    /// `i32 [batch, length]` for tokens; none when the records carry no label.
    pub target: Option<Tensor>,
    /// Weight of every sample, `[batch]`: 1, or 0 for samples that only pad the batch.
    pub weight: Vec<f32>,
    /// The epoch this batch belongs to, counted from 0.
    pub epoch: u64,
    /// Number of the batch within its epoch, counted from 0.
    pub index: u64,
    /// Number of rows here that are not padding; they come first.
    pub real: usize,
    /// Which row of the whole batch the first one here is; 0 where all are here.
    pub first: usize,
    /// Number of samples in the whole batch, without padding.
    pub whole_real: usize,
    /// Sum of the weights of the whole batch in the order of its rows, which losses are divided by.
    pub whole_weight: f32,
}

impl Batch {
    /// A batch that is all here, of so many samples of weight one.
    pub fn of_samples(inputs: Vec<Tensor>, target: Option<Tensor>, samples: usize) -> Self {
        let weight = vec![1.0; samples];
        let whole_weight = weight.iter().sum();
        let (epoch, index, first) = (0, 0, 0);
        Self { inputs, target, weight, epoch, index, real: samples, first, whole_real: samples, whole_weight }
    }
}

/// Batches in order, until there are no more or one could not be made.
pub trait BatchStream: Iterator<Item = Result<Batch, Diagnostic>> + Send {
    /// Takes back a batch that is no longer needed, for its memory. This is optional.
    fn recycle(&mut self, _batch: Batch) {}
}

/// Batches in order.
pub type Batches = Box<dyn BatchStream>;

/// Which run of something, when it is cut into so many runs that are as long as each other, or longer by one: what one
/// worker of several takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The number of the run, from 0.
    pub number: usize,
    /// How many runs there are, at least one.
    pub of: usize,
}

impl Portion {
    /// All of it.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// The run of so many items.
    pub fn range(self, items: u64) -> Range<u64> {
        // 128 bits hold any product of the two.
        let start = |number: usize| (u128::from(items) * number as u128 / self.of.max(1) as u128) as u64;
        start(self.number)..start(self.number + 1)
    }
}

/// Training and validation data.
pub trait TrainingData {
    /// Samples of the training data.
    fn samples(&self) -> u64;

    /// Batches of training data from batch `index` of `epoch` on, epoch after epoch, in an order that depends on the
    /// seed and the epoch alone. At least these rows of each are made, with the bits that they have in the whole batch.
    ///
    /// # Errors
    /// When they cannot be read.
    fn train(&self, epoch: u64, index: u64, rows: Range<usize>) -> Result<Batches, Diagnostic>;

    /// A portion of the batches of one pass over the validation data in a fixed order, padded to full batches; nothing if
    /// there is no validation data.
    ///
    /// # Errors
    /// When it cannot be read.
    fn validation(&self, portion: Portion) -> Result<Option<Batches>, Diagnostic>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_cover_everything_once() {
        for items in [0, 1, 2, 7, 64, u64::MAX] {
            for of in 1..9 {
                let runs: Vec<_> = (0..of).map(|number| Portion { number, of }.range(items)).collect();
                assert_eq!((runs[0].start, runs[of - 1].end), (0, items));
                assert!(runs.windows(2).all(|two| two[0].end == two[1].start));
                let lengths = runs.iter().map(|run| run.end - run.start);
                assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
            }
        }
        assert_eq!(Portion::WHOLE.range(5), 0..5);
    }
}

//! Batches of a prepared data set for the trainer.

use outgrow_data::{DataLoader, Dataset, LoaderOptions, Position, Split};
use outgrow_ir::Diagnostic;
use outgrow_train::spec::Train;
use outgrow_train::{BatchStream, Batches, TrainingData};
use outgrow_transform::Batch;

/// At most so many training samples are evaluated.
const TRAIN_SAMPLES: u64 = 10_000;

/// A data set as the trainer sees it.
#[derive(Debug)]
pub struct DatasetBatches {
    data: Dataset,
    batch: usize,
    seed: u64,
    shuffle: bool,
    drop_last: bool,
}

/// A loader as a stream of batches.
struct Stream(DataLoader);

impl BatchStream for Stream {
    fn next(&mut self) -> Option<Result<Batch, Diagnostic>> {
        self.0.next()
    }

    fn recycle(&mut self, batch: Batch) {
        self.0.recycle(batch);
    }
}

impl DatasetBatches {
    /// The batches that `train` asks for.
    pub fn new(data: Dataset, train: &Train, seed: u64) -> Self {
        Self { data, batch: train.batch, seed, shuffle: train.shuffle, drop_last: train.drop_last }
    }

    /// One pass over a split in the order in which it is stored, over at most 10,000 samples of the training split;
    /// nothing if the split is empty.
    pub fn evaluation(&self, split: Split) -> Result<Option<Batches>, Diagnostic> {
        if self.data.samples(split) == 0 {
            return Ok(None);
        }
        let limit = (split == Split::Train).then_some(TRAIN_SAMPLES);
        let options = LoaderOptions { limit, ..LoaderOptions::evaluation(self.batch) };
        Ok(Some(Box::new(Stream(self.data.loader(split, options)?))))
    }
}

impl TrainingData for DatasetBatches {
    fn samples(&self) -> u64 {
        self.data.samples(Split::Train)
    }

    fn train(&self, epoch: u64, index: u64) -> Result<Batches, Diagnostic> {
        let options = LoaderOptions {
            shuffle: self.shuffle,
            drop_last: self.drop_last,
            start: Position { epoch, index },
            ..LoaderOptions::training(self.batch, self.seed)
        };
        Ok(Box::new(Stream(self.data.loader(Split::Train, options)?)))
    }

    fn validation(&self) -> Result<Option<Batches>, Diagnostic> {
        self.evaluation(Split::Validation)
    }
}

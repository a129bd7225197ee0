//! Loaders: batches of a split in an order that is a function of (seed, epoch) alone.
//!
//! Sample `p` of an epoch is computed from its place (see `order`), and so is what augmentation does to it: a loader
//! starts at any position in constant time, needs no memory for the order, and gives the same batches on any number of
//! threads. Batches are made ahead on threads of the loader's own.

mod ahead;
mod maker;
mod order;

use crate::{Dataset, Split};
use ahead::Ahead;
use maker::Maker;
use outgrow_ir::Diagnostic;
use outgrow_transform::augment::AugmentSpec;
use outgrow_transform::{Batch, BatchStream, Portion};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// How to load.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Samples in a batch.
    pub batch: usize,
    /// The rows of each batch that are made, with the bits that they have in the whole one; all when left out. Whoever
    /// holds some of a step's micro-shards asks for theirs. Of the other rows nothing is read but the classes that
    /// weights hang on, and the image that the last row is mixed with.
    pub rows: Option<Range<usize>>,
    /// Seed of the order and of augmentation.
    pub seed: u64,
    /// Whether each epoch has an order of its own; otherwise samples come as they are stored.
    pub shuffle: bool,
    /// Whether a last short batch is dropped rather than padded.
    pub drop_last: bool,
    /// Where to start.
    pub start: Position,
    /// Whether to end with the epoch that it starts in, rather than go on for ever.
    pub one_epoch: bool,
    /// Which of the batches of the one epoch are made: whoever shares a pass over the data takes a run of them. They are
    /// numbered as in the whole pass.
    pub portion: Portion,
    /// At most so many samples are used: the first of a shuffled epoch, otherwise samples spread evenly over the
    /// split, since stored records are often sorted.
    pub limit: Option<u64>,
    /// The samples to choose from, by their numbers; all of the split when left out.
    pub subset: Option<Arc<Vec<u64>>>,
    /// How images are changed at random.
    pub augment: Option<AugmentSpec>,
    /// Whether each class comes as often as every other: samples of rare classes come several times in an epoch, and
    /// of frequent ones not all.
    pub balanced: bool,
    /// The weight of each class's samples in the loss; 1 for all when empty. A mixed sample has the weights of its
    /// classes by their shares.
    pub class_weights: Vec<f32>,
    /// How many packets of batches each thread makes ahead; with 0 batches are made when they are asked for, without a
    /// thread, and so they are where the system starts none.
    pub read_ahead: usize,
    /// Threads that make batches ahead. The batches do not depend on their number.
    pub threads: usize,
}

impl LoaderOptions {
    /// Shuffled batches for training, for ever, from the start.
    pub fn training(batch: usize, seed: u64) -> Self {
        Self {
            batch,
            rows: None,
            seed,
            shuffle: true,
            drop_last: false,
            start: Position::default(),
            one_epoch: false,
            portion: Portion::WHOLE,
            limit: None,
            subset: None,
            augment: None,
            balanced: false,
            class_weights: Vec::new(),
            read_ahead: 2,
            threads: 1,
        }
    }

    /// All samples once, in the order in which they are stored.
    pub fn evaluation(batch: usize) -> Self {
        Self { shuffle: false, one_epoch: true, ..Self::training(batch, 0) }
    }
}

/// Where a loader is: the next batch it gives. It is part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are complete.
    pub epoch: u64,
    /// Batches of the present epoch that were given.
    pub index: u64,
}

/// Yields batches, or the rows of them that were asked for. It ends after an epoch when that was asked for, and after an error.
#[derive(Debug)]
pub struct DataLoader {
    maker: Arc<Maker>,
    next: Position,
    ready: VecDeque<Result<Batch, Diagnostic>>,
    ahead: Option<Ahead>,
    ended: bool,
}

impl DataLoader {
    pub(crate) fn new(dataset: &Dataset, split: Split, options: LoaderOptions) -> Result<Self, Diagnostic> {
        let mut maker = Maker::new(dataset, split, options)?;
        let start = maker.options.start;
        if start.index >= maker.batches && !maker.options.one_epoch {
            maker.options.start = Position { epoch: start.epoch + 1, index: 0 };
        }
        let maker = Arc::new(maker);
        let mut loader = Self {
            next: maker.options.start,
            ready: VecDeque::new(),
            ahead: None,
            ended: false,
            maker: maker.clone(),
        };
        if maker.options.read_ahead > 0 {
            loader.ahead = Ahead::start(&maker);
        }
        Ok(loader)
    }

    /// Batches in an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.maker.batches
    }

    /// The position of the next batch.
    pub fn position(&self) -> Position {
        self.next
    }

    fn receive(&mut self) -> Option<Result<Batch, Diagnostic>> {
        if let Some(batch) = self.ready.pop_front() {
            return Some(batch);
        }
        match &mut self.ahead {
            Some(ahead) => {
                self.ready.extend(ahead.next()?);
                self.ready.pop_front()
            }
            None => self.maker.wanted(self.next).then(|| self.maker.make(self.next, None)),
        }
    }
}

impl Iterator for DataLoader {
    type Item = Result<Batch, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let batch = self.receive();
        match &batch {
            Some(Ok(_)) => self.next = self.maker.after(self.next),
            _ => self.ended = true,
        }
        batch
    }
}

impl BatchStream for DataLoader {
    fn recycle(&mut self, batch: Batch) {
        if let Some(ahead) = &mut self.ahead {
            ahead.recycle(batch);
        }
    }
}

/// Windows of `context` tokens in an epoch of a split with `tokens` tokens. Each needs one token more, the last
/// target. Training starts at an offset below `context` that each epoch draws anew; the number of windows is that
/// of the largest offset, so that all epochs are equally long.
pub(crate) fn windows(tokens: u64, context: u64, split: Split) -> u64 {
    let whole = tokens.saturating_sub(1) / context.max(1);
    if split == Split::Train && whole > 1 { tokens.saturating_sub(context) / context } else { whole }
}

/// One sample as a batch.
pub(crate) fn sample(dataset: &Dataset, split: Split, i: u64) -> Result<Batch, Diagnostic> {
    let maker = Maker::new(dataset, split, LoaderOptions::evaluation(1))?;
    if i >= maker.pool.samples {
        return Err(Diagnostic::new("data.sample", format!("there is no sample {i} in the {split} split"))
            .expected(format!("a number below {}", maker.pool.samples)));
    }
    maker.make(Position { epoch: 0, index: i }, None)
}

//! Cross-validation: the training split cut into parts of (almost) equal size, each of which is held out once while
//! the others train. The transform stays the one that was fitted on the whole training split.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use outgrow_data::{Dataset, Split};
use outgrow_ir::Diagnostic;
use outgrow_tensor::{RngKey, Tensor};
use outgrow_train::spec::Train;
use outgrow_train::{BatchStream, Batches, TrainingData};
use outgrow_transform::Batch;

/// One way to cut the training split into what trains and what is held out.
#[derive(Clone, Debug)]
pub struct Fold {
    data: Dataset,
    /// All samples in an order drawn from the seed, so that no part follows an order that the records have.
    order: Arc<Vec<u64>>,
    /// The places in that order that are held out.
    held_out: Range<usize>,
    batch: usize,
    key: RngKey,
    shuffle: bool,
    drop_last: bool,
}

/// Cuts the training split into `count` parts.
///
/// # Errors
/// When there are too few samples for that, or to fill a batch.
pub fn folds(data: &Dataset, train: &Train, seed: u64, count: usize) -> Result<Vec<Fold>, Diagnostic> {
    let samples = data.samples(Split::Train) as usize;
    if count > samples {
        let problem = format!("{samples} samples cannot be cut into {count} parts");
        return Err(Diagnostic::new("tune.folds", problem).item("--folds"));
    }
    let smallest = samples - samples.div_ceil(count);
    if smallest < train.batch {
        let problem =
            format!("{smallest} samples are left to train on, which do not fill a batch of {}", train.batch);
        return Err(Diagnostic::new("tune.folds", problem).item("--folds").hint(format!(
            "take a smaller batch, as with --set train.batch={}, or more folds",
            smallest.max(1)
        )));
    }
    let key = RngKey::new(seed).fold_in_name("folds");
    let mut order: Vec<u64> = (0..samples as u64).collect();
    key.stream().shuffle(&mut order);
    let order = Arc::new(order);
    let fold = |i: usize| Fold {
        data: data.clone(),
        order: order.clone(),
        held_out: i * samples / count..(i + 1) * samples / count,
        batch: train.batch,
        key,
        shuffle: train.shuffle,
        drop_last: train.drop_last,
    };
    Ok((0..count).map(fold).collect())
}

impl Fold {
    /// The samples that train, in the order of an epoch.
    fn epoch(&self, epoch: u64) -> Vec<u64> {
        let (before, rest) = self.order.split_at(self.held_out.start);
        let mut chosen = [before, &rest[self.held_out.len()..]].concat();
        if self.shuffle {
            self.key.fold_in(epoch).stream().shuffle(&mut chosen);
        } else {
            chosen.sort_unstable();
        }
        chosen
    }

    fn held_out(&self) -> Vec<u64> {
        let mut chosen = self.order[self.held_out.clone()].to_vec();
        chosen.sort_unstable();
        chosen
    }

    /// The batches of samples in an order.
    fn batches(&self, order: &[u64], drop_last: bool) -> VecDeque<Vec<u64>> {
        let parts = order.chunks(self.batch).filter(|part| !drop_last || part.len() == self.batch);
        parts.map(<[u64]>::to_vec).collect()
    }

    /// A batch of these samples, filled up with the first of them at weight zero.
    fn batch(&self, chosen: &[u64], epoch: u64, index: u64) -> Result<Batch, Diagnostic> {
        let samples: Vec<Batch> =
            chosen.iter().map(|i| self.data.sample(Split::Train, *i)).collect::<Result<_, _>>()?;
        let rows: Vec<&Batch> =
            (0..self.batch).map(|i| &samples[if i < samples.len() { i } else { 0 }]).collect();
        let inputs = samples.first().map_or(0, |first| first.inputs.len());
        let inputs =
            (0..inputs).map(|i| stack(rows.iter().map(|row| &row.inputs[i]))).collect::<Result<_, _>>()?;
        let targets: Option<Vec<&Tensor>> = rows.iter().map(|row| row.target.as_ref()).collect();
        let target = targets.map(|targets| stack(targets.into_iter())).transpose()?;
        let real = chosen.len();
        let weight = (0..self.batch).map(|i| if i < real { 1.0 } else { 0.0 }).collect();
        Ok(Batch { inputs, target, weight, epoch, index, real })
    }
}

/// Tensors of one row each, one below the other.
fn stack<'a>(rows: impl Iterator<Item = &'a Tensor>) -> Result<Tensor, Diagnostic> {
    let (mut bytes, mut count, mut first) = (Vec::new(), 0, None);
    for row in rows {
        bytes.extend(row.to_le_bytes());
        count += 1;
        first.get_or_insert(row);
    }
    let invariant = |e: String| Diagnostic::new("tune.batch", format!("invariant: rows must be alike: {e}"));
    let first = first.ok_or_else(|| invariant("there is none".into()))?;
    let shape = [&[count], &first.shape().dims()[1..]].concat();
    Tensor::from_le_bytes(first.dtype(), shape, &bytes).map_err(|e| invariant(e.to_string()))
}

/// Batches of a fold, for ever or for one pass.
struct Stream {
    fold: Fold,
    waiting: VecDeque<Vec<u64>>,
    epoch: u64,
    index: u64,
    forever: bool,
}

impl BatchStream for Stream {
    fn next(&mut self) -> Option<Result<Batch, Diagnostic>> {
        if self.waiting.is_empty() && self.forever {
            (self.epoch, self.index) = (self.epoch + 1, 0);
            self.waiting = self.fold.batches(&self.fold.epoch(self.epoch), self.fold.drop_last);
        }
        let chosen = self.waiting.pop_front()?;
        let batch = self.fold.batch(&chosen, self.epoch, self.index);
        self.index += 1;
        Some(batch)
    }
}

impl TrainingData for Fold {
    fn samples(&self) -> u64 {
        (self.order.len() - self.held_out.len()) as u64
    }

    fn train(&self, epoch: u64, index: u64) -> Result<Batches, Diagnostic> {
        let mut waiting = self.batches(&self.epoch(epoch), self.drop_last);
        waiting.drain(..(index as usize).min(waiting.len()));
        Ok(Box::new(Stream { fold: self.clone(), waiting, epoch, index, forever: true }))
    }

    fn validation(&self) -> Result<Option<Batches>, Diagnostic> {
        let waiting = self.batches(&self.held_out(), false);
        Ok(Some(Box::new(Stream { fold: self.clone(), waiting, epoch: 0, index: 0, forever: false })))
    }
}

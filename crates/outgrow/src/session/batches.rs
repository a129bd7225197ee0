//! Batches of a prepared data set for the trainer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use outgrow_data::{Dataset, LoaderOptions, Position, Split};
use outgrow_ir::Diagnostic;
use outgrow_models::spec::number::Positive;
use outgrow_train::spec::{ClassWeights, Sampling};
use outgrow_transform::{Batches, Portion, Target, TrainingData};

use super::train_on;
use crate::manifest::Manifest;

/// At most so many training samples are evaluated.
const TRAIN_SAMPLES: u64 = 10_000;

/// A data set as the trainer sees it, or a part of its training split.
#[derive(Clone, Debug)]
pub struct DatasetBatches {
    data: Dataset,
    /// How training loads.
    training: LoaderOptions,
    /// Samples of the training split that are held out for validation, in place of the validation split.
    held_out: Option<Arc<Vec<u64>>>,
}

impl DatasetBatches {
    /// The batches that the manifest asks for; augmentation runs on so many threads.
    ///
    /// # Errors
    /// When the manifest names classes that there are not.
    pub fn new(data: Dataset, manifest: &Manifest, threads: usize) -> Result<Self, Diagnostic> {
        let train = &train_on(manifest, &data);
        let augment = manifest.spec.data.augment.clone();
        let training = LoaderOptions {
            shuffle: train.shuffle,
            drop_last: train.drop_last,
            balanced: train.sampling == Sampling::Balanced,
            class_weights: class_weights(&data, train.class_weights.as_ref())?,
            threads: if augment.is_some() { threads } else { 1 },
            augment,
            ..LoaderOptions::training(train.batch, manifest.seed)
        };
        Ok(Self { data, training, held_out: None })
    }

    /// Finds out whether training can load what it asks for, before anything is begun.
    pub fn check(&self) -> Result<(), Diagnostic> {
        let options = LoaderOptions { read_ahead: 0, ..self.training.clone() };
        self.data.loader(Split::Train, options).map(drop)
    }

    /// The same, trained on these samples of the training split and validated on those.
    pub fn part(&self, trained: Vec<u64>, held_out: Vec<u64>) -> Self {
        let training = LoaderOptions { subset: Some(Arc::new(trained)), ..self.training.clone() };
        Self { data: self.data.clone(), training, held_out: Some(Arc::new(held_out)) }
    }

    /// The data set.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Samples in a batch.
    pub fn batch(&self) -> usize {
        self.training.batch
    }

    /// A portion of the batches of one pass over a split in the order in which it is stored, over at most 10,000 samples
    /// of the training split; nothing if the split is empty.
    pub fn evaluation(&self, split: Split, portion: Portion) -> Result<Option<Batches>, Diagnostic> {
        if self.data.samples(split) == 0 {
            return Ok(None);
        }
        let limit = (split == Split::Train).then_some(TRAIN_SAMPLES);
        let options = LoaderOptions { limit, portion, ..LoaderOptions::evaluation(self.training.batch) };
        Ok(Some(Box::new(self.data.loader(split, options)?)))
    }
}

impl TrainingData for DatasetBatches {
    fn samples(&self) -> u64 {
        let part = self.training.subset.as_ref().map(|subset| subset.len() as u64);
        part.unwrap_or_else(|| self.data.samples(Split::Train))
    }

    fn train(&self, epoch: u64, index: u64, rows: Range<usize>) -> Result<Batches, Diagnostic> {
        let rows = (rows != (0..self.training.batch)).then_some(rows);
        let options = LoaderOptions { start: Position { epoch, index }, rows, ..self.training.clone() };
        Ok(Box::new(self.data.loader(Split::Train, options)?))
    }

    fn validation(&self, portion: Portion) -> Result<Option<Batches>, Diagnostic> {
        let Some(held_out) = &self.held_out else { return self.evaluation(Split::Validation, portion) };
        let options = LoaderOptions {
            subset: Some(held_out.clone()),
            portion,
            ..LoaderOptions::evaluation(self.training.batch)
        };
        Ok(Some(Box::new(self.data.loader(Split::Train, options)?)))
    }
}

/// The weight of each class, in their order; none when the manifest gives none.
fn class_weights(data: &Dataset, weights: Option<&ClassWeights>) -> Result<Vec<f32>, Diagnostic> {
    let Some(weights) = weights else { return Ok(Vec::new()) };
    let Target::Class { names } = data.schema().target else {
        let problem = "the target is no class, so there are no classes to weigh";
        return Err(Diagnostic::new("train.class-weights", problem)
            .item("train.class_weights")
            .expected("a target of classes: `task = \"classify\"`"));
    };
    match weights {
        ClassWeights::Rule(rule) => Ok(rule.weights(&data.class_counts(Split::Train))),
        ClassWeights::Named(weights) => named(&names, weights),
    }
}

fn named(names: &[String], weights: &BTreeMap<String, Positive>) -> Result<Vec<f32>, Diagnostic> {
    if let Some(name) = weights.keys().find(|name| !names.contains(name)) {
        return Err(Diagnostic::new("train.class-weights", format!("there is no class `{name}`"))
            .item(format!("train.class_weights.{name}"))
            .expected(format!("one of: {}", names.join(", "))));
    }
    Ok(names.iter().map(|name| weights.get(name).map_or(1.0, |w| w.get() as f32)).collect())
}

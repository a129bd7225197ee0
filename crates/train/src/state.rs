//! The state of training: everything that the next step depends on, and its form in a checkpoint.

use crate::early_stopping::EarlyStopping;
use crate::flat::Layout;
use crate::memory::filled;
use crate::program::layouts;
use crate::update::Update;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::{BuiltModel, Init};
use outgrow_store::Checkpoint;
use outgrow_tensor::{RngKey, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Everything that the next step depends on. The position in the data follows from the step, and every random key from
/// the seed and the step, so neither needs a place of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// Steps done.
    pub step: u64,
    /// Samples seen, without padding.
    pub samples: u64,
    /// Nanoseconds spent in training steps.
    pub train_ns: u64,
    /// Whether early stopping has ended training.
    pub stopped: bool,
    /// Parameters, flat.
    pub params: Vec<f32>,
    /// Buffers, flat.
    pub buffers: Vec<f32>,
    /// The optimiser's state, one flat vector per slot.
    pub slots: Vec<Vec<f32>>,
    /// What early stopping has seen.
    pub early_stopping: Option<EarlyStopping>,
    /// Parameters and buffers of the best evaluation, when they are to be the result.
    pub best: Option<(Vec<f32>, Vec<f32>)>,
}

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    samples: u64,
    train_ns: u64,
    stopped: bool,
    early_stopping: Option<EarlyStopping>,
}

const PROGRESS: &str = "progress";

impl TrainState {
    /// The state before the first step: parameters drawn by their initialisers, each from a random stream of its own.
    ///
    /// # Errors
    /// When the system does not give the memory.
    pub fn initial(model: &BuiltModel, update: &Update, key: RngKey) -> Result<Self, Diagnostic> {
        let (params, buffers) = layouts(model);
        // One tensor after the other, so that never all of them are there twice.
        let fill = |layout: &Layout, draw: &dyn Fn(usize) -> Tensor| {
            let mut flat = filled(layout.total(), 0.0)?;
            for (i, part) in layout.split_mut(&mut flat).into_iter().enumerate() {
                part.copy_from_slice(draw(i).as_slice::<f32>().expect("invariant: initialisers make f32"));
            }
            Ok::<_, Diagnostic>(flat)
        };
        let init = key.fold_in_name("init");
        let draw =
            |of: &Init, name: &str, dims: &[usize]| of.tensor(init.fold_in_name(name), params.dtype(), dims);
        let drawn = |i: usize| draw(&model.params[i].init, &model.params[i].name, &model.params[i].dims);
        let set = |i: usize| draw(&model.buffers[i].init, &model.buffers[i].name, &model.buffers[i].dims);
        Ok(Self {
            step: 0,
            samples: 0,
            train_ns: 0,
            stopped: false,
            params: fill(&params, &drawn)?,
            buffers: fill(&buffers, &set)?,
            slots: update.initial_slots()?,
            early_stopping: None,
            best: None,
        })
    }

    /// Parameters and buffers by name.
    pub fn weights(&self, model: &BuiltModel) -> BTreeMap<String, Tensor> {
        let (params, buffers) = layouts(model);
        let mut weights = params.tensors(&self.params);
        weights.extend(buffers.tensors(&self.buffers));
        weights
    }

    /// Takes parameters, and buffers as far as they are given, from tensors by name.
    pub fn set_weights(
        &mut self,
        model: &BuiltModel,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), Diagnostics> {
        let (params, buffers) = layouts(model);
        let names: HashSet<&str> = model.buffers.iter().map(|b| b.name.as_str()).collect();
        let is_buffer = |name: &String| names.contains(name.as_str());
        let (mut given_buffers, given_params): (BTreeMap<_, _>, BTreeMap<_, _>) =
            weights.clone().into_iter().partition(|(name, _)| is_buffer(name));
        // PyTorch counts the batches of a batch norm; nothing here depends on that.
        let given_params =
            given_params.into_iter().filter(|(n, _)| !n.ends_with("num_batches_tracked")).collect();
        for (name, tensor) in buffers.tensors(&self.buffers) {
            given_buffers.entry(name).or_insert(tensor);
        }
        let flat = params.flatten(&given_params)?;
        self.buffers = buffers.flatten(&given_buffers)?;
        self.params = flat;
        Ok(())
    }

    /// The checkpoint of this state.
    pub fn to_checkpoint(&self, fingerprint: &str, model: &BuiltModel, update: &Update) -> Checkpoint {
        let (params, buffers) = layouts(model);
        let mut checkpoint =
            Checkpoint { step: self.step, model: fingerprint.into(), ..Checkpoint::default() };
        checkpoint.insert_group("param", &params.tensors(&self.params));
        checkpoint.insert_group("buffer", &buffers.tensors(&self.buffers));
        for (name, slot) in update.slot_names().iter().zip(&self.slots) {
            checkpoint.insert_group(&format!("optimizer.{name}"), &params.tensors(slot));
        }
        if let Some((best_params, best_buffers)) = &self.best {
            checkpoint.insert_group("best.param", &params.tensors(best_params));
            checkpoint.insert_group("best.buffer", &buffers.tensors(best_buffers));
        }
        let progress = Progress {
            samples: self.samples,
            train_ns: self.train_ns,
            stopped: self.stopped,
            early_stopping: self.early_stopping.clone(),
        };
        checkpoint.state.insert(PROGRESS.into(), serde_json::json!(progress));
        checkpoint
    }

    /// The state that a checkpoint holds.
    pub fn from_checkpoint(
        mut checkpoint: Checkpoint,
        model: &BuiltModel,
        update: &Update,
    ) -> Result<Self, Diagnostics> {
        let (params, buffers) = layouts(model);
        let progress: Progress = serde_json::from_value(checkpoint.part(PROGRESS)?.clone()).map_err(|e| {
            Diagnostic::new("train.checkpoint", format!("the training state cannot be read: {e}"))
                .item(PROGRESS)
                .hint("the checkpoint was made by another version: start anew with --fresh")
        })?;
        let mut state = Self {
            step: checkpoint.step,
            samples: progress.samples,
            train_ns: progress.train_ns,
            stopped: progress.stopped,
            params: params.flatten(&checkpoint.take_group("param"))?,
            buffers: buffers.flatten(&checkpoint.take_group("buffer"))?,
            slots: Vec::new(),
            early_stopping: progress.early_stopping,
            best: None,
        };
        for name in update.slot_names() {
            state.slots.push(params.flatten(&checkpoint.take_group(&format!("optimizer.{name}")))?);
        }
        let best = checkpoint.take_group("best.param");
        if !best.is_empty() {
            state.best =
                Some((params.flatten(&best)?, buffers.flatten(&checkpoint.take_group("best.buffer"))?));
        }
        Ok(state)
    }
}

//! The state of training: everything that the next step depends on, and its form in a checkpoint.

use crate::early_stopping::EarlyStopping;
use crate::optim::Slot;
use crate::program::layouts;
use crate::vector::DeviceVector;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::{BuiltModel, Init};
use outgrow_runtime::Backend;
use outgrow_store::Checkpoint;
use outgrow_tensor::{RngKey, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that the next step depends on. The position in the data follows from the step, and every random key from
/// the seed and the step, so neither needs a place of its own.
#[derive(Debug)]
pub struct TrainState {
    /// Steps done.
    pub step: u64,
    /// Samples seen, without padding.
    pub samples: u64,
    /// Nanoseconds spent in training steps.
    pub train_ns: u64,
    /// Whether early stopping has ended training.
    pub stopped: bool,
    /// Parameters.
    pub params: DeviceVector,
    /// Buffers.
    pub buffers: DeviceVector,
    /// The optimiser's state: a vector for each of its slots, with the slot's name.
    pub slots: Vec<(&'static str, DeviceVector)>,
    /// What early stopping has seen.
    pub early_stopping: Option<EarlyStopping>,
    /// Parameters and buffers of the best evaluation, when they are to be the result.
    pub best: Option<(DeviceVector, DeviceVector)>,
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
    /// The state before the first step, for an optimiser with these slots: parameters drawn by their initialisers, each
    /// from a random stream of its own.
    ///
    /// # Errors
    /// When the device has not the memory.
    pub fn initial(
        model: &BuiltModel,
        slots: &[Slot],
        key: RngKey,
        backend: &Arc<dyn Backend>,
    ) -> Result<Self, Diagnostic> {
        let (params, buffers) = layouts(model);
        let (params, buffers) = (Arc::new(params), Arc::new(buffers));
        let init = key.fold_in_name("init");
        let filled = |slot: &Slot| Ok((slot.name, DeviceVector::filled(&params, backend, slot.init as f32)?));
        // One tensor after the other, so that never all of them are there twice.
        let set = |vector: &mut DeviceVector, i: usize, of: &Init, name: &str, dims: &[usize]| {
            let tensor = of.tensor(init.fold_in_name(name), vector.layout().dtype(), dims);
            vector.set(i, tensor.as_slice::<f32>().expect("invariant: initialisers make f32"))
        };
        let mut state = Self {
            step: 0,
            samples: 0,
            train_ns: 0,
            stopped: false,
            params: DeviceVector::zeros(&params, backend)?,
            buffers: DeviceVector::zeros(&buffers, backend)?,
            slots: slots.iter().map(filled).collect::<Result<_, _>>()?,
            early_stopping: None,
            best: None,
        };
        for (i, param) in model.params.iter().enumerate() {
            set(&mut state.params, i, &param.init, &param.name, &param.dims)?;
        }
        for (i, buffer) in model.buffers.iter().enumerate() {
            set(&mut state.buffers, i, &buffer.init, &buffer.name, &buffer.dims)?;
        }
        Ok(state)
    }

    /// The same state in memory of its own.
    ///
    /// # Errors
    /// When the device has not the memory.
    pub fn duplicate(&self) -> Result<Self, Diagnostic> {
        let duplicate = |(name, slot): &(_, DeviceVector)| Ok((*name, slot.duplicate()?));
        Ok(Self {
            params: self.params.duplicate()?,
            buffers: self.buffers.duplicate()?,
            slots: self.slots.iter().map(duplicate).collect::<Result<_, _>>()?,
            early_stopping: self.early_stopping.clone(),
            best: self.duplicate_best()?,
            ..*self
        })
    }

    /// Becomes the state that another of the same model and optimiser is, in the memory that it has.
    ///
    /// # Errors
    /// When the other is another device's, or there is not the memory for best weights that this one has not.
    pub fn copy_from(&mut self, other: &Self) -> Result<(), Diagnostic> {
        self.params.copy_from(&other.params)?;
        self.buffers.copy_from(&other.buffers)?;
        for ((_, own), (_, slot)) in self.slots.iter_mut().zip(&other.slots) {
            own.copy_from(slot)?;
        }
        self.best = other.duplicate_best()?;
        self.early_stopping.clone_from(&other.early_stopping);
        (self.step, self.samples) = (other.step, other.samples);
        (self.train_ns, self.stopped) = (other.train_ns, other.stopped);
        Ok(())
    }

    fn duplicate_best(&self) -> Result<Option<(DeviceVector, DeviceVector)>, Diagnostic> {
        let best = |(params, buffers): &(DeviceVector, DeviceVector)| {
            Ok((params.duplicate()?, buffers.duplicate()?))
        };
        self.best.as_ref().map(best).transpose()
    }

    /// Parameters and buffers by name.
    ///
    /// # Errors
    /// When the device fails.
    pub fn weights(&self) -> Result<BTreeMap<String, Tensor>, Diagnostic> {
        let mut weights = self.params.tensors()?;
        weights.extend(self.buffers.tensors()?);
        Ok(weights)
    }

    /// Takes parameters, and buffers as far as they are given, from tensors by name.
    ///
    /// # Errors
    /// When they are not those of the model; nothing changes then.
    pub fn set_weights(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<(), Diagnostics> {
        let own = self.buffers.tensors()?;
        let (mut buffers, params): (BTreeMap<_, _>, BTreeMap<_, _>) =
            weights.clone().into_iter().partition(|(name, _)| own.contains_key(name));
        // PyTorch counts the batches of a batch norm; nothing here depends on that.
        let params = params.into_iter().filter(|(n, _)| !n.ends_with("num_batches_tracked")).collect();
        for (name, tensor) in own {
            buffers.entry(name).or_insert(tensor);
        }
        self.buffers.layout().check(&buffers)?;
        self.params.set_tensors(&params)?;
        self.buffers.set_tensors(&buffers)
    }

    /// The checkpoint of this state: a copy of it on the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_checkpoint(&self, fingerprint: &str) -> Result<Checkpoint, Diagnostic> {
        let mut checkpoint =
            Checkpoint { step: self.step, model: fingerprint.into(), ..Checkpoint::default() };
        checkpoint.insert_group("param", &self.params.tensors()?);
        checkpoint.insert_group("buffer", &self.buffers.tensors()?);
        for (name, slot) in &self.slots {
            checkpoint.insert_group(&format!("optimizer.{name}"), &slot.tensors()?);
        }
        if let Some((best_params, best_buffers)) = &self.best {
            checkpoint.insert_group("best.param", &best_params.tensors()?);
            checkpoint.insert_group("best.buffer", &best_buffers.tensors()?);
        }
        let progress = Progress {
            samples: self.samples,
            train_ns: self.train_ns,
            stopped: self.stopped,
            early_stopping: self.early_stopping.clone(),
        };
        checkpoint.state.insert(PROGRESS.into(), serde_json::json!(progress));
        Ok(checkpoint)
    }

    /// Takes the state that a checkpoint holds.
    ///
    /// # Errors
    /// When it is not one of this model and optimiser; the state is of no use then.
    pub fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<(), Diagnostics> {
        let progress: Progress = serde_json::from_value(checkpoint.part(PROGRESS)?.clone()).map_err(|e| {
            Diagnostic::new("train.checkpoint", format!("the training state cannot be read: {e}"))
                .item(PROGRESS)
                .hint("the checkpoint was made by another version: start anew with --fresh")
        })?;
        self.params.set_tensors(&checkpoint.take_group("param"))?;
        self.buffers.set_tensors(&checkpoint.take_group("buffer"))?;
        for (name, slot) in &mut self.slots {
            slot.set_tensors(&checkpoint.take_group(&format!("optimizer.{name}")))?;
        }
        let best = checkpoint.take_group("best.param");
        self.best = None;
        if !best.is_empty() {
            let (mut params, mut buffers) = (self.params.duplicate()?, self.buffers.duplicate()?);
            params.set_tensors(&best)?;
            buffers.set_tensors(&checkpoint.take_group("best.buffer"))?;
            self.best = Some((params, buffers));
        }
        self.step = checkpoint.step;
        self.samples = progress.samples;
        self.train_ns = progress.train_ns;
        self.stopped = progress.stopped;
        self.early_stopping = progress.early_stopping;
        Ok(())
    }
}

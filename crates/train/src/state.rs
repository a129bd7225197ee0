//! The state of training: everything that the next step depends on, and its form in a checkpoint.

use crate::early_stopping::Patience;
use crate::flat::kinds;
use crate::optim::Slot;
use crate::program::layouts;
use crate::schedule::Plateau;
use crate::vector::DeviceVector;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::{BuiltModel, Init};
use outgrow_runtime::Backend;
use outgrow_runtime::collective::Communicator;
use outgrow_store::checkpoint::{Part, State, Stored};
use outgrow_tensor::{RngKey, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
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
    pub early_stopping: Option<Patience>,
    /// What the schedule `plateau` has seen.
    pub plateau: Option<Plateau>,
    /// Parameters and buffers of the best evaluation, when they are to be the result.
    pub best: Option<(DeviceVector, DeviceVector)>,
}

/// Which elements of a state somebody holds. Both ranges are of flat vectors, and may cut tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRange {
    /// Of the parameters, and of all that is laid out as they are: the optimiser's state, the best parameters.
    pub params: Range<usize>,
    /// Of the buffers, and of the best ones.
    pub buffers: Range<usize>,
}

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    samples: u64,
    train_ns: u64,
    stopped: bool,
    early_stopping: Option<Patience>,
    #[serde(default)]
    plateau: Option<Plateau>,
}

const PROGRESS: &str = "progress";

/// What the first worker tells the others of its state, besides vectors.
#[derive(Debug, Serialize, Deserialize)]
struct Shared {
    step: u64,
    /// Whether there are best weights.
    best: bool,
    progress: Progress,
}

fn unreadable(error: serde_json::Error) -> Diagnostic {
    Diagnostic::fault("workers.state", format!("invariant: workers understand each other: {error}"))
}

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
            plateau: None,
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
            plateau: self.plateau.clone(),
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
        self.plateau.clone_from(&other.plateau);
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

    /// All workers get the state of the first one.
    ///
    /// # Errors
    /// When a worker is lost, or has another model, or the device fails.
    pub fn share(&mut self, group: &mut Communicator) -> Result<(), Diagnostics> {
        const WHAT: &str = "sharing the state before the first step";
        let own = Shared { step: self.step, best: self.best.is_some(), progress: self.progress_now() };
        let own =
            if group.worker() == 0 { serde_json::to_vec(&own).map_err(unreadable)? } else { Vec::new() };
        let all = group.exchange(&own, WHAT)?;
        let first: Shared = serde_json::from_slice(&all[0]).map_err(unreadable)?;
        self.params.share(group, WHAT)?;
        self.buffers.share(group, WHAT)?;
        for (_, slot) in &mut self.slots {
            slot.share(group, WHAT)?;
        }
        let best = self.best.take();
        if first.best {
            let (mut params, mut buffers) = match best {
                Some(best) => best,
                None => (self.params.duplicate()?, self.buffers.duplicate()?),
            };
            params.share(group, WHAT)?;
            buffers.share(group, WHAT)?;
            self.best = Some((params, buffers));
        }
        self.step = first.step;
        self.go_on_from(first.progress);
        Ok(())
    }

    fn progress_now(&self) -> Progress {
        Progress {
            samples: self.samples,
            train_ns: self.train_ns,
            stopped: self.stopped,
            early_stopping: self.early_stopping.clone(),
            plateau: self.plateau.clone(),
        }
    }

    fn go_on_from(&mut self, progress: Progress) {
        self.samples = progress.samples;
        self.train_ns = progress.train_ns;
        self.stopped = progress.stopped;
        self.early_stopping = progress.early_stopping;
        self.plateau = progress.plateau;
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
        self.buffers.layout().check(kinds(&buffers))?;
        self.params.set_tensors(&params)?;
        self.buffers.set_tensors(&buffers)
    }

    /// How often a plateau of the validation metric has reduced the learning rate.
    pub fn reductions(&self) -> u32 {
        self.plateau.as_ref().map_or(0, Plateau::reductions)
    }

    /// All of the state.
    pub fn whole(&self) -> StateRange {
        StateRange { params: 0..self.params.layout().total(), buffers: 0..self.buffers.layout().total() }
    }

    /// The state cut into `parts` ranges, as [`crate::Layout::ranges`] cuts.
    pub fn ranges(&self, parts: usize) -> Vec<StateRange> {
        let (params, buffers) = (self.params.layout().ranges(parts), self.buffers.layout().ranges(parts));
        params.into_iter().zip(buffers).map(|(params, buffers)| StateRange { params, buffers }).collect()
    }

    /// A range of this state as a part of a checkpoint: a copy of it on the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_part(&self, fingerprint: &str, range: &StateRange) -> Result<Part, Diagnostic> {
        let mut part = Part { step: self.step, model: fingerprint.into(), ..Part::default() };
        self.params.save_into(&mut part, "param", &range.params)?;
        self.buffers.save_into(&mut part, "buffer", &range.buffers)?;
        for (name, slot) in &self.slots {
            slot.save_into(&mut part, &format!("optimizer.{name}"), &range.params)?;
        }
        if let Some((params, buffers)) = &self.best {
            params.save_into(&mut part, "best.param", &range.params)?;
            buffers.save_into(&mut part, "best.buffer", &range.buffers)?;
        }
        Ok(part)
    }

    /// What of the state is not tensors, as a checkpoint has it.
    pub fn progress(&self) -> State {
        State::from([(PROGRESS.into(), serde_json::json!(self.progress_now()))])
    }

    /// Takes a range of the state that a checkpoint holds, however many parts that has.
    ///
    /// # Errors
    /// When it is not one of this model and optimiser, or damaged; the state is of no use then.
    pub fn restore(&mut self, stored: &Stored, range: &StateRange) -> Result<(), Diagnostics> {
        let progress: Progress = serde_json::from_value(stored.state(PROGRESS)?.clone()).map_err(|e| {
            Diagnostic::new("train.checkpoint", format!("the training state cannot be read: {e}"))
                .item(PROGRESS)
                .hint("the checkpoint was made by another version: start anew with --fresh")
        })?;
        self.params.load_from(stored, "param", &range.params)?;
        self.buffers.load_from(stored, "buffer", &range.buffers)?;
        for (name, slot) in &mut self.slots {
            slot.load_from(stored, &format!("optimizer.{name}"), &range.params)?;
        }
        let best = self.best.take();
        if stored.tensors().any(|(name, ..)| name.starts_with("best.param/")) {
            let (mut params, mut buffers) = match best {
                Some(best) => best,
                None => (self.params.duplicate()?, self.buffers.duplicate()?),
            };
            params.load_from(stored, "best.param", &range.params)?;
            buffers.load_from(stored, "best.buffer", &range.buffers)?;
            self.best = Some((params, buffers));
        }
        self.step = stored.step();
        self.go_on_from(progress);
        Ok(())
    }
}

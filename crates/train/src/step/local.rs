//! Steps that one process takes by itself: it drives the machine of a plan for one worker, with the programs of a model.

use super::machine::{Action, Event, StepMachine};
use super::plan::{Node, StepPlan};
use super::tree::TreeSum;
use crate::flat::Layout;
use crate::program::{ModelProgram, Sample, layouts};
use crate::spec::Train;
use crate::state::TrainState;
use crate::update::Update;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_kernels::{ThreadPool, all_finite, sum_of_squares_blocks, tree_sum};
use outgrow_models::BuiltModel;
use outgrow_runtime::StepInfo;
use outgrow_tensor::RngKey;
use outgrow_transform::Batch;
use std::sync::Arc;

/// What one step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// The mean loss of the batch before the step.
    pub loss: f64,
    /// The fraction of right answers before the step, for classes.
    pub accuracy: Option<f64>,
    /// Whether loss and gradients were finite, so that the step was taken.
    pub finite: bool,
}

/// Takes steps: the gradients of each micro-shard, their sum by the tree, the update.
#[derive(Debug)]
pub struct LocalStep {
    program: ModelProgram,
    update: Update,
    machine: StepMachine,
    tree: TreeSum,
    pool: Arc<ThreadPool>,
    places: Places,
    buffers: Layout,
    seed: u64,
    /// Rows of a micro-shard.
    rows: usize,
    clip: Clip,
    /// Every so many steps is profiled; 0 never.
    profile_every: u64,
    profiled: u64,
    nanoseconds: Vec<u64>,
    /// Sums of squares of the gradient's blocks.
    squares: Vec<f64>,
}

/// What the manifest says of clipping.
#[derive(Clone, Copy, Debug)]
struct Clip {
    value: Option<f64>,
    norm: Option<f64>,
}

/// Where in the combined vector is what a step needs besides gradients.
#[derive(Debug)]
struct Places {
    loss: Option<usize>,
    weight: Option<usize>,
    correct: Option<usize>,
    samples: Option<usize>,
    /// For each buffer that moves towards a statistic of the batch: its number, where the statistic is, and how fast.
    statistics: Vec<(usize, usize, f32)>,
}

impl Places {
    fn of(program: &ModelProgram, model: &BuiltModel) -> Self {
        let entries = program.outputs.entries();
        let at = |name: &str| entries.iter().find(|e| e.name == name).map(|e| e.offset);
        let buffers = model.buffers.iter().enumerate();
        let statistic = |(i, buffer): (usize, &outgrow_models::BufferSpec)| {
            Some((i, at(&format!("stat:{}", buffer.name))?, buffer.momentum as f32))
        };
        Self {
            loss: at("loss_sum"),
            weight: at("weight_sum"),
            correct: at("correct"),
            samples: at("samples"),
            statistics: buffers.filter_map(statistic).collect(),
        }
    }
}

/// What micro-shard `part` of a batch of total weight `total` runs on at the step after `step` steps. Its random key hangs
/// on the seed, the step and the part alone.
pub(crate) fn sample(
    batch: &Batch,
    seed: u64,
    step: u64,
    part: usize,
    total: f32,
    rows: usize,
) -> Sample<'_> {
    let key = RngKey::new(seed).fold_in_name("step").fold_in(step).fold_in(part as u64);
    Sample { batch, rows: (part * rows, (part + 1) * rows), scale: 1.0 / total, key: key.bits() as i64 }
}

impl LocalStep {
    /// Steps by these programs, which are compiled for a micro-shard of `config`.
    ///
    /// # Errors
    /// When there are micro-shards that make no tree.
    pub(crate) fn new(
        model: &BuiltModel,
        config: &Train,
        program: ModelProgram,
        update: Update,
        pool: Arc<ThreadPool>,
        seed: u64,
        profile_every: u64,
    ) -> Result<Self, Diagnostics> {
        let (params, buffers) = layouts(model);
        let plan = StepPlan::new(config.micro_shards, 1, params.total())?;
        Ok(Self {
            tree: TreeSum::new(&plan, program.outputs.total()),
            machine: StepMachine::new(plan, 0),
            places: Places::of(&program, model),
            buffers,
            seed,
            rows: config.batch / config.micro_shards,
            clip: Clip { value: config.clip_value, norm: config.clip_norm },
            profile_every,
            profiled: 0,
            nanoseconds: vec![0; program.compiled.steps.len()],
            squares: Vec::new(),
            program,
            update,
            pool,
        })
    }

    /// The program that computes the gradients of a micro-shard.
    pub fn program(&self) -> &ModelProgram {
        &self.program
    }

    /// The program that updates parameters.
    pub fn update(&self) -> &Update {
        &self.update
    }

    /// The steps of the micro-shard's program with the nanoseconds that each took in the profiled runs, and how many these
    /// were.
    pub fn profile(&self) -> (impl Iterator<Item = (&StepInfo, u64)>, u64) {
        (self.program.compiled.steps.iter().zip(self.nanoseconds.iter().copied()), self.profiled)
    }

    /// Takes one step on `batch` at the learning rate `lr`. When the loss or a gradient is not finite, the state stays as
    /// it was.
    pub fn take(
        &mut self,
        state: &mut TrainState,
        batch: &Batch,
        lr: f64,
    ) -> Result<StepOutcome, Diagnostics> {
        let total: f32 = batch.weight.iter().sum();
        let profile = self.profile_every > 0 && state.step.is_multiple_of(self.profile_every);
        self.tree.clear();
        self.machine.start();
        let mut outcome = None;
        while let Some(action) = self.machine.next_action() {
            let event = match action {
                Action::Compute(leaf) => {
                    let sample = sample(batch, self.seed, state.step, leaf, total, self.rows);
                    let mut sum = self.tree.vector()?;
                    let nanoseconds = profile.then_some(self.nanoseconds.as_mut_slice());
                    self.program.run(&state.params, &state.buffers, sample, &mut sum, nanoseconds)?;
                    self.tree.put(self.machine.plan().leaf(leaf), sum);
                    Event::Computed(leaf)
                }
                Action::Combine(node) => {
                    self.tree.combine(&self.pool, node);
                    Event::Combined(node)
                }
                Action::Update => {
                    let mut sums = self.tree.take(Node::ROOT);
                    let updated = self.update_by(state, batch, &mut sums, lr);
                    self.tree.recycle(sums);
                    outcome = Some(updated?);
                    Event::Updated
                }
                Action::Send { .. } | Action::Share => {
                    return Err(fault(&format!("{action:?}, and there is one worker")).into());
                }
            };
            self.machine.on(event).map_err(|e| fault(&e.to_string()))?;
        }
        self.profiled += u64::from(profile);
        outcome.ok_or_else(|| fault("the step came to no end").into())
    }

    /// Updates the state by the combined vector, if that is finite.
    fn update_by(
        &mut self,
        state: &mut TrainState,
        batch: &Batch,
        sums: &mut [f32],
        lr: f64,
    ) -> Result<StepOutcome, Diagnostic> {
        let at = |place: Option<usize>| place.map(|place| f64::from(sums[place]));
        let weight = at(self.places.weight).unwrap_or(1.0);
        let loss = at(self.places.loss).unwrap_or(f64::NAN) / weight;
        let accuracy = at(self.places.correct).map(|correct| correct / weight);
        let samples = at(self.places.samples).unwrap_or(1.0) as f32;
        let (grads, _) = sums.split_at_mut(state.params.len());
        let finite = loss.is_finite() && all_finite(grads);
        let outcome = StepOutcome { loss, accuracy, finite };
        if !finite {
            return Ok(outcome);
        }
        let scale = self.clip.norm.map(|largest| {
            if let Some(limit) = self.clip.value {
                grads.iter_mut().for_each(|g| *g = g.clamp(-limit as f32, limit as f32));
            }
            self.squares.clear();
            sum_of_squares_blocks(&self.pool, grads, &mut self.squares);
            let norm = tree_sum(&self.squares).sqrt();
            if norm > largest { largest / norm } else { 1.0 }
        });
        self.update.run(state, sums, lr, scale)?;
        self.blend(&mut state.buffers, sums, samples);
        state.step += 1;
        state.samples += batch.real as u64;
        Ok(outcome)
    }

    /// Running statistics move towards those of the batch: `new = old + momentum * (batch - old)`.
    fn blend(&self, buffers: &mut [f32], sums: &[f32], samples: f32) {
        for (buffer, at, momentum) in &self.places.statistics {
            let entry = &self.buffers.entries()[*buffer];
            let running = &mut buffers[entry.offset..entry.offset + entry.elements];
            for (old, sum) in running.iter_mut().zip(&sums[*at..]) {
                *old = (1.0 - momentum) * *old + momentum * (sum / samples);
            }
        }
    }
}

fn fault(problem: &str) -> Diagnostic {
    Diagnostic::fault("train.step", format!("invariant: {problem}"))
}

//! Steps that one process takes by itself: it drives the machine of a plan for one worker, with the programs of a model.

use super::machine::{Action, Event, StepMachine};
use super::plan::{Node, StepPlan};
use super::sums::{Sums, Verdict};
use super::tree::TreeSum;
use crate::program::{ModelProgram, Sample};
use crate::spec::Train;
use crate::state::TrainState;
use crate::trainer::TrainerOptions;
use crate::update::Update;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::{Buffer, StepInfo};
use outgrow_tensor::RngKey;
use outgrow_transform::Batch;

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
    sums: Sums,
    machine: StepMachine,
    tree: TreeSum,
    seed: u64,
    /// Rows of a micro-shard.
    rows: usize,
    /// The largest norm that gradients may have.
    clip_norm: Option<f64>,
    /// Every so many steps is profiled; 0 never.
    profile_every: u64,
    profiled: u64,
    nanoseconds: Vec<u64>,
}

/// What micro-shard `part`, of `rows` rows that must be among those of the batch that are here, runs on at the step after
/// `step` steps. Its random key hangs on the seed, the step and the part alone.
pub(crate) fn sample(batch: &Batch, seed: u64, step: u64, part: usize, rows: usize) -> Sample<'_> {
    let key = RngKey::new(seed).fold_in_name("step").fold_in(step).fold_in(part as u64);
    let start = part * rows - batch.first;
    Sample { batch, rows: (start, start + rows), scale: 1.0 / batch.whole_weight, key: key.bits() as i64 }
}

impl LocalStep {
    /// Steps by these programs, which are compiled for a micro-shard of `config`.
    ///
    /// # Errors
    /// When there are micro-shards that make no tree.
    pub(crate) fn new(
        config: &Train,
        program: ModelProgram,
        update: Update,
        sums: Sums,
        options: &TrainerOptions,
    ) -> Result<Self, Diagnostics> {
        let plan = StepPlan::new(config.micro_shards, 1, program.outputs.layout.total())?;
        Ok(Self {
            tree: TreeSum::new(&plan, program.outputs.bytes(), &options.backend),
            machine: StepMachine::new(plan, 0),
            seed: options.seed,
            rows: config.batch / config.micro_shards,
            clip_norm: config.clip_norm,
            profile_every: options.profile_every,
            profiled: 0,
            nanoseconds: vec![0; program.compiled.steps.len()],
            program,
            update,
            sums,
        })
    }

    /// The program that computes the gradients of a micro-shard.
    pub fn program(&self) -> &ModelProgram {
        &self.program
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
        let profile = self.profile_every > 0 && state.step.is_multiple_of(self.profile_every);
        self.tree.clear();
        self.machine.start();
        let mut outcome = None;
        while let Some(action) = self.machine.next_action() {
            let event = match action {
                Action::Compute(leaf) => {
                    let sample = sample(batch, self.seed, state.step, leaf, self.rows);
                    let mut sum = self.tree.vector()?;
                    let nanoseconds = profile.then_some(self.nanoseconds.as_mut_slice());
                    self.program.run(&state.params, &state.buffers, sample, &mut *sum, nanoseconds)?;
                    self.tree.put(self.machine.plan().leaf(leaf), sum);
                    Event::Computed(leaf)
                }
                Action::Combine(node) => {
                    self.tree.combine(node, |sum, other| self.sums.add(sum, other))?;
                    Event::Combined(node)
                }
                Action::Update => {
                    let combined = self.tree.take(Node::ROOT);
                    let updated = self.update_by(state, batch, &*combined, lr);
                    self.tree.recycle(combined);
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
        combined: &dyn Buffer,
        lr: f64,
    ) -> Result<StepOutcome, Diagnostic> {
        let Verdict { loss, accuracy, finite, norm } = self.sums.judge(combined)?;
        let outcome = StepOutcome { loss, accuracy, finite };
        if !finite {
            return Ok(outcome);
        }
        let shrink = |(norm, largest): (f64, f64)| if norm > largest { largest / norm } else { 1.0 };
        let scale = norm.zip(self.clip_norm).map(shrink);
        self.update.run(state, combined, lr, scale)?;
        self.sums.follow(&mut state.buffers, combined)?;
        state.step += 1;
        state.samples += batch.whole_real as u64;
        Ok(outcome)
    }
}

fn fault(problem: &str) -> Diagnostic {
    Diagnostic::fault("train.step", format!("invariant: {problem}"))
}

//! One worker's part in steps: it drives the machine of a plan with the programs of a model, and what is to be put together
//! with others goes over their links.

use super::exchange::Exchange;
use super::machine::{Action, Event, StepMachine};
use super::plan::StepPlan;
use super::shards::Told;
use super::sums::{Sums, Verdict};
use super::tree::TreeSum;
use crate::program::{ModelProgram, Sample};
use crate::spec::Train;
use crate::state::TrainState;
use crate::trainer::TrainerOptions;
use crate::update::Update;
use crate::vector::on_host;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::collective::{Communicator, Node};
use outgrow_runtime::{Backend, Buffer, StepInfo};
use outgrow_tensor::RngKey;
use outgrow_transform::Batch;
use smallvec::SmallVec;
use std::ops::Range;
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
    /// Whether a worker has asked all to have the state saved after this step.
    pub save: bool,
}

/// Takes steps: the gradients of each of this worker's micro-shards, the sum of all by the tree, the update.
#[derive(Debug)]
pub struct WorkerStep {
    backend: Arc<dyn Backend>,
    program: ModelProgram,
    update: Update,
    sums: Sums,
    machine: StepMachine,
    tree: TreeSum,
    /// This worker's part in the sum of all.
    exchange: Option<Exchange>,
    /// Whether to ask all to have the state saved.
    save: bool,
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

/// The course of one in so many steps is taken down.
const RECORD_EVERY: u64 = 16;

/// What the parts of an exchange are for.
const TELL: &str = "the exchange of norms and sums";
const SHARE: &str = "the all-gather of parameters";

/// What micro-shard `part`, of `rows` rows that must be among those of the batch that are here, runs on at the step after
/// `step` steps. Its random key hangs on the seed, the step and the part alone.
pub(crate) fn sample(batch: &Batch, seed: u64, step: u64, part: usize, rows: usize) -> Sample<'_> {
    let key = RngKey::new(seed).fold_in_name("step").fold_in(step).fold_in(part as u64);
    let start = part * rows - batch.first;
    Sample { batch, rows: (start, start + rows), scale: 1.0 / batch.whole_weight, key: key.bits() as i64 }
}

impl WorkerStep {
    /// Steps by these programs, which are compiled for a micro-shard of `config`, alone or in a group.
    ///
    /// # Errors
    /// When there are micro-shards that make no tree, or fewer of them than workers.
    pub(crate) fn new(
        config: &Train,
        program: ModelProgram,
        update: Update,
        sums: Sums,
        options: &TrainerOptions,
        plan: StepPlan,
        group: Option<&Communicator>,
    ) -> Result<Self, Diagnostics> {
        let me = group.map_or(0, Communicator::worker);
        let exchange = group
            .filter(|group| group.workers() > 1)
            .map(|group| Exchange::new(&plan, &program.compiled.steps, config.clip_norm.is_some(), group));
        Ok(Self {
            backend: options.backend.clone(),
            tree: TreeSum::new(&plan.tree, program.outputs.bytes(), &options.backend),
            exchange,
            save: false,
            machine: StepMachine::new(plan.tree, me),
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

    /// The micro-shards of a step that this worker computes.
    pub fn parts(&self) -> Range<usize> {
        self.machine.tree().run(self.machine.worker())
    }

    /// The rows of each batch that this worker computes.
    pub fn rows(&self) -> Range<usize> {
        let Range { start, end } = self.parts();
        start * self.rows..end * self.rows
    }

    /// Asks all workers to have the state saved after the next step; the outcome says so then.
    pub fn ask_to_save(&mut self) {
        self.save = true;
    }

    /// Brings the optimiser's state to the first worker, where each has a range of it.
    ///
    /// # Errors
    /// When a worker is lost, or the device fails.
    pub fn collect(&mut self, state: &mut TrainState, group: &mut Communicator) -> Result<(), Diagnostic> {
        let shards = self.exchange.as_mut().and_then(|exchange| exchange.shards.as_mut());
        let Some(shards) = shards else { return Ok(()) };
        for (_, slot) in &mut state.slots {
            slot.exchange(group, shards.collect(), "collecting the optimiser's state")?;
        }
        Ok(())
    }

    /// Whether each worker has a range of the optimiser's state only.
    pub fn is_sharded(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.shards.is_some())
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

    /// Forgets what profiled steps took so far.
    pub(crate) fn forget_profile(&mut self) {
        self.profiled = 0;
        self.nanoseconds.fill(0);
    }

    /// Takes one step on `batch`, of which at least this worker's rows are here, at the learning rate `lr`. When the loss
    /// or a gradient is not finite, the state stays as it was.
    pub fn take(
        &mut self,
        state: &mut TrainState,
        batch: &Batch,
        lr: f64,
        mut group: Option<&mut Communicator>,
    ) -> Result<StepOutcome, Diagnostics> {
        let save = std::mem::take(&mut self.save);
        let profile = self.profile_every > 0 && state.step.is_multiple_of(self.profile_every);
        self.tree.clear();
        self.machine.start();
        if let Some(exchange) = &mut self.exchange {
            exchange.start();
        }
        // Steps that are profiled are another matter.
        let record = (state.step % RECORD_EVERY == 1).then_some(state.step + 1).filter(|_| !profile);
        if let Some((group, step)) = group.as_deref_mut().zip(record) {
            group.record(step);
        }
        // Whether sums with the last leaf have been made while that was computed.
        let (mut outcome, mut summed) = (None, false);
        while let Some(action) = self.machine.next_action() {
            let event = match action {
                Action::Compute(leaf) => {
                    // A step that is profiled does nothing else meanwhile.
                    let shared = group.as_deref_mut().filter(|_| !profile);
                    summed = self.compute(leaf, state, batch, shared, profile)?;
                    Event::Computed(leaf)
                }
                Action::Combine(node) => {
                    self.tree.combine(node, |sum, other| match summed {
                        true => Ok(()),
                        false => self.sums.add(sum, other),
                    })?;
                    Event::Combined(node)
                }
                Action::Update => {
                    let mut combined = self.tree.take(Node::ROOT);
                    let shared = group.as_deref_mut();
                    let updated = self.update_by(state, batch, &mut *combined, lr, save, shared);
                    self.tree.recycle(combined);
                    outcome = Some(updated?);
                    Event::Updated
                }
                Action::Reduce => {
                    let group = group.as_deref_mut().ok_or_else(|| fault("a group reduces together"))?;
                    self.reduce(group, state.step)?;
                    Event::Reduced
                }
            };
            self.machine.on(event).map_err(|e| fault(&e.to_string()))?;
        }
        self.profiled += u64::from(profile);
        if let Some((group, _)) = group.zip(record) {
            group.recorded();
        }
        outcome.ok_or_else(|| fault("the step came to no end").into())
    }

    /// Computes a leaf. In a group, the links are looked at now and then; what is final of the last leaf is added to its
    /// siblings' sums and exchanged at once, if the device's memory is the host's. Says whether that was done.
    fn compute(
        &mut self,
        leaf: usize,
        state: &TrainState,
        batch: &Batch,
        group: Option<&mut Communicator>,
        profile: bool,
    ) -> Result<bool, Diagnostic> {
        let sample = sample(batch, self.seed, state.step, leaf, self.rows);
        let (params, buffers) = (&state.params, &state.buffers);
        let mut out = self.tree.vector()?;
        let node = self.machine.tree().leaf(leaf);
        let Some((exchange, group)) = self.exchange.as_mut().zip(group) else {
            let nanoseconds = profile.then_some(self.nanoseconds.as_mut_slice());
            self.program.run(params, buffers, sample, &mut *out, nanoseconds)?;
            self.tree.put(node, out);
            return Ok(false);
        };
        let is_last = leaf + 1 == self.machine.tree().run(self.machine.worker()).end;
        let mut waiting =
            (is_last && out.host().is_some()).then(|| Waiting::take(node, exchange, &mut self.tree));
        let (mut done, mut added) = (0, 0);
        for pause in 0..exchange.pauses().len() {
            let until = exchange.pauses()[pause];
            self.program.run_part(params, buffers, sample, &mut *out, done..until)?;
            done = until;
            let Some(waiting) = &mut waiting else {
                group.look(format_args!("computing step {}", state.step + 1))?;
                continue;
            };
            let ready = exchange.ready(done);
            for bucket in added..ready {
                waiting.add(&*out, |sum, other| self.sums.add_stretch(bucket, sum, other))?;
            }
            added = ready;
            exchange.advance(ready, group, state.step, &mut waiting.vectors(&mut *out))?;
        }
        let summed = waiting.is_some();
        if let Some(waiting) = waiting {
            waiting.put(&mut self.tree);
        }
        self.tree.put(node, out);
        Ok(summed)
    }

    /// Puts this worker's sums together with those of the others, as far as that is not done: the root is here then.
    fn reduce(&mut self, group: &mut Communicator, step: u64) -> Result<(), Diagnostic> {
        let Some(exchange) = &mut self.exchange else {
            return Err(fault("who is alone has the root"));
        };
        let mut sums: SmallVec<[Box<dyn Buffer>; 8]> =
            exchange.subtrees.iter().map(|node| self.tree.take(*node)).collect();
        on_host(&*self.backend, &mut sums, |vectors| exchange.finish(group, step, vectors))?;
        let mut sums = sums.into_iter();
        self.tree.put(Node::ROOT, sums.next().ok_or_else(|| fault("each worker has a leaf"))?);
        sums.for_each(|sum| self.tree.recycle(sum));
        Ok(())
    }

    /// Updates the state by the combined vector, if that is finite.
    fn update_by(
        &mut self,
        state: &mut TrainState,
        batch: &Batch,
        combined: &mut dyn Buffer,
        lr: f64,
        save: bool,
        group: Option<&mut Communicator>,
    ) -> Result<StepOutcome, Diagnostic> {
        let finite = self.sums.look(combined)?;
        let own = Told { finite, squares: self.sums.squares(), save };
        let shards = self.exchange.as_mut().and_then(|exchange| exchange.shards.as_mut());
        let mut shared = shards.zip(group);
        let told = match &mut shared {
            None => own,
            Some((shards, group)) => shards.tell(own, combined, &*self.backend, group, TELL)?,
        };
        let save = told.save;
        let Verdict { loss, accuracy, finite, norm } =
            self.sums.judge(combined, told.finite, told.squares)?;
        let outcome = StepOutcome { loss, accuracy, finite, save };
        if !finite {
            return Ok(outcome);
        }
        let shrink = |(norm, largest): (f64, f64)| if norm > largest { largest / norm } else { 1.0 };
        let scale = norm.zip(self.clip_norm).map(shrink);
        self.update.run(state, combined, lr, scale)?;
        if let Some((shards, group)) = shared {
            state.params.exchange(group, shards.share(), SHARE)?;
        }
        self.sums.follow(&mut state.buffers, combined)?;
        state.step += 1;
        state.samples += batch.whole_real as u64;
        Ok(outcome)
    }
}

/// The sums that wait for a worker's last leaf: what it is added to, and what is exchanged beside it.
struct Waiting {
    /// The subtrees before the leaf's own.
    others: SmallVec<[(Node, Box<dyn Buffer>); 8]>,
    /// The siblings on the way from the leaf up to the root of its subtree: each has the sum of all below it added.
    siblings: SmallVec<[(Node, Box<dyn Buffer>); 8]>,
}

impl Waiting {
    fn take(leaf: Node, exchange: &Exchange, tree: &mut TreeSum) -> Self {
        let (root, others) = exchange.subtrees.split_last().expect("invariant: each worker has a leaf");
        let mut take = |node: Node| (node, tree.take(node));
        let others = others.iter().map(|node| take(*node)).collect();
        let up = std::iter::successors(Some(leaf), |node| node.parent());
        let siblings = up.take_while(|node| node != root).map(|node| take(node.sibling())).collect();
        Self { others, siblings }
    }

    /// Adds something of the leaf to all that it belongs to, by `add(sum, other)`.
    fn add(
        &mut self,
        leaf: &dyn Buffer,
        mut add: impl FnMut(&mut dyn Buffer, &dyn Buffer) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let mut below = leaf;
        for (_, sum) in &mut self.siblings {
            add(&mut **sum, below)?;
            below = &**sum;
        }
        Ok(())
    }

    /// The sums of this worker's largest subtrees, in their order.
    fn vectors<'a>(&'a mut self, leaf: &'a mut dyn Buffer) -> SmallVec<[&'a mut [u8]; 8]> {
        let others = self.others.iter_mut().map(|(_, sum)| &mut **sum);
        let last = self.siblings.last_mut().map_or(leaf, |(_, sum)| &mut **sum);
        others.chain([last]).filter_map(|sum| sum.host_mut()).collect()
    }

    /// Puts them back where they were.
    fn put(self, tree: &mut TreeSum) {
        self.others.into_iter().chain(self.siblings).for_each(|(node, sum)| tree.put(node, sum));
    }
}

fn fault(problem: &str) -> Diagnostic {
    Diagnostic::fault("train.step", format!("invariant: {problem}"))
}

//! The trainer: three programs make a step (the gradients of each micro-shard, their combination by a fixed tree, the
//! update), and around the steps stand evaluation, checkpoints, early stopping and the search for what went wrong.

use crate::evaluate::{Evaluator, Metrics};
use crate::flat::Layout;
use crate::memory::{Budget, gradient_bytes, in_step, state_bytes, step_graph};
use crate::observe::{TrainEvent, TrainObserver};
use crate::program::{ModelProgram, Sample, layouts};
use crate::source::{Batches, TrainingData};
use crate::spec::{Interval, Train};
use crate::state::TrainState;
use crate::tree::TreeSum;
use crate::update::Update;
use outgrow_env::Clock;
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use outgrow_kernels::{all_finite, sum_of_squares_blocks, tree_sum};
use outgrow_models::BuiltModel;
use outgrow_runtime::{Backend, CompileOptions, StepInfo};
use outgrow_store::CheckpointStore;
use outgrow_tensor::RngKey;
use outgrow_transform::Batch;
use std::sync::Arc;

/// What a trainer works with.
#[derive(Clone, Debug)]
pub struct TrainerOptions {
    /// Threads, kernel path.
    pub compile: CompileOptions,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where checkpoints are kept, if they are.
    pub checkpoints: Option<CheckpointStore>,
    /// What checkpoints must have been made with to be gone on from.
    pub fingerprint: String,
    /// The seed of the run.
    pub seed: u64,
    /// Every so many steps is profiled; 0 never.
    pub profile_every: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps done in all.
    pub steps: u64,
    /// Samples seen in all, without padding.
    pub samples: u64,
    /// Seconds of training, without evaluation, added up over resumptions.
    pub train_seconds: f64,
    /// Whether training stopped before its last step.
    pub stopped_early: bool,
}

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

/// Trains a model.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) model: BuiltModel,
    pub(crate) config: Train,
    pub(crate) options: TrainerOptions,
    pub(crate) step_graph: Graph,
    pub(crate) program: ModelProgram,
    pub(crate) params: Layout,
    pub(crate) update: Update,
    pub(crate) evaluator: Evaluator,
    /// The state that checkpoints hold.
    pub state: TrainState,
    tree: TreeSum,
    nanoseconds: Vec<u64>,
    profiled: u64,
}

/// What a step gives, before it is known to be sound.
struct Gradients {
    /// Laid out as the step program's outputs, gradients first, summed over micro-shards.
    sums: Vec<f32>,
    /// Samples that are no padding, where statistics need it.
    samples: f32,
    loss: f64,
    accuracy: Option<f64>,
}

impl Trainer {
    /// Compiles a model's programs and initialises its state.
    ///
    /// # Errors
    /// When a program cannot be compiled, or all this takes more than [`CompileOptions::memory`].
    pub fn new(
        model: BuiltModel,
        config: Train,
        backend: &dyn Backend,
        mut options: TrainerOptions,
    ) -> Result<Self, Diagnostics> {
        // Everything is taken from what memory there is before it is asked for.
        let mut budget = Budget(options.compile.memory);
        budget
            .take(state_bytes(&model, &config, options.checkpoints.is_some()), "weights and their state")?;
        let step_graph = step_graph(&model)?;
        let shard = config.batch / config.micro_shards;
        let program = ModelProgram::new(
            &model,
            &step_graph,
            in_step,
            shard,
            backend,
            &budget.options(&options.compile),
        )?;
        budget.take(program.compiled.memory.bytes(), "the values of a step")?;
        budget.take(gradient_bytes(&config, &program.outputs), "gradients")?;
        let (params, _) = layouts(&model);
        let evaluator = Evaluator::new(&model, config.batch, backend, &budget.options(&options.compile))?;
        budget.take(evaluator.bytes(), "the values of an evaluation")?;
        let update = Update::new(&config, &model, backend, &budget.options(&options.compile))?;
        options.compile = budget.options(&options.compile);
        let state = TrainState::initial(&model, &update, RngKey::new(options.seed))?;
        let steps = program.compiled.steps.len();
        Ok(Self {
            model,
            config,
            options,
            step_graph,
            program,
            params,
            update,
            evaluator,
            state,
            tree: TreeSum::default(),
            nanoseconds: vec![0; steps],
            profiled: 0,
        })
    }

    /// The model.
    pub fn model(&self) -> &BuiltModel {
        &self.model
    }

    /// The program that computes the gradients of a micro-shard, for reports.
    pub fn program(&self) -> &ModelProgram {
        &self.program
    }

    /// The steps of that program with the nanoseconds that each took in the profiled runs, and how many these were.
    pub fn profile(&self) -> (impl Iterator<Item = (&StepInfo, u64)>, u64) {
        (self.program.compiled.steps.iter().zip(self.nanoseconds.iter().copied()), self.profiled)
    }

    /// Steps of an epoch over this many samples.
    pub fn steps_per_epoch(&self, samples: u64) -> u64 {
        self.config.steps_per_epoch(samples)
    }

    /// Steps of the whole run over this many samples, which [`Train::check_samples`] accepts.
    pub fn total_steps(&self, samples: u64) -> u64 {
        match self.config.length {
            Interval::Steps(steps) => steps,
            Interval::Epochs(epochs) => epochs.saturating_mul(self.steps_per_epoch(samples)),
        }
    }

    /// Goes on from the newest sound checkpoint, if there is one; says whether there was.
    pub fn resume(&mut self, observer: &mut dyn TrainObserver) -> Result<bool, Diagnostics> {
        let Some(store) = &self.options.checkpoints else { return Ok(false) };
        let Some(loaded) = store.load_latest().map_err(|e| e.into_diagnostics())? else { return Ok(false) };
        for problem in &loaded.skipped.0 {
            observer.on_event(&TrainEvent::Skipped { problem: &problem.to_string() });
        }
        self.state = TrainState::from_checkpoint(loaded.checkpoint, &self.model, &self.update)?;
        Ok(true)
    }

    /// Trains from the current state to the last step.
    pub fn run(
        &mut self,
        data: &dyn TrainingData,
        observer: &mut dyn TrainObserver,
    ) -> Result<Outcome, Diagnostics> {
        self.config.check_samples(data.samples())?;
        let per_epoch = self.steps_per_epoch(data.samples());
        let total = self.total_steps(data.samples());
        let step = self.state.step;
        let batch = self.config.batch;
        observer.on_event(&TrainEvent::Started { step, steps: total, steps_per_epoch: per_epoch, batch });
        let mut batches: Option<Batches> = None;
        let mut saved_at = self.options.clock.now_ns();
        while self.state.step < total && !self.state.stopped {
            let started = self.options.clock.now_ns();
            let (epoch, index) = (self.state.step / per_epoch, self.state.step % per_epoch);
            let source = match &mut batches {
                Some(source) => source,
                None => batches.insert(data.train(epoch, index)?),
            };
            let Some(batch) = source.next() else {
                let problem = format!(
                    "invariant: batches go on epoch after epoch, but ended before step {}",
                    self.state.step
                );
                return Err(Diagnostic::fault("train.data-ended", problem).into());
            };
            let batch = batch?;
            if (batch.epoch, batch.index) != (epoch, index) {
                let problem = format!(
                    "invariant: batch {}/{} came in place of {epoch}/{index}",
                    batch.epoch, batch.index
                );
                return Err(Diagnostic::fault("train.data-order", problem).into());
            }
            self.step(&batch, per_epoch, total, observer)?;
            source.recycle(batch);
            self.state.train_ns += self.options.clock.now_ns() - started;
            self.after_step(data, per_epoch, total, &mut saved_at, observer)?;
        }
        self.finish(observer)?;
        Ok(self.outcome())
    }

    /// How far training has come.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            steps: self.state.step,
            samples: self.state.samples,
            train_seconds: self.state.train_ns as f64 * 1e-9,
            stopped_early: self.state.stopped,
        }
    }

    fn step(
        &mut self,
        batch: &Batch,
        per_epoch: u64,
        total: u64,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), Diagnostics> {
        let lr = self.update.lr(&self.config, self.state.step, per_epoch, total);
        let StepOutcome { loss, accuracy, finite } = self.step_at(batch, lr)?;
        if !finite {
            return Err(self.non_finite(batch, loss).into());
        }
        let (step, epoch, samples) = (self.state.step, batch.epoch, batch.real);
        observer.on_event(&TrainEvent::Step { step, epoch, loss, accuracy, lr, samples });
        Ok(())
    }

    /// Takes one step on `batch` at the learning rate `lr`, whatever the schedule says. When the loss or a gradient is
    /// not finite, the state stays as it was.
    pub fn step_at(&mut self, batch: &Batch, lr: f64) -> Result<StepOutcome, Diagnostics> {
        let mut gradients = self.gradients(batch)?;
        let grads = &mut gradients.sums[..self.params.total()];
        let finite = gradients.loss.is_finite() && all_finite(grads);
        let outcome = StepOutcome { loss: gradients.loss, accuracy: gradients.accuracy, finite };
        if !finite {
            return Ok(outcome);
        }
        let scale = self.config.clip_norm.map(|largest| {
            if let Some(limit) = self.config.clip_value {
                grads.iter_mut().for_each(|g| *g = g.clamp(-limit as f32, limit as f32));
            }
            let mut blocks = Vec::new();
            sum_of_squares_blocks(&self.options.compile.pool, grads, &mut blocks);
            let norm = tree_sum(&blocks).sqrt();
            if norm > largest { largest / norm } else { 1.0 }
        });
        self.update.run(&mut self.state, &gradients.sums, lr, scale)?;
        self.blend_buffers(&gradients);
        self.state.step += 1;
        self.state.samples += batch.real as u64;
        self.tree.recycle(gradients.sums);
        Ok(outcome)
    }

    /// The gradients of a batch: each micro-shard's, combined by the tree.
    fn gradients(&mut self, batch: &Batch) -> Result<Gradients, Diagnostics> {
        let total: f32 = batch.weight.iter().sum();
        let shard = self.config.batch / self.config.micro_shards;
        let profile =
            self.options.profile_every > 0 && self.state.step.is_multiple_of(self.options.profile_every);
        for part in 0..self.config.micro_shards {
            let sample = self.sample(batch, part, total, shard);
            let mut leaf = self.tree.leaf(self.program.outputs.total())?;
            let nanoseconds = profile.then_some(self.nanoseconds.as_mut_slice());
            self.program.run(&self.state.params, &self.state.buffers, sample, &mut leaf, nanoseconds)?;
            self.tree.push(&self.options.compile.pool, leaf);
        }
        self.profiled += u64::from(profile);
        let sums = self.tree.finish();
        let scalar =
            |name: &str| self.program.output(name, &sums).and_then(|v| v.first()).map(|v| f64::from(*v));
        let weight = scalar("weight_sum").unwrap_or(1.0);
        let (loss, accuracy) =
            (scalar("loss_sum").unwrap_or(f64::NAN) / weight, scalar("correct").map(|c| c / weight));
        let samples = scalar("samples").unwrap_or(1.0) as f32;
        Ok(Gradients { samples, loss, accuracy, sums })
    }

    /// What micro-shard `part` of a batch of total weight `total` runs on. Its random key hangs on the seed, the step
    /// and the part alone.
    pub(crate) fn sample<'a>(&self, batch: &'a Batch, part: usize, total: f32, shard: usize) -> Sample<'a> {
        let key =
            RngKey::new(self.options.seed).fold_in_name("step").fold_in(self.state.step).fold_in(part as u64);
        Sample { batch, rows: (part * shard, (part + 1) * shard), scale: 1.0 / total, key: key.bits() as i64 }
    }

    /// Running statistics move towards those of the batch: `new = old + momentum * (batch - old)`.
    fn blend_buffers(&mut self, gradients: &Gradients) {
        let (_, layout) = layouts(&self.model);
        let parts = layout.split_mut(&mut self.state.buffers);
        for (spec, running) in self.model.buffers.iter().zip(parts) {
            let Some(sums) = self.program.output(&format!("stat:{}", spec.name), &gradients.sums) else {
                continue;
            };
            let momentum = spec.momentum as f32;
            for (old, sum) in running.iter_mut().zip(sums) {
                *old = (1.0 - momentum) * *old + momentum * (sum / gradients.samples);
            }
        }
    }

    fn after_step(
        &mut self,
        data: &dyn TrainingData,
        per_epoch: u64,
        total: u64,
        saved_at: &mut u64,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), Diagnostics> {
        let step = self.state.step;
        let every = match self.config.evaluate_every {
            Interval::Steps(steps) => steps,
            Interval::Epochs(epochs) => epochs.saturating_mul(per_epoch),
        };
        if step.is_multiple_of(every) || step == total {
            self.validate(data, per_epoch, observer)?;
        }
        if step.is_multiple_of(per_epoch) || step == total {
            observer.on_event(&TrainEvent::EpochEnded { step, epoch: (step - 1) / per_epoch });
        }
        let policy = self.config.checkpoints;
        let now = self.options.clock.now_ns();
        let due = policy.every_steps.is_some_and(|n| step.is_multiple_of(n))
            || policy.every_seconds.is_some_and(|s| (now - *saved_at) as f64 * 1e-9 >= s);
        if due && step < total {
            self.save(observer)?;
            *saved_at = self.options.clock.now_ns();
        }
        Ok(())
    }

    /// Evaluates on the validation data, and stops if the manifest says so.
    fn validate(
        &mut self,
        data: &dyn TrainingData,
        per_epoch: u64,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), Diagnostics> {
        let Some(batches) = data.validation()? else { return Ok(()) };
        let metrics = self.evaluate(batches)?;
        let step = self.state.step;
        observer.on_event(&TrainEvent::Evaluated { step, epoch: (step - 1) / per_epoch, metrics: &metrics });
        self.watch(&metrics, observer);
        Ok(())
    }

    /// Evaluates the current weights.
    pub fn evaluate(&mut self, batches: Batches) -> Result<Metrics, Diagnostics> {
        self.evaluator.run(&self.state.params, &self.state.buffers, batches, &mut |_, _| {})
    }

    /// Evaluates the current weights and shows every batch with its outputs to `observe`.
    pub fn evaluate_with(
        &mut self,
        batches: Batches,
        observe: &mut dyn FnMut(&Batch, &[f32]),
    ) -> Result<Metrics, Diagnostics> {
        self.evaluator.run(&self.state.params, &self.state.buffers, batches, observe)
    }

    /// Writes a checkpoint, unless the state is not worth one.
    fn save(&self, observer: &mut dyn TrainObserver) -> Result<(), Diagnostics> {
        self.check_finite()?;
        observer.sync()?;
        let Some(store) = &self.options.checkpoints else { return Ok(()) };
        let checkpoint = self.state.to_checkpoint(&self.options.fingerprint, &self.model, &self.update);
        let path = store.save(&checkpoint).map_err(|e| e.into_diagnostics())?;
        observer.on_event(&TrainEvent::Checkpointed { step: self.state.step, path: &path });
        Ok(())
    }

    fn finish(&mut self, observer: &mut dyn TrainObserver) -> Result<(), Diagnostics> {
        self.save(observer)?;
        self.restore_best();
        Ok(())
    }
}

//! The trainer: what a run's training is made of. `step/` takes its steps, `run.rs` is the loop around them, `saving.rs`
//! writes and reads checkpoints, `watch.rs` stops early, `nonfinite.rs` finds what went wrong.

use crate::evaluate::Evaluator;
use crate::memory::{Budget, around_bytes, gradient_bytes, in_step, state_bytes, step_graph};
use crate::metrics::Metrics;
use crate::optim::from_spec;
use crate::program::{Interface, ModelProgram, layouts};
use crate::saving::Saver;
use crate::spec::Train;
use crate::state::TrainState;
use crate::step::{Combined, StepOutcome, StepPlan, Stretches, Sums, WorkerStep};
use crate::update::{Update, can_be_cut};
use outgrow_env::Clock;
use outgrow_ir::{Diagnostics, Graph};
use outgrow_models::BuiltModel;
use outgrow_runtime::collective::{Group, Links};
use outgrow_runtime::{Backend, CompileOptions, StepInfo};
use outgrow_store::CheckpointStore;
use outgrow_store::sha256::Hasher;
use outgrow_tensor::RngKey;
use outgrow_transform::{Batch, Batches, Portion};
use std::ops::Range;
use std::sync::Arc;

/// What a trainer works with.
#[derive(Clone, Debug)]
pub struct TrainerOptions {
    /// What trains.
    pub backend: Arc<dyn Backend>,
    /// Bytes that all of training may take, where it is known.
    pub memory: Option<u64>,
    /// Bytes that all of training is to be fitted into: where it would take more, values of a step are computed again
    /// instead of being kept. The same for all workers of a group, for what they exchange when depends on it.
    pub memory_max: Option<u64>,
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

/// Trains a model.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) model: BuiltModel,
    pub(crate) config: Train,
    pub(crate) options: TrainerOptions,
    pub(crate) step_graph: Graph,
    pub(crate) step: WorkerStep,
    /// The workers that train together, where there are several.
    pub(crate) group: Option<Group>,
    pub(crate) evaluator: Evaluator,
    pub(crate) saver: Option<Saver>,
    memory_bytes: u64,
    /// The state that checkpoints hold.
    pub state: TrainState,
}

impl Trainer {
    /// Compiles a model's programs and initialises its state.
    ///
    /// # Errors
    /// When a program cannot be compiled, or all this takes more than [`TrainerOptions::memory`].
    pub fn new(model: BuiltModel, config: Train, options: TrainerOptions) -> Result<Self, Diagnostics> {
        Self::of_group(model, config, options, None)
    }

    /// The same for one worker of a group: all of its workers do the same at the same time, with the same model,
    /// configuration and data, and end with the same bits. Only the first one has a place for checkpoints.
    ///
    /// # Errors
    /// As [`Trainer::new`], and when there are more workers than micro-shards.
    pub fn of_group(
        model: BuiltModel,
        mut config: Train,
        mut options: TrainerOptions,
        group: Option<Group>,
    ) -> Result<Self, Diagnostics> {
        let backend = options.backend.clone();
        config.precision = config.precision.on(&*backend);
        // Everything is taken from what memory there is before it is asked for.
        let saves = options.checkpoints.is_some();
        let state = |saves| state_bytes(&model, &config, saves);
        let state_bytes = state(saves);
        // All workers compile the same program, so what the first one needs for checkpoints counts for all.
        let others = if group.is_some() && !saves { state(true) - state_bytes } else { 0 };
        let fit = options.memory_max.map(|most| most.saturating_sub(others));
        let mut budget = Budget::new(options.memory, fit);
        budget.take(state_bytes, "weights and their state")?;
        let step_graph = step_graph(&model, config.precision)?;
        let shard = config.batch / config.micro_shards;
        let outputs = Interface::new(&model, &step_graph, in_step, shard)?.outputs;
        let gradient_bytes = gradient_bytes(&config, &outputs);
        budget.take(gradient_bytes, "gradients")?;
        let around_bytes = around_bytes(&model, &config, &outputs, &*backend)?;
        budget.take(around_bytes, "the sums of a step and the update")?;
        let evaluator = Evaluator::new(&model, config.batch, &backend, &budget.options())?;
        budget.take(evaluator.bytes(), "the values of an evaluation")?;
        // Last, for it can do with what is left: what it would keep else is computed again.
        let left = CompileOptions { products: config.precision.products(), ..budget.options() };
        let program = ModelProgram::new(&model, &step_graph, in_step, shard, &*backend, &left)?;
        budget.take(program.compiled.memory.bytes(), "the values of a step")?;
        let kept = [gradient_bytes, around_bytes, program.compiled.memory.bytes(), evaluator.bytes()];
        let memory_bytes = kept.into_iter().fold(state_bytes, u64::saturating_add);
        let (gradients, elements) = (layouts(&model).0.total(), program.outputs.layout.total());
        let vector = Combined { gradients, elements, finals: program.finals() };
        let links = |group: &Group| group.lock().costs().clone();
        let links = group.as_ref().map_or_else(|| Links::usual("none", 1), links);
        let plan = StepPlan::new(config.micro_shards, &vector, can_be_cut(&config), links)?;
        let own = plan.updated(group.as_ref().map_or(0, |group| group.lock().worker()));
        // Their memory has been taken.
        let around = CompileOptions::default();
        let update = Update::new(&config, &model, &own, &*backend, &around)?;
        let key = RngKey::new(options.seed);
        let slots = from_spec(&config.optimizer, config.weight_decay).slots();
        let state = TrainState::initial(&model, &slots, key, &backend)?;
        let added: Vec<_> = plan.buckets().iter().map(|bucket| bucket.elements.clone()).collect();
        let stretches = Stretches { added: &added, looked_at: &own };
        let sums = Sums::new(&model, &config, &program.outputs, stretches, &backend, &around)?;
        options.memory = budget.there;
        let step = WorkerStep::new(
            &config,
            program,
            update,
            sums,
            &options,
            plan,
            group.as_ref().map(Group::lock).as_deref(),
        )?;
        let saver = options.checkpoints.take().map(Saver::new);
        Ok(Self { model, config, options, step_graph, step, group, evaluator, saver, memory_bytes, state })
    }

    /// The rows of each batch that this worker computes.
    pub fn rows(&self) -> Range<usize> {
        self.step.rows()
    }

    /// How it trains.
    pub fn config(&self) -> &Train {
        &self.config
    }

    /// Bytes of memory that training was found to take before it was asked for: weights and their state, gradients, the
    /// values of a step, of the update and of an evaluation, and the copy that a checkpoint is written from.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// All workers get the state of the first one.
    ///
    /// # Errors
    /// When a worker is lost.
    pub fn share_state(&mut self) -> Result<(), Diagnostics> {
        match &self.group {
            Some(group) => self.state.share(&mut group.lock()),
            None => Ok(()),
        }
    }

    /// The model.
    pub fn model(&self) -> &BuiltModel {
        &self.model
    }

    /// The program that computes the gradients of a micro-shard, for reports.
    pub fn program(&self) -> &ModelProgram {
        self.step.program()
    }

    /// The program of evaluations, for reports.
    pub fn evaluation(&self) -> &ModelProgram {
        self.evaluator.program()
    }

    /// The steps of that program with the nanoseconds that each took in the profiled runs, and how many these were.
    pub fn profile(&self) -> (impl Iterator<Item = (&StepInfo, u64)>, u64) {
        self.step.profile()
    }

    /// Forgets what profiled steps took so far.
    pub fn forget_profile(&mut self) {
        self.step.forget_profile();
    }

    /// The SHA-256 of what was compiled to compute gradients: the graph after all passes, the kernels that were chosen, and
    /// the precision.
    pub fn program_sha256(&self) -> String {
        let compiled = &self.step.program().compiled;
        let mut hasher = Hasher::new();
        hasher.update(compiled.graph.to_string().as_bytes());
        hasher.update(self.config.precision.name().as_bytes());
        for step in &compiled.steps {
            hasher.update(format!("{} {} {}\n", step.kernel, step.ops, step.origin).as_bytes());
        }
        for after in &compiled.finals {
            hasher.update(&(*after as u64).to_le_bytes());
        }
        hasher.hex()
    }

    /// Steps of an epoch over this many samples.
    pub fn steps_per_epoch(&self, samples: u64) -> u64 {
        self.config.steps_per_epoch(samples)
    }

    /// Steps of the whole run over this many samples, which [`Train::check_samples`] accepts.
    pub fn total_steps(&self, samples: u64) -> u64 {
        self.config.length.steps(self.steps_per_epoch(samples))
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

    /// Takes one step on `batch` at the learning rate `lr`, whatever the schedule says. When the loss or a gradient is
    /// not finite, the state stays as it was.
    pub fn step_at(&mut self, batch: &Batch, lr: f64) -> Result<StepOutcome, Diagnostics> {
        let mut group = self.group.as_ref().map(Group::lock);
        self.step.take(&mut self.state, batch, lr, group.as_deref_mut())
    }

    /// The workers that train together, where there are several.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// What this worker takes of an evaluation.
    pub fn portion(&self) -> Portion {
        let of = |group: &Group| {
            let group = group.lock();
            Portion { number: group.worker(), of: group.workers() }
        };
        self.group.as_ref().map_or(Portion::WHOLE, of)
    }

    /// The log-odds above which the second of two classes is answered in evaluations, where that is not simply the likelier
    /// one. What is trained does not depend on it.
    pub fn threshold(&self) -> Option<f64> {
        self.evaluator.threshold
    }

    /// Sets them.
    pub fn set_threshold(&mut self, log_odds: Option<f64>) {
        self.evaluator.threshold = log_odds;
    }

    /// Evaluates the current weights. All workers of a group do so at the same time, each on its [`Trainer::portion`] of
    /// the batches, and get the metrics of all.
    ///
    /// # Errors
    /// When a batch cannot be made, the device fails, or a worker is lost.
    pub fn evaluate(&mut self, batches: Batches) -> Result<Metrics, Diagnostics> {
        self.evaluate_with(batches, &mut |_, _| {})
    }

    /// The same, and shows this worker's batches with their outputs to `observe`.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`].
    pub fn evaluate_with(
        &mut self,
        batches: Batches,
        observe: &mut dyn FnMut(&Batch, &[f32]),
    ) -> Result<Metrics, Diagnostics> {
        let mut group = self.group.as_ref().map(Group::lock);
        let TrainState { params, buffers, .. } = &self.state;
        self.evaluator.run(params, buffers, batches, observe, group.as_deref_mut())
    }
}

//! A run from end to end: where manifest, data, model, trainer and the run's folder come together. The commands `run`,
//! `train`, `eval`, `graph` and `tune-lr` are thin layers over this.

mod answers;
mod baseline;
mod batches;
pub mod best;
pub mod decision;
mod early_stopping;
pub mod estimate;
pub mod folder;
mod folds;
mod group;
mod length;
mod memory;
mod onnx_model;
pub mod open;
mod outcome;
mod own_folder;
pub mod page;
pub mod process;
mod record;
mod run;
mod scaling;
mod start;
mod telling;
mod understood;
pub mod usage;
mod verbose;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use outgrow_data::{Dataset, Prepared, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::foreign::ForeignModel;
use outgrow_models::{BuildOptions, BuiltModel, build};
use outgrow_predict::ModelOptions;
use outgrow_runtime::collective::Group;
use outgrow_runtime::{Backend, CpuBackend, KernelPath, Products, ThreadPool};
use outgrow_store::CheckpointStore;
use outgrow_train::defaults::Known;
use outgrow_train::spec::Train;
use outgrow_train::{Trainer, TrainerOptions, model_inputs, target};
use outgrow_transform::{Target, Transform};

use crate::cli::{ManifestArgs, ProcessorArgs};
use crate::context::{Context, Failure};
use crate::manifest::Manifest;
use crate::places::{RunPlace, threads};

pub use batches::DatasetBatches;
use folder::Begun;
pub use folds::{Tested, TestedRow};
pub use group::{join, run_group};
pub use outcome::{RunResult, evaluate_run};
use own_folder::Namesakes;
pub use process::cpu_seconds;
pub use record::Recorder;
use start::Start;
pub use understood::say_precision;
pub use weights::package;

/// What every training command works with.
pub struct Session<'a> {
    /// The manifest.
    pub manifest: Manifest,
    /// What trains and evaluates.
    pub backend: Arc<dyn Backend>,
    /// This machine's threads and kernels: they load data, and are the backend unless there is another.
    pub cpu: CpuBackend,
    /// Whether the kernels' path was asked for, and not found out.
    told_path: bool,
    args: &'a ManifestArgs,
    context: &'a Context,
    start: Start,
}

impl<'a> Session<'a> {
    /// Reads the manifest and starts the threads.
    pub fn open(
        args: &'a ManifestArgs,
        processor: &ProcessorArgs,
        context: &'a Context,
    ) -> Result<Self, Failure> {
        Self::of(context.manifest(args)?, args, processor, context)
    }

    /// Starts the threads for a manifest that these arguments name, and that has been read.
    pub fn of(
        manifest: Manifest,
        args: &'a ManifestArgs,
        processor: &ProcessorArgs,
        context: &'a Context,
    ) -> Result<Self, Failure> {
        let cpu = cpu_backend(processor)?;
        let (backend, told_path) = (Arc::new(cpu.clone()), processor.kernel_path.is_some());
        verbose::opened(&manifest, args, &cpu, context);
        let mut session = Self { manifest, backend, cpu, told_path, args, context, start: Start::default() };
        session.choose_precision();
        Ok(session)
    }

    /// Takes the precision that is there for this backend, where the manifest leaves it open.
    fn choose_precision(&mut self) {
        self.manifest.choose_precision(|asked| asked.on(&*self.backend));
    }

    /// The kernels that a step is compiled for.
    pub fn step_path(&self) -> KernelPath {
        self.cpu.path.with_products(self.manifest.train.precision.products())
    }

    /// Where the run says what it does.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// Prepares the data, or finds it prepared.
    pub fn data(&self) -> Result<(Dataset, Prepared), Failure> {
        self.open_data(None)
    }

    /// The folders of this name, where the run was told none of its own.
    fn namesakes(&self, place: &RunPlace) -> Option<Namesakes> {
        (!place.is_given).then(|| Namesakes::of(&*self.context.world.storage, &place.path))
    }

    /// The data for a run, which may have been begun here or beside.
    pub fn data_of_place(&self, place: &RunPlace, fresh: bool) -> Result<Dataset, Failure> {
        let namesakes = self.namesakes(place);
        let begun = namesakes.as_ref().and_then(|all| all.of_manifest(&self.manifest));
        self.data_of_run(begun.unwrap_or(&place.path), fresh)
    }

    /// The folder that a run on this data would have now: the one that it was told; or one of its name that holds no other
    /// run, and it says so if that is not the first.
    ///
    /// # Errors
    /// When it cannot be told what is in a folder.
    pub fn folder_of(&self, place: &RunPlace, data: &Dataset, fresh: bool) -> Result<PathBuf, Diagnostics> {
        let Some(namesakes) = self.namesakes(place) else { return Ok(place.path.clone()) };
        let identity = self.run_identity(data)?;
        let path = namesakes.folder_for(&*self.context.world.storage, &identity, fresh)?;
        self.say_own(&place.path, &path);
        Ok(path)
    }

    /// The folder in which a run of this manifest was begun, on this data if there is one; where there is none, the first
    /// one of its name.
    ///
    /// # Errors
    /// When a file that the run starts from cannot be read.
    pub fn begun_folder(&self, place: &RunPlace, data: Option<&Dataset>) -> Result<PathBuf, Diagnostics> {
        let Some(namesakes) = self.namesakes(place) else { return Ok(place.path.clone()) };
        let identity = data.map(|data| self.run_identity(data)).transpose()?;
        let same = identity.and_then(|identity| namesakes.same(&identity));
        let found = same.or_else(|| namesakes.of_manifest(&self.manifest));
        Ok(found.unwrap_or(&place.path).to_owned())
    }

    /// The data for the run in a folder. One that was begun keeps the version of replicated data that it started with.
    fn data_of_run(&self, folder: &Path, fresh: bool) -> Result<Dataset, Failure> {
        let storage = &*self.context.world.storage;
        let begun = if fresh { Begun::default() } else { folder::begun(storage, folder)? };
        let pinned = begun.of_manifest(&self.manifest).and_then(|fingerprint| fingerprint.split(' ').nth(1));
        Ok(self.open_data(pinned)?.0)
    }

    /// Other files for this model, whose transform this is.
    pub fn data_of_files(&self, files: &[PathBuf], transform: &Transform) -> Result<Dataset, Failure> {
        let threads = self.cpu.pool.threads();
        open::open_files(&self.manifest, self.args, threads, self.context, files, transform)
    }

    fn open_data(&self, pinned: Option<&str>) -> Result<(Dataset, Prepared), Failure> {
        let threads = self.cpu.pool.threads();
        let opened = open::open_data(&self.manifest, self.args, threads, self.context, pinned)?;
        Ok((opened.dataset, opened.prepared))
    }

    /// The model for this data.
    pub fn model(&self, data: &Dataset) -> Result<BuiltModel, Diagnostics> {
        let (model, schema) = (&self.manifest.model, data.schema());
        let target = target(self.manifest.train.loss, model, &schema);
        let target = target.map_err(|d| self.manifest.locate(d.into()))?;
        let mixed = self.manifest.spec.data.augment.as_ref().is_some_and(|augment| augment.mixes());
        let foreign = self.onnx()?.map(|body| body as &dyn ForeignModel);
        let scales = scaling::scales(&self.manifest, data, &target)?;
        let label_smoothing = self.train(data).label_smoothing;
        let options = BuildOptions {
            mixed,
            foreign,
            scales: &scales,
            label_smoothing,
            loss: self.manifest.train.loss,
            ..BuildOptions::default()
        };
        build(model, &model_inputs(&schema), &target, options).map_err(|d| self.manifest.locate(d))
    }

    /// What checkpoints of this run must have been made with: all that the numbers depend on.
    ///
    /// # Errors
    /// When a file that the run starts from cannot be read.
    pub fn fingerprint(&self, data: &Dataset) -> Result<String, Diagnostics> {
        self.fingerprint_of(&self.manifest.fingerprint(Some(known(data))), data)
    }

    /// The same, where this stands for the manifest.
    fn fingerprint_of(&self, manifest: &str, data: &Dataset) -> Result<String, Diagnostics> {
        let path = self.step_path().name();
        let start = self.start_sha256()?.map_or(String::new(), |sha256| format!(" {sha256}"));
        Ok(format!("{manifest} {} {path}{start}", data.fingerprint()))
    }

    /// A trainer for this model, with weights from `model.weights` if the manifest names a file.
    pub fn trainer(
        &self,
        data: &Dataset,
        model: BuiltModel,
        checkpoints: Option<CheckpointStore>,
    ) -> Result<Trainer, Diagnostics> {
        self.trainer_of_group(data, model, checkpoints, None)
    }

    /// The same for a worker of a group.
    fn trainer_of_group(
        &self,
        data: &Dataset,
        model: BuiltModel,
        checkpoints: Option<CheckpointStore>,
        group: Option<Group>,
    ) -> Result<Trainer, Diagnostics> {
        // As much as there is now: the data is there already.
        let (there, limit) = (process::memory_bytes(), self.manifest.memory_bytes_max());
        let memory = memory::Memory { there, limit };
        let options = TrainerOptions {
            backend: self.backend.clone(),
            memory: there,
            memory_max: limit,
            clock: self.context.world.clock.clone(),
            checkpoints,
            fingerprint: self.fingerprint(data)?,
            seed: self.manifest.seed,
            profile_every: if self.context.profile { 8 } else { 64 },
        };
        let train = &self.train(data);
        let saved = options.checkpoints.is_some();
        let mut trainer =
            Trainer::of_group(model.clone(), train.clone(), options, group).map_err(|found| {
                self.manifest.locate(memory::explained(found, &model, train, &*self.backend, memory, saved))
            })?;
        trainer.set_threshold(decision::given(train));
        if let Some(body) = self.onnx()? {
            let own = body.weights(&model_inputs(&data.schema())).map_err(|d| self.manifest.locate(d))?;
            weights::overlay(&mut trainer, &own)?;
        }
        if let Some(first) = self.first_weights()? {
            weights::start_from(first, self.manifest.model.head, &mut trainer)?;
        }
        Ok(trainer)
    }

    /// How this data is trained on: as the manifest says, with a batch that is no larger than the training data.
    pub fn train(&self, data: &Dataset) -> Train {
        train_on(&self.manifest, data)
    }

    /// The batches of this data for this run.
    pub fn batches(&self, data: &Dataset) -> Result<DatasetBatches, Diagnostic> {
        DatasetBatches::new(data.clone(), &self.manifest, self.cpu.pool.threads())
    }

    /// The folders in which files named in the manifest are looked for.
    pub fn roots(&self) -> Vec<PathBuf> {
        crate::places::data_roots(&self.manifest, self.args, &self.context.environment)
    }
}

/// How this data is trained on: as the manifest says, with a batch that is no larger than the training data.
fn train_on(manifest: &Manifest, data: &Dataset) -> Train {
    manifest.train_on(known(data)).cut_to(data.samples(Split::Train))
}

/// What models with a training of their own have to know of this data.
pub fn known(data: &Dataset) -> Known {
    let numbers = matches!(data.schema().target, Target::Regression { .. });
    Known { rows: data.samples(Split::Train), numbers, validated: data.samples(Split::Validation) > 0 }
}

/// Threads and kernels as asked for.
pub fn cpu_backend(processor: &ProcessorArgs) -> Result<CpuBackend, Failure> {
    let mut backend = CpuBackend::new(Arc::new(ThreadPool::new(threads(processor.threads)?)));
    if let Some(name) = &processor.kernel_path {
        backend.path = kernel_path(name)?;
    }
    Ok(backend)
}

/// A model that runs on this and may take as much memory as there is.
pub fn model_options(backend: CpuBackend) -> ModelOptions {
    let products = Products::F32;
    ModelOptions { backend: Arc::new(backend), memory: process::memory_bytes(), narrow: false, products }
}

fn kernel_path(name: &str) -> Result<KernelPath, Diagnostic> {
    let supported = KernelPath::supported();
    let names: Vec<&str> = supported.iter().map(|p| p.name()).collect();
    supported.iter().copied().find(|p| p.name() == name).ok_or_else(|| {
        Diagnostic::new("cli.kernel-path", format!("this processor has no kernels `{name}`"))
            .item("--kernel-path")
            .expected(names.join(", "))
    })
}

/// Whether a split of the data has samples.
pub fn has(data: &Dataset, split: Split) -> bool {
    data.samples(split) > 0
}

//! A run from end to end: where manifest, data, model, trainer and the run's folder come together. The commands `run`,
//! `train`, `eval`, `graph` and `tune-lr` are thin layers over this.

mod batches;
mod folder;
mod memory;
mod outcome;
pub mod page;
mod process;
mod record;
pub mod usage;
mod weights;

use std::path::PathBuf;
use std::sync::Arc;

use outgrow_data::{Dataset, Prepared, Split};
use outgrow_env::{Clock, LocalStorage, RealClock, StorageBackend};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::{BuildOptions, BuiltModel, InputSpec, TargetSpec, build};
use outgrow_runtime::{CompileOptions, CpuBackend, KernelPath, ThreadPool};
use outgrow_store::CheckpointStore;
use outgrow_train::spec::LossSpec;
use outgrow_train::{Trainer, TrainerOptions};
use outgrow_transform::Target;

use crate::cli::{ManifestArgs, ProcessorArgs};
use crate::commands::data::prepare_data;
use crate::commands::places::threads;
use crate::commands::{Context, Failure};
use crate::manifest::Manifest;

pub use batches::DatasetBatches;
pub use folder::RunFolder;
pub use outcome::{RunResult, evaluate_run};
pub use record::Recorder;
pub use weights::{Package, load_package, save_package};

/// What every training command works with.
pub struct Session<'a> {
    /// The manifest.
    pub manifest: Manifest,
    /// Where files are.
    pub storage: Arc<dyn StorageBackend>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How graphs are compiled.
    pub compile: CompileOptions,
    args: &'a ManifestArgs,
    context: &'a Context,
}

impl<'a> Session<'a> {
    /// Reads the manifest and starts the threads.
    pub fn open(
        args: &'a ManifestArgs,
        processor: &ProcessorArgs,
        context: &'a Context,
    ) -> Result<Self, Failure> {
        let manifest = context.manifest(args)?;
        Ok(Self {
            manifest,
            storage: Arc::new(LocalStorage::new()),
            clock: Arc::new(RealClock::new()),
            compile: compile_options(processor)?,
            args,
            context,
        })
    }

    /// Where the run says what it does.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// Prepares the data, or finds it prepared.
    pub fn data(&self) -> Result<(Dataset, Prepared), Failure> {
        let threads = self.compile.pool.threads();
        prepare_data(&self.manifest, self.args, threads, self.storage.clone(), self.context)
    }

    /// The model for this data.
    pub fn model(&self, data: &Dataset) -> Result<BuiltModel, Diagnostics> {
        let schema = data.schema();
        let input = |field: &outgrow_transform::Field| InputSpec {
            name: field.name.clone(),
            dtype: field.dtype,
            dims: field.shape.clone(),
            cardinalities: field.cardinalities.clone(),
        };
        let inputs: Vec<InputSpec> = schema.inputs.iter().map(input).collect();
        let target = self.target(&schema.target, &inputs)?;
        build(&self.manifest.model, &inputs, &target, BuildOptions::default())
            .map_err(|d| self.manifest.locate(d))
    }

    /// What the model is to predict, by the data, the model and `train.loss`.
    fn target(&self, target: &Target, inputs: &[InputSpec]) -> Result<TargetSpec, Diagnostics> {
        let loss = self.manifest.train.loss;
        let spec = match target {
            Target::Class { names } => {
                match (TargetSpec::for_classes(&self.manifest.model, names.len()), loss) {
                    (TargetSpec::Class { classes: 2 }, LossSpec::Logistic) => TargetSpec::Binary,
                    (spec, _) => spec,
                }
            }
            Target::Regression { width } => TargetSpec::Regression { width: *width },
            Target::Tokens { vocab } => {
                let context = inputs.first().and_then(|i| i.dims.last()).copied().unwrap_or(1);
                TargetSpec::Tokens { vocab: *vocab, context }
            }
        };
        let fits = match loss {
            LossSpec::Auto => true,
            LossSpec::CrossEntropy => matches!(spec, TargetSpec::Class { .. } | TargetSpec::Tokens { .. }),
            LossSpec::Logistic => spec == TargetSpec::Binary,
            LossSpec::Mse => matches!(spec, TargetSpec::Regression { .. }),
        };
        if fits {
            return Ok(spec);
        }
        let diagnostic = Diagnostic::new(
            "train.loss",
            format!("this loss does not fit the data and model, which give {spec:?}"),
        )
        .item("train.loss")
        .expected(
            "mse for numbers, cross-entropy for classes and tokens, logistic for two classes by one logit",
        )
        .hint("leave `train.loss` out to have the right one chosen");
        Err(self.manifest.locate(diagnostic.into()))
    }

    /// What checkpoints of this run must have been made with: all that the numbers depend on.
    pub fn fingerprint(&self, data: &Dataset) -> String {
        format!("{} {} {}", self.manifest.fingerprint(), data.fingerprint(), self.compile.path.name())
    }

    /// A trainer for this model, with weights from `model.weights` if the manifest names a file.
    pub fn trainer(
        &self,
        data: &Dataset,
        model: BuiltModel,
        checkpoints: Option<PathBuf>,
    ) -> Result<Trainer, Diagnostics> {
        let fingerprint = self.fingerprint(data);
        let keep = self.manifest.train.checkpoints.keep;
        let store = |folder| CheckpointStore::new(self.storage.clone(), folder, fingerprint.clone(), keep);
        let options = TrainerOptions {
            compile: self.compile.clone(),
            clock: self.clock.clone(),
            checkpoints: checkpoints.map(store),
            fingerprint: fingerprint.clone(),
            seed: self.manifest.seed,
            profile_every: 64,
        };
        let locate = |found: Diagnostic| self.manifest.locate(found.into());
        memory::check_before(&model, &self.manifest.train).map_err(locate)?;
        let mut trainer = Trainer::new(model, self.manifest.train.clone(), &CpuBackend, options)?;
        memory::check_after(&trainer).map_err(locate)?;
        if let Some(file) = &self.manifest.model.weights {
            weights::start_from(self, file, &mut trainer)?;
        }
        Ok(trainer)
    }

    /// The batches of this data for this run.
    pub fn batches(&self, data: &Dataset) -> DatasetBatches {
        DatasetBatches::new(data.clone(), &self.manifest.train, self.manifest.seed)
    }

    /// The folders in which files named in the manifest are looked for.
    pub fn roots(&self) -> Vec<PathBuf> {
        crate::commands::places::data_roots(&self.manifest, self.args, &self.context.environment)
    }
}

/// Threads and kernels as asked for.
pub fn compile_options(processor: &ProcessorArgs) -> Result<CompileOptions, Failure> {
    let pool = Arc::new(ThreadPool::new(threads(processor.threads)?));
    let mut options = CompileOptions::new(pool);
    if let Some(name) = &processor.kernel_path {
        options.path = kernel_path(name)?;
    }
    Ok(options)
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

//! The command line: commands, flags and their help.

mod bench;
mod serve;
mod time;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::manifest::TransportName;

pub use bench::{
    BenchAction, BenchArgs, BenchInferArgs, BenchLinksArgs, BenchMachineArgs, BenchPlaceArgs, BenchServeArgs,
    BenchTrainArgs, PrecisionName, WorkName,
};
pub use serve::{LogForm, LogLevel, ServeArgs};
pub use time::{Unit, time, time_or_none};

/// From raw data to a trained model, with one manifest and one command.
#[derive(Debug, Parser)]
#[command(
    name = "outgrow",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "\
Examples:
  outgrow init                                  write a commented outgrow.toml
  outgrow run examples/glyphs.toml              data, training, evaluation and report
  outgrow run mnist.toml --set train.epochs=1   with one key changed
  outgrow schema > outgrow.schema.json          for completion in an editor

Exit codes:
  0  done
  1  failed; diagnostics on stderr, and with --json as one object on stdout
  2  wrong usage of the command line; said in the same two places
  130, 143  ended by SIGINT (Ctrl-C) or SIGTERM; run and train finish their step, save their state and say how to go
     on, and a second signal ends them at once"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to talk.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How to talk.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// End stdout with one JSON object on one line; errors are one JSON object too
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but errors and results
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Whether to use colour; NO_COLOR in the environment is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Which manifest, and with which changes.
#[derive(Clone, Debug, Args)]
pub struct ManifestArgs {
    /// The manifest; or the folder of a run, for the one that it keeps
    #[arg(default_value = "outgrow.toml")]
    pub manifest: PathBuf,
    /// Change a key of the manifest: train.epochs=1, model.layers[0].dense=64, 'train.schedule={ name = "cosine" }';
    /// nothing after the = removes the key
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where relative data paths are looked for, before $OUTGROW_DATA and the manifest's own folder
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Where prepared data is kept [default: the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

/// What to do with the data of a manifest.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow data prepare mnist.toml
  outgrow data inspect adult.toml --data /srv/data
  outgrow data verify mnist.toml
  outgrow data get mnist                        public data, for the examples")]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DataAction,
}

/// What to do with the data of a manifest.
#[derive(Clone, Debug, Subcommand)]
pub enum DataAction {
    /// Clean, encode, split and store the data, or find that it is done already
    Prepare(DataActionArgs),
    /// Show schema, missing values, distributions, class balance, duplicates, leakage and what became of the rows
    Inspect(InspectArgs),
    /// Check every copy of every stored shard against its checksum, and restore what is bad
    Verify(VerifyArgs),
    /// Measure how fast the data is prepared, and loaded and augmented as training does it
    Bench(DataBenchArgs),
    /// Fetch public data sets, such as those of the examples
    Get(GetArgs),
}

/// Which public data sets.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow data get mnist tinyshakespeare
  outgrow data get cifar10 --to /srv/data
  outgrow data get adult --from https://mirror.example.org/sets    from .../sets/adult/adult.data and so on")]
pub struct GetArgs {
    /// Their names
    pub names: Vec<String>,
    /// Say which sets there are, and where from
    #[arg(long)]
    pub list: bool,
    /// The folder that holds a folder for each set [default: $OUTGROW_DATA, else data]
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// Where to fetch from instead of the sets' homes: a URL below which each set has a folder of its name
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
}

/// Which data.
#[derive(Clone, Debug, Args)]
pub struct DataActionArgs {
    /// Which manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// The number of threads [default: the number of cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// What to verify.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// Which data.
    #[command(flatten)]
    pub action: DataActionArgs,
    /// Restore bad copies from good ones, or, where the data is kept in the cache alone, prepare them again
    #[arg(long)]
    pub repair: bool,
}

/// What to inspect.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// Which data.
    #[command(flatten)]
    pub action: DataActionArgs,
    /// Write a page with plots and sample images as well
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct DataBenchArgs {
    /// Which data.
    #[command(flatten)]
    pub action: DataActionArgs,
    /// How many epochs to load
    #[arg(long, value_name = "N", default_value = "3")]
    pub epochs: NonZeroU32,
}

/// The runs in a folder.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow runs                                  those in runs/, the newest first
  outgrow runs compare small large --html sizes.html")]
pub struct RunsArgs {
    /// What to do with them; `list` when left out.
    #[command(subcommand)]
    pub action: Option<RunsAction>,
    /// The folder in which the runs' folders are
    #[arg(long, global = true, value_name = "FOLDER", default_value = "runs")]
    pub folder: PathBuf,
}

/// What to do with runs.
#[derive(Clone, Debug, Subcommand)]
pub enum RunsAction {
    /// A line for each run: when, how far, its best evaluation, how it ended
    List,
    /// What several runs came to, and the keys of their manifests that differ
    Compare(CompareArgs),
}

/// Which runs.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// Their names in the folder, or their own folders
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Write a page with their curves over each other as well
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// How the processor is used. No result depends on it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Processor")]
pub struct ProcessorArgs {
    /// The number of threads, of each worker [default: the number of cores, shared among the workers of a machine]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Which set of kernels to use: portable, avx2, avx512, avx512-bf16, or amx (f32 products in parts of bf16 on AMX) [default: the
    /// fastest of the first four that this processor has]
    #[arg(long, value_name = "NAME")]
    pub kernel_path: Option<String>,
}

/// A training run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Which manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// The run's folder [default: runs/NAME; where that holds another run, runs/NAME-2 and so on, the same each time]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Start anew what was begun before, or what --out holds. A run that differs in train.epochs or train.steps alone
    /// needs no --fresh: it goes on to that length
    #[arg(long)]
    pub fresh: bool,
    /// Stop before the first step, with an estimate of time and memory from a few that are timed; nothing is written but
    /// prepared data
    #[arg(long)]
    pub dry_run: bool,
    /// With `run`: evaluate by K folds. The rows of `data` are divided into K parts by `data.seed`, each class by itself as
    /// for any split; each part is tested by a model trained on the others, in a run of its own in fold-1, fold-2 and so on
    /// below the run's folder. `split.validation` is set aside from those others, and early stopping and whatever else goes
    /// by validation data looks at that alone; `split.test`, `data.test` and `data.storage` are left out
    #[arg(long, value_name = "K")]
    pub folds: Option<u32>,
    /// Say on stderr what helps to find out why something is as it is: paths, kernels, what was found in the cache, the sizes
    /// of compiled programs, what took how long
    #[arg(long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Time every kernel in one of eight steps, and say at the end what takes the time; trace.json in the run's folder has it
    /// for Perfetto or chrome://tracing
    #[arg(long, conflicts_with = "dry_run")]
    pub profile: bool,
    /// Who works.
    #[command(flatten)]
    pub workers: GroupArgs,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// Who shares the steps. No result depends on it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Workers")]
pub struct GroupArgs {
    /// How many workers share each step, as many as `train.micro_shards` at most [default: 1]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// How workers are connected [default: threads; with --listen, tcp]
    #[arg(long, value_name = "NAME")]
    pub transport: Option<TransportName>,
    /// Wait at this address for workers of other machines, which `outgrow worker` starts
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// With --listen: how many workers to start on this machine, this process among them [default: 1]
    #[arg(long, value_name = "N")]
    pub local: Option<NonZeroUsize>,
    /// Where to write what others need to join by tcp [default: beside the run's folder, with .key at its end]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Leave tcp unencrypted: for networks that nobody else is on
    #[arg(long)]
    pub no_tls: bool,
}

/// One more worker.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Which manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Where the first worker is [default: the address in the key]
    #[arg(long, value_name = "HOST:PORT")]
    pub join: Option<String>,
    /// The file that the first worker has written
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Which worker to be [default: any that is missing]
    #[arg(long, value_name = "N")]
    pub number: Option<usize>,
    /// The memory that it shares with the others
    #[arg(long, hide = true)]
    pub memory: Option<PathBuf>,
    /// End with the process that has started this one, which holds the other end of its stdin
    #[arg(long, hide = true)]
    pub child: bool,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// An evaluation.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow eval runs/adult                       on the data that it was trained with, and on its test data
  outgrow eval runs/adult new.csv               on these rows, whose labels are there
  outgrow eval runs/adult/model new.csv         with nothing but the model's package
  outgrow eval adult.toml --out trial           the model of a manifest's run")]
pub struct EvalArgs {
    /// A run's folder or the model in it, or the manifest of a run.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Evaluate on these files in place of the manifest's data; they are of the kind that it trains on, with labels.
    /// --data FILE says the same
    pub files: Vec<PathBuf>,
    /// With a manifest: the run's folder, whose model is evaluated [default: where its run is, in runs/]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// A prediction.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow predict runs/mnist digit.png
  outgrow predict runs/latest digit.png         by the run that was begun or gone on with last
  outgrow predict runs/adult people.csv
  outgrow predict runs/adult people.parquet --output answers.parquet
  outgrow predict runs/mnist pictures --output answers.csv     all images below a folder
  head -n 3 people.csv | outgrow predict runs/adult -          from a pipe
  outgrow predict runs/shakespeare prompt.txt --seed 7")]
pub struct PredictArgs {
    /// A run's folder, or a model in it
    pub model: PathBuf,
    /// What to predict for, as the model was trained on: images (PNG, JPEG, WebP, IDX), tables (CSV, JSON lines, Parquet,
    /// Arrow, NumPy) or text; a folder of images or tables; - for CSV, JSON lines, an image or a text on stdin
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Write the predictions to this file, as its name ends: .csv, .jsonl or .parquet. It is there once it is whole
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// For language models: how many tokens (characters, unless the model has others) to go on with [default: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub tokens: Option<u32>,
    /// For language models: how freely to choose tokens; at 0 always the likeliest one [default:
    /// 0.8]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// For language models: of how many of the likeliest tokens one is chosen; 0 chooses from all [default: 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// For language models: what the choice of tokens follows from [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// A model for other programs.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow export runs/mnist mnist.onnx
  outgrow export resnet.toml resnet.onnx --set model.weights=resnet18.safetensors")]
pub struct ExportArgs {
    /// A run's folder, or a model in it; or a manifest, for its model with the weights it starts from
    pub model: PathBuf,
    /// The file to write; large weights go into a second one beside it, with .data at its end
    pub file: PathBuf,
    /// With a manifest: change a key of it
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// With a manifest: where relative data paths are looked for
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// With a manifest: where prepared data is kept
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

/// A model on NumPy arrays.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Arrays are of f32, f64, i64, i32, u8 or bool. Without names they are in the model's own order.

Examples:
  outgrow infer resnet18.onnx --input images.npy --output logits.npy
  outgrow infer bert.onnx --input ids=ids.npy --input mask=mask.npy --output hidden.npy --output pooled.npy
  outgrow infer runs/mnist --input image=digits.npy --output logits.npy")]
pub struct InferArgs {
    /// An ONNX file, a run's folder, or a model in it
    pub model: PathBuf,
    /// An array for an input, once for each input
    #[arg(long = "input", value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,
    /// Where an output goes, once for each that is wanted
    #[arg(long = "output", value_name = "[NAME=]FILE", required = true)]
    pub outputs: Vec<String>,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// The graph of a model.
#[derive(Clone, Debug, Args)]
pub struct GraphArgs {
    /// Which manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Which graph
    #[arg(long, value_name = "STAGE", default_value = "all")]
    pub stage: GraphStage,
    /// Print Graphviz in place of text
    #[arg(long)]
    pub dot: bool,
}

/// Which graph of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphStage {
    /// Both
    All,
    /// As the model says it
    Before,
    /// After all passes
    After,
}

/// A search for a learning rate.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow tune-lr mnist.toml                    range test: rising rate in one run
  outgrow tune-lr mnist.toml --method grid --from 1e-4 --to 1e-1 --points 7
  outgrow tune-lr adult.toml --folds 5          cross-validation over a grid")]
pub struct TuneLrArgs {
    /// Which manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// How to search [default: range, or grid when --folds is given]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<TuneMethod>,
    /// Cross-validation with this many parts, at least 2
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub folds: Option<u32>,
    /// The smallest rate
    #[arg(long, value_name = "LR", default_value_t = 1e-5)]
    pub from: f64,
    /// The largest rate
    #[arg(long, value_name = "LR", default_value_t = 1.0)]
    pub to: f64,
    /// How many rates a grid has
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub points: u32,
    /// Steps of each run [default: an epoch, but 100 to 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub steps: Option<u64>,
    /// The folder for the plot and the numbers [default: the run's own, in runs/]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// How to search for a learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TuneMethod {
    /// One run in which the rate rises from step to step
    Range,
    /// One short run for each rate
    Grid,
}

/// A new manifest.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow init
  outgrow init --template csv houses.toml")]
pub struct InitArgs {
    /// The file to write
    #[arg(default_value = "outgrow.toml")]
    pub file: PathBuf,
    /// What to start from
    #[arg(long, short, value_name = "NAME", default_value = "glyphs")]
    pub template: String,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// Say what there is to start from, and write nothing
    #[arg(long)]
    pub list: bool,
}

/// Which shell.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow completions bash > ~/.local/share/bash-completion/completions/outgrow
  outgrow completions zsh > ~/.zfunc/_outgrow              with ~/.zfunc in fpath, before compinit
  outgrow completions fish > ~/.config/fish/completions/outgrow.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// What is done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Data, training, evaluation, model and report with one command
    Run(RunArgs),
    /// Train and save the model, without the final evaluation and the report
    Train(RunArgs),
    /// Evaluate a trained model: on the data of its run, or on other files
    Eval(EvalArgs),
    /// Say what a trained model makes of images, tables or text
    Predict(PredictArgs),
    /// Write a trained model for other programs: as ONNX
    Export(ExportArgs),
    /// Run a model, also one of another framework, on NumPy arrays
    Infer(InferArgs),
    /// Serve trained models over HTTP, by the Open Inference Protocol
    Serve(ServeArgs),
    /// Search for a learning rate
    TuneLr(TuneLrArgs),
    /// Show the runs in a folder, or several of them side by side
    Runs(RunsArgs),
    /// Print the graph of a model, before and after the passes
    Graph(GraphArgs),
    /// Prepare, inspect or verify the data of a manifest, or fetch public data
    Data(DataArgs),
    /// Measure what this machine can do (links between workers, training steps, batches of a model), or a server under load
    Bench(BenchArgs),
    /// Write a commented manifest to start from
    Init(InitArgs),
    /// Print the manifest's JSON schema
    Schema,
    /// Print what completes commands and flags in a shell
    Completions(CompletionsArgs),
    /// Be one more worker of a run that waits for it: `outgrow train FILE --workers N --listen HOST:PORT`
    Worker(WorkerArgs),
}

//! The command line: commands, flags and their help.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
  2  wrong usage of the command line"
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
    /// The manifest
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
  outgrow data verify mnist.toml")]
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
    /// Show what the prepared data holds and what became of the rows
    Inspect(DataActionArgs),
    /// Check every stored shard against its checksum
    Verify(DataActionArgs),
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

/// How the processor is used. No result depends on it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Processor")]
pub struct ProcessorArgs {
    /// The number of threads [default: the number of cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Which set of kernels to use, such as avx2 or portable [default: the fastest that this processor has]
    #[arg(long, value_name = "NAME")]
    pub kernel_path: Option<String>,
}

/// A training run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Which manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// The run's folder [default: runs/NAME]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Start anew where the run's folder holds another run
    #[arg(long)]
    pub fresh: bool,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// An evaluation.
#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    /// Which manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// The run's folder, whose model is evaluated [default: runs/NAME]
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
  outgrow predict runs/adult people.csv
  outgrow predict runs/shakespeare prompt.txt")]
pub struct PredictArgs {
    /// A run's folder, or a model in it
    pub model: PathBuf,
    /// What to predict for: PNG, JPEG or IDX images, CSV or text, as the model was trained on
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// For language models: how many characters to go on with [default: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub tokens: Option<u32>,
    /// For language models: how freely to choose characters; at 0 always the likeliest one [default: 0]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// For language models: what the choice of characters follows from [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
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
    /// The folder for the plot and the numbers [default: runs/NAME when that is a run, else runs/NAME-tune-lr]
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
}

/// What is done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Data, training, evaluation, model and report with one command
    Run(RunArgs),
    /// Train and save the model, without the final evaluation and the report
    Train(RunArgs),
    /// Evaluate a trained model on the data of its manifest
    Eval(EvalArgs),
    /// Say what a trained model makes of images, tables or text
    Predict(PredictArgs),
    /// Search for a learning rate
    TuneLr(TuneLrArgs),
    /// Print the graph of a model, before and after the passes
    Graph(GraphArgs),
    /// Prepare, inspect or verify the data of a manifest
    Data(DataArgs),
    /// Write a commented manifest to start from
    Init(InitArgs),
    /// Print the manifest's JSON schema
    Schema,
}

//! The command line of `outgrow bench`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use outgrow_train::spec::Precision;

use super::ProcessorArgs;
use crate::manifest::TransportName;

/// What to measure.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  outgrow bench links                           between two threads
  outgrow bench links --transport tcp --no-tls --json
  outgrow bench train resnet18                  the time of a training step
  outgrow bench train gpt --profile             and what takes it
  outgrow bench infer resnet50.onnx --batch 8   the time of a batch
  outgrow bench serve localhost:8000            a server's requests per second and latencies")]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub action: BenchAction,
}

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchAction {
    /// Time a model on batches: an ONNX file, a run or a package
    Infer(BenchInferArgs),
    /// Measure what messages between workers cost: latency, seconds per byte, seconds per byte added
    Links(BenchLinksArgs),
    /// Measure this machine: arithmetic, memory traffic, and how near to their limits kernels come
    Machine(BenchMachineArgs),
    /// Put a server of the Open Inference Protocol under load: requests per second, latencies, refusals, errors
    Serve(BenchServeArgs),
    /// Time training steps of models that other systems are timed with
    Train(BenchTrainArgs),
}

/// Which model to time.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Inputs are random (whole numbers 0 and 1), unless an array is given. The model runs on the path of `infer` and `serve`;
loading counts from the file until the model is compiled for the batch and its weights are packed.

Examples:
  outgrow bench infer resnet50.onnx --batch 8
  outgrow bench infer bert.onnx --batch 1 --dim sequence=128 --precision bf16
  outgrow bench infer runs/mnist --batch 32 --profile --json")]
pub struct BenchInferArgs {
    /// An ONNX file, a run's folder, or a model in it
    pub model: PathBuf,
    /// What numbers products take
    #[arg(long, value_name = "NAME", default_value = "f32")]
    pub precision: PrecisionName,
    /// Rows of a batch: the first dimension of each input [default: 1, or what the model says]
    #[arg(long, value_name = "ROWS")]
    pub batch: Option<NonZeroUsize>,
    /// What another dimension is that has a name in the model, once for each
    #[arg(long = "dim", value_name = "NAME=N")]
    pub dims: Vec<String>,
    /// An array for an input in place of random numbers, once for each input
    #[arg(long = "input", value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,
    /// For how long to time; at least five runs are
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub seconds: f64,
    /// Then time every kernel of some runs too, and say what takes the time
    #[arg(long)]
    pub profile: bool,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// How to measure this machine.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
What is measured of the processor and the memory is written as the machine's profile, against which costs are read. The
limit of a kernel is the longer of its arithmetic at the peak and its traffic at the rate of the level of memory that holds
its operands; algorithms with fewer operations than the definition (Winograd's) can pass it.

Examples:
  outgrow bench machine
  outgrow bench machine --threads 1 --kernel-path avx2 --output one.json --json")]
pub struct BenchMachineArgs {
    /// For how long to time each kernel
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    pub seconds: f64,
    /// Where the profile is written [default: outgrow/machine.json in the user's cache folder, for all threads and the
    /// fastest kernels only]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// Which steps to time.
#[derive(Clone, Debug, Args)]
pub struct BenchTrainArgs {
    /// What to train
    pub work: WorkName,
    /// What numbers are computed with
    #[arg(long, value_name = "NAME", default_value = "f32")]
    pub precision: PrecisionName,
    /// Fit training into so much memory: values are computed again instead of being kept
    #[arg(long, value_name = "GIB")]
    pub memory_gib_max: Option<f64>,
    /// For how long to time; at least eight steps or three epochs are
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub seconds: f64,
    /// Time every kernel too, and say what takes the time; steps take a little longer then
    #[arg(long)]
    pub profile: bool,
    /// Where mnist/ is looked for, before $OUTGROW_DATA
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Where prepared data is kept [default: the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// What to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkName {
    /// An epoch of MNIST's 60,000 images, 784-10-10 by Adam in batches of 32
    Mnist,
    /// 784-512-512-10 on a batch of 128, by SGD with momentum
    Mlp,
    /// LeNet on a batch of 128 images of 28x28, by SGD with momentum
    Lenet,
    /// ResNet-18 with a small stem on a batch of 32 images of 3x32x32, by SGD with momentum
    Resnet18,
    /// Four blocks of width 256 on a batch of 16 times 128 tokens, by AdamW
    Gpt,
}

/// What numbers are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// 32 bits
    F32,
    /// Products of two bf16 parts a number (16 bits) on amx kernels, sums and all else of 32 bits; elsewhere f32
    Bf16x3,
    /// Products of bf16 (8 bits), sums and all else of 32 bits
    Bf16,
    /// bf16x3 where the kernels have it, else f32
    Auto,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::Bf16x3 => Self::Bf16x3,
            PrecisionName::Bf16 => Self::Bf16,
            PrecisionName::Auto => Self::Auto,
        }
    }
}

/// A load for a server.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Each connection sends the next request once it has the answer to the last (a closed loop). With --rate, requests arrive at
random moments instead, as those of many clients do (a Poisson process), whatever became of those before; latency counts
from the arrival, so that what waits for a slow server is not left out.

Examples:
  outgrow bench serve localhost:8000                       one connection, random inputs by the model's metadata
  outgrow bench serve localhost:8000 --connections 16 --batch 8
  outgrow bench serve localhost:8000 --rate 500 --target-ms 20
  outgrow bench serve localhost:8000 --find-rate --target-ms 20 --json
  outgrow bench serve https://models.example:8443 --ca ca.pem --token-file token
  outgrow bench serve http://10.0.0.7:8000 --model bert --input ids=ids.npy --input mask=mask.npy
  outgrow bench serve localhost:8000 --path /v1/models/bert:predict --body request.json")]
pub struct BenchServeArgs {
    /// The server: http://HOST:PORT, or https:// with --ca
    pub url: String,
    /// Ask by this token (Authorization: Bearer TOKEN)
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// Ask by the token in this file, which others do not see
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Trust a server whose certificate is of one of these authorities: PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Which of its models to ask [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// An array for an input, once for each input [default: random numbers]
    #[arg(long = "input", value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,
    /// Rows of each request [default: 1, or all of the arrays]
    #[arg(long, value_name = "ROWS")]
    pub batch: Option<NonZeroUsize>,
    /// Send and ask for numbers as JSON, and not as binary data
    #[arg(long)]
    pub json_body: bool,
    /// Ask this path by POST with what is in --body, of whatever server it is
    #[arg(long, value_name = "PATH", requires = "body", conflicts_with_all = ["model", "inputs", "batch", "json_body", "timeout_ms"])]
    pub path: Option<String>,
    /// What is sent to --path
    #[arg(long, value_name = "FILE", requires = "path")]
    pub body: Option<PathBuf>,
    /// Tell the server to answer each request within this, or refuse it
    #[arg(long, value_name = "MS")]
    pub timeout_ms: Option<NonZeroU64>,
    /// How many connections [default: 1; where requests arrive by themselves, 64]
    #[arg(long, value_name = "N")]
    pub connections: Option<NonZeroUsize>,
    /// Let so many requests per second arrive; with --find-rate, the first to be tried
    #[arg(long, value_name = "PER_S")]
    pub rate: Option<f64>,
    /// Look for the highest rate at which 99 of 100 requests are answered within --target-ms
    #[arg(long, requires = "target_ms")]
    pub find_rate: bool,
    /// Count the answers that come within this
    #[arg(long, value_name = "MS")]
    pub target_ms: Option<f64>,
    /// How long to measure [default: 10; with --find-rate, 5 for each rate]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// How long to go on before it counts
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub warm_up: f64,
    /// What random inputs and arrivals follow from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Which links to measure.
#[derive(Clone, Debug, Args)]
pub struct BenchLinksArgs {
    /// How many workers; the link between each two of them is measured
    #[arg(long, value_name = "N", default_value = "2")]
    pub workers: NonZeroUsize,
    /// How they are connected
    #[arg(long, value_name = "NAME", default_value = "threads")]
    pub transport: TransportName,
    /// Leave tcp unencrypted
    #[arg(long)]
    pub no_tls: bool,
    /// Which worker to be, of those that another process has started.
    #[command(flatten)]
    pub place: BenchPlaceArgs,
}

/// The place of a worker that another process has started for a measurement.
#[derive(Clone, Debug, Args)]
pub struct BenchPlaceArgs {
    /// Which worker to be
    #[arg(long, hide = true)]
    pub number: Option<usize>,
    /// The memory that it shares with the others
    #[arg(long, hide = true, requires = "number")]
    pub memory: Option<PathBuf>,
    /// The file with which it joins
    #[arg(long, hide = true, requires = "number", conflicts_with = "memory")]
    pub key: Option<PathBuf>,
}

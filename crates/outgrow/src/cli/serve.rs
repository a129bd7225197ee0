//! The command line of `outgrow serve`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ProcessorArgs;

/// Models behind a server.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Requests that come while all threads are busy run together, each with the bits that it would have by itself. SIGTERM
or Ctrl-C ends the server once what it has taken in is answered, a second one at once.

A model that was trained here is served as NAME.raw, too, which takes records as it was trained on them: images as files,
rows of tables as JSON or CSV. /v1/models/NAME:predict takes either in plain JSON.

A new version in a repository is served from when it is asked for by POST to /v2/repository/models/NAME/load,
or, with --watch SECONDS, once it is there and whole: it is opened and tried first, on the samples that it has in
samples.jsonl too, and then takes the place of the old one, whose requests are answered. One that is damaged is refused,
and the old one goes on; /v2/repository/index says why. Counts for Prometheus are at /metrics.

With --tokens FILE, health is open to all, and everything else asks for a token of the file, which names for each what it
is good for (\"infer\": to ask models; \"admin\": to load and unload them) and may bound it:
  [[tokens]]
  name = \"app\"
  sha256 = \"…\"                                       or the token itself: token = \"…\"
  scopes = [\"infer\"]
  requests_per_s_max = 100
  request_bytes_max = 1000000

Examples:
  outgrow serve runs/mnist
  outgrow serve models                                models/mnist/1, models/mnist/2, models/adult/1, …
  outgrow serve digits=runs/mnist adults=runs/adult --http 127.0.0.1:9000 --latency-ms-max 20
  outgrow serve models --http 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem --tokens tokens.toml
  curl localhost:8000/v2/models/mnist                 what it takes and gives
  curl localhost:8000/v2/models/mnist/infer -d @request.json
  curl localhost:8000/v1/models/adults:predict -d '{\"instances\": [{\"age\": 39, \"workclass\": \"State-gov\"}]}'")]
pub struct ServeArgs {
    /// Runs' folders, models in them or ONNX files, each under its own name or one that is given; or a repository: a
    /// folder of models, NAME/VERSION/ with one of these each, of which the newest version is served
    #[arg(required_unless_present = "openapi", value_name = "[NAME=]MODEL")]
    pub models: Vec<String>,
    /// Print the description of all paths (OpenAPI 3.1), which is at /openapi.json too, and serve nothing
    #[arg(long)]
    pub openapi: bool,
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    pub http: String,
    /// Listen by gRPC too, for the same protocol, with health and reflection (builds with the feature grpc)
    #[arg(long, value_name = "HOST:PORT")]
    pub grpc: Option<String>,
    /// Encrypt everything (TLS 1.3), and be known by this certificate: PEM, with those between it and its authority
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key to it: PEM, for its owner's and group's eyes
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Answer only those who send a token of this file (Authorization: Bearer TOKEN): TOML or JSON
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Milliseconds in which a request is to be answered: batches are made for that, and what would be late is refused
    /// with status 503
    #[arg(long, value_name = "MS")]
    pub latency_ms_max: Option<f64>,
    /// Rows that run at once at most, of requests that come together; 1 runs each request by itself
    #[arg(long, value_name = "ROWS")]
    pub batch_rows_max: Option<NonZeroUsize>,
    /// How much of the machine a model gets beside others that are asked for at the same time [default: 1]
    #[arg(long = "weight", value_name = "NAME=SHARE")]
    pub weights: Vec<String>,
    /// Which models go first: those of a smaller number [default: 1]
    #[arg(long = "priority", value_name = "NAME=NUMBER")]
    pub priorities: Vec<String>,
    /// Look into repositories this often, and serve versions and models that have come without being asked to, once their
    /// files do not change any more
    #[arg(long, value_name = "SECONDS")]
    pub watch: Option<f64>,
    /// Write a line to stderr for each request that is answered (its name, path, model, status, time), and for each
    /// version that is loaded or let go
    #[arg(long, value_name = "FORM")]
    pub log: Option<LogForm>,
    /// Of which events; `info` is all of them, `warn` what was refused or has failed
    #[arg(long, value_name = "LEVEL", default_value = "info", requires = "log")]
    pub log_level: LogLevel,
    /// How the processor is used.
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// For people
    Text,
    /// A JSON object a line
    Json,
}

/// Which events a log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What has gone wrong within the server
    Error,
    /// What was refused for want of time or permission too
    Warn,
    /// Everything
    Info,
}

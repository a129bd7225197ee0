//! The commands, one file each, and what they share: where they write to and how they fail.
//!
//! To add a command: one file here, one variant in [`Command`], one line in [`dispatch`].

pub mod data;
mod eval;
mod export;
mod get;
mod graph;
mod infer;
mod init;
pub mod places;
mod predict;
mod run;
mod schema;
mod table;
mod tune_lr;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use outgrow_ir::{Diagnostic, Diagnostics};
use serde_json::Value as Json;

use crate::cli::{ColorChoice, Command, ManifestArgs, OutputArgs};
use crate::diagnose::{self, Palette};
use crate::manifest::{self, Manifest};
use crate::progress::Progress;
use places::Environment;

/// How a command fails.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong with what came from outside.
    Diagnostics(Diagnostics),
    /// Anything else.
    Other(anyhow::Error),
    /// Some of the work failed, and the answer has said so already.
    Partly(Diagnostics),
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Diagnostics(diagnostics)
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Diagnostics(diagnostic.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}

/// What a command may know about where it runs.
#[derive(Clone, Debug)]
pub struct Context {
    /// End stdout with one JSON object.
    pub json: bool,
    /// Say nothing but errors and results.
    pub quiet: bool,
    /// Colours for stderr.
    pub palette: Palette,
    /// Whether stderr is a terminal.
    pub interactive: bool,
    /// What the environment says.
    pub environment: Environment,
}

impl Context {
    /// From the flags, the process's terminal and its environment.
    pub fn new(output: &OutputArgs, environment: Environment) -> Self {
        let interactive = io::stderr().is_terminal();
        let colour = match output.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => interactive && !environment.no_color,
        };
        Self {
            json: output.json,
            quiet: output.quiet,
            palette: Palette::new(colour),
            interactive,
            environment,
        }
    }

    /// Writes a result to stdout. A reader that has gone away is no error.
    pub fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a result to stdout: one line of JSON with `--json`, else text.
    pub fn answer(&self, json: &Json, text: &str) -> io::Result<()> {
        if self.json { self.print(&format!("{json}\n")) } else { self.print(text) }
    }

    /// Reads the manifest that the flags name.
    pub fn manifest(&self, args: &ManifestArgs) -> Result<Manifest, Failure> {
        Ok(manifest::load(&args.manifest, &args.set)?)
    }

    /// What shows how far a command is.
    pub fn progress(&self) -> Progress {
        Progress::new(self.interactive, self.quiet)
    }

    /// Says something on stderr, unless asked to be quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Reports a failure on stderr, and with `--json` on stdout too.
    pub fn fail(&self, failure: Failure) {
        let diagnostics = match failure {
            Failure::Diagnostics(diagnostics) => diagnostics,
            Failure::Partly(diagnostics) => {
                return self.complain(diagnose::render(&diagnostics, self.palette).trim_end());
            }
            Failure::Other(error) => Diagnostic::new("outgrow.failed", format!("{error:#}"))
                .hint("the system refused something: see what it says")
                .into(),
        };
        self.complain(diagnose::render(&diagnostics, self.palette).trim_end());
        if self.json {
            let _ = self.print(&format!("{}\n", diagnose::to_json(&diagnostics)));
        }
    }

    fn complain(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Says what is wrong with the command line (or what was asked about it), and with `--json` on stdout too.
pub fn misused(error: &clap::Error, mut args: impl Iterator<Item = OsString>) -> ExitCode {
    // A reader that has gone away is no error.
    let _ = error.print();
    if error.use_stderr() && args.any(|arg| arg == "--json") {
        let found = usage(&error.render().to_string());
        let _ = writeln!(io::stdout().lock(), "{}", diagnose::to_json(&found.into()));
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A message about the command line in the parts of a diagnostic.
fn usage(message: &str) -> Diagnostic {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let after = |start: &str| lines.iter().find_map(|line| line.strip_prefix(start)).map(str::trim);
    let problem = after("error:").unwrap_or("no command is given");
    let expected = after("[possible values:").map(|values| values.trim_end_matches(']')).or(after("Usage:"));
    let diagnostic =
        Diagnostic::new("cli.usage", problem).hint(after("tip:").unwrap_or("see `outgrow --help`"));
    match expected {
        Some(expected) => diagnostic.expected(expected),
        None => diagnostic,
    }
}

/// Runs a command.
pub fn dispatch(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args, context),
        Command::Train(args) => run::train(&args, context),
        Command::Eval(args) => eval::run(&args, context),
        Command::Predict(args) => predict::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Infer(args) => infer::run(&args, context),
        Command::TuneLr(args) => tune_lr::run(&args, context),
        Command::Graph(args) => graph::run(&args, context),
        Command::Init(args) => init::run(&args, context),
        Command::Data(args) => data::run(&args, context),
        Command::Schema => schema::run(context),
    }
}

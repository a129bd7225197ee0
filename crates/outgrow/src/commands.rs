//! The commands, one file each.
//!
//! To add a command: one file here, one variant in [`Command`], one line in [`dispatch`].

mod bench;
mod completions;
pub mod data;
mod eval;
mod export;
mod get;
mod graph;
mod infer;
mod init;
mod predict;
mod run;
mod runs;
mod schema;
mod serve;
pub(crate) mod table;
mod tune_lr;
mod worker;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use outgrow_ir::Diagnostic;

use crate::cli::Command;
use crate::context::{Context, Failure};
use crate::{diagnose, latest};

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
pub fn dispatch(mut command: Command, context: &Context) -> Result<(), Failure> {
    latest::follow(&mut command, &*context.world.storage);
    match command {
        Command::Run(args) => run::run(&args, context),
        Command::Train(args) => run::train(&args, context),
        Command::Eval(args) => eval::run(&args, context),
        Command::Predict(args) => predict::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Infer(args) => infer::run(&args, context),
        Command::Serve(args) => serve::run(&args, context),
        Command::TuneLr(args) => tune_lr::run(&args, context),
        Command::Runs(args) => runs::run(&args, context),
        Command::Graph(args) => graph::run(&args, context),
        Command::Init(args) => init::run(&args, context),
        Command::Bench(args) => bench::run(&args, context),
        Command::Data(args) => data::run(&args, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::Schema => schema::run(context),
        Command::Worker(args) => worker::run(&args, context),
    }
}

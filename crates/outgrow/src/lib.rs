//! The binary as a library: manifest, command line, commands and reports. It reads the command line, the environment
//! and the clock, so that the other crates need not.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

pub mod cli;
pub mod commands;
pub mod context;
pub mod diagnose;
pub mod interrupt;
pub mod latest;
mod log;
pub mod manifest;
pub mod places;
mod profile;
pub mod progress;
pub mod report;
pub mod session;
mod workers;

use std::process::ExitCode;

use clap::Parser;

/// Runs the command line and says how it went: 0 done, 1 failed, 2 wrong usage, 130 and 143 ended by a signal.
pub fn main() -> ExitCode {
    outgrow_ir::quiet_shielded_panics();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return commands::misused(&error, std::env::args_os()),
    };
    let environment = places::Environment::of_process();
    let context = context::Context::new(&cli.output, environment);
    if matches!(cli.command, cli::Command::Run(_) | cli::Command::Train(_)) {
        let told = context.clone();
        let watched = context.interrupt.watch(move |signal, begun| told.tell_ended(signal, begun));
        if let Err(error) = watched {
            context.fail(error.into());
            return ExitCode::FAILURE;
        }
    }
    match commands::dispatch(cli.command, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            context.fail(failure);
            code
        }
    }
}

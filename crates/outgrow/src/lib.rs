//! The binary as a library: manifest, command line, commands and reports. It reads the command line, the environment
//! and the clock, so that the other crates need not.

pub mod cli;
pub mod commands;
pub mod diagnose;
pub mod manifest;
pub mod report;

use std::process::ExitCode;

use clap::Parser;

/// Runs the command line and says how it went: 0 done, 1 failed, 2 wrong usage.
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let context = commands::Context::new(&cli.output, no_color);
    match commands::dispatch(cli.command, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context.fail(failure);
            ExitCode::FAILURE
        }
    }
}

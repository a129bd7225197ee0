//! `outgrow completions`: a script that completes commands and flags in a shell.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::context::{Context, Failure};

/// Prints the script.
pub fn run(args: &CompletionsArgs, context: &Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "outgrow", &mut script);
    Ok(context.print(&String::from_utf8_lossy(&script))?)
}

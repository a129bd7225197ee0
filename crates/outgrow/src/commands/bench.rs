//! `outgrow bench`: what this machine, or a server, can do, measured by what a run or a client uses.

mod infer;
mod links;
mod machine;
mod made_up;
mod serve;
mod timing;
mod train;
mod workers;

use clap::ValueEnum;

use crate::cli::{BenchAction, BenchArgs};
use crate::context::{Context, Failure};

/// Runs one of them.
pub fn run(args: &BenchArgs, context: &Context) -> Result<(), Failure> {
    match &args.action {
        BenchAction::Infer(args) => infer::run(args, context),
        BenchAction::Links(args) => links::run(args, context),
        BenchAction::Machine(args) => machine::run(args, context),
        BenchAction::Serve(args) => serve::run(args, context),
        BenchAction::Train(args) => train::run(args, context),
    }
}

/// A choice of the command line as it is written there.
fn name(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

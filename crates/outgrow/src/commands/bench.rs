//! `outgrow bench`: what this machine, or a server, can do, measured by what a run or a client uses.

mod links;
mod serve;
mod train;
mod workers;

use crate::cli::{BenchAction, BenchArgs};
use crate::context::{Context, Failure};

/// Runs one of them.
pub fn run(args: &BenchArgs, context: &Context) -> Result<(), Failure> {
    match &args.action {
        BenchAction::Links(args) => links::run(args, context),
        BenchAction::Serve(args) => serve::run(args, context),
        BenchAction::Train(args) => train::run(args, context),
    }
}

//! `outgrow bench`: what this machine can do, measured by what a run uses.

mod links;
mod train;
mod workers;

use crate::cli::{BenchAction, BenchArgs};
use crate::context::{Context, Failure};

/// Runs one of them.
pub fn run(args: &BenchArgs, context: &Context) -> Result<(), Failure> {
    match &args.action {
        BenchAction::Links(args) => links::run(args, context),
        BenchAction::Train(args) => train::run(args, context),
    }
}

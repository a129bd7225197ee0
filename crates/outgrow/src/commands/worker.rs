//! `outgrow worker`: one more worker of a run that was started elsewhere.

use crate::cli::WorkerArgs;
use crate::context::{Context, Failure};
use crate::session::join;

/// Joins a run and works until it ends.
pub fn run(args: &WorkerArgs, context: &Context) -> Result<(), Failure> {
    let own = join(args, context)?;
    Ok(context.answer(&own, "the run has ended\n")?)
}

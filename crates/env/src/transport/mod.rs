//! Links between the workers of a group: between each two an ordered stream of bytes in each direction, without loss and
//! without an end until somebody leaves. A transport moves bytes and knows of nothing else; who sends what to whom is
//! decided above it, by machines that a simulated network drives as well.
//!
//! No call waits but [`Transport::wait`]. Links hold a bounded number of bytes: who sends faster than another takes is
//! told that there is no room.

pub mod frame;
mod memory;
mod mesh;
mod ring;
#[cfg(not(loom))]
pub mod shared_memory;
pub mod sim;
mod sync;
pub mod tcp;
pub mod threads;

use std::fmt::Debug;
use std::time::Duration;
use thiserror::Error;

/// One worker's end of the links of its group. It has none to itself: workers' numbers below are those of others.
pub trait Transport: Send + Debug {
    /// A short name.
    fn name(&self) -> &'static str;

    /// This worker's number.
    fn worker(&self) -> usize;

    /// How many workers there are.
    fn workers(&self) -> usize;

    /// Takes on the first of these bytes, as many as there is room for, and says how many. Bytes to one worker arrive in
    /// the order of the calls.
    ///
    /// # Errors
    /// When the other worker can no longer take any.
    fn send(&mut self, to: usize, bytes: &[u8]) -> Result<usize, LinkError>;

    /// What has come from a worker and has not been taken: as much of it as lies in one piece; empty when there is nothing.
    ///
    /// # Errors
    /// When nothing is left and nothing more can come. What a worker sent before it left can still be taken.
    fn received(&mut self, from: usize) -> Result<&[u8], LinkError>;

    /// Takes so many of the bytes that [`Transport::received`] shows, which makes room for others.
    ///
    /// # Panics
    /// When it does not show so many.
    fn take(&mut self, from: usize, bytes: usize);

    /// Whether all that was taken on is on its way, so that it arrives although this end is not used for a while.
    ///
    /// # Errors
    /// When a worker that is yet to be sent something can no longer take it.
    fn flush(&mut self) -> Result<bool, LinkError> {
        Ok(true)
    }

    /// Waits until something has come, there is room again or a worker has left, or for no reason; at most this long.
    /// What was there before ends no wait for a second time: who waits has looked at all that it needs.
    ///
    /// # Errors
    /// When a worker is lost of which nothing is left to be taken. One that has left without a reason is not lost: others
    /// may still need each other, and who needs that one learns it from the other calls.
    fn wait(&mut self, at_most: Duration) -> Result<(), LinkError>;

    /// Ends this worker's part, after which it neither sends nor receives. The others find that it has left, or why it
    /// failed, after what was flushed before. A worker whose end is dropped without this counts as gone, since nobody
    /// knows whether it had done its part.
    fn leave(&mut self, reason: Option<&str>);
}

/// A link that is no more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("worker {worker} {problem}")]
pub struct LinkError {
    /// The worker at the other end.
    pub worker: usize,
    /// What became of it.
    pub problem: LinkProblem,
}

/// What became of a link.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkProblem {
    /// The worker at the other end has ended without a word: it was killed, say.
    #[error("has gone")]
    Gone,
    /// The worker at the other end had done its part.
    #[error("has left")]
    Left,
    /// The worker at the other end failed, and said why.
    #[error("has failed: {0}")]
    Failed(String),
    /// Nothing was heard of it for so long that it counts as lost.
    #[error("has not answered for {0:?}")]
    Silent(Duration),
    /// The system gave up the link.
    #[error("cannot be reached: {0}")]
    Broken(String),
    /// What came is not what a worker sends.
    #[error("sent what no worker sends: {0}")]
    Garbled(String),
}

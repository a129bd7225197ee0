//! The world, real and simulated: time, storage, files elsewhere and links between workers. Library code meets clocks,
//! disks and networks only through the traits of this crate, so that every run can be replayed under simulation with the
//! faults that a real machine has.
//!
//! This crate knows nothing of tensors, graphs or file formats.

pub mod clock;
#[cfg(feature = "cloud")]
mod object;
pub mod place;
pub mod remote;
pub mod storage;
pub mod transport;

pub use clock::{Clock, RealClock, SimClock};
pub use place::{FolderPlace, Place};
pub use remote::{NoRemote, Remote, RemoteBody, RemoteError};
pub use storage::{Entry, FolderLock, LocalStorage, Operation, SimStorage, StorageBackend, StorageError};
pub use transport::{LinkError, LinkProblem, Transport};

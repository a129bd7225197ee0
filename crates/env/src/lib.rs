//! The world, real and simulated: time, storage and files elsewhere. Library code meets clocks and disks only through the
//! traits of this crate, so that every run can be replayed under simulation with the faults that a real machine has.
//!
//! This crate knows nothing of tensors, graphs or file formats, and touches the network only with the feature `cloud`.

pub mod clock;
#[cfg(feature = "cloud")]
mod object;
pub mod place;
pub mod remote;
pub mod storage;

pub use clock::{Clock, RealClock, SimClock};
pub use place::{FolderPlace, Place};
pub use remote::{NoRemote, Remote, RemoteBody, RemoteError};
pub use storage::{Entry, FolderLock, LocalStorage, Operation, SimStorage, StorageBackend, StorageError};

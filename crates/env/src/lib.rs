//! The world, real and simulated: time and storage. Library code meets clocks and disks only through the traits of
//! this crate, so that every run can be replayed under simulation with the faults that a real machine has.
//!
//! This crate knows nothing of tensors, graphs or file formats, and never touches the network.

pub mod clock;
pub mod storage;

pub use clock::{Clock, RealClock, SimClock};
pub use storage::{Entry, FolderLock, LocalStorage, Operation, SimStorage, StorageBackend, StorageError};

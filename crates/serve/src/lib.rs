//! Models behind a server: what clients ask for, put together into batches in time.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

pub mod batcher;
pub mod protocol;

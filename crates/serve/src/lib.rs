//! Models behind a server: what clients ask for, put together into batches in time.

pub mod batcher;

//! Layer lists and named architectures as graphs.
pub mod spec;

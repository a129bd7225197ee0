//! Layer lists and named architectures as graphs.

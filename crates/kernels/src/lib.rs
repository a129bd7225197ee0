//! CPU kernels and their run-time dispatch.

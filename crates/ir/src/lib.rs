//! The typed dataflow graph.
mod diagnostic;
pub use diagnostic::{Diagnostic, Diagnostics, Place};

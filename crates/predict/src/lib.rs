//! A model that is ready to answer, below any command or server: opened from a run's folder, a package or an ONNX file to
//! one [`Model`], which any number of threads share. It runs on arrays; one that was trained here also takes raw
//! records (tables, images, text) through the very transform that it was trained with, and says what its numbers mean.
//!
//! ```text
//! bytes or files ── Reader ──► records ── Transform ──► arrays ── Model::run ──► arrays ── Meaning ──► answers
//! ```
//!
//! Rows do not depend on each other, nor their bits on how many there are: what a batch is made of may be decided by
//! whoever asks. This crate writes to no stream and ends no process.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod answer;
mod graph_body;
mod interpretation;
mod model;
mod onnx_graphs;
mod package;
mod programs;
mod reader;
mod rows;
mod signature;
mod text;
mod together;

pub use answer::{Answer, Decision, Meaning, argmax, softmax};
pub use graph_body::ROWS_MAX;
pub use interpretation::Interpretation;
pub use model::{Model, ModelOptions};
pub use package::{MODEL_FOLDER, Package};
pub use reader::{Reader, Records, read_file, read_stream};
pub use signature::{Extent, Port};
pub use text::Generation;
pub use together::Rows;

//! Fitted, serialisable steps from a raw record to tensors: cleaning, encoding, image decoding and
//! vocabularies. Training, `predict` and serving run the very same [`Transform`], so a model always sees its inputs
//! the way it was trained on them.
//!
//! A raw [`Record`] passes through a chain of [`steps`] (fitted on the training split where they learn something)
//! and is then assembled by an [`Assembly`] into fixed-size fields. Fields are kept in a compact stored form (images
//! as bytes) and finished into tensors when a batch is made. This crate reads no file and starts no thread.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod assembly;
pub mod augment;
mod batch;
mod chain;
mod expression;
pub mod image;
mod memory_budget;
mod normalization;
mod record;
mod schema;
pub mod steps;
mod text;
mod transform;
mod vocabulary;

pub use assembly::{
    Assembly, CategoryInput, FeatureInput, ImageInput, StoredField, TargetEncoder, TargetMoments, TextInput,
    index_bytes,
};
pub use batch::{Batch, BatchStream, Batches, Portion, TrainingData};
pub use chain::{Chain, ChainFit, RowEffects, Run};
pub use normalization::PixelNorm;
pub use record::{Column, ColumnKind, Columns, Origin, Pixels, Record, Role, Value};
pub use schema::{Field, OutputSchema, Target};
pub use transform::{RawFormat, Transform};
pub use vocabulary::{CharVocabulary, TokenizerFile, Vocabulary};

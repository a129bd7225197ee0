//! Data sets: sources of raw records, their preparation into verified shards, and the loaders that training and
//! evaluation read from.
//!
//! [`prepare`] turns the manifest's `[data]` section ([`DataSpec`]) into a folder of shards; [`Dataset`] opens such a
//! folder; a [`DataLoader`] yields its batches in an order that depends on nothing but (seed, epoch). Files are
//! reached only through [`outgrow_env::StorageBackend`]; nothing here knows models or training.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod apply;
mod content;
mod content_hash;
mod dataset;
pub mod download;
pub mod files;
mod fingerprint;
mod fit;
pub mod homes;
mod inspect;
mod loader;
mod manifest;
mod permutation;
mod pieces;
mod prepare;
mod problems;
pub mod profile;
mod records;
pub mod replicas;
mod report;
mod shard;
mod shards;
pub mod source;
mod spec;
mod split;
mod split_data;
mod stratify;
mod target_fit;
mod tokens;
mod work;

pub use apply::prepare_files;
pub use content::{Content, unpacked};
pub use dataset::Dataset;
pub use inspect::{Inspection, SplitInspection, ValueRange};
pub use loader::{DataLoader, LoaderOptions, Position};
pub use prepare::{Prepared, prepare, source_rows};
pub use report::{CleanReport, SplitReport};
pub use spec::{
    Cell, Clean, ColumnType, DataSpec, Files, FoldSpec, NamedNormalization, Names, Normalization,
    PixelNumbers, SplitSpec, Task, TestSpec,
};
pub use split::Split;
pub use work::{PrepareOptions, PrepareProgress};

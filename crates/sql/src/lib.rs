//! One SQL statement over a table of records: the seam between the data pipeline and whatever runs SQL.
//!
//! An [`SqlEngine`] turns a statement and the columns of a table into a [`Query`], with everything that is wrong with
//! the statement found before a record is read; the query then turns the table's records into others, as a stream.
//! Engines are listed in [`ENGINES`]. The one there is, DataFusion in this process, is built with the feature
//! `datafusion`; one that spreads a statement over machines is another entry of the list.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

#[cfg(feature = "datafusion")]
mod datafusion;

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Columns, Record};
use std::path::PathBuf;
use std::sync::Arc;

/// The name that a statement calls the table by.
pub const TABLE: &str = "data";

/// Records in their order. One that cannot be read or computed ends them.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Record, Diagnostic>> + Send + 'a>;

/// What a statement reads. Reading it again gives the same records in the same order.
pub trait Table: Send + Sync {
    /// Its columns, of numbers, text or images.
    fn columns(&self) -> &Columns;
    /// Starts reading. A statement that names the table several times reads it as often.
    ///
    /// # Errors
    /// When reading cannot be started.
    fn read(&self) -> Result<Records<'_>, Diagnostic>;
}

/// A statement that was found to be right.
pub trait Query: Send + Sync {
    /// The columns of its result.
    fn columns(&self) -> &Columns;
    /// Whether a column of the result is the table's column of the same name, untouched.
    fn keeps(&self, column: usize) -> bool;
    /// Starts running it on a table with the columns that it was planned for. The same table gives the same records in
    /// the same order, whatever the machine.
    ///
    /// # Errors
    /// When the engine cannot start.
    fn run(&self, table: Arc<dyn Table>) -> Result<Records<'static>, Diagnostic>;
}

/// Something that runs SQL.
pub trait SqlEngine: Send + Sync {
    /// Name and version: results depend on it.
    fn version(&self) -> String;
    /// Checks and plans one `SELECT` (or `WITH … SELECT`) over a table called [`TABLE`].
    ///
    /// # Errors
    /// What is wrong with the statement, or does not fit the columns. Nothing has been read then.
    fn plan(&self, statement: &str, columns: &Columns) -> Result<Box<dyn Query>, Diagnostics>;
}

/// What an engine may use.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Bytes that sorts, groups, joins and windows may hold in memory at a time.
    pub memory: usize,
    /// Bytes of temporary files for what does not fit.
    pub disk: u64,
    /// The folder for temporary files, made when a statement runs. They are gone afterwards.
    pub spill: PathBuf,
}

impl EngineOptions {
    /// Half a GiB of memory, 64 GiB of temporary files.
    pub fn new(spill: impl Into<PathBuf>) -> Self {
        Self { memory: 512 << 20, disk: 64 << 30, spill: spill.into() }
    }
}

/// One kind of engine.
pub struct EngineKind {
    /// Its name.
    pub name: &'static str,
    /// Makes one.
    pub open: fn(EngineOptions) -> Box<dyn SqlEngine>,
}

/// Every engine that this build has; the first is used.
pub const ENGINES: &[&EngineKind] = &[
    #[cfg(feature = "datafusion")]
    &datafusion::KIND,
];

/// The engine of this build.
///
/// # Errors
/// When it was built without one: how to get one that has it.
pub fn engine(options: EngineOptions) -> Result<Box<dyn SqlEngine>, Diagnostic> {
    match ENGINES.first() {
        Some(kind) => Ok((kind.open)(options)),
        None => Err(Diagnostic::new("data.sql.not-built", "this build of outgrow cannot run SQL")
            .expected("steps such as { filter = … }, or a build with the feature `sql`")
            .hint("build it with `cargo build --release --features sql`")),
    }
}

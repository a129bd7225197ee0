//! Single files that say by themselves which columns they have: Parquet, Arrow IPC and NumPy arrays. For who has a model,
//! and with it the columns that are wanted, but no `[data]` section that would name a source.

use super::{Records, arrow, npy, parquet};
use crate::files::{Found, storage_problem};
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use outgrow_transform::Columns;
use std::sync::Arc;

/// As many bytes tell what a file is.
const MAGIC_BYTES: u64 = 8;

/// The records of one file.
pub struct FileTable {
    /// What the records hold: of the columns that are wanted, those that are there.
    pub columns: Columns,
    /// The names of all columns of the file.
    pub names: Vec<String>,
    /// Whether the names are only numbers of places, as those of a plain array are.
    pub by_place: bool,
    /// The records in their order, read as they are asked for.
    pub records: Records<'static>,
}

/// The kinds of such files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Parquet.
    Parquet,
    /// Arrow IPC, as a file or a stream.
    Arrow,
    /// A NumPy array, or an archive of them.
    Npy,
}

impl Kind {
    /// Told by the first bytes; none for files of other kinds.
    pub fn of(start: &[u8]) -> Option<Self> {
        let kinds: [(&[u8], Self); 6] = [
            (b"PAR1", Self::Parquet),
            (b"ARROW1", Self::Arrow),
            (&[0xff; 4], Self::Arrow),
            (b"\x93NUMPY", Self::Npy),
            (npy::ARCHIVES[0], Self::Npy),
            (npy::ARCHIVES[1], Self::Npy),
        ];
        kinds.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| kind)
    }

    /// The kind's name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow",
            Self::Npy => "NumPy",
        }
    }
}

/// Endings of the names of such files.
pub fn endings() -> impl Iterator<Item = &'static str> {
    [parquet::ENDINGS, arrow::ENDINGS, npy::ENDINGS].into_iter().flatten().copied()
}

/// Refuses a file that is none of text, whatever its name: a reader of lines would only find that its first is odd.
///
/// # Errors
/// When it is another kind of table, or cannot be read.
pub(super) fn text_only(
    storage: &Arc<dyn StorageBackend>,
    file: &Found,
    source: &str,
) -> Result<(), Diagnostic> {
    let n = file.bytes.min(MAGIC_BYTES) as usize;
    let start = storage.read_range(&file.path, 0, n).map_err(|e| storage_problem(&e))?;
    let is_archive = npy::ARCHIVES.iter().any(|magic| start.starts_with(magic));
    let (what, hint) = match Kind::of(&start) {
        _ if is_archive => {
            let hint = "save a workbook of Excel as CSV; archives of NumPy are read by `source = \"npy\"`";
            ("an archive (ZIP), as workbooks of Excel are".to_owned(), hint.to_owned())
        }
        Some(kind) => {
            let source = kind.name().to_lowercase();
            let source = if kind == Kind::Npy { "npy" } else { &source };
            (format!("of {}", kind.name()), format!("say `source = \"{source}\"` in `[data]`"))
        }
        None => return Ok(()),
    };
    Err(Diagnostic::new("data.not-text", format!("the file is {what}"))
        .file(&file.path)
        .expected(format!("text, which the source `{source}` reads"))
        .hint(hint))
}

/// Opens a file for the columns that are wanted. None for a file of another kind.
///
/// # Errors
/// When the file cannot be read, or is damaged.
pub fn open(
    storage: &Arc<dyn StorageBackend>,
    file: &Found,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Option<FileTable>, Diagnostic> {
    let n = file.bytes.min(MAGIC_BYTES) as usize;
    let start = storage.read_range(&file.path, 0, n).map_err(|e| storage_problem(&e))?;
    match Kind::of(&start) {
        Some(Kind::Parquet) => parquet::file_table(storage, file, wanted).map(Some),
        Some(Kind::Arrow) => arrow::file_table(storage, file, wanted).map(Some),
        Some(Kind::Npy) => npy::file_table(storage, file, wanted).map(Some),
        None => Ok(None),
    }
}

//! Rows of a table that wait until its columns' widths are known: in memory while they are few, else in a temporary file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// As many bytes of rows stay in memory.
const MEMORY_BYTES: usize = 16 << 20;
/// How many names are tried for a temporary file.
const NAMES: u32 = 1000;

/// Rows of cells, given back in the order in which they came.
#[derive(Debug)]
pub struct Spool {
    /// Where temporary files are.
    folder: PathBuf,
    memory_bytes: usize,
    memory: Vec<u8>,
    file: Option<BufWriter<File>>,
}

impl Spool {
    /// An empty one, whose file will be in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, memory_bytes: MEMORY_BYTES, memory: Vec::new(), file: None }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When there is neither memory to be used nor a file to be written.
    pub fn push(&mut self, cells: &[String]) -> io::Result<()> {
        if self.file.is_none() && self.memory.len() > self.memory_bytes {
            self.file = Some(BufWriter::new(temporary(&self.folder)?));
        }
        let mut row = (cells.len() as u64).to_le_bytes().to_vec();
        for cell in cells {
            row.extend((cell.len() as u64).to_le_bytes());
            row.extend(cell.as_bytes());
        }
        match &mut self.file {
            Some(file) => file.write_all(&row),
            None => self.memory.write_all(&row),
        }
    }

    /// Shows every row.
    ///
    /// # Errors
    /// When the file cannot be read, or what `sink` answers.
    pub fn each(self, sink: &mut dyn FnMut(Vec<String>) -> io::Result<()>) -> io::Result<()> {
        let file: Box<dyn Read> = match self.file {
            Some(file) => {
                let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.seek(SeekFrom::Start(0))?;
                Box::new(BufReader::new(file))
            }
            None => Box::new(io::empty()),
        };
        let mut rows = self.memory.chain(file);
        while let Some(cells) = number(&mut rows)? {
            let row = (0..cells).map(|_| cell(&mut rows)).collect::<io::Result<_>>()?;
            sink(row)?;
        }
        Ok(())
    }
}

/// The next number; nothing at the end.
fn number(rows: &mut impl Read) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    rows.take(8).read_to_end(&mut bytes)?;
    match bytes.first_chunk() {
        Some(bytes) => Ok(Some(u64::from_le_bytes(*bytes))),
        None if bytes.is_empty() => Ok(None),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn cell(rows: &mut impl Read) -> io::Result<String> {
    let length = number(rows)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut cell = String::new();
    rows.take(length).read_to_string(&mut cell)?;
    Ok(cell)
}

/// A file without a name, which goes away with the process, however it ends.
fn temporary(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    for number in 0..NAMES {
        let path = folder.join(format!(".outgrow-{}-{number}", std::process::id()));
        match options.open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_memory_and_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<Vec<String>> =
            (0..500).map(|i| (0..i % 4).map(|j| format!("ä\n{}", "x".repeat(i * j))).collect()).collect();
        for memory_bytes in [usize::MAX, 5000, 0] {
            let mut spool = Spool { memory_bytes, ..Spool::new(folder.path().into()) };
            rows.iter().for_each(|row| spool.push(row).unwrap());
            assert_eq!(spool.file.is_some(), memory_bytes < usize::MAX);
            assert!(spool.memory.len() < 10_000 || memory_bytes == usize::MAX);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
            let mut back = Vec::new();
            let done = spool.each(&mut |row| {
                back.push(row);
                Ok(())
            });
            done.unwrap();
            assert_eq!(back, rows);
        }
    }
}

//! The arrays that a command line names, by their place or by the model's own names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::read_file;
use outgrow_store::npy::{read_npy, write_npy};
use outgrow_tensor::Tensor;

use super::wrong;

/// An array for an input of the model.
#[derive(Debug)]
pub struct Array {
    /// The input.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// What is in it.
    pub tensor: Tensor,
}

/// Which file is for which of `names`: `NAME=FILE`, or the next name that is free.
pub fn named(option: &str, given: &[String], names: &[String]) -> Result<Vec<(usize, PathBuf)>, Diagnostics> {
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    let mut problems = Diagnostics::default();
    let expected = || if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    for text in given {
        let split = text
            .split_once('=')
            .filter(|(name, _)| names.iter().any(|n| n == name) || !Path::new(text).exists());
        let (place, file) = match split {
            Some((name, file)) => (names.iter().position(|n| n == name), file),
            None => ((0..names.len()).find(|i| found.iter().all(|(j, _)| j != i)), text.as_str()),
        };
        match place {
            Some(i) if found.iter().any(|(j, _)| *j == i) => {
                problems.push(
                    wrong("infer.name", format!("`{}` is given twice", names[i]))
                        .item(option)
                        .hint("give it once"),
                );
            }
            Some(i) => found.push((i, PathBuf::from(file))),
            None => problems.push(
                wrong("infer.name", format!("the model has no place for `{text}`"))
                    .item(option)
                    .expected(expected()),
            ),
        }
    }
    problems.into_result(found)
}

/// Reads an array for every input, in the model's order.
pub fn read_arrays(
    storage: &Arc<dyn StorageBackend>,
    given: &[String],
    names: &[String],
) -> Result<Vec<Array>, Diagnostics> {
    let mut files = named("--input", given, names)?;
    files.sort_by_key(|(i, _)| *i);
    let mut problems = Diagnostics::default();
    for (i, name) in names.iter().enumerate() {
        if files.iter().all(|(j, _)| *j != i) {
            let problem = format!("there is no array for the input `{name}`");
            problems.push(
                wrong("infer.input", problem).item("--input").hint(format!("add `--input {name}=FILE.npy`")),
            );
        }
    }
    let mut arrays = Vec::new();
    for (i, file) in files {
        match read_array(storage, &names[i], &file) {
            Ok(array) => arrays.push(array),
            Err(problem) => problems.push(problem),
        }
    }
    problems.into_result(arrays)
}

/// Reads the array for an input.
///
/// # Errors
/// When the file cannot be read, or is no array.
pub fn read_array(storage: &Arc<dyn StorageBackend>, name: &str, file: &Path) -> Result<Array, Diagnostic> {
    let bytes = read_file(storage, file)?;
    let tensor = read_npy(&bytes).map_err(|d| d.file(file))?;
    Ok(Array { name: name.to_owned(), file: file.to_owned(), tensor })
}

/// Writes an array, whole or not at all.
pub fn write_array(
    storage: &Arc<dyn StorageBackend>,
    file: &Path,
    tensor: &Tensor,
) -> Result<(), Diagnostic> {
    storage.write(file, &write_npy(tensor)).map_err(|e| {
        let problem = wrong("infer.output", e.to_string()).file(file).item("--output");
        problem.hint("name a file in a folder that is there and that may be written to")
    })
}

//! What a CSV file says of itself where the manifest does not: which character separates its fields, and whether its first
//! column only counts the rows.

use super::{CsvFormat, lines, own};
use crate::files::Found;
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use std::sync::Arc;

/// Separators that are tried where commas separate nothing.
const DELIMITERS: &[&str] = &[";", "\t", "|"];
/// Lines that must have as many fields as the first.
const DELIMITER_LINES: usize = 20;
/// Rows that must be counted.
const INDEX_ROWS: usize = 1000;

/// Completes a format by what the file shows, and says what that was.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn complete(
    storage: &Arc<dyn StorageBackend>,
    file: &Found,
    told_delimiter: bool,
    format: &mut CsvFormat,
) -> Result<Vec<String>, Diagnostic> {
    let mut notes = Vec::new();
    if !told_delimiter && let Some(delimiter) = delimiter(storage, file, format)? {
        notes.push(format!(
            "fields are separated by {delimiter:?}, as the lines of {} show; `delimiter` in `[data]` says otherwise",
            file.shown
        ));
        format.raw.trim = format.raw.trim.replace(delimiter, "");
        format.raw.delimiter = delimiter.to_owned();
    }
    if format.header && format.columns.is_none() && is_index(storage, file, format)? {
        notes.push(
            "the first column has no name and counts the rows: it is taken for an index and left out; name it with \
             `columns` in `[data]` to keep it"
                .to_owned(),
        );
        format.index = true;
    }
    Ok(notes)
}

/// Another separator than a comma, if that separates nothing in the first line and the other all lines alike.
fn delimiter(
    storage: &Arc<dyn StorageBackend>,
    file: &Found,
    format: &CsvFormat,
) -> Result<Option<&'static str>, Diagnostic> {
    let widths = |delimiter: &str| -> Result<Vec<usize>, Diagnostic> {
        let mut format = format.clone();
        format.raw.delimiter = delimiter.to_owned();
        let mut lines = lines(storage, &format, file)?;
        let mut widths = Vec::new();
        while widths.len() < DELIMITER_LINES {
            match lines.next() {
                Some(line) => widths.push(line?.1.len()),
                None => break,
            }
        }
        Ok(widths)
    };
    if widths(&format.raw.delimiter)?.first() != Some(&1) {
        return Ok(None);
    }
    for delimiter in DELIMITERS.iter().filter(|d| format.raw.comment.as_deref() != Some(**d)) {
        let widths = widths(delimiter)?;
        if widths.first().is_some_and(|first| *first > 1 && widths.iter().all(|width| width == first)) {
            return Ok(Some(delimiter));
        }
    }
    Ok(None)
}

/// Whether the first column has no name, alone of all, and its cells count up by one.
fn is_index(storage: &Arc<dyn StorageBackend>, file: &Found, format: &CsvFormat) -> Result<bool, Diagnostic> {
    let mut lines = lines(storage, format, file)?;
    let Some(first) = lines.texts() else { return Ok(false) };
    let names = own(&first?.1, &format.raw.trim);
    let unnamed = names.iter().filter(|name| name.is_empty()).count();
    if unnamed != 1 || !names[0].is_empty() || names.len() < 2 {
        return Ok(false);
    }
    let mut next: Option<u64> = None;
    for _ in 0..INDEX_ROWS {
        // What is wrong with a later line is said by whoever reads it for good.
        let Some(Ok((_, fields))) = lines.texts() else { break };
        let cell = fields.first().and_then(|field| field.trim().parse::<u64>().ok());
        match cell {
            Some(cell) if next.is_none_or(|next| next == cell) => next = cell.checked_add(1),
            _ => return Ok(false),
        }
    }
    Ok(next.is_some())
}

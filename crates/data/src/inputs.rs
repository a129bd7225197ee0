//! Reading what a trained model is to answer for: images, tables and texts, as the model was trained on them.

use crate::files::{Found, storage_problem};
use crate::source::csv;
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use outgrow_transform::{ColumnKind, Record, Transform, Value, image};
use std::path::Path;
use std::sync::Arc;

/// Larger images and texts are not read whole.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The records in a file: one for a PNG or JPEG image or a text, one per line of a CSV file. A CSV file may name its
/// columns in its first line; without one it has all columns of the training data, or all but the label. Labels
/// need not be there.
///
/// # Errors
/// A diagnostic for a file that does not fit what the model was trained on.
pub fn read_inputs(
    storage: &Arc<dyn StorageBackend>,
    path: &Path,
    transform: &Transform,
) -> Result<Vec<Record>, Diagnostic> {
    let entry = storage.entry(path).map_err(|e| storage_problem(&e))?;
    let Some(entry) = entry.filter(|e| !e.is_folder) else {
        return Err(Diagnostic::new("data.not-found", "there is no such file").file(path));
    };
    let file = Found { shown: path.display().to_string(), path: path.to_path_buf(), bytes: entry.bytes };
    let whole = || {
        if file.bytes > FILE_BYTES_MAX {
            return Err(Diagnostic::new("data.too-large", format!("the file has {} bytes", file.bytes))
                .file(path)
                .expected(format!("at most {FILE_BYTES_MAX}")));
        }
        storage.read(path).map_err(|e| storage_problem(&e))
    };
    let record = |values| {
        let mut record = Record::new(values);
        record.origin.file = Some(Arc::from(path));
        vec![record]
    };
    if transform.assembly.text.is_some() {
        let text = String::from_utf8(whole()?).map_err(|_| {
            Diagnostic::new("data.text.utf8", "the file is not UTF-8 text")
                .file(path)
                .hint("convert the file, for example with `iconv -t UTF-8`")
        })?;
        return Ok(record(vec![Value::Text(text)]));
    }
    let Some(input) = &transform.assembly.image else {
        return csv::read_inputs(storage, &file, transform);
    };
    let bytes = whole()?;
    if !image::is_image(&bytes) {
        return Err(Diagnostic::new("data.image.format", "the file is neither a PNG nor a JPEG image")
            .file(path)
            .expected("an image, which the model was trained on"));
    }
    let mut values = vec![Value::Missing; transform.columns.0.len()];
    values[input.column] = Value::Encoded(bytes);
    let features = transform.feature_columns();
    if let Some(other) = features.iter().find(|i| transform.columns.0[**i].kind != ColumnKind::Image) {
        let name = &transform.columns.0[*other].name;
        return Err(
            Diagnostic::new("data.inputs", format!("the model also needs a value for `{name}`")).file(path)
        );
    }
    Ok(record(values))
}

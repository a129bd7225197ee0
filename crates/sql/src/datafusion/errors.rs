//! DataFusion's errors as diagnostics.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use outgrow_ir::Diagnostic;
use outgrow_transform::Columns;

/// Longer texts are cut.
const TEXT_MAX: usize = 500;

/// Something that should not happen.
pub fn internal(problem: &str) -> Diagnostic {
    Diagnostic::fault("data.sql.engine", format!("the statement could not be run: {}", cut(problem)))
}

/// The diagnostic for an error; one that came from the table itself comes out as it went in.
pub fn to_diagnostic(error: &DataFusionError, columns: &Columns) -> Diagnostic {
    match error {
        DataFusionError::Diagnostic(at, inner) => {
            let mut diagnostic = to_diagnostic(inner, columns);
            if let Some(span) = at.span {
                let (line, column) = (span.start.line, span.start.column);
                diagnostic.problem.push_str(&format!(" (line {line}, column {column} of the statement)"));
            }
            diagnostic
        }
        DataFusionError::Context(_, inner) => to_diagnostic(inner, columns),
        DataFusionError::Shared(inner) => to_diagnostic(inner, columns),
        DataFusionError::Collection(all) if !all.is_empty() => to_diagnostic(&all[0], columns),
        DataFusionError::External(inner) => match inner.downcast_ref::<Diagnostic>() {
            Some(diagnostic) => diagnostic.clone(),
            None => failed(&inner.to_string()),
        },
        DataFusionError::ArrowError(inner, _) => match &**inner {
            datafusion::arrow::error::ArrowError::ExternalError(inner) => {
                match (inner.downcast_ref::<Diagnostic>(), inner.downcast_ref::<DataFusionError>()) {
                    (Some(diagnostic), _) => diagnostic.clone(),
                    (_, Some(error)) => to_diagnostic(error, columns),
                    _ => failed(&inner.to_string()),
                }
            }
            other => failed(&other.to_string()),
        },
        DataFusionError::SchemaError(inner, _) => schema_error(inner, columns),
        DataFusionError::ResourcesExhausted(text) => {
            Diagnostic::new("data.sql.memory", format!("the statement needs too much memory: {}", cut(text)))
                .hint("group, sort or join fewer columns or records; joins hold one side in memory")
        }
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => {
            Diagnostic::new("data.sql.plan", format!("the statement does not fit the data: {}", cut(text)))
                .hint(format!("the columns are {}", names(columns)))
        }
        other => failed(&other.strip_backtrace()),
    }
}

fn failed(text: &str) -> Diagnostic {
    Diagnostic::new("data.sql.run", format!("the statement failed: {}", cut(text)))
        .hint("change the statement, or clean the values that it fails on")
}

fn schema_error(error: &SchemaError, columns: &Columns) -> Diagnostic {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return Diagnostic::new(
            "data.sql.plan",
            format!("the statement does not fit the data: {}", cut(&error.to_string())),
        )
        .hint(format!("the columns are {}", names(columns)));
    };
    let known: Vec<String> = valid_fields.iter().map(|c| quoted(&c.name)).collect();
    let known = if known.is_empty() { names(columns) } else { cut(&known.join(", ")) };
    let diagnostic =
        Diagnostic::new("data.sql.column", format!("there is no column `{}`", field.quoted_flat_name()))
            .expected(format!("one of: {known}"));
    // `education-num` without quotes is a difference.
    let parts = |c: &&outgrow_transform::Column| {
        c.name != field.name && c.name.split(|c: char| !c.is_alphanumeric()).any(|p| p == field.name)
    };
    let case = |c: &&outgrow_transform::Column| c.name.eq_ignore_ascii_case(&field.name);
    match columns.0.iter().find(case).or(columns.0.iter().find(parts)) {
        Some(column) => diagnostic.hint(format!("write {}", quoted(&column.name))),
        None => diagnostic,
    }
}

/// The columns as a statement has to write them.
fn names(columns: &Columns) -> String {
    cut(&columns.0.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>().join(", "))
}

/// A name in double quotes, where it needs them.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn cut(text: &str) -> String {
    let text = text.trim_start_matches("Error during planning: ").replace('\n', " ");
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

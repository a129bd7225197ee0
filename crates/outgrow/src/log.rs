//! Logs: the events of libraries, as lines on stderr. Without this nobody listens to them, and they cost nothing.

use std::io;

use outgrow_ir::Diagnostic;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::{LogForm, LogLevel};

/// Writes events from now on to the end of the process.
///
/// # Errors
/// When something else of the process takes them already.
pub fn start(form: LogForm, level: LogLevel) -> Result<(), Diagnostic> {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    let started = match form {
        LogForm::Text => lines.with_ansi(false).try_init(),
        LogForm::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Diagnostic::fault("serve.log", error.to_string()))
}

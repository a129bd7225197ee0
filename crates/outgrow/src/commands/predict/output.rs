//! Predictions on their way out, one after the other: none is kept longer than it must be.

use std::io::{self, Write};
use std::path::Path;

use outgrow_ir::Diagnostics;
use outgrow_predict::{Answer, Meaning};
use serde_json::{Value as Json, json};

use super::rows_file::{Kind, RowsFile, object};
use super::spool::Spool;
use crate::commands::table::Widths;
use crate::diagnose;
use crate::report::format::{number, percent};

/// How many of the likeliest classes people are shown.
const TOP: usize = 5;

/// Writes predictions.
pub struct Output<'a> {
    meaning: &'a Meaning,
    out: &'a mut dyn Write,
    form: Form<'a>,
    /// Predictions so far.
    count: u64,
    /// Whether somebody reads them still.
    read: bool,
}

/// In what form.
enum Form<'a> {
    /// Rows of a file.
    File(Box<RowsFile<'a>>),
    /// One object for machines, with the folder of the model.
    Json(String),
    /// A table for people, which can only begin once the widths of its columns are known.
    Table { rows: Spool, widths: Widths, numbered: bool },
    /// Texts one after the other.
    Texts,
}

impl<'a> Output<'a> {
    /// What a model of this meaning, in this folder, says on stdout.
    pub fn new(meaning: &'a Meaning, folder: &Path, json: bool, out: &'a mut dyn Write) -> Self {
        let form = match meaning {
            _ if json => Form::Json(folder.display().to_string()),
            Meaning::Tokens(_) => Form::Texts,
            _ => {
                let rows = Spool::new(std::env::temp_dir());
                Form::Table { rows, widths: Widths::default(), numbered: false }
            }
        };
        Self { meaning, out, form, count: 0, read: true }
    }

    /// What it says in a file of this form.
    ///
    /// # Errors
    /// When the file cannot be begun.
    pub fn to_file(meaning: &'a Meaning, kind: Kind, out: &'a mut dyn Write) -> io::Result<Self> {
        Ok(Self {
            meaning,
            out,
            form: Form::File(Box::new(RowsFile::new(kind, meaning)?)),
            count: 0,
            read: true,
        })
    }

    /// Predictions so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether nothing of it is seen before its end, so that something else may be.
    pub fn is_late(&self) -> bool {
        matches!(self.form, Form::File(_) | Form::Table { .. })
    }

    /// Whether more predictions are of use: not when the reader has gone away.
    pub fn is_read(&self) -> bool {
        self.read
    }

    /// Whether something has been written, so that it must be brought to its end.
    pub fn has_begun(&self) -> bool {
        self.count > 0 && !self.is_late()
    }

    /// Writes the prediction for a row of a file, or for a file that is one record.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&mut self, file: &Path, row: Option<u64>, answer: &Answer) -> io::Result<()> {
        let text = match &mut self.form {
            Form::File(rows) => {
                let bytes = rows.push(file, row, answer)?;
                self.count += 1;
                // Whoever is to read a file is not there yet: that it cannot be written is an error.
                return self.out.write_all(&bytes);
            }
            Form::Json(model) => {
                let before = if self.count == 0 { json_start(model) } else { ",".into() };
                before + &Json::Object(object(self.meaning, file, row, answer)).to_string()
            }
            Form::Table { rows, widths, numbered } => {
                *numbered |= row.is_some();
                let mut cells =
                    vec![file.display().to_string(), row.map_or_else(String::new, |row| row.to_string())];
                cells.extend(shown(self.meaning, answer));
                widths.see(&cells);
                rows.push(&cells)?;
                String::new()
            }
            Form::Texts => {
                let between = if self.count == 0 { "" } else { "\n" };
                between.to_owned() + &text(self.meaning, file, answer)
            }
        };
        self.count += 1;
        self.write(&text)
    }

    /// Writes what comes after the last prediction.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self, problems: &Diagnostics) -> io::Result<()> {
        match std::mem::replace(&mut self.form, Form::Texts) {
            Form::File(rows) => return self.out.write_all(&rows.finish()?),
            Form::Json(model) => {
                let mut text = if self.count == 0 { json_start(&model) } else { String::new() };
                text.push(']');
                if !problems.0.is_empty() {
                    let errors = diagnose::to_json(problems).get("errors").cloned().unwrap_or(Json::Null);
                    text += &format!(",\"errors\":{errors}");
                }
                self.write(&(text + "}\n"))?;
            }
            Form::Table { rows, mut widths, numbered } if self.count > 0 => {
                let mut head = vec!["file".to_owned(), "row".to_owned()];
                head.extend(columns(self.meaning));
                widths.see(&head);
                if !numbered {
                    widths.hide(1);
                }
                self.write(&widths.line(&head))?;
                rows.each(&mut |cells| self.write(&widths.line(&cells)))?;
            }
            Form::Table { .. } | Form::Texts => {}
        }
        let flushed = self.out.flush();
        self.unless_gone(flushed)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        if !self.read {
            return Ok(());
        }
        let written = self.out.write_all(text.as_bytes());
        self.unless_gone(written)
    }

    /// A reader that has gone away is no error.
    fn unless_gone(&mut self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.read = false;
                Ok(())
            }
            other => other,
        }
    }
}

/// How the one object begins.
fn json_start(model: &str) -> String {
    format!("{{\"model\":{},\"predictions\":[", json!(model))
}

/// The names of the columns of a table of predictions, those of the file and the row left out.
fn columns(meaning: &Meaning) -> Vec<String> {
    match meaning {
        Meaning::Numbers(names) => names.clone(),
        _ => ["class", "probability", "next"].map(String::from).to_vec(),
    }
}

/// The cells of a prediction below these columns.
fn shown(meaning: &Meaning, answer: &Answer) -> Vec<String> {
    if let Meaning::Numbers(_) = meaning {
        return answer.numbers.iter().map(|value| number(*value)).collect();
    }
    let likeliest = meaning.likeliest(answer, TOP);
    let shown: Vec<String> = likeliest.iter().map(|(name, p)| format!("{name} {}", percent(*p))).collect();
    // The class that is answered comes first; of two that are not divided in the middle it may not be the likeliest.
    let answered = meaning.names().get(answer.class).map_or("", String::as_str);
    let probability = answer.numbers.get(answer.class).copied().unwrap_or_default();
    let others = likeliest.iter().zip(&shown).filter(|((name, _), _)| *name != answered);
    let others: Vec<&str> = others.map(|(_, shown)| shown.as_str()).collect();
    vec![answered.to_owned(), percent(probability), others.join(", ")]
}

/// A prediction of a language model.
fn text(meaning: &Meaning, file: &Path, answer: &Answer) -> String {
    let likeliest = meaning.likeliest(answer, TOP);
    let shown: Vec<String> = likeliest.iter().map(|(name, p)| format!("{name:?} {}", percent(*p))).collect();
    let continuation = answer.continuation.as_deref().unwrap_or_default();
    format!("{}: next {}\n{continuation}\n", file.display(), shown.join(", "))
}

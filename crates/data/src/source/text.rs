//! Plain text as a stream of tokens.

use super::{Context, Opened, Part, SourceKind, check_test, require};
use crate::DataSpec;
use crate::files::{Found, content, read_problem, storage_problem};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{TokenizerFile, Vocabulary};
use std::io::Read;
use std::sync::Arc;

/// `source = "text"`.
pub const KIND: SourceKind = SourceKind { name: "text", keys: &["files", "tokenizer", "context"], open };

/// Endings of the files that a folder contributes.
const ENDINGS: &[&str] = &[".txt", ".md", ".txt.gz"];
/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 18;
/// Longer samples are taken for a mistake.
const CONTEXT_MAX: usize = 1 << 20;

/// One or more text files, read one after the other.
pub struct TextSource {
    storage: Arc<dyn StorageBackend>,
    train: Vec<Found>,
    test: Option<Vec<Found>>,
    /// What the tokens are.
    pub tokens: Tokens,
    /// Tokens per sample.
    pub context: usize,
}

/// What the tokens of a text are.
#[derive(Clone, Debug, PartialEq)]
pub enum Tokens {
    /// Its characters.
    Characters,
    /// Its bytes.
    Bytes,
    /// What this `tokenizer.json` makes of it.
    File(Found),
}

fn open(spec: &DataSpec, with: &Context<'_>) -> Result<Opened, Diagnostics> {
    check_test(spec, &["files"])?;
    let files = require(&spec.files, "files", "text")?;
    let context = *require(&spec.context, "context", "text")?;
    let mut problems = Diagnostics::default();
    if context == 0 || context > CONTEXT_MAX {
        problems.push(
            Diagnostic::new("data.context", format!("samples of {context} tokens"))
                .item("data.context")
                .expected(format!("1 to {CONTEXT_MAX}")),
        );
    }
    for (key, given) in [
        ("classes", spec.classes.is_some()),
        ("normalize", spec.normalize.is_some()),
        ("augment", spec.augment.is_some()),
        ("sql", spec.sql.is_some()),
        ("clean", spec.clean.is_some()),
        ("split.fold", spec.split.as_ref().is_some_and(|split| split.fold.is_some())),
        ("split.stratify", spec.split.as_ref().is_some_and(|split| split.stratify.is_some())),
    ] {
        if given {
            problems.push(
                Diagnostic::new("data.key", format!("source `text` does not take `{key}`"))
                    .item(format!("data.{key}"))
                    .hint("remove it"),
            );
        }
    }
    problems.into_result(())?;
    let train = with.finder.find(files.patterns(), "data.files", ENDINGS)?;
    let test = match &spec.test {
        Some(test) => {
            let files = require(&test.files, "test.files", "text")?;
            Some(with.finder.find(files.patterns(), "data.test.files", ENDINGS)?)
        }
        None => None,
    };
    let tokens = match spec.tokenizer.as_deref() {
        None | Some("char") => Tokens::Characters,
        Some("byte") => Tokens::Bytes,
        Some(path) => Tokens::File(
            with.finder
                .find_one(path, "data.tokenizer")
                .map_err(|d| d.expected("\"char\", \"byte\", or the path of a `tokenizer.json`"))?,
        ),
    };
    Ok(Opened::Text(TextSource { storage: with.finder.storage.clone(), train, test, tokens, context }))
}

impl TextSource {
    /// The files of all parts.
    pub fn files(&self) -> Vec<Found> {
        let tokenizer = match &self.tokens {
            Tokens::File(file) => Some(file),
            _ => None,
        };
        self.train.iter().chain(self.test.iter().flatten()).chain(tokenizer).cloned().collect()
    }

    /// Whether there is a test set of its own.
    pub fn has_test(&self) -> bool {
        self.test.is_some()
    }

    /// The vocabulary that does not depend on the text; none for characters.
    ///
    /// # Errors
    /// A diagnostic for a tokeniser that is damaged, or that this build cannot read.
    pub fn vocabulary(&self) -> Result<Option<Vocabulary>, Diagnostic> {
        let file = match &self.tokens {
            Tokens::Characters => return Ok(None),
            Tokens::Bytes => return Ok(Some(Vocabulary::Bytes)),
            Tokens::File(file) => file,
        };
        let at = |d: Diagnostic| d.file(&file.path).item("data.tokenizer");
        if file.bytes > TokenizerFile::BYTES_MAX as u64 {
            let problem = format!("the tokeniser has {} bytes", file.bytes);
            return Err(at(Diagnostic::new("data.tokenizer", problem)
                .expected(format!("at most {}", TokenizerFile::BYTES_MAX))));
        }
        let bytes = self.storage.read(&file.path).map_err(|e| storage_problem(&e))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            at(Diagnostic::new("data.tokenizer", "the tokeniser is not UTF-8 text")
                .expected("a `tokenizer.json` as Hugging Face has it"))
        })?;
        Ok(Some(Vocabulary::Tokenizer(TokenizerFile::parse(text).map_err(at)?)))
    }

    /// Shows the text of a part to `sink`, piece by piece.
    ///
    /// # Errors
    /// A diagnostic for a file that cannot be read or is not UTF-8 (with its line), or what `sink` answers.
    pub fn read(
        &self,
        part: Part,
        sink: &mut dyn FnMut(&str) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let files = match part {
            Part::Train => self.train.as_slice(),
            Part::Test => self.test.as_deref().unwrap_or_default(),
        };
        for file in files {
            let mut reader = content(&self.storage, file)?;
            let mut buffer = Vec::with_capacity(CHUNK_BYTES);
            let mut line = 1;
            loop {
                let read = reader
                    .by_ref()
                    .take((CHUNK_BYTES - buffer.len()) as u64)
                    .read_to_end(&mut buffer)
                    .map_err(|e| read_problem(&e, &file.path))?;
                let used = piece(&buffer, read == 0).map_err(|(at, problem)| {
                    line += count_lines(&buffer[..at]);
                    problem.file(&file.path).line(line)
                })?;
                if read == 0 {
                    break;
                }
                line += count_lines(used.as_bytes());
                let used = used.len();
                sink(std::str::from_utf8(&buffer[..used]).unwrap_or_default())?;
                buffer.drain(..used);
            }
        }
        Ok(())
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

/// The part of `bytes` that is whole characters; at the `end` of a file nothing may remain. On an error, also where
/// it is.
fn piece(bytes: &[u8], end: bool) -> Result<&str, (usize, Diagnostic)> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(e) if e.error_len().is_none() && !end => {
            Ok(std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default())
        }
        Err(e) => {
            let at = e.valid_up_to();
            let problem =
                Diagnostic::new("data.text.utf8", format!("byte 0x{:02x} is not UTF-8 text", bytes[at]))
                    .expected("text in UTF-8")
                    .hint("convert the file, for example with `iconv -t UTF-8`");
            Err((at, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_between_characters() {
        let text = "aé€";
        for cut in 0..=text.len() {
            let whole = piece(&text.as_bytes()[..cut], false).unwrap();
            assert!(text.starts_with(whole) && cut - whole.len() < 3);
        }
        assert!(piece(&text.as_bytes()[..2], true).is_err());
        assert_eq!(piece(b"ab\xffc", false).unwrap_err().0, 2);
    }
}

//! The lines of a CSV file: fields as they stand there, and where.

use crate::files::other_encoding;
use outgrow_ir::{Diagnostic, counted};
use outgrow_transform::RawFormat;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// A longer record is refused: most often a quotation mark is not closed and swallows the rest of the file.
const RECORD_BYTES_MAX: usize = 16 << 20;
/// More columns than this are refused.
const COLUMNS_MAX: usize = 1 << 16;
/// How many bytes tell the encoding of a file.
const START_BYTES: usize = 4;

/// Fails once a single record has taken in too many bytes, and remembers what it gave last.
struct Limited<R> {
    inner: R,
    since_record: usize,
    /// The first bytes of the file.
    start: Vec<u8>,
    /// The bytes that were given last, and how many there were in all.
    chunk: Vec<u8>,
    given: u64,
    /// Whether the end was seen.
    ended: bool,
}

impl<R> Limited<R> {
    fn too_long(&self) -> bool {
        self.since_record > RECORD_BYTES_MAX
    }

    /// The byte before this offset, which lies in what was given last.
    fn byte_before(&self, offset: u64) -> Option<u8> {
        let chunk_start = self.given - self.chunk.len() as u64;
        let at = offset.checked_sub(1)?.checked_sub(chunk_start)?;
        self.chunk.get(usize::try_from(at).ok()?).copied()
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.since_record += n;
        if self.too_long() {
            return Err(io::Error::other("the record is too long"));
        }
        if n > 0 {
            let more = START_BYTES.saturating_sub(self.start.len()).min(n);
            self.start.extend_from_slice(&out[..more]);
            self.chunk.clear();
            self.chunk.extend_from_slice(&out[..n]);
            self.given += n as u64;
        }
        self.ended = n == 0 && !out.is_empty();
        Ok(n)
    }
}

/// Reads the lines of one file; those of comments and empty ones are passed over.
pub struct Lines<R> {
    reader: csv::Reader<Limited<R>>,
    record: csv::ByteRecord,
    file: Option<Arc<Path>>,
    /// The number of fields that every line must have.
    width: Option<usize>,
    /// Whether the first field of each line is left out of its texts.
    skip_first: bool,
    begun: bool,
}

impl<R: Read> Lines<R> {
    /// The lines of a file that is written in this format.
    pub fn new(inner: R, format: &RawFormat, file: Option<Arc<Path>>) -> Self {
        let byte = |text: &str| text.as_bytes().first().copied();
        let inner =
            Limited { inner, since_record: 0, start: Vec::new(), chunk: Vec::new(), given: 0, ended: false };
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(byte(&format.delimiter).unwrap_or(b','))
            .comment(format.comment.as_deref().and_then(byte))
            .from_reader(inner);
        Self { reader, record: csv::ByteRecord::new(), file, width: None, skip_first: false, begun: false }
    }

    /// The same without the first field of each line, where [`Lines::texts`] gives them.
    pub(super) fn without_first(self) -> Self {
        Self { skip_first: true, ..self }
    }

    /// The file that is read.
    pub fn file(&self) -> Option<&Arc<Path>> {
        self.file.as_ref()
    }

    /// From now on every line must have so many fields; by default, as many as the first.
    pub(super) fn set_width(&mut self, width: Option<usize>) {
        self.width = width;
    }

    /// Says where in the file something is wrong.
    pub fn place(&self, diagnostic: Diagnostic, line: usize) -> Diagnostic {
        let diagnostic = diagnostic.line(line);
        match &self.file {
            Some(file) => diagnostic.file(&**file),
            None => diagnostic,
        }
    }

    /// The number of the line that follows what was read so far. The parser counts a line at its line feed, but is done
    /// with a record at the carriage return before it.
    fn next_line(&self) -> usize {
        let at = self.reader.position();
        let half = self.reader.get_ref().byte_before(at.byte()) == Some(b'\r');
        at.line() as usize + usize::from(half)
    }

    /// The next line's number, counted from 1, and its fields. After a failure to read there are no more.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<(usize, &csv::ByteRecord), Diagnostic>> {
        self.reader.get_mut().since_record = 0;
        let next_line = self.next_line();
        let read = self.reader.read_byte_record(&mut self.record);
        if !std::mem::replace(&mut self.begun, true)
            && let Some(problem) = other_encoding(&self.reader.get_ref().start)
        {
            return Some(Err(self.place(problem, 1)));
        }
        match read {
            Ok(false) => None,
            Ok(true) => {
                let within = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count();
                let at = self.reader.position();
                // Of this record, the parser has counted the line feeds within its fields and the one behind it, which
                // there is not where the file ends first.
                let source = self.reader.get_ref();
                let ended = !source.ended && source.byte_before(at.byte()) == Some(b'\n');
                let line = (at.line() as usize).saturating_sub(within + usize::from(ended)).max(1);
                Some(Ok((line, &self.record)))
            }
            Err(error) => Some(Err(self.place(self.unreadable(&error), next_line))),
        }
    }

    fn unreadable(&self, error: &csv::Error) -> Diagnostic {
        if self.reader.get_ref().too_long() {
            let problem = format!("a record is longer than {RECORD_BYTES_MAX} bytes");
            return Diagnostic::new("data.csv.read", problem)
                .expected(format!("at most {RECORD_BYTES_MAX} bytes from one record to the next"))
                .hint("is a quotation mark not closed? It takes in all that follows it");
        }
        Diagnostic::new("data.csv.read", format!("the file cannot be read: {error}"))
            .expected("a whole file, packed by gzip if at all")
            .hint("the file may be cut short or damaged: fetch it again")
    }

    /// The next line's number and its fields as text, of which there are as many as in the lines before.
    pub(super) fn texts(&mut self) -> Option<Result<(usize, Vec<&str>), Diagnostic>> {
        let (line, fields) = match self.next()? {
            Ok((line, record)) => (line, record.len().saturating_sub(usize::from(self.skip_first))),
            Err(problem) => return Some(Err(problem)),
        };
        let expected = *self.width.get_or_insert(fields);
        if fields != expected || fields > COLUMNS_MAX {
            let problem =
                Diagnostic::new("data.csv.ragged-row", format!("the line has {}", counted(fields, "field")))
                    .expected(format!(
                        "{}, as in the lines before",
                        counted(expected.min(COLUMNS_MAX), "field")
                    ))
                    .hint("put fields that contain the delimiter into quotation marks");
            return Some(Err(self.place(problem, line)));
        }
        let mut texts = Vec::with_capacity(fields);
        for (i, field) in self.record.iter().enumerate().skip(usize::from(self.skip_first)) {
            match std::str::from_utf8(field) {
                Ok(text) => texts.push(text),
                Err(_) => {
                    let problem = Diagnostic::new("data.csv.utf8", "the field is not UTF-8 text")
                        .item(format!("field {}", i + 1))
                        .expected("text in UTF-8")
                        .hint("convert the file, for example with `iconv -t UTF-8`");
                    return Some(Err(self.place(problem, line)));
                }
            }
        }
        Some(Ok((line, texts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the lines that records begin in.
    fn numbers(text: &str, format: &RawFormat) -> Vec<usize> {
        let mut lines = Lines::new(text.as_bytes(), format, None);
        std::iter::from_fn(|| lines.next().map(|line| line.unwrap().0)).collect()
    }

    #[test]
    fn lines_are_counted_however_they_end() {
        let format = RawFormat { comment: Some("#".into()), ..RawFormat::default() };
        for (text, expect) in [
            ("a,b\n1,2\n3,4\n", &[1, 2, 3][..]),
            ("a,b\n1,2\n3,4", &[1, 2, 3]),
            ("a,b\n\n\n1,2\n#x\n3,4\n", &[1, 4, 6]),
            ("#x\n\na,b\n", &[3]),
            ("a,\"b\nb\"\n1,\"\n\n\"\n3,4\n", &[1, 3, 6]),
            ("a,b\n1,2\n\"x\ny\"", &[1, 2, 3]),
            ("a,b\n1,\"2\n3,4\n", &[1, 2]),
        ] {
            assert_eq!(numbers(text, &format), expect, "{text:?}");
            let text = text.replace('\n', "\r\n");
            assert_eq!(numbers(&text, &format), expect, "{text:?}");
            assert_eq!(numbers(&format!("\u{feff}{text}"), &format), expect, "{text:?} after a mark");
        }
        // Over the ends of what is read at a time.
        for end in ["\n", "\r\n"] {
            let text: String = (0..20_000).map(|i| format!("{i},{}{end}", "x".repeat(i % 7))).collect();
            assert_eq!(numbers(&text, &format), (1..=20_000).collect::<Vec<_>>());
        }
    }
}

//! Preparation of text: a stream of tokens in shards.
//!
//! The text is cut into splits at two places, in the order training, validation, test. A split by the hash of blocks
//! would put the neighbours of every validation block into training, which know half of its sentences; and windows
//! that reach over the end of a block would mix the two.

use crate::manifest::Progress;
use crate::pieces::in_pieces;
use crate::shard::{ShardWriter, TOKENS, token_field};
use crate::source::Part;
use crate::source::text::TextSource;
use crate::work::{Made, Work};
use crate::{CleanReport, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{
    Assembly, CharVocabulary, Column, ColumnKind, Columns, RawFormat, TargetEncoder, TextInput, Transform,
    Vocabulary,
};
use std::collections::BTreeSet;

/// The vocabulary of characters is that of the whole text, all splits included: which characters exist is no knowledge
/// worth hiding, and a validation text with an unknown character could not be judged.
pub(crate) fn prepare(
    work: &Work<'_>,
    text: &TextSource,
    mut progress: Progress,
) -> Result<Made, Diagnostics> {
    let fitted = work.fitted.and_then(|transform| transform.assembly.text.as_ref());
    let given = match fitted {
        Some(input) => Some(input.vocabulary.clone()),
        None => text.vocabulary()?,
    };
    let mut seen = Characters { ascii: [false; 128], others: BTreeSet::new() };
    let mut counts = [0u64; 2];
    for (part, count) in [Part::Train, Part::Test].into_iter().zip(&mut counts) {
        text.read(part, &mut |piece| {
            *count += match given {
                Some(_) => piece.chars().count() as u64,
                None => seen.add(piece),
            };
            work.tell("fitting", 0, None);
            Ok(())
        })?;
    }
    let ends = boundaries(work, counts[0]);
    let by_character = given.is_none();
    let vocabulary = given.unwrap_or_else(|| Vocabulary::Characters(CharVocabulary::new(&seen.set())));
    if by_character {
        check(work, text, "characters", [ends[0], ends[1] - ends[0], counts[0] - ends[1] + counts[1]])?;
    }
    let transform = Transform {
        columns: Columns(vec![Column::new("text", ColumnKind::Text)]),
        format: RawFormat::default(),
        chain: Default::default(),
        assembly: Assembly {
            image: None,
            features: None,
            categories: None,
            text: Some(TextInput { context: text.context, vocabulary: vocabulary.clone() }),
            target: TargetEncoder::NextToken,
        },
    };
    progress.transform = Some(transform.clone());
    let field = token_field(vocabulary.len());
    let bytes = field.record_bytes().unwrap_or(4);
    let writer = ShardWriter::new(&*work.options.storage, work.folder, vec![field], TOKENS, 0, progress);
    writer.save()?;
    let threads = work.options.threads.max(1);
    let mut blocks = Blocks { vocabulary: &vocabulary, threads, bytes, writer, open: None, full: Vec::new() };
    let mut at = 0;
    for part in [Part::Train, Part::Test] {
        text.read(part, &mut |piece| {
            each_split(part, piece, &mut at, ends, &mut |split, piece| blocks.push(split, piece))?;
            (work.options.progress)(&crate::PrepareProgress {
                phase: "storing",
                done: at,
                total: Some(counts[0] + counts[1]),
            });
            Ok(())
        })?;
    }
    let writer = blocks.finish()?;
    let assigned = writer.assigned();
    check(work, text, vocabulary.unit(), assigned)?;
    let mut report = CleanReport::default();
    for (split, n) in report.splits.iter_mut().zip(assigned) {
        (split.rows_in, split.rows_out) = (n, n);
    }
    Ok((transform, report, writer.finish()?))
}

/// Text is encoded in blocks of at most so many bytes, as its own words and lines cut it.
const BLOCK_BYTES: usize = 1 << 16;
/// A character has at most so many bytes.
const CHAR_BYTES_MAX: usize = 4;
/// Blocks that wait to be encoded, for each thread.
const BLOCKS_PER_THREAD: usize = 4;

/// Encodes the text of all splits and stores its tokens. Where the blocks are cut depends on the text alone.
struct Blocks<'a> {
    vocabulary: &'a Vocabulary,
    threads: usize,
    /// Bytes of a token in storage.
    bytes: usize,
    writer: ShardWriter<'a>,
    /// What follows the last full block.
    open: Option<(Split, String)>,
    full: Vec<(Split, String)>,
}

impl<'a> Blocks<'a> {
    fn push(&mut self, split: Split, piece: &str) -> Result<(), Diagnostic> {
        match &mut self.open {
            Some((of, text)) if *of == split => text.push_str(piece),
            open => {
                self.full.extend(open.take());
                self.open = Some((split, piece.to_owned()));
            }
        }
        // What follows the cut decides whether it is a good one, so a character more must be there.
        while let Some((split, text)) = &mut self.open
            && text.len() > BLOCK_BYTES + CHAR_BYTES_MAX
        {
            let rest = text.split_off(block_end(text));
            self.full.push((*split, std::mem::replace(text, rest)));
            if self.full.len() >= self.threads * BLOCKS_PER_THREAD {
                self.store()?;
            }
        }
        Ok(())
    }

    /// Encodes the full blocks, each thread a consecutive part of them, and stores their tokens in order.
    fn store(&mut self) -> Result<(), Diagnostic> {
        let full = std::mem::take(&mut self.full);
        let vocabulary = self.vocabulary;
        let encode = |range| -> Result<Vec<(Split, Vec<i32>)>, Diagnostic> {
            let blocks: &[(Split, String)] = &full[range];
            blocks.iter().map(|(split, text)| Ok((*split, vocabulary.encode(text)?))).collect()
        };
        let lost =
            || Diagnostic::fault("data.thread", "a thread that encodes text ended before its work was done");
        let encoded = in_pieces(full.len(), self.threads, encode);
        for part in encoded {
            for (split, tokens) in part.ok_or_else(lost)?? {
                let needed = self.writer.assign_many(split, tokens.len() as u64);
                let kept = &tokens[tokens.len() - needed as usize..];
                let mut bytes = Vec::with_capacity(kept.len() * self.bytes);
                kept.iter().for_each(|token| bytes.extend(&token.to_le_bytes()[..self.bytes]));
                self.writer.push(split, needed, &[bytes])?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ShardWriter<'a>, Diagnostic> {
        self.full.extend(self.open.take());
        self.store()?;
        Ok(self.writer)
    }
}

/// Where a text is cut so that its first part has at most [`BLOCK_BYTES`] bytes. Best is the end of a line between two
/// words, which tokenisers take for the end of a word as well; else behind a blank; else between two characters.
fn block_end(text: &str) -> usize {
    let most = (0..=BLOCK_BYTES.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let head = &text[..most];
    let is_blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
    let between_words = |(i, _): &(usize, &str)| {
        !is_blank(text[..*i].chars().next_back()) && !is_blank(text[i + 1..].chars().next())
    };
    let line = head.rmatch_indices('\n').find(between_words).map(|(i, _)| i + 1);
    let blank = || head.char_indices().rev().find(|(_, c)| c.is_whitespace()).map(|(i, c)| i + c.len_utf8());
    line.or_else(blank).unwrap_or(most)
}

/// Which characters occur; ASCII ones are ticked off in a table.
struct Characters {
    ascii: [bool; 128],
    others: BTreeSet<char>,
}

impl Characters {
    /// Adds a text's characters and returns their number.
    fn add(&mut self, text: &str) -> u64 {
        let mut count = 0;
        for c in text.chars() {
            count += 1;
            if c.is_ascii() {
                self.ascii[c as usize] = true;
            } else if !self.others.contains(&c) {
                self.others.insert(c);
            }
        }
        count
    }

    fn set(self) -> BTreeSet<char> {
        let ascii = (0..128u8).filter(|c| self.ascii[usize::from(*c)]).map(char::from);
        ascii.chain(self.others).collect()
    }
}

/// Where training and validation end, in characters.
fn boundaries(work: &Work<'_>, count: u64) -> [u64; 2] {
    if work.fitted.is_some() {
        return [0, 0];
    }
    let split = work.spec.split.clone().unwrap_or_default();
    let part = |fraction: f64| (count as f64 * fraction) as u64;
    let test = part(split.test);
    let validation = part(split.validation);
    [count - test - validation, count - test]
}

/// Refuses splits that hold no whole sample.
fn check(work: &Work<'_>, text: &TextSource, unit: &str, lengths: [u64; 3]) -> Result<(), Diagnostics> {
    let split = work.spec.split.clone().unwrap_or_default();
    let wanted = match work.fitted {
        Some(_) => [false, false, true],
        None => [true, split.validation > 0.0, split.test > 0.0 || text.has_test()],
    };
    let mut problems = Diagnostics::default();
    for ((split, length), wanted) in Split::ALL.into_iter().zip(lengths).zip(wanted) {
        if wanted && length <= text.context as u64 {
            problems.push(
                Diagnostic::new("data.empty", format!("the {split} text has {length} {unit}"))
                    .item("data.context")
                    .expected(format!("more than `context`, which is {}", text.context))
                    .hint("use more text, a smaller `context`, or another `split`"),
            );
        }
    }
    problems.into_result(())
}

/// Cuts a piece of a part where splits meet.
fn each_split(
    part: Part,
    mut piece: &str,
    at: &mut u64,
    ends: [u64; 2],
    store: &mut dyn FnMut(Split, &str) -> Result<(), Diagnostic>,
) -> Result<(), Diagnostic> {
    while !piece.is_empty() {
        let n = piece.chars().count() as u64;
        let (split, end) = match part {
            Part::Train if *at < ends[0] => (Split::Train, ends[0]),
            Part::Train if *at < ends[1] => (Split::Validation, ends[1]),
            _ => (Split::Test, u64::MAX),
        };
        let taken = n.min(end - *at);
        let cut = piece.char_indices().nth(taken as usize).map_or(piece.len(), |(i, _)| i);
        store(split, &piece[..cut])?;
        *at += taken;
        piece = &piece[cut..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_where_words_do() {
        let fill = |end: &str| "x".repeat(BLOCK_BYTES - end.len()) + end;
        for (text, expect) in [
            (fill("") + "yyyyy", BLOCK_BYTES),
            (fill("é") + "yyyyy", BLOCK_BYTES),
            (fill("a") + "éyyyyy", BLOCK_BYTES),
            // The last character does not fit.
            ("x".repeat(BLOCK_BYTES - 1) + "éyyyyy", BLOCK_BYTES - 1),
            (fill("a bc") + "yyyyy", BLOCK_BYTES - 2),
            (fill("a\nbc d") + "yyyyy", BLOCK_BYTES - 4),
            (fill("a\nb\n\nc d") + "yyyyy", BLOCK_BYTES - 6),
            (fill("a\n") + "y", BLOCK_BYTES),
            (fill("a b\n") + "\ny", BLOCK_BYTES),
        ] {
            assert_eq!(block_end(&text), expect, "…{:?}", &text[BLOCK_BYTES - 10..]);
        }
    }
}

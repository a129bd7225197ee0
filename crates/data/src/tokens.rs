//! Preparation of text: a stream of tokens in shards.
//!
//! The text is cut into splits at two places, in the order training, validation, test. A split by the hash of blocks
//! would put the neighbours of every validation block into training, which know half of its sentences; and windows
//! that reach over the end of a block would mix the two.

use crate::manifest::Progress;
use crate::prepare::{Made, Work};
use crate::shard::{ShardWriter, TOKENS, token_field};
use crate::source::Part;
use crate::source::text::TextSource;
use crate::{CleanReport, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{
    Assembly, CharVocabulary, Column, ColumnKind, Columns, RawFormat, TargetEncoder, TextInput, Transform,
};
use std::collections::BTreeSet;

/// The vocabulary is that of the whole text, all splits included: which characters exist is no knowledge worth
/// hiding, and a validation text with an unknown character could not be judged.
pub(crate) fn prepare(
    work: &Work<'_>,
    text: &TextSource,
    mut progress: Progress,
) -> Result<Made, Diagnostics> {
    let mut seen = Characters { ascii: [false; 128], others: BTreeSet::new() };
    let mut counts = [0u64; 2];
    for (part, count) in [Part::Train, Part::Test].into_iter().zip(&mut counts) {
        text.read(part, &mut |piece| {
            *count += seen.add(piece);
            work.tell("fitting", 0, None);
            Ok(())
        })?;
    }
    let vocabulary = CharVocabulary::new(&seen.set());
    let ends = boundaries(work, counts[0]);
    check(work, text, ends, counts)?;
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
    let wide = field.dtype.bytes() > 1;
    let mut writer = ShardWriter::new(&*work.options.storage, work.folder, vec![field], TOKENS, 0, progress);
    writer.save()?;
    let mut store = |split: Split, piece: &str, n: u64| -> Result<(), Diagnostic> {
        let needed = writer.assign_many(split, n);
        let mut bytes = Vec::new();
        for c in piece.chars().skip((n - needed) as usize) {
            let token = vocabulary.token(c).ok_or_else(changed)?;
            match wide {
                true => bytes.extend(token.to_le_bytes()),
                false => bytes.push(token as u8),
            }
        }
        writer.push(split, needed, &[bytes])
    };
    let mut at = 0;
    for part in [Part::Train, Part::Test] {
        text.read(part, &mut |piece| {
            each_split(part, piece, &mut at, ends, &mut store)?;
            (work.options.progress)(&crate::PrepareProgress {
                phase: "storing",
                done: at,
                total: Some(counts[0] + counts[1]),
            });
            Ok(())
        })?;
    }
    let assigned = writer.assigned();
    let mut report = CleanReport::default();
    for (split, n) in report.splits.iter_mut().zip(assigned) {
        (split.rows_in, split.rows_out) = (n, n);
    }
    Ok((transform, report, writer.finish()?))
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

fn changed() -> Diagnostic {
    Diagnostic::new("data.source-changed", "the text changed while it was read").hint("run again")
}

/// Where training and validation end, in characters.
fn boundaries(work: &Work<'_>, count: u64) -> [u64; 2] {
    let split = work.spec.split.clone().unwrap_or_default();
    let part = |fraction: f64| (count as f64 * fraction) as u64;
    let test = part(split.test);
    let validation = part(split.validation);
    [count - test - validation, count - test]
}

/// Refuses splits that hold no whole sample.
fn check(work: &Work<'_>, text: &TextSource, ends: [u64; 2], counts: [u64; 2]) -> Result<(), Diagnostics> {
    let split = work.spec.split.clone().unwrap_or_default();
    let lengths = [
        (Split::Train, ends[0], true),
        (Split::Validation, ends[1] - ends[0], split.validation > 0.0),
        (Split::Test, counts[0] - ends[1] + counts[1], split.test > 0.0 || text.has_test()),
    ];
    let mut problems = Diagnostics::default();
    for (split, length, wanted) in lengths {
        if wanted && length <= text.context as u64 {
            problems.push(
                Diagnostic::new("data.empty", format!("the {split} text has {length} characters"))
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
    store: &mut dyn FnMut(Split, &str, u64) -> Result<(), Diagnostic>,
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
        store(split, &piece[..cut], taken)?;
        *at += taken;
        piece = &piece[cut..];
    }
    Ok(())
}

//! Generated records: `synthetic:glyphs`, which needs no files and is the data of the examples.

use super::glyphs::{CLASS_NAMES, SIZE, glyph};
use super::{Context, Opened, Part, RecordSource, Records, SourceKind, check_test, require};
use crate::DataSpec;
use crate::files::Found;
use crate::pieces::in_pieces;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, Pixels, Record, Value};

/// `source = "synthetic:glyphs"`.
pub const KIND: SourceKind =
    SourceKind { name: "synthetic:glyphs", keys: &["samples", "size", "channels"], open };

const IMAGE: &str = "image";
const LABEL: &str = "label";
/// More samples than this are taken for a mistake: they would fill a disk.
const SAMPLES_MAX: u64 = 1 << 32;
/// Samples that are generated at a time, by all threads together.
const BLOCK: u64 = 1024;

struct GlyphSource {
    columns: Columns,
    seed: u64,
    threads: usize,
    train: u64,
    /// The test samples go on where the training samples end.
    test: Option<u64>,
}

fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    check_test(spec, &["samples"])?;
    let train = *require(&spec.samples, "samples", KIND.name)?;
    let test = spec.test.as_ref().and_then(|t| t.samples);
    for (key, samples) in [("data.samples", Some(train)), ("data.test.samples", test)] {
        if samples.is_some_and(|n| n == 0 || n > SAMPLES_MAX) {
            return Err(Diagnostic::new("data.samples", "so many samples cannot be generated")
                .item(key)
                .expected(format!("1 to {SAMPLES_MAX}"))
                .into());
        }
    }
    let columns =
        Columns(vec![Column::new(IMAGE, ColumnKind::Image), Column::new(LABEL, ColumnKind::Number)]);
    let threads = context.threads.max(1);
    Ok(Opened::Records(Box::new(GlyphSource { columns, seed: context.seed, threads, train, test })))
}

impl GlyphSource {
    fn record(&self, index: u64, row: u64) -> Record {
        let (data, label) = glyph(self.seed, index);
        let pixels = Pixels { channels: 1, height: SIZE, width: SIZE, data };
        let values = vec![Value::Pixels(pixels), Value::Number(f64::from(label))];
        Record { values, origin: Origin { row: row + 1, ..Origin::default() } }
    }

    /// The records of some rows, each thread generating a consecutive piece of them.
    fn block(&self, first: u64, rows: std::ops::Range<u64>) -> Vec<Result<Record, Diagnostic>> {
        let make = |piece: std::ops::Range<usize>| -> Vec<_> {
            let piece = rows.start + piece.start as u64..rows.start + piece.end as u64;
            piece.map(|row| Ok(self.record(first + row, row))).collect()
        };
        let lost = || vec![Err(Diagnostic::fault("data.thread", "a thread that generates samples died"))];
        let pieces = in_pieces((rows.end - rows.start) as usize, self.threads, make);
        pieces.into_iter().flat_map(|piece| piece.unwrap_or_else(lost)).collect()
    }
}

impl RecordSource for GlyphSource {
    fn columns(&self) -> &Columns {
        &self.columns
    }
    fn files(&self) -> Vec<Found> {
        Vec::new()
    }
    fn default_label(&self) -> Option<&str> {
        Some(LABEL)
    }
    fn class_names(&self) -> Option<Vec<String>> {
        Some(CLASS_NAMES.map(String::from).to_vec())
    }
    fn labels_are_classes(&self) -> bool {
        true
    }
    fn has_test(&self) -> bool {
        self.test.is_some()
    }
    fn count(&self, part: Part) -> Option<u64> {
        match part {
            Part::Train => Some(self.train),
            Part::Test => self.test,
        }
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        let (first, count) = match part {
            Part::Train => (0, self.train),
            Part::Test => (self.train, self.test.unwrap_or(0)),
        };
        let blocks = (0..count).step_by(BLOCK as usize);
        Ok(Box::new(blocks.flat_map(move |b| self.block(first, b..(b + BLOCK).min(count)))))
    }
}

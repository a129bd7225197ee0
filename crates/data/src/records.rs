//! The preparation of records: cleaned, encoded, divided among the splits, and stored in shards.

use crate::fit::{TrainingRecords, canonical, class_count, fit};
use crate::manifest::{Progress, SplitInfo};
use crate::pieces::in_pieces;
use crate::shard::{ShardWriter, records_per_shard};
use crate::source::{Part, RecordSource};
use crate::split::Splitter;
use crate::work::{Made, Work};
use crate::{CleanReport, Split, target_fit};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Columns, Record, Role, Run, Transform, Value};

/// Records that are encoded at a time, by all threads together.
const BLOCK_RECORDS: usize = 2048;
/// The same for the bytes of their texts and images, before or after they are encoded.
const BLOCK_BYTES: usize = 64 << 20;

/// Fits the transform on the training records, unless that is done, and stores all of them.
pub(crate) fn prepare(
    work: &Work<'_>,
    source: &dyn RecordSource,
    mut progress: Progress,
) -> Result<Made, Diagnostics> {
    let count = |part| source.count(part);
    let transform = match progress.transform.take() {
        Some(transform) => transform,
        None => {
            let tell = |done| work.tell("fitting", done, count(Part::Train));
            fit(work.spec, &TrainingRecords { source, splitter: work.splitter, progress: &tell })?
        }
    };
    let columns = transform.chain.columns(&transform.columns);
    let fields = transform.assembly.stored_fields();
    let record_bytes = fields.iter().try_fold(0usize, |n, f| n.checked_add(f.record_bytes()?));
    let Some(record_bytes) = record_bytes else {
        return Err(Diagnostic::new("data.too-large", "one record is larger than memory")
            .item("data")
            .hint("take smaller images or a shorter context")
            .into());
    };
    progress.transform = Some(transform.clone());
    let classes = class_count(&transform.assembly.target);
    let storage = &*work.options.storage;
    let per_shard = records_per_shard(record_bytes);
    let writer = ShardWriter::new(storage, work.folder, fields, per_shard, classes, progress);
    writer.save()?;
    let block_records = (BLOCK_BYTES / record_bytes.max(1)).clamp(1, BLOCK_RECORDS);
    let mut notes = source.notes();
    notes.extend(target_fit::notes(work.spec, source, &transform));
    notes.extend(transform.chain.notes(&transform.columns));
    let mut storing = Storing {
        transform: &transform,
        columns: &columns,
        threads: work.options.threads.max(1),
        block_records,
        writer,
        report: CleanReport { notes, stratified: work.splitter.is_stratified(), ..CleanReport::default() },
        runs: Default::default(),
        missing: [(); 3].map(|()| vec![0; transform.columns.0.len()]),
        block: Vec::new(),
        block_bytes: 0,
    };
    let total = count(Part::Train).map(|n| n + count(Part::Test).unwrap_or(0));
    let mut done = 0;
    let mut content = Vec::new();
    for part in [Part::Train, Part::Test] {
        if part == Part::Test && !source.has_test() {
            continue;
        }
        for record in source.records(part)? {
            let record = record?;
            work.tell("storing", done, total);
            done += 1;
            canonical(&record, &mut content);
            let hash = work.splitter.hash(&content);
            let split =
                if part == Part::Test { Split::Test } else { work.splitter.assign(hash, &record.values) };
            storing.take(split, record, hash.identity)?;
        }
    }
    let (report, splits) = storing.finish()?;
    Ok((transform, report, splits))
}

/// The numbers in the source, from 1, of the records that a split holds, in the order in which they are stored. Reads the
/// source anew; `transform` is the one that the data was prepared by.
pub(crate) fn rows(
    source: &dyn RecordSource,
    splitter: &Splitter,
    transform: &Transform,
    split: Split,
) -> Result<Vec<u64>, Diagnostic> {
    let part = if split == Split::Test && source.has_test() { Part::Test } else { Part::Train };
    let (mut content, mut run, mut rows) = (Vec::new(), Run::default(), Vec::new());
    for (number, record) in source.records(part)?.enumerate() {
        let mut record = record?;
        canonical(&record, &mut content);
        let hash = splitter.hash(&content);
        let is_in = part == Part::Test || splitter.assign(hash, &record.values) == split;
        if is_in && transform.chain.prepare(&mut record, hash.identity, &mut run)? {
            rows.push(number as u64 + 1);
        }
    }
    Ok(rows)
}

/// The pass that cleans, encodes and stores all records.
struct Storing<'a> {
    transform: &'a Transform,
    /// The columns after the chain.
    columns: &'a Columns,
    threads: usize,
    block_records: usize,
    writer: ShardWriter<'a>,
    report: CleanReport,
    runs: [Run; 3],
    /// Missing raw values of each split, by column.
    missing: [Vec<u64>; 3],
    /// Cleaned records that wait to be encoded.
    block: Vec<(Split, Record)>,
    /// The bytes of their texts and images.
    block_bytes: usize,
}

impl Storing<'_> {
    fn take(&mut self, split: Split, mut record: Record, identity: u128) -> Result<(), Diagnostic> {
        let i = split.index();
        self.report.splits[i].rows_in += 1;
        for (count, value) in self.missing[i].iter_mut().zip(&record.values) {
            *count += u64::from(value.is_missing());
        }
        if self.transform.chain.prepare(&mut record, identity, &mut self.runs[i])?
            && self.writer.assign(split)
        {
            self.block_bytes += record.values.iter().map(Value::bytes).sum::<usize>();
            self.block.push((split, record));
            if self.block.len() == self.block_records || self.block_bytes >= BLOCK_BYTES {
                self.encode()?;
            }
        }
        Ok(())
    }

    /// Encodes the waiting records, each thread a consecutive piece of them, and stores them in their order.
    fn encode(&mut self) -> Result<(), Diagnostic> {
        let block = std::mem::take(&mut self.block);
        self.block_bytes = 0;
        let (transform, columns) = (self.transform, self.columns);
        let encoded =
            in_pieces(block.len(), self.threads, |range| encode_piece(transform, columns, &block[range]));
        for piece in encoded {
            for (split, (records, fields)) in Split::ALL.into_iter().zip(piece.ok_or_else(lost_thread)??) {
                self.writer.push(split, records, &fields)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(CleanReport, [SplitInfo; 3]), Diagnostic> {
        self.encode()?;
        let assigned = self.writer.assigned();
        for (i, split) in self.report.splits.iter_mut().enumerate() {
            split.rows_out = assigned[i];
            split.effects = self.runs[i].effects(self.columns);
            split.missing = (self.missing[i].iter().enumerate())
                .filter(|(_, n)| **n > 0)
                .map(|(c, n)| (self.transform.columns.0[c].name.clone(), *n))
                .collect();
        }
        Ok((self.report, self.writer.finish()?))
    }
}

fn lost_thread() -> Diagnostic {
    Diagnostic::new("data.thread", "a thread that encodes records ended before its work was done")
        .hint("this is a mistake of the program: please report it with the data that it was at")
}

/// For each split, the number of encoded records and the bytes of their fields.
type Encoded = [(u64, Vec<Vec<u8>>); 3];

fn encode_piece(
    transform: &Transform,
    columns: &Columns,
    records: &[(Split, Record)],
) -> Result<Encoded, Diagnostic> {
    let fields = transform.assembly.stored_fields().len();
    let mut encoded: Encoded = [(); 3].map(|()| (0, vec![Vec::new(); fields]));
    for (split, record) in records {
        let (count, buffers) = &mut encoded[split.index()];
        if !transform.assembly.store(record, columns, buffers)? {
            let labels = columns.with_role(Role::Label).into_iter();
            let names: Vec<String> = labels.map(|i| format!("{:?}", columns.0[i].name)).collect();
            let remedy = format!(
                "leave such records out with {{ drop_missing = [{}] }} in `data.clean`",
                names.join(", ")
            );
            let problem = Diagnostic::new("data.missing-label", "the label is missing").hint(remedy);
            return Err(record.origin.place(problem));
        }
        *count += 1;
    }
    Ok(encoded)
}

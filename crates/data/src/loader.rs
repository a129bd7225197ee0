//! Loaders: batches of a split in an order that is a function of (seed, epoch) alone.
//!
//! Sample `p` of an epoch is computed from a [`Permutation`], so a loader starts at any position in constant time
//! and needs no memory for the order. Batches are made ahead on a thread of the loader's own and handed over in
//! packets, since waking another thread can cost more than making a small batch.

use crate::permutation::Permutation;
use crate::split_data::{Sink, SplitData};
use crate::{Dataset, Split};
use outgrow_ir::Diagnostic;
use outgrow_tensor::{DType, RngKey, Tensor, TensorData, TensorError};
use outgrow_transform::{Batch, ImageInput, TextInput};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// How to load.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Samples in a batch.
    pub batch: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Whether each epoch has an order of its own; otherwise samples come as they are stored.
    pub shuffle: bool,
    /// Whether a last short batch is dropped rather than padded.
    pub drop_last: bool,
    /// Where to start.
    pub start: Position,
    /// Whether to end with the epoch that it starts in, rather than go on for ever.
    pub one_epoch: bool,
    /// At most so many samples are used: the first of a shuffled epoch, otherwise samples spread evenly over the
    /// split, since stored records are often sorted.
    pub limit: Option<u64>,
    /// How many packets of batches are made ahead; with 0 batches are made when they are asked for, without a
    /// thread.
    pub read_ahead: usize,
}

impl LoaderOptions {
    /// Shuffled batches for training, for ever, from the start.
    pub fn training(batch: usize, seed: u64) -> Self {
        Self {
            batch,
            seed,
            shuffle: true,
            drop_last: false,
            start: Position::default(),
            one_epoch: false,
            limit: None,
            read_ahead: 2,
        }
    }

    /// All samples once, in the order in which they are stored.
    pub fn evaluation(batch: usize) -> Self {
        Self { shuffle: false, one_epoch: true, ..Self::training(batch, 0) }
    }
}

/// Where a loader is: the next batch it gives. It is part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are complete.
    pub epoch: u64,
    /// Batches of the present epoch that were given.
    pub index: u64,
}

/// About how many bytes of batches go into a packet.
const PACKET_BYTES: usize = 1 << 20;
/// Most batches in a packet.
const PACKET_BATCHES: usize = 64;
/// Used batches that are kept for their memory.
const SPARE_BATCHES: usize = 256;

/// Yields batches. It ends after an epoch when that was asked for, and after an error.
#[derive(Debug)]
pub struct DataLoader {
    maker: Arc<Maker>,
    next: Position,
    ready: VecDeque<Result<Batch, Diagnostic>>,
    ahead: Option<Ahead>,
    ended: bool,
}

/// The thread that makes batches ahead.
#[derive(Debug)]
struct Ahead {
    packets: Option<Receiver<Vec<Result<Batch, Diagnostic>>>>,
    spare: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl DataLoader {
    pub(crate) fn new(dataset: &Dataset, split: Split, options: LoaderOptions) -> Result<Self, Diagnostic> {
        let mut maker = Maker::new(dataset, split, options)?;
        let start = maker.options.start;
        if start.index >= maker.batches && !maker.options.one_epoch {
            maker.options.start = Position { epoch: start.epoch + 1, index: 0 };
        }
        let maker = Arc::new(maker);
        let mut loader = Self {
            next: maker.options.start,
            ready: VecDeque::new(),
            ahead: None,
            ended: false,
            maker: maker.clone(),
        };
        if maker.options.read_ahead > 0 {
            loader.ahead = Some(Ahead::start(maker)?);
        }
        Ok(loader)
    }

    /// Batches in an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.maker.batches
    }

    /// Samples in an epoch.
    pub fn samples_per_epoch(&self) -> u64 {
        self.maker.samples_used()
    }

    /// The position of the next batch.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Gives a used batch back, so that its memory serves for a later one. This is optional.
    pub fn recycle(&mut self, batch: Batch) {
        if let Some(sender) = self.ahead.as_ref().and_then(|a| a.spare.as_ref()) {
            match sender.try_send(batch) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    fn receive(&mut self) -> Option<Result<Batch, Diagnostic>> {
        if let Some(batch) = self.ready.pop_front() {
            return Some(batch);
        }
        match &self.ahead {
            Some(ahead) => {
                self.ready.extend(ahead.packets.as_ref()?.recv().ok()?);
                self.ready.pop_front()
            }
            None => self.maker.wanted(self.next).then(|| self.maker.make(self.next, None)),
        }
    }
}

impl Iterator for DataLoader {
    type Item = Result<Batch, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let batch = self.receive();
        match &batch {
            Some(Ok(_)) => self.next = self.maker.after(self.next),
            _ => self.ended = true,
        }
        batch
    }
}

impl Ahead {
    fn start(maker: Arc<Maker>) -> Result<Self, Diagnostic> {
        let (packets_in, packets) = sync_channel(maker.options.read_ahead);
        let (spare, spare_out) = sync_channel(SPARE_BATCHES);
        let run = move || {
            let mut at = maker.options.start;
            // Packets grow from one batch on, so that the first batch is there soon.
            let mut size = 1;
            while maker.wanted(at) {
                let mut packet = Vec::with_capacity(size);
                while packet.len() < size && maker.wanted(at) {
                    let batch = maker.make(at, spare_out.try_recv().ok());
                    let failed = batch.is_err();
                    packet.push(batch);
                    at = maker.after(at);
                    if failed {
                        let _ = packets_in.send(packet);
                        return;
                    }
                }
                // The receiver goes away when the loader is dropped, which ends the thread.
                if packets_in.send(packet).is_err() {
                    return;
                }
                size = (size * 2).min(maker.packet);
            }
        };
        let thread = std::thread::Builder::new().name("loader".into()).spawn(run).map_err(|e| {
            Diagnostic::new("data.thread", format!("the loader's thread cannot be started: {e}"))
        })?;
        Ok(Self { packets: Some(packets), spare: Some(spare), thread: Some(thread) })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Without its channels the thread ends with the batch it is at.
        self.packets = None;
        self.spare = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Windows of `context` tokens in an epoch of a split with `tokens` tokens. Each needs one token more, the last
/// target. Training starts at an offset below `context` that each epoch draws anew; the number of windows is that
/// of the largest offset, so that all epochs are equally long.
pub(crate) fn windows(tokens: u64, context: u64, split: Split) -> u64 {
    let whole = tokens.saturating_sub(1) / context.max(1);
    if split == Split::Train && whole > 1 { tokens.saturating_sub(context) / context } else { whole }
}

/// Makes batches.
#[derive(Debug)]
struct Maker {
    data: Arc<SplitData>,
    image: Option<ImageInput>,
    text: Option<TextInput>,
    options: LoaderOptions,
    split: Split,
    /// Samples in the split.
    samples: u64,
    /// Samples of an epoch that are used, short batches included.
    used: u64,
    batches: u64,
    /// Batches in a packet.
    packet: usize,
}

impl Maker {
    fn new(dataset: &Dataset, split: Split, options: LoaderOptions) -> Result<Self, Diagnostic> {
        let samples = dataset.samples(split);
        if samples == 0 {
            return Err(Diagnostic::new("data.empty-split", format!("the {split} split has no samples"))
                .file(dataset.folder())
                .hint(format!(
                    "set a part of the data aside with `data.split.{split}`, or give `data.test`"
                )));
        }
        if options.batch == 0 {
            return Err(Diagnostic::new("data.batch", "a batch of no samples")
                .item("train.batch")
                .expected("at least 1"));
        }
        let used = options.limit.map_or(samples, |limit| limit.clamp(1, samples));
        if (split == Split::Train && !options.one_epoch || options.drop_last) && options.batch as u64 > used {
            return Err(Diagnostic::new(
                "data.batch-too-large",
                format!(
                    "a batch of {} samples is larger than the training data, which has {used}",
                    options.batch
                ),
            )
            .item("train.batch")
            .expected(format!("at most {used}")));
        }
        let batch = options.batch as u64;
        let batches = if options.drop_last { used / batch } else { used.div_ceil(batch) };
        let data = dataset.split(split)?;
        let assembly = &dataset.transform().assembly;
        let sample_values: usize = match &assembly.text {
            Some(text) => 2 * text.context,
            None => data.fields.iter().map(|f| f.shape.iter().product::<usize>()).sum(),
        };
        let bytes = sample_values.saturating_mul(4).saturating_mul(options.batch).max(1);
        Ok(Self {
            data,
            image: assembly.image.clone(),
            text: assembly.text.clone(),
            split,
            samples,
            used,
            batches,
            packet: (PACKET_BYTES / bytes).clamp(1, PACKET_BATCHES),
            options,
        })
    }

    fn samples_used(&self) -> u64 {
        if self.options.drop_last { self.batches * self.options.batch as u64 } else { self.used }
    }

    /// Whether there is a batch at this position.
    fn wanted(&self, at: Position) -> bool {
        at.epoch == self.options.start.epoch && at.index < self.batches || !self.options.one_epoch
    }

    /// The position after `at`.
    fn after(&self, at: Position) -> Position {
        if at.index + 1 < self.batches || self.options.one_epoch {
            Position { index: at.index + 1, ..at }
        } else {
            Position { epoch: at.epoch + 1, index: 0 }
        }
    }

    /// The batch at a position, in the memory of a used one where there is one.
    fn make(&self, at: Position, spare: Option<Batch>) -> Result<Batch, Diagnostic> {
        let key = RngKey::new(self.options.seed).fold_in_name("data").fold_in(at.epoch);
        let order = self.options.shuffle.then(|| Permutation::new(key.fold_in_name("order"), self.samples));
        let batch = self.options.batch as u64;
        let first = at.index * batch;
        let last = (first + batch).min(self.samples_used());
        let spread = |p: u64| (u128::from(p) * u128::from(self.samples) / u128::from(self.used)) as u64;
        let place = |p: u64| order.as_ref().map_or_else(|| spread(p), |o| o.at(p));
        let mut chosen: Vec<u64> = (first..last).map(place).collect();
        let real = chosen.len();
        // Padding repeats the first sample: values of the usual size, whose weight is zero.
        chosen.resize(self.options.batch, chosen.first().copied().unwrap_or(0));
        let (inputs, target) = match &self.text {
            Some(text) => self.windows(text, key, &chosen)?,
            None => self.records(&chosen, spare)?,
        };
        let mut weight = vec![1.0; real];
        weight.resize(self.options.batch, 0.0);
        Ok(Batch { inputs, target: Some(target), weight, epoch: at.epoch, index: at.index, real })
    }

    fn records(&self, chosen: &[u64], spare: Option<Batch>) -> Result<(Vec<Tensor>, Tensor), Diagnostic> {
        let mut spare = spare.map(|b| b.inputs).unwrap_or_default().into_iter().chain(None::<Tensor>);
        let mut tensors = Vec::with_capacity(self.data.fields.len());
        for (i, field) in self.data.fields.iter().enumerate() {
            let shape = [&[chosen.len()], field.shape.as_slice()].concat();
            let n = shape.iter().product();
            let used = spare.next();
            let tensor = match field.dtype {
                DType::U8 => Tensor::new(shape, self.pixels(i, chosen, emptied(used, n))?),
                DType::F32 => {
                    let mut out = emptied(used, n);
                    for record in chosen {
                        self.data.read(i, *record, 1, &mut Sink::F32(&mut out))?;
                    }
                    Tensor::new(shape, out)
                }
                _ => {
                    let mut out = Vec::with_capacity(n);
                    for record in chosen {
                        self.data.read(i, *record, 1, &mut Sink::I32(&mut out))?;
                    }
                    Tensor::new(shape, out)
                }
            };
            tensors.push(tensor.map_err(|e| tensor_problem(&e))?);
        }
        let target = tensors.pop().ok_or_else(|| Diagnostic::new("data.fields", "there is no target"))?;
        Ok((tensors, target))
    }

    /// Normalised pixels of the chosen records.
    fn pixels(&self, field: usize, chosen: &[u64], mut out: Vec<f32>) -> Result<Vec<f32>, Diagnostic> {
        let Some(image) = &self.image else {
            return Err(Diagnostic::new("data.fields", "bytes are stored that are no image"));
        };
        let plane = image.height * image.width;
        let mut buffer = Vec::new();
        for record in chosen {
            match self.data.pixels(field, *record) {
                Some(pixels) => image.normalize.extend(pixels, plane, &mut out),
                None => {
                    buffer.clear();
                    self.data.read(field, *record, 1, &mut Sink::U8(&mut buffer))?;
                    image.normalize.extend(&buffer, plane, &mut out);
                }
            }
        }
        Ok(out)
    }

    fn windows(
        &self,
        text: &TextInput,
        key: RngKey,
        chosen: &[u64],
    ) -> Result<(Vec<Tensor>, Tensor), Diagnostic> {
        let context = text.context as u64;
        let slack = self.data.records - (self.samples * context + 1);
        let offset = if self.split == Split::Train && self.options.shuffle {
            key.fold_in_name("offset").stream().below(slack.min(context - 1) + 1)
        } else {
            0
        };
        let n = chosen.len() * text.context;
        let (mut inputs, mut targets) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut window = Vec::with_capacity(text.context + 1);
        for block in chosen {
            window.clear();
            self.data.read(0, offset + block * context, context + 1, &mut Sink::I32(&mut window))?;
            inputs.extend_from_slice(&window[..text.context]);
            targets.extend_from_slice(&window[1..]);
        }
        let shape = [chosen.len(), text.context];
        let inputs = Tensor::new(shape, inputs).map_err(|e| tensor_problem(&e))?;
        Ok((vec![inputs], Tensor::new(shape, targets).map_err(|e| tensor_problem(&e))?))
    }
}

fn tensor_problem(error: &TensorError) -> Diagnostic {
    Diagnostic::new("data.fields", error.to_string())
}

/// The vector of a used tensor, emptied, or a new one, with room for `n` values.
fn emptied(mut used: Option<Tensor>, n: usize) -> Vec<f32> {
    let mut out = Vec::new();
    if let Some(TensorData::F32(values)) = used.as_mut().map(Tensor::data_mut) {
        out = std::mem::take(values);
    }
    out.clear();
    out.reserve(n);
    out
}

/// One sample as a batch.
pub(crate) fn sample(dataset: &Dataset, split: Split, i: u64) -> Result<Batch, Diagnostic> {
    let maker = Maker::new(dataset, split, LoaderOptions::evaluation(1))?;
    if i >= maker.samples {
        return Err(Diagnostic::new("data.sample", format!("there is no sample {i} in the {split} split"))
            .expected(format!("a number below {}", maker.samples)));
    }
    maker.make(Position { epoch: 0, index: i }, None)
}

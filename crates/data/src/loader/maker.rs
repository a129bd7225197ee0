//! Makes batches: chosen records become tensors, images augmented and normalised.

use super::order::Pool;
use super::{LoaderOptions, Position, windows};
use crate::split_data::{Sink, SplitData};
use crate::{Dataset, Split};
use outgrow_ir::{Diagnostic, counted};
use outgrow_tensor::{DType, RngKey, Tensor, TensorError};
use outgrow_transform::augment::{Augmenter, Mix, Share};
use outgrow_transform::{Batch, ImageInput, Target, TextInput};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

/// About how many bytes of batches go into a packet.
const PACKET_BYTES: usize = 1 << 20;
/// About how many bytes of images the memory is asked for at a time: a part of the first-level cache.
const FETCHED_BYTES: usize = 16 << 10;
/// Most batches in a packet.
const PACKET_BATCHES: usize = 64;

/// Makes batches.
#[derive(Debug)]
pub(super) struct Maker {
    data: Arc<SplitData>,
    image: Option<ImageInput>,
    text: Option<TextInput>,
    augmenter: Option<Augmenter>,
    mix: Option<Mix>,
    /// Classes of the target; 0 when it is none.
    classes: usize,
    pub options: LoaderOptions,
    split: Split,
    pub pool: Pool,
    pub batches: u64,
    /// Where the batches of a single epoch end that are asked for.
    until: u64,
    /// Batches in a packet.
    pub packet: usize,
}

/// A sample of a batch.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    /// Its number in the split.
    sample: u64,
    /// Its place in the epoch.
    place: u64,
}

impl Maker {
    pub fn new(dataset: &Dataset, split: Split, mut options: LoaderOptions) -> Result<Self, Diagnostic> {
        let stored = dataset.samples(split);
        let samples = options.subset.as_ref().map_or(stored, |subset| subset.len() as u64);
        if samples == 0 {
            return Err(Diagnostic::new("data.empty-split", format!("the {split} split has no samples"))
                .file(dataset.folder())
                .hint(format!(
                    "set a part of the data aside with `data.split.{split}`, or give `data.test`"
                )));
        }
        let used = options.limit.map_or(samples, |limit| limit.clamp(1, samples));
        check_batch(&options, split, used)?;
        let batch = options.batch as u64;
        let batches = if options.drop_last { used / batch } else { used.div_ceil(batch) };
        let portion = options.portion.range(batches);
        options.start.index = options.start.index.max(portion.start);
        let data = dataset.split(split)?;
        let assembly = &dataset.transform().assembly;
        let classes = match dataset.schema().target {
            Target::Class { names } => names.len(),
            Target::Regression { .. } | Target::Tokens { .. } => 0,
        };
        check_classes(&options, classes)?;
        let augmenter = match (&options.augment, &assembly.image) {
            (Some(spec), Some(image)) => Some(Augmenter::new(spec, image)?),
            (Some(_), None) => return Err(no_images()),
            (None, _) => None,
        };
        let mix = options.augment.as_ref().and_then(|spec| spec.mix());
        if mix.is_some() && (classes == 0 || data.fields.len() != 2) {
            return Err(Diagnostic::new("data.augment", "only images with a class can be mixed")
                .item("data.augment")
                .hint("leave `mixup` and `cutmix` out"));
        }
        let mut pool = Pool { samples, used, subset: options.subset.clone(), classes: Vec::new() };
        if options.balanced {
            pool.classes = places_of_classes(&data, &pool, classes)?;
        }
        let sample_values: usize = match &assembly.text {
            Some(text) => 2 * text.context,
            None => data.fields.iter().map(|f| f.shape.iter().product::<usize>()).sum(),
        };
        let rows = options.rows.as_ref().map_or(options.batch, ExactSizeIterator::len);
        let bytes = sample_values.saturating_mul(4).saturating_mul(rows).max(1);
        Ok(Self {
            data,
            image: assembly.image.clone(),
            text: assembly.text.clone(),
            augmenter,
            mix,
            classes,
            split,
            pool,
            batches,
            until: portion.end,
            packet: (PACKET_BYTES / bytes).clamp(1, PACKET_BATCHES),
            options,
        })
    }

    pub fn samples_used(&self) -> u64 {
        if self.options.drop_last { self.batches * self.options.batch as u64 } else { self.pool.used }
    }

    /// Whether there is a batch at this position.
    pub fn wanted(&self, at: Position) -> bool {
        at.epoch == self.options.start.epoch && at.index < self.until || !self.options.one_epoch
    }

    /// The position after `at`.
    pub fn after(&self, at: Position) -> Position {
        if at.index + 1 < self.batches || self.options.one_epoch {
            Position { index: at.index + 1, ..at }
        } else {
            Position { epoch: at.epoch + 1, index: 0 }
        }
    }

    /// The rows of each batch that are made.
    fn rows(&self) -> Range<usize> {
        self.options.rows.clone().unwrap_or(0..self.options.batch)
    }

    /// The rows of the batch at a position that are asked for, in the memory of a used one where there is one.
    pub fn make(&self, at: Position, spare: Option<Batch>) -> Result<Batch, Diagnostic> {
        let key = RngKey::new(self.options.seed).fold_in_name("data").fold_in(at.epoch);
        let order = self.pool.order(key, &self.options);
        let batch = self.options.batch as u64;
        let first = at.index * batch;
        let whole_real = ((first + batch).min(self.samples_used()) - first) as usize;
        // Padding repeats the first sample: values of the usual size, whose weight is zero.
        let chosen = |row: usize| {
            let place = first + if row < whole_real { row as u64 } else { 0 };
            Chosen { sample: order.at(place), place }
        };
        let rows = self.rows();
        let mut made: Vec<Chosen> = rows.clone().map(chosen).collect();
        let real = whole_real.clamp(rows.start, rows.end) - rows.start;
        let mut weight = vec![1.0; whole_real];
        weight.resize(self.options.batch, 0.0);
        let (inputs, target) = match &self.text {
            Some(text) => self.windows(text, key, &made)?,
            None => {
                let key = key.fold_in_name("augment");
                let whole: Vec<Chosen> = match self.options.class_weights.is_empty() {
                    true => Vec::new(),
                    false => (0..whole_real).map(chosen).collect(),
                };
                self.weigh(&mut weight, &whole, key)?;
                // The last row's partner comes behind the rows, where it is none of them.
                let partner = (rows.start + real) % whole_real;
                made.extend(
                    (self.mix.is_some() && real > 0 && !rows.contains(&partner)).then(|| chosen(partner)),
                );
                let (mut inputs, target) = self.records(&made, key, spare)?;
                let target = match &self.mix {
                    Some(mix) => {
                        let shares: Vec<Share> =
                            made[..real].iter().map(|one| self.share(mix, one, key)).collect();
                        self.mix(&mut inputs, &shares, rows.len())?;
                        self.mixed_target(&target, &shares, rows.len())?
                    }
                    None => target,
                };
                (inputs, target)
            }
        };
        let whole_weight = weight.iter().sum();
        let weight = weight[rows.clone()].to_vec();
        let (epoch, index, first) = (at.epoch, at.index, rows.start);
        Ok(Batch {
            inputs,
            target: Some(target),
            weight,
            epoch,
            index,
            real,
            first,
            whole_real,
            whole_weight,
        })
    }

    /// The inputs and the target of the chosen samples.
    fn records(
        &self,
        chosen: &[Chosen],
        key: RngKey,
        spare: Option<Batch>,
    ) -> Result<(Vec<Tensor>, Tensor), Diagnostic> {
        let mut spare = spare.map(|b| b.inputs).unwrap_or_default().into_iter();
        let mut tensors = Vec::with_capacity(self.data.fields.len());
        for (i, field) in self.data.fields.iter().enumerate() {
            let shape = [&[chosen.len()], field.shape.as_slice()].concat();
            let n = shape.iter().product();
            let used = spare.next();
            let tensor = match field.dtype {
                DType::U8 => Tensor::new(shape, self.pixels(i, chosen, key, emptied(used, n))?),
                DType::F32 => {
                    let mut out = emptied(used, n);
                    for one in chosen {
                        self.data.read(i, one.sample, 1, &mut Sink::F32(&mut out))?;
                    }
                    Tensor::new(shape, out)
                }
                _ => {
                    let mut out = Vec::with_capacity(n);
                    for one in chosen {
                        self.data.read(i, one.sample, 1, &mut Sink::I32(&mut out))?;
                    }
                    Tensor::new(shape, out)
                }
            };
            tensors.push(tensor.map_err(|e| tensor_problem(&e))?);
        }
        let target = tensors.pop().ok_or_else(|| Diagnostic::fault("data.fields", "there is no target"))?;
        Ok((tensors, target))
    }

    /// Augmented and normalised pixels of the chosen samples.
    fn pixels(
        &self,
        field: usize,
        chosen: &[Chosen],
        key: RngKey,
        mut out: Vec<f32>,
    ) -> Result<Vec<f32>, Diagnostic> {
        let Some(image) = &self.image else {
            return Err(Diagnostic::fault("data.fields", "bytes are stored that are no image"));
        };
        let plane = image.height * image.width;
        let mut buffer = Vec::new();
        let together = (FETCHED_BYTES / (plane * image.channels).max(1)).max(1);
        for group in chosen.chunks(together) {
            fetch(group.iter().filter_map(|one| self.data.pixels(field, one.sample)));
            for one in group {
                let pixels = match self.data.pixels(field, one.sample) {
                    Some(pixels) => pixels,
                    None => {
                        buffer.clear();
                        self.data.read(field, one.sample, 1, &mut Sink::U8(&mut buffer))?;
                        &buffer
                    }
                };
                match &self.augmenter {
                    Some(augmenter) => augmenter.extend(pixels, key.fold_in(one.place), &mut out),
                    None => image.normalize.extend(pixels, plane, &mut out),
                }
            }
        }
        Ok(out)
    }

    /// What becomes of a sample by mixing.
    fn share(&self, mix: &Mix, one: &Chosen, key: RngKey) -> Share {
        let size = self.image.as_ref().map_or([0, 0], |image| [image.height, image.width]);
        mix.share(key.fold_in(one.place), size)
    }

    /// Mixes each image that has a share with the next one, and leaves `rows` of them. The last one's partner is the one
    /// behind the rows, or else the first.
    fn mix(&self, inputs: &mut [Tensor], shares: &[Share], rows: usize) -> Result<(), Diagnostic> {
        let (Some(image), [tensor]) = (&self.image, inputs) else { return Ok(()) };
        let dims = [rows, image.channels, image.height, image.width];
        let width: usize = dims[1..].iter().product();
        let taken = std::mem::replace(tensor, Tensor::scalar(0.0f32));
        let mut values: Vec<f32> = taken.into_vec().map_err(|e| tensor_problem(&e))?;
        // As it was before it was mixed itself.
        let partner = if values.len() > rows * width { rows * width } else { 0 };
        let partner = values[partner..partner + width].to_vec();
        for (i, share) in shares.iter().enumerate() {
            let (head, tail) = values.split_at_mut((i + 1) * width);
            let other = if i + 1 < shares.len() { &tail[..width] } else { &partner };
            share.apply(&mut head[i * width..], other, [image.height, image.width]);
        }
        values.truncate(rows * width);
        *tensor = Tensor::new(dims, values).map_err(|e| tensor_problem(&e))?;
        Ok(())
    }

    /// Multiplies the weights of a batch's samples, `whole`, by those of their classes; of these nothing else is read.
    fn weigh(&self, weight: &mut [f32], whole: &[Chosen], key: RngKey) -> Result<(), Diagnostic> {
        let mut classes = Vec::with_capacity(whole.len());
        for one in whole {
            self.data.read(self.data.fields.len() - 1, one.sample, 1, &mut Sink::I32(&mut classes))?;
        }
        let of = |i: usize| self.options.class_weights.get(classes[i] as usize).copied().unwrap_or(1.0);
        for (i, one) in whole.iter().enumerate() {
            let own = self.mix.as_ref().map_or(1.0, |mix| self.share(mix, one, key).own());
            weight[i] *= own * of(i) + (1.0 - own) * of((i + 1) % whole.len());
        }
        Ok(())
    }

    /// The share of each class in each of so many samples, `f32 [rows, classes]`. The classes are those of the samples, and
    /// of the last one's partner behind them where that is none of them.
    fn mixed_target(&self, target: &Tensor, shares: &[Share], rows: usize) -> Result<Tensor, Diagnostic> {
        let mut out = vec![0.0; rows * self.classes];
        if let Ok(target) = target.as_slice::<i32>() {
            let last = if target.len() > rows { rows } else { 0 };
            for (i, row) in out.chunks_exact_mut(self.classes).enumerate() {
                // Padding is mixed with nothing.
                let own = shares.get(i).map_or(1.0, Share::own);
                let partner = if i + 1 < shares.len() { i + 1 } else { last };
                row[target[i] as usize] += own;
                row[target[partner] as usize] += 1.0 - own;
            }
        }
        Tensor::new([rows, self.classes], out).map_err(|e| tensor_problem(&e))
    }

    fn windows(
        &self,
        text: &TextInput,
        key: RngKey,
        chosen: &[Chosen],
    ) -> Result<(Vec<Tensor>, Tensor), Diagnostic> {
        let context = text.context as u64;
        let whole = self.data.records - 1;
        let slack = whole - windows(self.data.records, context, self.split) * context;
        // Parts of the split must not overlap, so that they keep to the places of whole windows.
        let moves = self.split == Split::Train && self.options.shuffle && self.pool.subset.is_none();
        let offset =
            if moves { key.fold_in_name("offset").stream().below(slack.min(context - 1) + 1) } else { 0 };
        let n = chosen.len() * text.context;
        let (mut inputs, mut targets) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut window = Vec::with_capacity(text.context + 1);
        for one in chosen {
            window.clear();
            self.data.read(0, offset + one.sample * context, context + 1, &mut Sink::I32(&mut window))?;
            inputs.extend_from_slice(&window[..text.context]);
            targets.extend_from_slice(&window[1..]);
        }
        let shape = [chosen.len(), text.context];
        let inputs = Tensor::new(shape, inputs).map_err(|e| tensor_problem(&e))?;
        Ok((vec![inputs], Tensor::new(shape, targets).map_err(|e| tensor_problem(&e))?))
    }
}

fn tensor_problem(error: &TensorError) -> Diagnostic {
    Diagnostic::fault("data.fields", error.to_string())
}

/// Asks the memory for these images. Shuffled ones lie far apart, and the processor foresees only what goes on: each line
/// of an image would be waited for by itself. Asked for at once, they come at once.
fn fetch<'a>(images: impl Iterator<Item = &'a [u8]>) {
    /// Bytes that the memory gives at a time.
    const LINE: usize = 64;
    let lines = |image: &'a [u8]| image.iter().take(FETCHED_BYTES).step_by(LINE);
    black_box(images.flat_map(lines).fold(0, |all, byte| all | byte));
}

/// The vector of a used tensor, emptied, or a new one, with room for `n` values.
fn emptied(used: Option<Tensor>, n: usize) -> Vec<f32> {
    let mut out = used.and_then(|tensor| tensor.into_vec().ok()).unwrap_or_default();
    out.clear();
    out.reserve(n);
    out
}

fn check_batch(options: &LoaderOptions, split: Split, used: u64) -> Result<(), Diagnostic> {
    if options.batch == 0 {
        return Err(Diagnostic::new("data.batch", "a batch of no samples")
            .item("train.batch")
            .expected("at least 1"));
    }
    if let Some(rows) = &options.rows
        && (rows.is_empty() || rows.end > options.batch)
    {
        let problem = format!("rows {} to {} of a batch of {}", rows.start, rows.end, options.batch);
        return Err(Diagnostic::fault("data.rows", problem));
    }
    if (split == Split::Train && !options.one_epoch || options.drop_last) && options.batch as u64 > used {
        let text = format!(
            "a batch of {} is larger than the training data, which has {used}",
            counted(options.batch, "sample")
        );
        return Err(Diagnostic::new("data.batch-too-large", text)
            .item("train.batch")
            .expected(format!("at most {used}")));
    }
    Ok(())
}

fn check_classes(options: &LoaderOptions, classes: usize) -> Result<(), Diagnostic> {
    for (key, given) in
        [("train.sampling", options.balanced), ("train.class_weights", !options.class_weights.is_empty())]
    {
        if given && classes == 0 {
            let text = "the target is no class, so classes can be neither balanced nor weighted";
            return Err(Diagnostic::new("data.no-classes", text)
                .item(key)
                .expected("a target of classes: `task = \"classify\"`"));
        }
    }
    Ok(())
}

fn no_images() -> Diagnostic {
    Diagnostic::new("data.augment", "there are no images to change")
        .item("data.augment")
        .hint("remove `augment`: only images are augmented")
}

/// The places in the pool of each class that there is.
fn places_of_classes(data: &SplitData, pool: &Pool, classes: usize) -> Result<Vec<Vec<u32>>, Diagnostic> {
    let mut targets = Vec::new();
    data.read(data.fields.len() - 1, 0, data.records, &mut Sink::I32(&mut targets))?;
    let mut places = vec![Vec::new(); classes];
    for place in 0..pool.samples {
        let sample = pool.subset.as_ref().map_or(place, |subset| subset[place as usize]);
        let place = u32::try_from(place).map_err(|_| {
            Diagnostic::new("data.too-large", "balanced sampling takes at most 2³² samples")
                .item("train.sampling")
                .hint("leave `sampling` out and set `class_weights = \"balanced\"`")
        })?;
        if let Some(places) = targets.get(sample as usize).and_then(|class| places.get_mut(*class as usize)) {
            places.push(place);
        }
    }
    places.retain(|places| !places.is_empty());
    Ok(places)
}

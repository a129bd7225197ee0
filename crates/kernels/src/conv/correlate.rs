//! Correlations as products: `out[m, (b, u, v)] = sum over (c, tap) of weight[m, (c, tap)] * source[b, c, u * step +
//! dh(tap), v * step + dw(tap)]`. A convolution is one of them; its gradient by the input is one for every phase of
//! the stride, with the taps that meet that phase, so that no product with an inserted zero is computed.
//!
//! The right operand of the product is never stored: vectors of neighbouring places are read from a padded copy of a
//! part of the source, or packed from it panel by panel where places are too few or too far apart; or they hold images (see
//! `across`). Where windows are single elements, each on its own, it is the source itself.

use super::padded::{Images, PADDED_BYTES, Part};
use super::pairs::{PairColumns, PairImages, PairWeights};
use super::patches::{Patches, Places, Source};
use super::{Algorithm, Conv};
use crate::error::KernelError;
use crate::finish::Finisher;
use crate::gemm::{
    Blocks, Columns, K_BLOCK_MAX, Matrix, Output, PackedRows, Panel, Plain, Product, RightOperand, Tiles,
    part,
};
use crate::kernel::{Cx, Scratch};
use crate::memory::AlignedBytes;
use crate::path::KernelPath;
use crate::threads::share;
use crate::view::View;
use crate::weight::{Layout, Packer};
use outgrow_tensor::DType;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Places of an image that are a part of their own, where images are right operands as they are.
const PLAIN_PLACES: usize = 512;

/// One tap of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// Rows and columns from the place's corner to the source element.
    pub shift: [isize; 2],
    /// Elements from the weight of tap (0, 0).
    weight: isize,
}

/// A correlation, compiled for operands and a path.
#[derive(Debug)]
pub(super) struct Correlation {
    pub tiles: Tiles,
    groups: usize,
    pub batch: usize,
    /// Result channels and source channels of a group.
    pub m: usize,
    channels: usize,
    /// Whether what is multiplied are pairs of channels in bf16.
    pub pairs: bool,
    pub taps: Vec<Tap>,
    /// Rows and columns of the source between neighbouring places.
    pub step: [usize; 2],
    /// Rows and columns of places.
    pub grid: [usize; 2],
    /// Whether an image is the right operand as it is: one tap, which meets each element in turn.
    plain: bool,
    /// Whether vectors hold images rather than neighbouring places.
    across: bool,
    /// Columns that are computed: as many as there are, or more, so that vectors of neighbours end where rows end.
    pub columns: usize,
    /// Strides of a weight between result channels and between source channels, and between groups.
    weight_strides: [isize; 3],
    /// Elements from the result's origin to its first place, and strides: batch, channel, rows and columns of places.
    pub out_start: isize,
    pub out_strides: [isize; 4],
    pub blocks: Blocks,
    /// Floats of a packed copy of all weights before this correlation's.
    packed_start: usize,
}

/// The micro-kernels of a convolution, if products can run it.
fn tiles(conv: &Conv, path: KernelPath) -> Option<Tiles> {
    if !conv.is_fast() {
        return None;
    }
    // A channel by itself has none to be paired with.
    let channels = (conv.weight.dims[0] / conv.groups).min(conv.weight.dims[1]);
    if conv.is_narrow() { Tiles::of_pairs(path).filter(|_| channels > 1) } else { Some(Tiles::new(path)) }
}

/// The correlations of one kernel, and which operands they take.
#[derive(Debug)]
pub(super) struct Correlations {
    all: Vec<Correlation>,
    /// Floats of all packed weights.
    packed: usize,
    /// Most images per part, and the bands of rows that an image is cut into; one of them is one.
    images: usize,
    bands: usize,
    /// The weights, if they were packed beforehand.
    ready: Option<Arc<AlignedBytes>>,
}

/// The order of a correlation's packed weights: two of the same have the same packed copy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WeightLayout {
    groups: usize,
    m: usize,
    channels: usize,
    pairs: bool,
    /// Elements from the weight of tap (0, 0), for each tap.
    taps: Vec<isize>,
    strides: [isize; 3],
    /// Rows of a panel.
    rows: usize,
}

impl Correlations {
    /// The forward direction.
    pub fn forward(conv: &Conv, path: KernelPath) -> Option<Self> {
        let tiles = tiles(conv, path)?;
        let w = &conv.weight.strides;
        let mut taps = Vec::new();
        for i in 0..conv.weight.dims[2] {
            for j in 0..conv.weight.dims[3] {
                let at = |axis: usize, k: usize| {
                    (k * conv.window.dilation[axis]) as isize - conv.window.padding[2 * axis] as isize
                };
                let weight = i as isize * w[2] + j as isize * w[3];
                taps.push(Tap { shift: [at(0, i), at(1, j)], weight });
            }
        }
        let m = conv.weight.dims[0] / conv.groups;
        let y = &conv.y;
        let correlation = Correlation {
            tiles,
            groups: conv.groups,
            batch: y.dims[0],
            m,
            channels: conv.weight.dims[1],
            pairs: conv.is_narrow(),
            taps,
            step: conv.window.strides,
            grid: [y.dims[2], y.dims[3]],
            weight_strides: [w[0], w[1], w[0] * m as isize],
            out_start: 0,
            out_strides: [y.strides[0], y.strides[1], y.strides[2], y.strides[3]],
            plain: false,
            across: false,
            columns: 0,
            blocks: Blocks::new(0, 1),
            packed_start: 0,
        };
        Self::finish(vec![correlation], &conv.x)
    }

    /// The gradient by the input.
    pub fn grad_input(conv: &Conv, path: KernelPath) -> Option<Self> {
        let tiles = tiles(conv, path)?;
        let w = &conv.weight.strides;
        let (x, strides) = (&conv.x, conv.window.strides);
        let outs = conv.weight.dims[0] / conv.groups;
        let mut all = Vec::new();
        let phases = [0, 1].map(|axis| strides[axis].min(x.dims[2 + axis]));
        for phase in (0..phases[0]).flat_map(|a| (0..phases[1]).map(move |b| [a, b])) {
            // Element `phase + stride * u` meets tap `k` at place `u + shift`, if that is whole.
            let shift = |axis: usize, k: usize| {
                let distance = (phase[axis] + conv.window.padding[2 * axis]) as isize
                    - (k * conv.window.dilation[axis]) as isize;
                let stride = strides[axis] as isize;
                (distance % stride == 0).then_some(distance / stride)
            };
            let mut taps = Vec::new();
            for i in 0..conv.weight.dims[2] {
                for j in 0..conv.weight.dims[3] {
                    if let (Some(h), Some(v)) = (shift(0, i), shift(1, j)) {
                        taps.push(Tap { shift: [h, v], weight: i as isize * w[2] + j as isize * w[3] });
                    }
                }
            }
            all.push(Correlation {
                tiles,
                groups: conv.groups,
                batch: x.dims[0],
                m: conv.weight.dims[1],
                channels: outs,
                pairs: conv.is_narrow(),
                taps,
                step: [1, 1],
                grid: [0, 1].map(|axis| (x.dims[2 + axis] - phase[axis]).div_ceil(strides[axis])),
                weight_strides: [w[1], w[0], w[0] * outs as isize],
                out_start: phase[0] as isize * x.strides[2] + phase[1] as isize * x.strides[3],
                out_strides: [
                    x.strides[0],
                    x.strides[1],
                    // A stride that steps out of the image is never taken.
                    x.strides[2].wrapping_mul(strides[0] as isize),
                    x.strides[3].wrapping_mul(strides[1] as isize),
                ],
                plain: false,
                across: false,
                columns: 0,
                blocks: Blocks::new(0, 1),
                packed_start: 0,
            });
        }
        Self::finish(all, &conv.y)
    }

    /// Fixes blocks and parts. `None` when a window has too many taps for a block.
    fn finish(mut all: Vec<Correlation>, source: &View) -> Option<Self> {
        let (mut packed, mut images, mut bands) = (0, usize::MAX, 1);
        let one = all.len() == 1;
        for c in &mut all {
            if c.taps.len() > K_BLOCK_MAX {
                return None;
            }
            if !c.pairs {
                c.tiles = c.tiles.for_products(c.k(), false);
            }
            c.packed_start = packed;
            packed += c.groups * c.m * c.k();
            c.blocks = Blocks::new(c.inner(), c.taps.len());
            c.plain = c.is_plain(source);
            if c.plain {
                c.columns = c.grid[1];
                images = images.min(c.batch.max(1));
                bands = bands.max((c.grid[0] * c.grid[1] / PLAIN_PLACES).clamp(1, c.grid[0].max(1)));
                continue;
            }
            c.columns = c.grid[1];
            if let Some(rows) = c.rows_across().filter(|_| one) {
                c.across = true;
                (images, bands) = (c.side_by_side(), c.grid[0].div_ceil(rows));
                continue;
            }
            c.columns = c.computed_columns();
            let most = PADDED_BYTES / 4;
            let rows = (1..=c.grid[0]).rev().find(|&rows| c.part(1, rows).image() <= most).unwrap_or(1);
            bands = bands.max(c.grid[0].div_ceil(rows));
            images = images.min((most / c.part(1, c.grid[0]).image().max(1)).max(1));
        }
        if bands > 1 && !all.iter().any(|c| c.across) {
            images = 1;
        }
        Some(Self { all, packed, images, bands, ready: None })
    }

    /// Where the packed weights are.
    fn weights(&self, cx: &Cx<'_>) -> *const f32 {
        self.ready.as_ref().map_or_else(|| cx.shared(), |ready| ready.start()).cast()
    }

    /// Packs the weights once, for all threads.
    fn pack_now(&self, cx: &Cx<'_>, weight: &View) {
        let tasks: usize = self.all.iter().map(|c| c.packing_tasks()).sum();
        cx.parallel(tasks, self.packed / 2, &|_, range| {
            let (from, to) = (PairWeights::new(cx.origin(weight), weight), cx.shared().cast::<f32>());
            let mut first = 0;
            for c in &self.all {
                let end = first + c.packing_tasks();
                for task in range.start.max(first)..range.end.min(end) {
                    // SAFETY: each task packs a part of its own; the shared scratch memory holds all weights.
                    unsafe { c.pack_weights(from, to, task - first) };
                }
                first = end;
            }
        });
    }
}

impl Algorithm for Correlations {
    fn take_weights(&mut self, weight: &View, packer: &Packer<'_>) -> Result<(), KernelError> {
        if !packer.holds(weight, weight.elements()) {
            return Ok(());
        }
        let layout = Layout::Correlations(self.all.iter().map(Correlation::layout).collect());
        let all = &self.all;
        self.ready = packer.packed(weight, layout, self.packed, |from, to| {
            let from = PairWeights::new(from.cast(), weight);
            for c in all {
                // SAFETY: the weights were checked, and the copy holds them all.
                (0..c.packing_tasks()).for_each(|task| unsafe { c.pack_weights(from, to, task) });
            }
        })?;
        Ok(())
    }

    fn scratch(&self) -> Scratch {
        let floats = self.all.iter().map(|c| c.scratch_floats(self.images, self.bands)).max().unwrap_or(0);
        let packed = if self.ready.is_some() { 0 } else { self.packed };
        Scratch { per_thread: floats.saturating_mul(4), shared: packed.saturating_mul(4) }
    }

    fn run(&self, cx: &Cx<'_>, reads: [&View; 2], out: &View, cost_ns: usize) {
        self.run_with(cx, reads, out, cost_ns, None);
    }

    fn run_finished(&self, cx: &Cx<'_>, reads: [&View; 2], out: &View, cost_ns: usize, finisher: &Finisher) {
        self.run_with(cx, reads, out, cost_ns, Some(finisher));
    }
}

impl Correlations {
    fn run_with(
        &self,
        cx: &Cx<'_>,
        [source, weight]: [&View; 2],
        out: &View,
        cost_ns: usize,
        finisher: Option<&Finisher>,
    ) {
        if self.ready.is_none() {
            self.pack_now(cx, weight);
        }
        let Some(c) = self.all.first() else { return };
        let threads = cx.pool.threads();
        // Fewer images per part than would fit, so that every thread gets some.
        let images = if c.across { self.images } else { self.images.min(c.batch.div_ceil(threads)).max(1) };
        let parts = c.batch.div_ceil(images) * self.bands;
        let row_parts = threads.div_ceil((parts * c.groups).max(1)).min(c.panels());
        cx.parallel(c.groups * parts * row_parts, cost_ns, &|thread, range| {
            for task in range {
                let (group, rest) = (task / (parts * row_parts), task % (parts * row_parts));
                let (index, row_part) = (rest / row_parts, rest % row_parts);
                let first = index / self.bands * images;
                // All phases of a part one after the other, because they write to the same lines.
                for c in &self.all {
                    let place = Place {
                        images: first..c.batch.min(first + images),
                        rows: part(c.grid[0], index % self.bands, self.bands),
                        panels: share(c.panels(), row_part, row_parts),
                        group,
                    };
                    // SAFETY: parts of the result are disjoint; the scratch memory is this thread's.
                    unsafe {
                        let weights = self.weights(cx);
                        c.compute(cx, source, weights, out, place, cx.scratch(thread), finisher);
                    }
                }
            }
        });
    }
}

impl Correlation {
    /// Whether the one tap of each place meets the element of the same number, where both are in a row for all of an image.
    fn is_plain(&self, source: &View) -> bool {
        let [rows, columns] = self.grid;
        let in_a_row = |row: isize, column: isize| column == 1 && row == columns as isize;
        matches!(self.taps.as_slice(), [Tap { shift: [0, 0], .. }])
            && self.step == [1; 2]
            && source.dims[2..] == [rows, columns]
            && in_a_row(source.strides[2], source.strides[3])
            && in_a_row(self.out_strides[2], self.out_strides[3])
    }

    /// Source channels of a group, or pairs of them.
    fn inner(&self) -> usize {
        if self.pairs { self.channels.div_ceil(2) } else { self.channels }
    }

    /// Extent of the inner dimension.
    pub fn k(&self) -> usize {
        self.inner() * self.taps.len()
    }

    /// Panels of rows of a group.
    fn panels(&self) -> usize {
        self.m.div_ceil(self.tiles.rows)
    }

    /// The result channels of a group that are rows of these panels, of which there is one.
    pub fn channels_of(&self, panels: &Range<usize>) -> Range<usize> {
        let of = |panel| part(self.m, panel, self.panels());
        of(panels.start).start..of(panels.end - 1).end
    }

    /// The distance of each inner position from the corner of a place, in a padded part that has them.
    pub fn offsets<'a>(&'a self, part: &'a Part) -> impl Iterator<Item = usize> + 'a {
        let low = [0, 1].map(|axis| self.reach(axis)[0]);
        let tap = move |tap: &Tap| {
            let [row, column] = [0, 1].map(|axis| (tap.shift[axis] - low[axis]) as usize);
            row * part.extents[1] + column % part.step * part.pitch + column / part.step
        };
        (0..part.channels[1]).flat_map(move |c| self.taps.iter().map(move |t| c * part.plane() + tap(t)))
    }

    /// The smallest and the largest shift of the taps along an axis.
    pub fn reach(&self, axis: usize) -> [isize; 2] {
        let shifts = || self.taps.iter().map(|t| t.shift[axis]);
        [shifts().min().unwrap_or(0), shifts().max().unwrap_or(0)]
    }

    /// The largest padded part for `images` images and `rows` rows of places.
    pub fn part(&self, images: usize, rows: usize) -> Part {
        let [rows_met, columns_met] = [0, 1].map(|axis| {
            let [low, high] = self.reach(axis);
            (high - low) as usize + 1
        });
        // Columns that are as far apart as places lie next to each other.
        let step = self.step[1];
        let pitch = self.columns.saturating_sub(1).saturating_add(columns_met.div_ceil(step));
        let channels = self.inner().div_ceil(self.blocks.count());
        Part {
            batch: [0, images],
            channels: [0, channels],
            corner: [self.reach(0)[0], self.reach(1)[0]],
            extents: [
                rows.saturating_sub(1) * self.step[0] + rows_met,
                pitch.saturating_mul(step.min(columns_met)),
            ],
            step,
            pitch,
        }
    }

    /// Columns to compute: with few more than there are, rows end where vectors (or halves or quarters of 16) do.
    pub fn computed_columns(&self) -> usize {
        let columns = self.grid[1];
        [self.tiles.lanes, 8, 4, 2]
            .into_iter()
            .map(|unit| columns.next_multiple_of(unit))
            .find(|&computed| (computed - columns) * 6 <= columns)
            .unwrap_or(columns)
    }

    /// Floats of a thread's scratch memory: the product's, a padded part, and the offsets of inner positions.
    fn scratch_floats(&self, images: usize, bands: usize) -> usize {
        if self.plain {
            return self.padded_start();
        }
        let rows = self.grid[0].div_ceil(bands);
        let part = self.part(images, rows);
        let offsets = self.offsets_start(images.saturating_mul(part.image()));
        let result = if self.across { self.result_floats(rows) } else { 0 };
        self.result_start(offsets).saturating_add(result)
    }

    /// Where a result of images side by side starts behind the offsets.
    pub fn result_start(&self, offsets: usize) -> usize {
        offsets.saturating_add(K_BLOCK_MAX * size_of::<usize>() / 4)
    }

    /// Where the offsets start behind a padded part of `floats`.
    pub fn offsets_start(&self, floats: usize) -> usize {
        self.padded_start().saturating_add(floats.div_ceil(16).saturating_mul(16))
    }

    /// Floats before the padded part in a thread's scratch memory.
    pub fn padded_start(&self) -> usize {
        self.tiles.scratch_floats_in_place().next_multiple_of(16)
    }

    fn packing_tasks(&self) -> usize {
        if self.taps.is_empty() { 0 } else { self.groups * self.blocks.count() * self.panels() }
    }

    fn layout(&self) -> WeightLayout {
        WeightLayout {
            groups: self.groups,
            m: self.m,
            channels: self.channels,
            pairs: self.pairs,
            taps: self.taps.iter().map(|tap| tap.weight).collect(),
            strides: self.weight_strides,
            rows: self.tiles.rows,
        }
    }

    /// Packs one panel of one block of a group's weights: behind the blocks before it, and the panels before it. The
    /// first weight is at `from`; `to` holds those of all correlations.
    ///
    /// # Safety
    /// The weights were checked; nobody else uses the panel.
    unsafe fn pack_weights(&self, from: PairWeights, to: *mut f32, task: usize) {
        let (group, rest) =
            (task / (self.blocks.count() * self.panels()), task % (self.blocks.count() * self.panels()));
        let block = self.blocks.get(rest / self.panels());
        let rows = part(self.m, rest % self.panels(), self.panels());
        let start =
            self.packed_start + group * self.m * self.k() + self.m * block.start + rows.start * block.len();
        let to = to.wrapping_add(start);
        let [across, channel, per_group] = self.weight_strides;
        let first = group as isize * per_group + rows.start as isize * across;
        let taps = self.taps.len();
        if self.pairs {
            for (p, k) in block.enumerate() {
                let (pair, tap) = (k / taps, &self.taps[k % taps]);
                let at = first + 2 * pair as isize * channel + tap.weight;
                let second = (2 * pair + 1 < self.channels).then_some(channel);
                for i in 0..rows.len() {
                    // SAFETY: indices within the weights, and a panel of the copy.
                    unsafe { *to.add(p * rows.len() + i) = from.pair(at + i as isize * across, second) };
                }
            }
            return;
        }
        let from = from.start.cast::<f32>().wrapping_offset(first);
        let contiguous =
            channel == taps as isize && self.taps.iter().enumerate().all(|(i, t)| t.weight == i as isize);
        // SAFETY: indices within the weights, and a panel of the copy.
        unsafe {
            if contiguous {
                let matrix = Matrix { start: from.wrapping_add(block.start), across, along: 1 };
                return (self.tiles.pack.f32)(matrix, Panel::dense(rows.len(), rows.len(), block.len()), to);
            }
            for (p, k) in block.enumerate() {
                let from = from.offset((k / taps) as isize * channel + self.taps[k % taps].weight);
                for i in 0..rows.len() {
                    *to.add(p * rows.len() + i) = *from.offset(i as isize * across);
                }
            }
        }
    }

    /// The product of a group's weights with what its places meet.
    pub fn product<'a>(
        &'a self,
        left: &'a PackedRows,
        right: &'a dyn RightOperand,
        out: &'a dyn Output,
    ) -> Product<'a> {
        let (tiles, m, blocks) = (&self.tiles, self.m, self.blocks);
        Product { tiles, m, blocks, left, right, out, add: false, finish: None }
    }

    /// A group's weights as the left operand, of all correlations' packed ones.
    pub fn packed_rows(&self, weights: *const f32, group: usize) -> PackedRows {
        let start = self.packed_start + group * self.m * self.k();
        PackedRows { start: weights.wrapping_add(start), m: self.m }
    }

    /// Computes one part of the result, from all correlations' packed weights.
    ///
    /// # Safety
    /// The views were checked, the weights are packed, nobody else computes this part, and `scratch` is a thread's own.
    #[allow(clippy::too_many_arguments)]
    unsafe fn compute(
        &self,
        cx: &Cx<'_>,
        source: &View,
        weights: *const f32,
        out: &View,
        place: Place,
        scratch: *mut u8,
        finisher: Option<&Finisher>,
    ) {
        let s = &source.strides;
        let (strides, extents) = ([s[0], s[1], s[2], s[3]], [source.dims[2], source.dims[3]]);
        let group = (place.group * self.channels) as isize * s[1];
        let start = cx.origin(source).wrapping_offset(group * source.dtype.bytes() as isize).cast_const();
        let images = if self.pairs {
            let bf16 = source.dtype == DType::BF16;
            Source::Pairs(PairImages { start, bf16, strides, extents, channels: self.channels })
        } else {
            Source::Numbers(Images { start: start.cast(), strides, extents })
        };
        if place.images.is_empty() || place.rows.is_empty() || place.panels.is_empty() {
            return;
        }
        let scratch = scratch.cast::<f32>();
        if self.plain {
            // SAFETY: the caller's contract is the same.
            unsafe {
                self.compute_plain(&images, weights, cx.origin(out).cast(), &place, scratch, finisher);
            }
            if self.tiles.parts > 0
                && let Some(finisher) = finisher
            {
                // SAFETY: the part was computed by this thread.
                unsafe { self.finish(cx.origin(out).cast(), &place, finisher) };
            }
            return;
        }
        if let (true, Source::Numbers(images)) = (self.across, &images) {
            // SAFETY: the caller's contract is the same.
            unsafe {
                self.compute_across(*images, weights, cx.origin(out).cast(), &place, scratch);
                if let Some(finisher) = finisher {
                    self.finish(cx.origin(out).cast(), &place, finisher);
                }
            }
            return;
        }
        let padded = self.part(place.images.len(), place.rows.len());
        let right = Patches {
            of: self,
            images,
            first_image: place.images.start,
            count: place.images.len(),
            first_row: place.rows.start,
            rows: place.rows.len(),
            padded: scratch.wrapping_add(self.padded_start()),
            offsets: scratch.wrapping_add(self.offsets_start(place.images.len() * padded.image())).cast(),
            block: [const { AtomicUsize::new(0) }; 3],
        };
        let o = self.out_strides;
        let first = (place.group * self.m) as isize * o[1]
            + place.images.start as isize * o[0]
            + place.rows.start as isize * o[2];
        let places = Places {
            start: cx.origin(out).cast::<f32>().wrapping_offset(self.out_start + first),
            strides: o,
            rows: place.rows.len(),
            columns: self.columns,
            stored: self.grid[1],
        };
        let left = self.packed_rows(weights, place.group);
        let product = self.product(&left, &right, &places);
        let columns = 0..place.images.len() * place.rows.len() * self.columns;
        // SAFETY: the caller's contract; the product's scratch memory is the first part of the thread's.
        unsafe { product.compute(place.panels.clone(), columns, scratch) };
        if let Some(finisher) = finisher {
            // SAFETY: the part was computed by this thread.
            unsafe { self.finish(cx.origin(out).cast(), &place, finisher) };
        }
    }

    /// Finishes a part of the result, which is row-major and begins at `out`.
    ///
    /// # Safety
    /// The part is computed, nobody else works on it, and the processor supports the path.
    unsafe fn finish(&self, out: *mut f32, place: &Place, finisher: &Finisher) {
        let channels = self.channels_of(&place.panels);
        let first = place.group * self.m + channels.start;
        let [across_images, across_channels, row, _] = self.out_strides;
        for image in place.images.clone() {
            let at = image as isize * across_images
                + first as isize * across_channels
                + place.rows.start as isize * row;
            let columns = place.rows.len() * self.grid[1];
            // SAFETY: the caller's contract.
            unsafe {
                let to = out.wrapping_offset(self.out_start + at);
                finisher.run(first, channels.len(), to, across_channels, 0..columns);
            }
        }
    }
}

impl Correlation {
    /// Computes one part of the result where images are right operands as they are.
    ///
    /// # Safety
    /// As for [`Correlation::compute`]; `images` begins with the group's channels, `out` with all channels.
    unsafe fn compute_plain(
        &self,
        images: &Source,
        weights: *const f32,
        out: *mut f32,
        place: &Place,
        scratch: *mut f32,
        finisher: Option<&Finisher>,
    ) {
        let out = out.wrapping_offset(self.out_start + (place.group * self.m) as isize * self.out_strides[1]);
        let left = self.packed_rows(weights, place.group);
        for image in place.images.clone() {
            let (columns_of, pairs_of);
            let right: &dyn RightOperand = match *images {
                Source::Numbers(images) => {
                    let start = images.start.wrapping_offset(image as isize * images.strides[0]);
                    columns_of = Columns {
                        matrix: Matrix { start, across: 1, along: images.strides[1] },
                        pack: self.tiles.pack.f32,
                        // As for other products: few rows do not pay for packing.
                        in_place: place.panels.len() <= 2 && self.tiles.masked && images.strides[1] >= 0,
                    };
                    &columns_of
                }
                Source::Pairs(images) => {
                    pairs_of = PairColumns { images, image };
                    &pairs_of
                }
            };
            let start = out.wrapping_offset(image as isize * self.out_strides[0]);
            let out = Plain { start, row_step: self.out_strides[1], column_step: 1 };
            let finish = finisher.map(|it| (it, place.group * self.m));
            let product = Product { finish, ..self.product(&left, right, &out) };
            let columns = place.rows.start * self.columns..place.rows.end * self.columns;
            // SAFETY: the caller's contract.
            unsafe { product.compute(place.panels.clone(), columns, scratch) };
        }
    }
}

/// A part of the result.
pub(super) struct Place {
    pub images: Range<usize>,
    pub rows: Range<usize>,
    pub panels: Range<usize>,
    pub group: usize,
}

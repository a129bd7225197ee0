//! A convolution, or its gradient by the input: weights at the points, for all tiles; then for some tiles at a time, that
//! fill the vectors of a product, the source at the points, 36 products over channels, and the result.
//!
//! The weights' values are four times as long as the weights. Where there are few tiles to be multiplied with them, they
//! would cost more than the products if they went through memory. Then the values of all tiles come first, and those of
//! some weights at a time are made, used and forgotten. The bits are the same.

use super::read::{Images, Read};
use super::transform::{Collect, Filters, Spread, Transforms};
use super::{ALL_POINTS, Grid, WINDOW, fits, point_step};
use crate::conv::{Algorithm, Conv};
use crate::error::KernelError;
use crate::finish::Finisher;
use crate::gemm::{Mode, Tile, Tiles, part};
use crate::kernel::{Cx, Scratch};
use crate::memory::AlignedBytes;
use crate::path::KernelPath;
use crate::threads::share;
use crate::view::View;
use crate::weight::{Layout, Packer};
use std::ops::Range;
use std::sync::Arc;

/// Channels of the source that a product sums at a time.
const CHANNEL_BLOCK: usize = 128;
/// Result channels whose values at all points are kept until they become tiles; they and the tiles' stay in the
/// second-level cache.
const GROUP: usize = 56;
/// The same where the values of so many channels' weights stay there too.
const GROUP_OF_FEW: usize = 28;
/// Most blocks of tiles (of as many as fill a product's vectors) that are called few.
const FEW_BLOCKS: usize = 4;
/// Bytes of the weights' values that need not be kept out of memory.
const WEIGHT_BYTES: usize = 1 << 20;

/// Fewest tiles of an image for which it pays to make the weights' values where few images may come alone, which have the
/// bits there that they have in any batch.
const TILES_MIN: usize = 4;
/// The same of a batch that always comes as it is.
const TILES_OF_BATCH_MIN: usize = 8;

/// A correlation with 3x3 weights, compiled for operands and a path.
#[derive(Debug)]
pub(in crate::conv) struct Winograd {
    tiles: Tiles,
    transforms: Transforms,
    grid: Grid,
    batch: usize,
    /// Result channels and source channels.
    m: usize,
    channels: usize,
    /// The row and column of the source that the first tap of the first place meets.
    corner: [isize; 2],
    /// Elements from the first weight to that of the first tap, and strides between result channels, source channels, and
    /// the taps' rows and columns.
    weight_start: isize,
    weight_strides: [isize; 4],
    /// Whether what is multiplied is bf16.
    narrow: bool,
    /// The weights' values at the points, if they were made beforehand.
    ready: Option<Arc<AlignedBytes>>,
}

/// The order of the weights' values: two of the same have the same copy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WinogradLayout {
    extents: [usize; 2],
    start: isize,
    strides: [isize; 4],
    read: Read,
    /// Rows of a panel.
    rows: usize,
}

/// The result, and what finishes it.
#[derive(Clone, Copy)]
struct To<'a> {
    view: &'a View,
    finisher: Option<&'a Finisher>,
}

impl Winograd {
    /// The forward direction, where tiles pay.
    pub fn forward(conv: &Conv, path: KernelPath) -> Option<Self> {
        let (w, y) = (&conv.weight, &conv.y);
        let corner = [0, 1].map(|axis| -(conv.window.padding[2 * axis] as isize));
        let strides = [w.strides[0], w.strides[1], w.strides[2], w.strides[3]];
        Self::new(conv, path, [y.dims[2], y.dims[3]], [w.dims[0], w.dims[1]], corner, (0, strides))
    }

    /// The gradient by the input, where tiles pay: a correlation with the weights turned around.
    pub fn grad_input(conv: &Conv, path: KernelPath) -> Option<Self> {
        let (w, x) = (&conv.weight, &conv.x);
        let reach = WINDOW as isize - 1;
        let corner = [0, 1].map(|axis| conv.window.padding[2 * axis] as isize - reach);
        let strides = [w.strides[1], w.strides[0], -w.strides[2], -w.strides[3]];
        let start = reach * (w.strides[2] + w.strides[3]);
        Self::new(conv, path, [x.dims[2], x.dims[3]], [w.dims[1], w.dims[0]], corner, (start, strides))
    }

    fn new(
        conv: &Conv,
        path: KernelPath,
        extents: [usize; 2],
        [m, channels]: [usize; 2],
        corner: [isize; 2],
        (weight_start, weight_strides): (isize, [isize; 4]),
    ) -> Option<Self> {
        let (tiles, grid, batch) = (Tiles::new(path), Grid::new(extents), conv.x.dims[0]);
        let enough = grid.count(1) >= TILES_MIN || conv.together && grid.count(batch) >= TILES_OF_BATCH_MIN;
        let narrow = conv.is_narrow();
        // Pairs of bf16 are faster than what is widened.
        let slower = narrow && Tiles::of_pairs(path).is_some();
        (enough && !slower && fits(conv, &tiles, grid)).then(|| Self {
            tiles,
            transforms: Transforms::new(path),
            grid,
            batch,
            m,
            channels,
            corner,
            weight_start,
            weight_strides,
            narrow,
            ready: None,
        })
    }

    fn panels(&self) -> usize {
        self.m.div_ceil(self.tiles.rows)
    }

    /// The result channels of some panels.
    fn rows(&self, panels: &Range<usize>) -> Range<usize> {
        let of = |panel| part(self.m, panel, self.panels());
        of(panels.start).start..of(panels.end - 1).end
    }

    /// Panels of a group of at most so many channels.
    fn group(&self, channels: usize) -> usize {
        (channels / self.tiles.rows).max(1)
    }

    /// Blocks of tiles.
    fn blocks(&self) -> usize {
        self.grid.count(self.batch).div_ceil(self.tiles.columns())
    }

    /// Whether the weights' values are made where they are used.
    fn is_few(&self) -> bool {
        let bytes = self.weight_floats()[1].saturating_mul(4);
        self.blocks() <= FEW_BLOCKS && bytes > WEIGHT_BYTES
    }

    /// Floats between points of the weights' values, and of all of them.
    fn weight_floats(&self) -> [usize; 2] {
        let step = point_step(self.m * self.channels);
        [step, step.saturating_mul(ALL_POINTS)]
    }

    /// Floats between points of the values of a block of tiles, with so many channels.
    fn step(&self, channels: usize) -> usize {
        point_step(channels.saturating_mul(self.tiles.columns()))
    }

    /// Writes the values of the weights of some panels and source channels, panel by panel. The first weight is at `from`.
    ///
    /// # Safety
    /// The weights were checked, `to` is good for the values, and nobody else works on them.
    unsafe fn pack(
        &self,
        (weight, from): (&View, *const u8),
        panels: Range<usize>,
        channels: Range<usize>,
        to: *mut f32,
        point_step: usize,
    ) {
        let (mut to, read) = (to, Read::of(weight, self.narrow));
        for panel in panels {
            let rows = self.rows(&(panel..panel + 1));
            let start = self.weight_start
                + rows.start as isize * self.weight_strides[0]
                + channels.start as isize * self.weight_strides[1];
            let filters = Filters {
                pack: self.tiles.pack,
                from: read.at(from, start),
                read,
                strides: self.weight_strides,
                rows: rows.len(),
                channels: channels.len(),
                to,
                point_step,
            };
            // SAFETY: the caller's contract.
            unsafe { (self.transforms.filters)(&filters) };
            to = to.wrapping_add(rows.len() * channels.len());
        }
    }

    /// Writes the values of some channels of the source, for a block of tiles; `to` is where those of all channels are.
    ///
    /// # Safety
    /// The view was checked, `to` holds the values, and nobody else works on these.
    unsafe fn spread(
        &self,
        cx: &Cx<'_>,
        source: &View,
        tiles: Range<usize>,
        channels: Range<usize>,
        to: *mut f32,
    ) {
        let width = self.tiles.columns();
        let spread = Spread {
            images: Images::of(cx, source, self.narrow),
            runs: &self.grid.runs(tiles.clone()),
            corner: self.corner,
            tiles: tiles.len(),
            to: to.wrapping_add(channels.start * width),
            channels,
            point_step: self.step(self.channels),
            channel_step: width,
        };
        // SAFETY: the caller's contract.
        unsafe { (self.transforms.source)(&spread) };
    }

    /// Multiplies the values of some panels' weights and of a block of so many tiles at one point, over a block of
    /// channels. `weights` are those of the group's first row and of the first of `packed` channels.
    ///
    /// # Safety
    /// The operands are there, and nobody else works on the results.
    #[allow(clippy::too_many_arguments)]
    unsafe fn multiply(
        &self,
        panels: &Range<usize>,
        block: &Range<usize>,
        (weights, packed): (*const f32, &Range<usize>),
        values: *const f32,
        results: *mut f32,
        tiles: usize,
    ) {
        let width = self.tiles.columns();
        let mut tile = Tile::new();
        tile.mode = Mode::Panels;
        (tile.right_step, tile.out_step) = (width, width as isize);
        tile.valid = [self.tiles.lanes; 2];
        tile.right = values.wrapping_add(block.start * width);
        (tile.k, tile.add) = (block.len(), block.start > 0);
        let first = self.rows(panels).start;
        for panel in panels.clone() {
            let rows = self.rows(&(panel..panel + 1));
            let place = (rows.start - first) * packed.len() + (block.start - packed.start) * rows.len();
            (tile.left, tile.left_step) = (weights.wrapping_add(place), rows.len());
            let start = results.wrapping_add((rows.start - first) * width);
            tile.out = [start, start.wrapping_add(self.tiles.lanes)];
            // SAFETY: the caller's contract.
            unsafe { self.tiles.run(&tile, rows.len(), tiles.div_ceil(self.tiles.lanes)) };
        }
    }

    /// Writes a block of tiles of some channels of the result from their values.
    ///
    /// # Safety
    /// The view was checked, the values are there, and nobody else works on these tiles.
    unsafe fn collect(
        &self,
        cx: &Cx<'_>,
        out: To<'_>,
        tiles: Range<usize>,
        rows: &Range<usize>,
        (from, point_step): (*const f32, usize),
    ) {
        let o = &out.view.strides;
        let collect = Collect {
            from,
            point_step,
            channel_step: self.tiles.columns(),
            channels: rows.len(),
            runs: &self.grid.runs(tiles.clone()),
            grid: self.grid,
            tiles: tiles.len(),
            to: cx.origin(out.view).cast::<f32>().wrapping_offset(rows.start as isize * o[1]),
            finish: out.finisher.map(|finisher| (finisher, rows.start)),
            strides: [o[0], o[1], o[2], o[3]],
        };
        // SAFETY: the caller's contract.
        unsafe { (self.transforms.collect)(&collect) };
    }

    /// Computes a block of tiles of the channels of some panels.
    ///
    /// # Safety
    /// The views were checked, `weights` are all values, nobody else computes this part, and `scratch` is a thread's own.
    unsafe fn compute(
        &self,
        cx: &Cx<'_>,
        (source, out): (&View, To<'_>),
        weights: *const f32,
        tiles: Range<usize>,
        panels: Range<usize>,
        scratch: *mut f32,
    ) {
        let (source_step, out_step) = (self.step(self.channels), self.step(GROUP.max(self.tiles.rows)));
        let (values, results) = (scratch, scratch.wrapping_add(source_step * ALL_POINTS));
        let all = 0..self.channels;
        let blocks = self.channels.div_ceil(CHANNEL_BLOCK);
        // SAFETY: the views were checked; all places are within the weights' values and the scratch memory.
        unsafe {
            self.spread(cx, source, tiles.clone(), all.clone(), values);
            for group in panels.clone().step_by(self.group(GROUP)) {
                let group = group..panels.end.min(group + self.group(GROUP));
                let rows = self.rows(&group);
                for point in 0..ALL_POINTS {
                    let place = point * self.weight_floats()[0] + rows.start * self.channels;
                    for block in (0..blocks).map(|i| part(self.channels, i, blocks)) {
                        self.multiply(
                            &group,
                            &block,
                            (weights.wrapping_add(place), &all),
                            values.wrapping_add(point * source_step),
                            results.wrapping_add(point * out_step),
                            tiles.len(),
                        );
                    }
                }
                self.collect(cx, out, tiles.clone(), &rows, (results, out_step));
            }
        }
    }

    /// Computes all tiles, which are few, of the channels of a group of panels, from the source's values.
    ///
    /// # Safety
    /// The views were checked, the shared memory holds the values, nobody else computes this part, and `scratch` is a
    /// thread's own.
    unsafe fn compute_few(
        &self,
        cx: &Cx<'_>,
        (weight, out): (&View, To<'_>),
        group: &Range<usize>,
        scratch: *mut f32,
    ) {
        let rows = self.rows(group);
        let [weight_step, out_step] = self.steps_of_few();
        let source_step = self.step(self.channels);
        let (weights, results) = (scratch, scratch.wrapping_add(weight_step * ALL_POINTS));
        let blocks = self.channels.div_ceil(CHANNEL_BLOCK);
        let of_block = |block: usize, step: usize| block * step * ALL_POINTS;
        // SAFETY: the views were checked; all places are within the shared and the scratch memory.
        unsafe {
            for channels in (0..blocks).map(|i| part(self.channels, i, blocks)) {
                let from = (weight, cx.origin(weight).cast_const());
                self.pack(from, group.clone(), channels.clone(), weights, weight_step);
                for block in 0..self.blocks() {
                    for point in 0..ALL_POINTS {
                        self.multiply(
                            group,
                            &channels,
                            (weights.wrapping_add(point * weight_step), &channels),
                            cx.shared()
                                .cast::<f32>()
                                .wrapping_add(of_block(block, source_step) + point * source_step),
                            results.wrapping_add(of_block(block, out_step) + point * out_step),
                            self.tiles_of(block).len(),
                        );
                    }
                }
            }
            for block in 0..self.blocks() {
                let from = results.wrapping_add(of_block(block, out_step));
                self.collect(cx, out, self.tiles_of(block), &rows, (from, out_step));
            }
        }
    }

    /// Floats between points of a thread's weights' values and of its results, where tiles are few.
    fn steps_of_few(&self) -> [usize; 2] {
        let rows = GROUP_OF_FEW.max(self.tiles.rows);
        [point_step(rows * CHANNEL_BLOCK.min(self.channels)), self.step(rows)]
    }

    /// The tiles of a block.
    fn tiles_of(&self, block: usize) -> Range<usize> {
        let width = self.tiles.columns();
        block * width..self.grid.count(self.batch).min((block + 1) * width)
    }

    fn run_few(&self, cx: &Cx<'_>, source: &View, weight: &View, out: To<'_>, cost_ns: usize) {
        let step = self.step(self.channels) * ALL_POINTS;
        cx.parallel(self.blocks() * self.channels, cost_ns, &|_, range| {
            let mut at = range.start;
            while at < range.end {
                let (block, first) = (at / self.channels, at % self.channels);
                let last = (range.end - block * self.channels).min(self.channels);
                at = block * self.channels + last;
                let to = cx.shared().cast::<f32>().wrapping_add(block * step);
                // SAFETY: the view was checked, and the shared memory holds the values; channels are disjoint.
                unsafe { self.spread(cx, source, self.tiles_of(block), first..last, to) };
            }
        });
        let (panels, group) = (self.panels(), self.group(GROUP_OF_FEW));
        cx.parallel(panels.div_ceil(group), cost_ns, &|thread, range| {
            for first in range.map(|i| i * group) {
                let group = first..panels.min(first + group);
                // SAFETY: the source's values are there; groups are disjoint; the scratch memory is this thread's.
                unsafe { self.compute_few(cx, (weight, out), &group, cx.scratch(thread).cast()) };
            }
        });
    }
}

impl Algorithm for Winograd {
    fn take_weights(&mut self, weight: &View, packer: &Packer<'_>) -> Result<(), KernelError> {
        // Few tiles are quicker with values that are made of the weights than with four times as many bytes from memory.
        if self.is_few() || !packer.holds(weight, weight.elements()) {
            return Ok(());
        }
        let layout = Layout::Winograd(WinogradLayout {
            read: Read::of(weight, self.narrow),
            extents: [self.m, self.channels],
            start: self.weight_start,
            strides: self.weight_strides,
            rows: self.tiles.rows,
        });
        let all = self.weight_floats()[1];
        self.ready = packer.packed(weight, layout, all, |from, to| {
            // SAFETY: the weights were checked, and the copy holds all values.
            unsafe {
                self.pack(
                    (weight, from.cast()),
                    0..self.panels(),
                    0..self.channels,
                    to,
                    self.weight_floats()[0],
                )
            };
        })?;
        Ok(())
    }

    fn scratch(&self) -> Scratch {
        let bytes = |floats: usize| floats.saturating_mul(4 * ALL_POINTS);
        let source = self.step(self.channels);
        if self.is_few() {
            let [weights, results] = self.steps_of_few();
            return Scratch {
                per_thread: bytes(weights.saturating_add(results.saturating_mul(self.blocks()))),
                shared: bytes(source).saturating_mul(self.blocks()),
            };
        }
        Scratch {
            per_thread: bytes(source.saturating_add(self.step(GROUP.max(self.tiles.rows)))),
            shared: if self.ready.is_some() { 0 } else { self.weight_floats()[1].saturating_mul(4) },
        }
    }

    fn run(&self, cx: &Cx<'_>, reads: [&View; 2], out: &View, cost_ns: usize) {
        self.run_to(cx, reads, To { view: out, finisher: None }, cost_ns);
    }

    fn run_finished(&self, cx: &Cx<'_>, reads: [&View; 2], out: &View, cost_ns: usize, finisher: &Finisher) {
        self.run_to(cx, reads, To { view: out, finisher: Some(finisher) }, cost_ns);
    }
}

impl Winograd {
    fn run_to(&self, cx: &Cx<'_>, [source, weight]: [&View; 2], out: To<'_>, cost_ns: usize) {
        if self.is_few() {
            return self.run_few(cx, source, weight, out, cost_ns);
        }
        if self.ready.is_none() {
            cx.parallel(self.panels(), cost_ns, &|_, panels| {
                let from = (weight, cx.origin(weight).cast_const());
                let first = if panels.is_empty() { 0 } else { self.rows(&panels).start };
                let to = cx.shared().cast::<f32>().wrapping_add(first * self.channels);
                // SAFETY: the weights were checked; the shared scratch memory holds all values.
                unsafe { self.pack(from, panels, 0..self.channels, to, self.weight_floats()[0]) };
            });
        }
        let blocks = self.blocks();
        let threads = cx.pool.threads();
        // Few blocks cannot be shared fairly; then threads share the channels of the result too.
        let parts = if blocks >= 4 * threads { 1 } else { threads.min(self.panels()) };
        cx.parallel(blocks * parts, cost_ns, &|thread, range| {
            let mut task = range.start;
            while task < range.end {
                // All of this thread's parts of a block together.
                let (block, first) = (task / parts, task % parts);
                let last = (range.end - block * parts).min(parts);
                task = block * parts + last;
                let panels =
                    share(self.panels(), first, parts).start..share(self.panels(), last - 1, parts).end;
                let tiles = self.tiles_of(block);
                if panels.is_empty() {
                    continue;
                }
                let weights = self.ready.as_ref().map_or_else(|| cx.shared(), |ready| ready.start());
                let scratch = cx.scratch(thread).cast();
                // SAFETY: parts are disjoint; the scratch memory is this thread's.
                unsafe {
                    self.compute(cx, (source, out), weights.cast(), tiles, panels, scratch);
                }
            }
        });
    }
}

//! A convolution, or its gradient by the input: weights at the points, for all tiles; then for some tiles at a time, that
//! fill the vectors of a product, the source at the points, 36 products over channels, and the result.

use super::transform::{Collect, Filters, Spread, Transforms};
use super::{ALL_POINTS, Grid, WINDOW, fits, point_step};
use crate::conv::padded::Images;
use crate::conv::{Algorithm, Conv};
use crate::error::KernelError;
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
const CHANNEL_BLOCK: usize = 256;
/// Result channels whose values at all points are kept until they become tiles; they and the tiles' stay in the
/// second-level cache.
const GROUP: usize = 56;

/// Fewest tiles of an image for which it pays to make the weights' values. Not of a batch, whose bits are those of its
/// images.
const TILES_MIN: usize = 4;

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
    /// The weights' values at the points, if they were made beforehand.
    ready: Option<Arc<AlignedBytes>>,
}

/// The order of the weights' values: two of the same have the same copy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WinogradLayout {
    extents: [usize; 2],
    start: isize,
    strides: [isize; 4],
    /// Rows of a panel.
    rows: usize,
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
        let (tiles, grid) = (Tiles::new(path), Grid::new(extents));
        (grid.count(1) >= TILES_MIN && fits(conv, &tiles, grid)).then(|| Self {
            tiles,
            transforms: Transforms::new(path),
            grid,
            batch: conv.x.dims[0],
            m,
            channels,
            corner,
            weight_start,
            weight_strides,
            ready: None,
        })
    }

    fn panels(&self) -> usize {
        self.m.div_ceil(self.tiles.rows)
    }

    /// Floats between points of the weights' values, and of all of them.
    fn weight_floats(&self) -> [usize; 2] {
        let step = point_step(self.m * self.channels);
        [step, step.saturating_mul(ALL_POINTS)]
    }

    /// Floats between points of a thread's values of the source, and of its results.
    fn steps(&self) -> [usize; 2] {
        let group = GROUP.max(self.tiles.rows).min(self.m);
        [self.channels, group].map(|channels| point_step(channels * self.tiles.columns()))
    }

    /// Writes the values of one panel's weights. The first weight is at `from`.
    ///
    /// # Safety
    /// The weights were checked, `to` holds all values, and nobody else uses the panel.
    unsafe fn pack(&self, from: *const f32, to: *mut f32, panel: usize) {
        let rows = part(self.m, panel, self.panels());
        let first = self.weight_start + rows.start as isize * self.weight_strides[0];
        let filters = Filters {
            pack: self.tiles.pack.f32,
            from: from.wrapping_offset(first),
            strides: self.weight_strides,
            rows: rows.len(),
            channels: self.channels,
            to: to.wrapping_add(rows.start * self.channels),
            point_step: self.weight_floats()[0],
        };
        // SAFETY: the caller's contract.
        unsafe { (self.transforms.filters)(&filters) };
    }

    /// Computes some tiles of the channels of some panels.
    ///
    /// # Safety
    /// The views were checked, `weights` are their values, nobody else computes this part, and `scratch` is a thread's own.
    unsafe fn compute(
        &self,
        cx: &Cx<'_>,
        (source, out): (&View, &View),
        weights: *const f32,
        tiles: Range<usize>,
        panels: Range<usize>,
        scratch: *mut f32,
    ) {
        let runs = &self.grid.runs(tiles.clone());
        let width = self.tiles.columns();
        let [source_step, out_step] = self.steps();
        let (values, results) = (scratch, scratch.wrapping_add(source_step * ALL_POINTS));
        let s = &source.strides;
        let spread = Spread {
            images: Images {
                start: cx.origin(source).cast::<f32>().cast_const(),
                strides: [s[0], s[1], s[2], s[3]],
                extents: [source.dims[2], source.dims[3]],
            },
            channels: 0..self.channels,
            runs,
            corner: self.corner,
            tiles: tiles.len(),
            to: values,
            point_step: source_step,
            channel_step: width,
        };
        // SAFETY: the views were checked, and the scratch memory holds the values.
        unsafe { (self.transforms.source)(&spread) };
        let mut tile = Tile::new();
        tile.mode = Mode::Panels;
        (tile.right_step, tile.out_step) = (width, width as isize);
        tile.valid = [self.tiles.lanes; 2];
        let vectors = tiles.len().div_ceil(self.tiles.lanes);
        let rows_of = |panel: usize| part(self.m, panel, self.panels());
        let blocks = self.channels.div_ceil(CHANNEL_BLOCK);
        for group in panels.clone().step_by((GROUP / self.tiles.rows).max(1)) {
            let group = group..panels.end.min(group + (GROUP / self.tiles.rows).max(1));
            let rows = rows_of(group.start).start..rows_of(group.end - 1).end;
            for point in 0..ALL_POINTS {
                let weights = weights.wrapping_add(point * self.weight_floats()[0]);
                for block in 0..blocks {
                    let block = part(self.channels, block, blocks);
                    tile.right = values.wrapping_add(point * source_step + block.start * width);
                    (tile.k, tile.add) = (block.len(), block.start > 0);
                    for panel in group.clone() {
                        let panel = rows_of(panel);
                        let first = panel.start * self.channels + block.start * panel.len();
                        (tile.left, tile.left_step) = (weights.wrapping_add(first), panel.len());
                        let start =
                            results.wrapping_add(point * out_step + (panel.start - rows.start) * width);
                        tile.out = [start, start.wrapping_add(self.tiles.lanes)];
                        // SAFETY: all of these are within the weights' values and the scratch memory.
                        unsafe { self.tiles.run(&tile, panel.len(), vectors) };
                    }
                }
            }
            let o = &out.strides;
            let collect = Collect {
                from: results,
                point_step: out_step,
                channel_step: width,
                channels: rows.len(),
                runs,
                grid: self.grid,
                tiles: tiles.len(),
                to: cx.origin(out).cast::<f32>().wrapping_offset(rows.start as isize * o[1]),
                strides: [o[0], o[1], o[2], o[3]],
            };
            // SAFETY: the views were checked; these tiles of these channels are this thread's.
            unsafe { (self.transforms.collect)(&collect) };
        }
    }
}

impl Algorithm for Winograd {
    fn take_weights(&mut self, weight: &View, packer: &Packer<'_>) -> Result<(), KernelError> {
        if !packer.holds(weight, weight.elements()) {
            return Ok(());
        }
        let layout = Layout::Winograd(WinogradLayout {
            extents: [self.m, self.channels],
            start: self.weight_start,
            strides: self.weight_strides,
            rows: self.tiles.rows,
        });
        let all = self.weight_floats()[1];
        self.ready = packer.packed(weight, layout, all, |from, to| {
            // SAFETY: the weights were checked, and the copy holds all values.
            (0..self.panels()).for_each(|panel| unsafe { self.pack(from, to, panel) });
        })?;
        Ok(())
    }

    fn scratch(&self) -> Scratch {
        let [source, out] = self.steps();
        let shared = if self.ready.is_some() { 0 } else { self.weight_floats()[1] };
        Scratch {
            per_thread: source.saturating_add(out).saturating_mul(4 * ALL_POINTS),
            shared: shared.saturating_mul(4),
        }
    }

    fn run(&self, cx: &Cx<'_>, [source, weight]: [&View; 2], out: &View, cost_ns: usize) {
        if self.ready.is_none() {
            cx.parallel(self.panels(), cost_ns, &|_, range| {
                let (from, to) = (cx.origin(weight).cast::<f32>().cast_const(), cx.shared().cast::<f32>());
                // SAFETY: the weights were checked; the shared scratch memory holds all values.
                range.for_each(|panel| unsafe { self.pack(from, to, panel) });
            });
        }
        let (all, width) = (self.grid.count(self.batch), self.tiles.columns());
        let blocks = all.div_ceil(width);
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
                let tiles = block * width..all.min((block + 1) * width);
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

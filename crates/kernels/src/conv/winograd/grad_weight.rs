//! The gradient by the weights: at each point, the sum over tiles of the products of the source's values and the values
//! of the result's gradient. Some tiles at a time are transformed by all threads, and then multiplied; at last the sums
//! at the points become the gradient of the weights.
//!
//! Sums are four times as many as weights. Where they would cost more than the products if they went through memory, and
//! the values of all tiles have room, some sums at a time are made of all tiles, and become weights at once.

use super::read::Images;
use super::transform::{Spread, Transforms, Unfilter};
use super::{ALL_POINTS, Grid, fits, point_step};
use crate::conv::{Algorithm, Conv};
use crate::gemm::{
    Blocks, Columns, MAX_COLUMNS, Matrix, PackedColumns, Plain, Product, Rows, Source, Tiles, part,
};
use crate::kernel::{Cx, Scratch};
use crate::path::KernelPath;
use crate::view::View;
use std::ops::Range;

/// Bytes that the values of the tiles of one chunk aim at.
const CHUNK_BYTES: usize = 4 << 20;
/// Most tiles of a chunk: the products' sums are kept in registers over so many.
const CHUNK_MAX: usize = 512;

/// Fewest channels on either side for which it is faster than pairs of bf16 are.
const WIDENED_CHANNELS_MIN: usize = 100;
/// Fewest tiles, of all images, for which it pays to make a gradient of the sums.
const TILES_MIN: usize = 4;
/// Bytes of sums that need not be kept out of memory, and most bytes of the values of all tiles where they are.
const SUMS_BYTES: usize = 4 << 20;
const VALUES_BYTES: usize = 12 << 20;
/// Rows and panels of columns whose sums are made at a time; they stay in the second-level cache.
const BLOCK_ROWS: usize = 28;
const BLOCK_PANELS: usize = 4;

/// The gradient by the weights, compiled for operands and a path.
#[derive(Debug)]
pub(in crate::conv) struct WinogradGradWeight {
    tiles: Tiles,
    transforms: Transforms,
    grid: Grid,
    batch: usize,
    outs: usize,
    channels: usize,
    corner: [isize; 2],
    /// Chunks of tiles.
    chunks: usize,
    /// Whether sums are kept out of memory.
    in_blocks: bool,
    /// Whether what is multiplied is bf16.
    narrow: bool,
}

/// Where things are in the shared scratch memory, in floats.
struct Places {
    /// Floats between channels of the values of source and gradient: tiles of a chunk, up to whole vectors.
    pitch: usize,
    /// Floats between points of the source's values, the gradient's, and the sums; or of the source's values once more,
    /// packed, where sums are kept out of memory.
    steps: [usize; 3],
    /// Floats between rows of the sums.
    sums_pitch: usize,
}

impl WinogradGradWeight {
    /// Where tiles pay.
    pub fn new(conv: &Conv, path: KernelPath) -> Option<Self> {
        let tiles = Tiles::new(path);
        let (w, y) = (&conv.weight.dims, &conv.y.dims);
        let (grid, narrow) = (Grid::new([y[2], y[3]]), conv.is_narrow());
        let slower = narrow && w[0].min(w[1]) < WIDENED_CHANNELS_MIN && Tiles::of_pairs(path).is_some();
        // By the extents alone.
        let all = grid.count(y[0]);
        if slower || all < TILES_MIN || !fits(conv, &tiles, grid) {
            return None;
        }
        let bytes = |floats: usize| floats.saturating_mul(4 * ALL_POINTS);
        let in_blocks = bytes(w[0] * w[1]) > SUMS_BYTES
            && bytes(all.saturating_mul(w[0] + w[1])) <= VALUES_BYTES
            && all <= CHUNK_MAX;
        let most = (CHUNK_BYTES / bytes(w[0] + w[1])).clamp(2 * MAX_COLUMNS, CHUNK_MAX);
        Some(Self {
            tiles,
            transforms: Transforms::new(path),
            grid,
            batch: y[0],
            outs: w[0],
            channels: w[1],
            corner: [0, 1].map(|axis| -(conv.window.padding[2 * axis] as isize)),
            chunks: if in_blocks { 1 } else { all.div_ceil(most).max(1) },
            in_blocks,
            narrow,
        })
    }

    fn places(&self) -> Places {
        let tiles = self.grid.count(self.batch).div_ceil(self.chunks);
        let pitch = tiles.next_multiple_of(MAX_COLUMNS);
        let third = if self.in_blocks {
            PackedColumns::width(self.channels, self.tiles.lanes).saturating_mul(tiles)
        } else {
            self.outs * self.channels.next_multiple_of(16)
        };
        let floats = [self.channels.saturating_mul(pitch), self.outs.saturating_mul(pitch), third];
        let sums_pitch =
            if self.in_blocks { self.block_columns() } else { self.channels.next_multiple_of(16) };
        Places { pitch, steps: floats.map(point_step), sums_pitch }
    }

    /// Columns of a block of sums.
    fn block_columns(&self) -> usize {
        BLOCK_PANELS * self.tiles.columns()
    }

    /// Floats between points of a block of sums.
    fn block_step(&self) -> usize {
        point_step(BLOCK_ROWS.max(self.tiles.rows) * self.block_columns())
    }

    /// The source's values at a point, packed.
    fn packed(&self, cx: &Cx<'_>, places: &Places, point: usize) -> PackedColumns {
        let [_, _, start, _] = Self::starts(places);
        PackedColumns {
            unit: 1,
            start: cx.shared().cast::<f32>().wrapping_add(start + point * places.steps[2]),
            n: self.channels,
            panel: self.tiles.columns(),
            lanes: self.tiles.lanes,
        }
    }

    /// Starts of the source's values, the gradient's, and the sums, and the end.
    fn starts(places: &Places) -> [usize; 4] {
        let [x, y, sums] = places.steps.map(|step| step.saturating_mul(ALL_POINTS));
        [0, x, x.saturating_add(y), x.saturating_add(y).saturating_add(sums)]
    }

    /// Transforms some channels of the tiles of a chunk: those of the source come before those of the gradient.
    ///
    /// # Safety
    /// The views were checked, the shared scratch memory is large enough, and nobody else works on these channels.
    unsafe fn transform(
        &self,
        cx: &Cx<'_>,
        [x, dy]: [&View; 2],
        chunk: &Range<usize>,
        channels: Range<usize>,
    ) {
        let places = self.places();
        let [x_start, y_start, ..] = Self::starts(&places);
        let shared = cx.shared().cast::<f32>();
        let width = self.tiles.columns();
        for first in chunk.clone().step_by(width) {
            let tiles = first..chunk.end.min(first + width);
            let runs = self.grid.runs(tiles.clone());
            let of = |view: &View, channels: Range<usize>, corner, start: usize, point_step| Spread {
                images: Images::of(cx, view, self.narrow),
                to: shared.wrapping_add(start + channels.start * places.pitch + first - chunk.start),
                channels,
                runs: &runs,
                corner,
                tiles: tiles.len(),
                point_step,
                channel_step: places.pitch,
            };
            let of_x = channels.start.min(self.channels)..channels.end.min(self.channels);
            let of_y = channels.start.max(self.channels) - self.channels
                ..channels.end.max(self.channels) - self.channels;
            // SAFETY: the caller's contract.
            unsafe {
                (self.transforms.source)(&of(x, of_x, self.corner, x_start, places.steps[0]));
                (self.transforms.tiles)(&of(dy, of_y, [0, 0], y_start, places.steps[1]));
            }
        }
    }

    /// The values at a point of the source (of index 0) or the gradient (of index 1).
    fn values(&self, cx: &Cx<'_>, places: &Places, index: usize, point: usize) -> Matrix<f32> {
        let start = Self::starts(places)[index] + point * places.steps[index];
        let start = cx.shared().cast::<f32>().wrapping_add(start).cast_const();
        Matrix { start, across: places.pitch as isize, along: 1 }
    }

    /// Multiplies the values of a chunk at one point, for some panels of rows.
    ///
    /// # Safety
    /// The values are there, nobody else works on these sums, and `scratch` is a thread's own.
    unsafe fn multiply(
        &self,
        cx: &Cx<'_>,
        chunk: &Range<usize>,
        point: usize,
        panels: Range<usize>,
        scratch: *mut f32,
    ) {
        let places = self.places();
        let [_, _, sums, _] = Self::starts(&places);
        let sums = cx.shared().cast::<f32>().wrapping_add(sums + point * places.steps[2]);
        let pack = f32::packing(&self.tiles.pack);
        let product = Product {
            tiles: &self.tiles,
            m: self.outs,
            blocks: Blocks::new(chunk.len(), 1),
            left: &Rows { matrix: self.values(cx, &places, 1, point), pack, in_place: true },
            right: &Columns { matrix: self.values(cx, &places, 0, point), pack, in_place: false },
            out: &Plain { start: sums, row_step: places.sums_pitch as isize, column_step: 1 },
            add: chunk.start > 0,
            finish: None,
        };
        // SAFETY: the caller's contract.
        unsafe { product.compute(panels, 0..self.channels, scratch) };
    }

    /// Computes the gradient of the weights of some panels of rows and some columns, from the values of all tiles.
    ///
    /// # Safety
    /// The view was checked, the values are there and packed, nobody else works on these weights, and `scratch` is a
    /// thread's own.
    unsafe fn compute_block(
        &self,
        cx: &Cx<'_>,
        weight: &View,
        panels: Range<usize>,
        columns: Range<usize>,
        scratch: *mut f32,
    ) {
        let places = self.places();
        let count = self.outs.div_ceil(self.tiles.rows);
        let rows = part(self.outs, panels.start, count).start..part(self.outs, panels.end - 1, count).end;
        let sums = scratch.wrapping_add(self.tiles.scratch_floats_in_place().next_multiple_of(16));
        let (pitch, step) = (places.sums_pitch, self.block_step());
        let pack = f32::packing(&self.tiles.pack);
        for point in 0..ALL_POINTS {
            // Where the sums of row and column zero would be.
            let start = sums.wrapping_add(point * step).wrapping_sub(rows.start * pitch + columns.start);
            let product = Product {
                tiles: &self.tiles,
                m: self.outs,
                blocks: Blocks::new(self.grid.count(self.batch), 1),
                left: &Rows { matrix: self.values(cx, &places, 1, point), pack, in_place: true },
                right: &self.packed(cx, &places, point),
                out: &Plain { start, row_step: pitch as isize, column_step: 1 },
                add: false,
                finish: None,
            };
            // SAFETY: the caller's contract.
            unsafe { product.compute(panels.clone(), columns.clone(), scratch) };
        }
        for row in rows.clone() {
            let from = sums.wrapping_add((row - rows.start) * pitch);
            // SAFETY: the caller's contract.
            unsafe { self.unfilter(cx, weight, row, &columns, (from, step)) };
        }
    }

    /// Writes the gradient of some weights of a row from their sums, and the floats between points of these.
    ///
    /// # Safety
    /// The view was checked, the sums are there, and nobody else works on these weights.
    unsafe fn unfilter(
        &self,
        cx: &Cx<'_>,
        weight: &View,
        row: usize,
        columns: &Range<usize>,
        (from, point_step): (*const f32, usize),
    ) {
        let w = &weight.strides;
        let first = row as isize * w[0] + columns.start as isize * w[1];
        let unfilter = Unfilter {
            from,
            point_step,
            channels: columns.len(),
            to: cx.origin(weight).cast::<f32>().wrapping_offset(first),
            strides: [w[1], w[2], w[3]],
        };
        // SAFETY: the caller's contract.
        unsafe { (self.transforms.unfilter)(&unfilter) };
    }

    /// Computes the gradient of the weights from the values of all tiles, some weights at a time.
    fn run_in_blocks(&self, cx: &Cx<'_>, weight: &View, cost_ns: usize) {
        let places = self.places();
        let blocks = Blocks::new(self.grid.count(self.batch), 1);
        cx.parallel(ALL_POINTS, cost_ns, &|_, points| {
            for point in points {
                let values = self.values(cx, &places, 0, point);
                // SAFETY: the values are there, and the shared memory holds packed ones; points are disjoint.
                unsafe {
                    self.packed(cx, &places, point).fill(values, blocks, f32::packing(&self.tiles.pack))
                };
            }
        });
        let (panels, group) = (self.outs.div_ceil(self.tiles.rows), (BLOCK_ROWS / self.tiles.rows).max(1));
        let across = self.channels.div_ceil(self.block_columns());
        cx.parallel(panels.div_ceil(group) * across, cost_ns, &|thread, range| {
            for task in range {
                let (first, column) = (task / across * group, task % across * self.block_columns());
                let columns = column..self.channels.min(column + self.block_columns());
                let scratch = cx.scratch(thread).cast();
                // SAFETY: the values are packed; weights are disjoint; the scratch memory is this thread's.
                unsafe {
                    self.compute_block(cx, weight, first..panels.min(first + group), columns, scratch);
                }
            }
        });
    }
}

impl Algorithm for WinogradGradWeight {
    fn scratch(&self) -> Scratch {
        let [.., end] = Self::starts(&self.places());
        let product = self.tiles.scratch_floats_in_place().next_multiple_of(16);
        let block = if self.in_blocks { self.block_step() * ALL_POINTS } else { 0 };
        Scratch { per_thread: 4 * (product + block), shared: end.saturating_mul(4) }
    }

    fn run(&self, cx: &Cx<'_>, [x, dy]: [&View; 2], weight: &View, cost_ns: usize) {
        let all = self.grid.count(self.batch);
        let threads = cx.pool.threads();
        let panels = self.outs.div_ceil(self.tiles.rows);
        for chunk in (0..self.chunks).map(|i| part(all, i, self.chunks)) {
            cx.parallel(self.channels + self.outs, cost_ns, &|_, channels| {
                // SAFETY: channels are disjoint, and the shared scratch memory holds the values of a chunk.
                unsafe { self.transform(cx, [x, dy], &chunk, channels) };
            });
            if self.in_blocks {
                return self.run_in_blocks(cx, weight, cost_ns);
            }
            // Enough tasks that threads end together.
            let parts = (4 * threads).div_ceil(ALL_POINTS).min(panels);
            cx.parallel(ALL_POINTS * parts, cost_ns, &|thread, range| {
                for task in range {
                    let panels = part(panels, task % parts, parts);
                    // SAFETY: sums are disjoint; the scratch memory is this thread's.
                    unsafe { self.multiply(cx, &chunk, task / parts, panels, cx.scratch(thread).cast()) };
                }
            });
        }
        let places = self.places();
        let [_, _, sums, _] = Self::starts(&places);
        cx.parallel(self.outs, cost_ns, &|_, range| {
            for row in range {
                let from = cx.shared().cast::<f32>().wrapping_add(sums + row * places.sums_pitch);
                // SAFETY: the view was checked; rows are disjoint, and their sums complete.
                unsafe { self.unfilter(cx, weight, row, &(0..self.channels), (from, places.steps[2])) };
            }
        });
    }
}

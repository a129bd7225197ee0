//! The gradient by the weights: at each point, the sum over tiles of the products of the source's values and the values
//! of the result's gradient. Some tiles at a time are transformed by all threads, and then multiplied; at last the sums
//! at the points become the gradient of the weights.

use super::transform::{Spread, Transforms, Unfilter};
use super::{ALL_POINTS, Grid, fits, point_step};
use crate::conv::padded::Images;
use crate::conv::{Algorithm, Conv};
use crate::gemm::{Blocks, Columns, MAX_COLUMNS, Matrix, Plain, Product, Rows, Source, Tiles, part};
use crate::kernel::{Cx, Scratch};
use crate::path::KernelPath;
use crate::view::View;
use std::ops::Range;

/// Bytes that the values of the tiles of one chunk aim at.
const CHUNK_BYTES: usize = 4 << 20;
/// Most tiles of a chunk: the products' sums are kept in registers over so many.
const CHUNK_MAX: usize = 512;

/// Fewest tiles, of all images, for which it pays to make a gradient of the sums.
const TILES_MIN: usize = 32;

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
}

/// Where things are in the shared scratch memory, in floats.
struct Places {
    /// Floats between channels of the values of source and gradient: tiles of a chunk, up to whole vectors.
    pitch: usize,
    /// Floats between points of the source's values, the gradient's, and the sums.
    steps: [usize; 3],
    /// Floats between rows of the sums.
    sums_pitch: usize,
}

impl WinogradGradWeight {
    /// Where tiles pay.
    pub fn new(conv: &Conv, path: KernelPath) -> Option<Self> {
        let tiles = Tiles::new(path);
        let (w, y) = (&conv.weight.dims, &conv.y.dims);
        let grid = Grid::new([y[2], y[3]]);
        if grid.count(y[0]) < TILES_MIN || !fits(conv, &tiles, grid) {
            return None;
        }
        // By the extents alone.
        let all = grid.count(y[0]);
        let most = (CHUNK_BYTES / 4 / ALL_POINTS / (w[0] + w[1])).clamp(2 * MAX_COLUMNS, CHUNK_MAX);
        Some(Self {
            tiles,
            transforms: Transforms::new(path),
            grid,
            batch: y[0],
            outs: w[0],
            channels: w[1],
            corner: [0, 1].map(|axis| -(conv.window.padding[2 * axis] as isize)),
            chunks: all.div_ceil(most).max(1),
        })
    }

    fn places(&self) -> Places {
        let tiles = self.grid.count(self.batch).div_ceil(self.chunks);
        let pitch = tiles.next_multiple_of(MAX_COLUMNS);
        let sums_pitch = self.channels.next_multiple_of(16);
        let floats =
            [self.channels.saturating_mul(pitch), self.outs.saturating_mul(pitch), self.outs * sums_pitch];
        Places { pitch, steps: floats.map(point_step), sums_pitch }
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
            let of = |view: &View, channels: Range<usize>, corner, start: usize, point_step| {
                let s = &view.strides;
                Spread {
                    images: Images {
                        start: cx.origin(view).cast::<f32>().cast_const(),
                        strides: [s[0], s[1], s[2], s[3]],
                        extents: [view.dims[2], view.dims[3]],
                    },
                    to: shared.wrapping_add(start + channels.start * places.pitch + first - chunk.start),
                    channels,
                    runs: &runs,
                    corner,
                    tiles: tiles.len(),
                    point_step,
                    channel_step: places.pitch,
                }
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
        let [x, y, sums] = {
            let [x, y, sums, _] = Self::starts(&places);
            let at = |start: usize, i: usize| {
                cx.shared().cast::<f32>().wrapping_add(start + point * places.steps[i])
            };
            [at(x, 0), at(y, 1), at(sums, 2)]
        };
        let matrix =
            |start: *mut f32| Matrix { start: start.cast_const(), across: places.pitch as isize, along: 1 };
        let pack = f32::packing(&self.tiles.pack);
        let product = Product {
            tiles: &self.tiles,
            m: self.outs,
            blocks: Blocks::new(chunk.len(), 1),
            left: &Rows { matrix: matrix(y), pack, in_place: true },
            right: &Columns { matrix: matrix(x), pack, in_place: false },
            out: &Plain { start: sums, row_step: places.sums_pitch as isize, column_step: 1 },
            add: chunk.start > 0,
        };
        // SAFETY: the caller's contract.
        unsafe { product.compute(panels, 0..self.channels, scratch) };
    }
}

impl Algorithm for WinogradGradWeight {
    fn scratch(&self) -> Scratch {
        let [.., end] = Self::starts(&self.places());
        Scratch {
            per_thread: self.tiles.scratch_floats_in_place().saturating_mul(4),
            shared: end.saturating_mul(4),
        }
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
        let w = &weight.strides;
        cx.parallel(self.outs, cost_ns, &|_, range| {
            for row in range {
                let unfilter = Unfilter {
                    from: cx.shared().cast::<f32>().wrapping_add(sums + row * places.sums_pitch),
                    point_step: places.steps[2],
                    channels: self.channels,
                    to: cx.origin(weight).cast::<f32>().wrapping_offset(row as isize * w[0]),
                    strides: [w[1], w[2], w[3]],
                };
                // SAFETY: the views were checked; rows are disjoint, and their sums complete.
                unsafe { (self.transforms.unfilter)(&unfilter) };
            }
        });
    }
}

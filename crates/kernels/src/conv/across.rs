//! Correlations of small images with few channels, where a vector holds the same element of several images. Their rows
//! are too short for vectors of neighbouring places, and there are too few result channels to pay for packing these:
//! across images every vector is full, and none is packed. Each element is the same sum as elsewhere.

use super::correlate::{Correlation, Place};
use super::padded::{Images, Part};
use crate::gemm::{Matrix, Mode, PackFn, Panel, Plain, RightOperand, Tile};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes of a part's images, and of its result: together a part of the second-level cache.
const SOURCE_BYTES: usize = 448 << 10;
const RESULT_BYTES: usize = 256 << 10;
/// Most result channels: with more, packed places meet enough of them.
const CHANNELS_MAX: usize = 64;
/// The least inner extent: below it, moving the result between the two orders takes too much of the time.
const K_MIN: usize = 64;
/// Sides of a square of the result that is turned at once.
const SQUARE: usize = 16;

impl Correlation {
    /// Images side by side: as many as a tile has columns.
    pub(super) fn side_by_side(&self) -> usize {
        self.tiles.columns()
    }

    /// How many rows of places a part has where vectors hold images, if that pays.
    pub(super) fn rows_across(&self) -> Option<usize> {
        let images = self.side_by_side();
        let pays = !self.pairs
            && self.tiles.parts == 0
            && self.batch >= images
            && self.m <= CHANNELS_MAX
            && self.blocks.count() == 1
            && self.k() >= K_MIN
            && !self.computed_columns().is_multiple_of(self.tiles.lanes);
        let bytes = |floats: usize| floats.saturating_mul(images).saturating_mul(4);
        let fits = |rows: &usize| {
            bytes(self.part(1, *rows).image()) <= SOURCE_BYTES
                && bytes(self.m.saturating_mul(*rows).saturating_mul(self.grid[1])) <= RESULT_BYTES
        };
        if pays { (1..=self.grid[0]).rev().find(fits) } else { None }
    }

    /// Floats of the result of so many rows of places.
    pub(super) fn result_floats(&self, rows: usize) -> usize {
        self.m.saturating_mul(rows).saturating_mul(self.grid[1]).saturating_mul(self.side_by_side())
    }

    /// Computes one part of the result.
    ///
    /// # Safety
    /// As for [`Correlation::compute`]; `images` begins with the group's channels, `out` with the result.
    pub(super) unsafe fn compute_across(
        &self,
        images: Images,
        weights: *const f32,
        out: *mut f32,
        place: &Place,
        scratch: *mut f32,
    ) {
        let (lanes, rows) = (self.side_by_side(), place.rows.len());
        let mut part = self.part(place.images.len(), rows);
        part.batch[0] = place.images.start;
        part.corner[0] += (place.rows.start * self.step[0]) as isize;
        let offsets = self.offsets_start(part.image() * lanes);
        let right = Across {
            of: self,
            images,
            part,
            padded: scratch.wrapping_add(self.padded_start()),
            offsets: scratch.wrapping_add(offsets).cast(),
            row: AtomicUsize::new(0),
        };
        let result = scratch.wrapping_add(self.result_start(offsets));
        let places = rows * self.columns;
        let left = self.packed_rows(weights, place.group);
        let in_lanes = Plain { start: result, row_step: (places * lanes) as isize, column_step: 1 };
        let product = self.product(&left, &right, &in_lanes);
        // SAFETY: the caller's contract; the product's scratch memory is the first part of the thread's, the result the last.
        unsafe { product.compute(place.panels.clone(), 0..places * lanes, scratch) };
        let o = self.out_strides;
        for channel in self.channels_of(&place.panels) {
            // Rows without gaps between them are one.
            let dense = o[3] == 1 && o[2] == self.columns as isize;
            let (lines, length) = if dense { (1, places) } else { (rows, self.columns) };
            for line in 0..lines {
                let first = channel * places + line * length;
                let to = place.images.start as isize * o[0]
                    + (place.group * self.m + channel) as isize * o[1]
                    + (place.rows.start + line) as isize * o[2];
                // SAFETY: elements of the scratch memory, and of the part of the result.
                unsafe {
                    let from = result.add(first * lanes);
                    self.turn(from, out.wrapping_offset(self.out_start + to), length, place.images.len());
                }
            }
        }
    }

    /// Moves neighbouring places of a channel from side by side to each of the images.
    ///
    /// # Safety
    /// They are there, and go to elements of the result.
    unsafe fn turn(&self, from: *const f32, to: *mut f32, places: usize, images: usize) {
        let (lanes, [image, _, _, column]) = (self.side_by_side(), self.out_strides);
        for first in (0..places).step_by(SQUARE) {
            let count = SQUARE.min(places - first);
            let from = from.wrapping_add(first * lanes);
            let to = to.wrapping_offset(first as isize * column);
            // SAFETY: the caller's contract; the strides were checked with the result.
            unsafe {
                if let (1, Ok(pitch)) = (column, usize::try_from(image)) {
                    let matrix = Matrix { start: from, across: lanes as isize, along: 1 };
                    (self.tiles.pack.f32)(matrix, Panel { count, width: count, pitch, k: images }, to);
                } else {
                    for (i, p) in (0..images).flat_map(|i| (0..count).map(move |p| (i, p))) {
                        let offset = i as isize * image + p as isize * column;
                        *to.wrapping_offset(offset) = *from.add(p * lanes + i);
                    }
                }
            }
        }
    }
}

/// The right operand: for each place, the source elements that its taps meet, in every image of the part.
struct Across<'a> {
    of: &'a Correlation,
    images: Images,
    part: Part,
    /// The padded copy of the current block's channels, images side by side.
    padded: *mut f32,
    /// For every inner position of the current block, its distance in the padded copy.
    offsets: *mut usize,
    /// Elements of a row of an image of the padded copy. Used by one thread; atomic because operands are shared by type.
    row: AtomicUsize,
}

// SAFETY: the pointers are to the scratch memory of the one thread that computes with this operand.
unsafe impl Sync for Across<'_> {}

impl RightOperand for Across<'_> {
    fn in_place(&self) -> bool {
        true
    }

    unsafe fn begin(&self, block: Range<usize>, _tile: &mut Tile) {
        let (of, lanes) = (self.of, self.of.side_by_side());
        let taps = of.taps.len();
        let part = Part { channels: [block.start / taps, block.len() / taps], ..self.part };
        // SAFETY: the scratch memory holds the largest part; the images and channels exist.
        unsafe {
            self.images.copy_side_by_side(&part, lanes, of.tiles.pack.f32, self.padded);
            for (p, offset) in of.offsets(&part).enumerate() {
                *self.offsets.add(p) = offset * lanes;
            }
        }
        self.row.store(part.extents[1], Ordering::Relaxed);
    }

    unsafe fn pack(
        &self,
        _p: usize,
        _k: usize,
        _j: usize,
        _columns: usize,
        _width: usize,
        _buffer: *mut f32,
    ) {
        unreachable!("it is read in place");
    }

    fn point(&self, _p: usize, j: usize, tile: &mut Tile) {
        tile.mode = Mode::RightOffsets;
        tile.right_offsets = self.offsets;
        let (of, lanes) = (self.of, self.of.side_by_side());
        let place = j / lanes;
        let (u, v) = (place / of.columns, place % of.columns);
        let corner = (u * of.step[0] * self.row.load(Ordering::Relaxed) + v) * lanes;
        for (v, vector) in tile.right_vectors.iter_mut().enumerate() {
            *vector = self.padded.wrapping_add(corner + v * of.tiles.lanes);
        }
    }
}

impl Images {
    /// Copies the part to `to`, as row-major `[channels, rows, elements of a row, lanes]`, a lane for each image, with zeros
    /// outside the images. What is in lanes that have no image is unspecified.
    ///
    /// # Safety
    /// The images and channels exist, there are no more images than lanes; `to` is good for as many images as lanes; the
    /// processor supports the path of `pack`.
    unsafe fn copy_side_by_side(&self, part: &Part, lanes: usize, pack: PackFn<f32>, to: *mut f32) {
        let (s, mut to) = (self.strides, to);
        let along = (part.step as isize).wrapping_mul(s[3]);
        let first = Part { batch: [part.batch[0], 1], ..*part };
        first.runs(self.extents, |[image, channel], [row, column], Range { start: low, end: high }| {
            let at = image as isize * s[0] + channel as isize * s[1] + row * s[2] + column * s[3];
            let start = self.start.wrapping_offset(at.wrapping_add(low as isize * along));
            let panel = Panel { count: part.batch[1], width: lanes, pitch: lanes, k: high - low };
            // SAFETY: elements of the images between `low` and `high`, and the run.
            unsafe {
                to.write_bytes(0, low * lanes);
                if high > low {
                    pack(Matrix { start, across: s[0], along }, panel, to.add(low * lanes));
                }
                to.add(high * lanes).write_bytes(0, (part.pitch - high) * lanes);
                to = to.add(part.pitch * lanes);
            }
        });
    }
}

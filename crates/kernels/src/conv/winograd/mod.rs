//! Convolutions of 3x3 windows with a quarter of the multiplications, after Winograd and Lavin (arXiv 1509.09308).
//!
//! The result is cut into tiles of 4x4. The 6x6 elements of the source that a tile meets, and the 3x3 weights, are taken
//! as polynomials in two variables and evaluated at 6x6 points; there a convolution is a product of numbers, and sums
//! over channels are 36 products of matrices. From their values at the points, tiles are found by interpolation.
//!
//! The points are 0, 3/4, -3/4, 3/2, -3/2 and infinity. All of the transforms' constants but those of the weights are
//! dyadic fractions, hence exact, and small powers of the points keep the error low: with random numbers its root mean
//! square is 1.7 to 2 times that of a plain sum in f32 (3.5 to 4 times with the usual points 0, 1, -1, 2, -2). An element's
//! error is relative to the tile that it is in, and what is not finite spreads over its tile.

mod correlate;
mod grad_weight;
mod read;
mod transform;

pub(super) use correlate::Winograd;
pub(crate) use correlate::WinogradLayout;
pub(super) use grad_weight::WinogradGradWeight;

use super::Conv;
use crate::gemm::{MAX_COLUMNS, Tiles};
use std::ops::Range;

/// Rows and columns of a tile of the result.
const TILE: usize = 4;
/// Rows and columns of the window.
const WINDOW: usize = 3;
/// Points along each axis: as many as a tile meets rows and columns of the source.
const POINTS: usize = TILE + WINDOW - 1;
/// Points in all.
const ALL_POINTS: usize = POINTS * POINTS;

/// Fewest channels on either side for which products are long enough to pay for the transforms.
const CHANNELS_MIN: usize = 16;

/// Whether tiles can compute a convolution, of f32 or of bf16 that is widened, with these rows and columns of tiles, and
/// are mostly full.
fn fits(conv: &Conv, tiles: &Tiles, grid: Grid) -> bool {
    let w = &conv.weight.dims;
    let covered = grid.count(1).saturating_mul(TILE * TILE);
    conv.is_fast()
        && w[2..] == [WINDOW; 2]
        && conv.window.strides == [1; 2]
        && conv.window.dilation == [1; 2]
        && conv.groups == 1
        // Every window meets the image: where it does not, the result is zero, and not nearly so.
        && conv.window.padding.iter().all(|&n| n < WINDOW)
        && w[0].min(w[1]) >= CHANNELS_MIN
        && grid.extents[0] * grid.extents[1] * 2 > covered
        && !tiles.has_amx()
}

/// Floats of the values of weights of these extents, if tiles may be taken for them.
pub(crate) fn value_floats(dims: &[usize]) -> Option<usize> {
    let &[outs, channels, WINDOW, WINDOW] = dims else { return None };
    let step = point_step(outs.saturating_mul(channels));
    (outs.min(channels) >= CHANNELS_MIN).then(|| step.saturating_mul(ALL_POINTS))
}

/// The tiles of images.
#[derive(Clone, Copy, Debug)]
struct Grid {
    /// Rows and columns of an image.
    extents: [usize; 2],
    /// Rows and columns of tiles.
    tiles: [usize; 2],
}

/// Neighbouring tiles of a row of tiles.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    image: usize,
    /// The row of tiles.
    row: usize,
    /// The first tile's column of tiles.
    first: usize,
    count: usize,
    /// Where the first tile is among those that are worked on together.
    at: usize,
}

impl Grid {
    fn new(extents: [usize; 2]) -> Self {
        Self { extents, tiles: extents.map(|n| n.div_ceil(TILE)) }
    }

    /// Tiles of so many images.
    fn count(&self, images: usize) -> usize {
        images.saturating_mul(self.tiles[0]).saturating_mul(self.tiles[1])
    }

    /// The runs of these tiles, at most [`MAX_COLUMNS`], where all tiles of all images are counted in order.
    fn runs(&self, tiles: Range<usize>) -> Runs {
        let mut runs = Runs { all: [Run::default(); MAX_COLUMNS], count: 0 };
        let [rows, columns] = self.tiles;
        let mut tile = tiles.start;
        while tile < tiles.end {
            let (first, line) = (tile % columns, tile / columns);
            let count = (columns - first).min(tiles.end - tile);
            runs.all[runs.count] =
                Run { image: line / rows, row: line % rows, first, count, at: tile - tiles.start };
            runs.count += 1;
            tile += count;
        }
        runs
    }
}

/// The runs of some tiles.
struct Runs {
    all: [Run; MAX_COLUMNS],
    count: usize,
}

impl std::ops::Deref for Runs {
    type Target = [Run];

    fn deref(&self) -> &[Run] {
        &self.all[..self.count]
    }
}

/// Floats between what belongs to one point and what belongs to the next: `floats` and a line more, so that the same
/// place of all points does not fall into one set of the caches.
fn point_step(floats: usize) -> usize {
    floats.next_multiple_of(16).saturating_add(16)
}

//! The operands of correlations that are not stored: patches of images, read from a padded copy of a part of them, and the
//! places of the result.

use super::correlate::Correlation;
use super::padded::{Images, Part};
use super::pairs::PairImages;
use crate::gemm::{MAX_COLUMNS, Mode, OutColumns, Output, RightOperand, Tile};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a correlation's numbers come from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Numbers(Images),
    /// The channels of parts are counted in pairs.
    Pairs(PairImages),
}

impl Source {
    /// Copies the part, padded.
    ///
    /// # Safety
    /// The images and channels exist; `to` is good for the part; the processor supports the path.
    unsafe fn copy(&self, part: &Part, to: *mut f32) {
        // SAFETY: the caller's contract; there are pairs only on a path that has AVX-512 with BF16.
        unsafe {
            match self {
                Self::Numbers(images) => images.copy(part, to),
                Self::Pairs(images) => images.copy(part, to),
            }
        }
    }
}

/// The right operand: the source elements that the taps of each place meet.
pub(super) struct Patches<'a> {
    pub of: &'a Correlation,
    pub images: Source,
    pub first_image: usize,
    pub count: usize,
    pub first_row: usize,
    pub rows: usize,
    /// The padded copy of the current block's channels.
    pub padded: *mut f32,
    /// For every inner position of the current block, its distance in the padded copy.
    pub offsets: *mut usize,
    /// First inner position of the current block, and elements of a row and an image of the padded copy. Used by one
    /// thread; atomic because operands are shared by type.
    pub block: [AtomicUsize; 3],
}

// SAFETY: the pointers are to the scratch memory of the one thread that computes with this operand.
unsafe impl Sync for Patches<'_> {}

impl Patches<'_> {
    fn state(&self, i: usize) -> usize {
        self.block[i].load(Ordering::Relaxed)
    }

    /// The distance in the padded copy of the corner of place `j`.
    #[inline(always)]
    fn corner(&self, j: usize) -> usize {
        let (columns, step) = (self.of.columns, self.of.step[0]);
        let (v, rest) = (j % columns, j / columns);
        let (u, image) = (rest % self.rows, rest / self.rows);
        image * self.state(2) + u * step * self.state(1) + v
    }

    /// Packs runs of `N` neighbouring places at a time.
    ///
    /// # Safety
    /// As for [`RightOperand::pack`]; places come in runs of `N` that are neighbours in the padded copy.
    #[inline(always)]
    unsafe fn pack_runs<const N: usize>(
        &self,
        p: usize,
        k: usize,
        j: usize,
        columns: usize,
        width: usize,
        to: *mut f32,
    ) {
        let mut corners = [0usize; MAX_COLUMNS];
        let runs = columns / N;
        for (run, corner) in corners.iter_mut().enumerate().take(runs) {
            *corner = self.corner(j + run * N);
        }
        let first = p - self.state(0);
        for p in 0..k {
            // SAFETY: the padded copy holds every tap of every place; the buffer holds `k` rows.
            unsafe {
                let from = self.padded.add(*self.offsets.add(first + p));
                let to = to.add(p * width);
                for (run, &corner) in corners[..runs].iter().enumerate() {
                    let element = from.add(corner).cast::<[f32; N]>().read_unaligned();
                    to.add(run * N).cast::<[f32; N]>().write_unaligned(element);
                }
                for i in columns..width {
                    *to.add(i) = 0.0;
                }
            }
        }
    }
}

impl RightOperand for Patches<'_> {
    fn in_place(&self) -> bool {
        self.of.columns.is_multiple_of(self.of.tiles.lanes)
    }

    unsafe fn begin(&self, block: Range<usize>, _tile: &mut Tile) {
        let of = self.of;
        let taps = of.taps.len();
        let mut part = of.part(self.count, self.rows);
        part.batch[0] = self.first_image;
        part.channels = [block.start / taps, block.len() / taps];
        part.corner[0] += (self.first_row * of.step[0]) as isize;
        // SAFETY: the scratch memory holds the largest part; the images and channels exist.
        unsafe {
            self.images.copy(&part, self.padded);
            for (p, offset) in of.offsets(&part).enumerate() {
                *self.offsets.add(p) = offset;
            }
        }
        for (state, value) in self.block.iter().zip([block.start, part.extents[1], part.image()]) {
            state.store(value, Ordering::Relaxed);
        }
    }

    unsafe fn pack(&self, p: usize, k: usize, j: usize, columns: usize, width: usize, buffer: *mut f32) {
        // SAFETY: the caller's contract; panels start at multiples of their width, so that runs are not cut.
        unsafe {
            match self.of.columns.trailing_zeros() {
                3.. => self.pack_runs::<8>(p, k, j, columns, width, buffer),
                2 => self.pack_runs::<4>(p, k, j, columns, width, buffer),
                1 => self.pack_runs::<2>(p, k, j, columns, width, buffer),
                _ => self.pack_runs::<1>(p, k, j, columns, width, buffer),
            }
        }
    }

    fn point(&self, _p: usize, j: usize, tile: &mut Tile) {
        tile.mode = Mode::RightOffsets;
        tile.right_offsets = self.offsets;
        for (v, vector) in tile.right_vectors.iter_mut().enumerate() {
            let first = j + v * self.of.tiles.lanes;
            if first < self.count * self.rows * self.of.columns {
                *vector = self.padded.wrapping_add(self.corner(first));
            }
        }
    }
}

/// The result: columns are places of consecutive images.
pub(super) struct Places {
    pub start: *mut f32,
    pub strides: [isize; 4],
    pub rows: usize,
    /// Columns computed in each row of places, and columns stored.
    pub columns: usize,
    pub stored: usize,
}

// SAFETY: an address only; threads write disjoint parts.
unsafe impl Sync for Places {}

impl Places {
    /// Where column `j` goes, and how many of the columns from it on are stored next to it.
    #[inline(always)]
    fn column(&self, j: usize) -> (*mut f32, usize) {
        let (v, rest) = (j % self.columns, j / self.columns);
        let (u, image) = (rest % self.rows, rest / self.rows);
        let offset =
            image as isize * self.strides[0] + u as isize * self.strides[2] + v as isize * self.strides[3];
        let dense = self.strides[2] == self.columns as isize;
        let run = if dense { (self.rows - u) * self.columns - v } else { self.stored.saturating_sub(v) };
        (self.start.wrapping_offset(offset), run)
    }
}

impl Output for Places {
    fn row_step(&self) -> isize {
        self.strides[1]
    }

    fn columns(&self, j: usize, columns: usize, lanes: usize, to: &mut OutColumns) {
        to.direct = self.strides[3] == 1;
        for (v, vector) in to.vectors.iter_mut().enumerate() {
            let wanted = columns.saturating_sub(v * lanes).min(lanes);
            *vector = (std::ptr::null_mut(), wanted);
            if wanted > 0 {
                let (start, run) = self.column(j + v * lanes);
                // The columns computed in excess at the end of a row need not be stored.
                let stored = if self.columns.is_multiple_of(lanes) { wanted.min(run) } else { wanted };
                *vector = (start, stored);
                to.direct &= stored <= run;
            }
        }
        to.count = 0;
        if !to.direct {
            for i in 0..columns {
                if (j + i) % self.columns < self.stored {
                    to.scattered[to.count] = (i, self.column(j + i).0);
                    to.count += 1;
                }
            }
        }
    }
}

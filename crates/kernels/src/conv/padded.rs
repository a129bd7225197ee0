//! Zero-padded copies of parts of images, small enough for the second-level cache: with them, every tap of a
//! convolution is a fixed distance away, and no product needs to ask whether it lies inside the image.

use std::ops::Range;

/// Bytes that a padded part may take.
pub(super) const PADDED_BYTES: usize = 384 << 10;

/// Images `[batch, channels, height, width]` of f32 in memory.
#[derive(Clone, Copy)]
pub(super) struct Images {
    pub start: *const f32,
    pub strides: [isize; 4],
    /// Height and width.
    pub extents: [usize; 2],
}

// SAFETY: an address only; whoever dereferences it answers for races.
unsafe impl Sync for Images {}

/// A part of images, which may reach over their edges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// First image, and number of images.
    pub batch: [usize; 2],
    /// First channel, and number of channels.
    pub channels: [usize; 2],
    /// Row and column of the image that the part starts at.
    pub corner: [isize; 2],
    /// Rows of the part, and elements of each.
    pub extents: [usize; 2],
    /// Columns of the image between neighbouring elements of a row, which holds so many elements from the first column on,
    /// then as many from the second one on, and so on.
    pub step: usize,
    pub pitch: usize,
}

impl Part {
    /// Elements of one channel of one image. Padding belongs to no operand whose size was checked, so this and what is
    /// computed from it saturates.
    pub fn plane(&self) -> usize {
        self.extents[0].saturating_mul(self.extents[1])
    }

    /// Calls for each run of `pitch` elements, in order: with its image and channel, the row and column of its first element
    /// in images of these extents, and which of the run lie in them.
    #[inline(always)]
    pub fn runs(&self, extents: [usize; 2], mut run: impl FnMut([usize; 2], [isize; 2], Range<usize>)) {
        let count = |columns: isize| {
            let columns = columns.max(0) as usize;
            (if self.step == 1 { columns } else { columns.div_ceil(self.step) }).min(self.pitch)
        };
        for image in self.batch[0]..self.batch[0] + self.batch[1] {
            for channel in self.channels[0]..self.channels[0] + self.channels[1] {
                for row in 0..self.extents[0] as isize {
                    let row = self.corner[0] + row;
                    let is_there = (0..extents[0] as isize).contains(&row);
                    for first in 0..self.extents[1] / self.pitch {
                        let column = self.corner[1] + first as isize;
                        let low = count(column.saturating_neg());
                        let high = count(extents[1] as isize - column).max(low);
                        run([image, channel], [row, column], if is_there { low..high } else { 0..0 });
                    }
                }
            }
        }
    }

    /// Elements of one image.
    pub fn image(&self) -> usize {
        self.channels[1].saturating_mul(self.plane())
    }
}

impl Images {
    /// Copies the part to `to`, as row-major `[images, channels, rows, elements of a row]` with zeros outside the images.
    ///
    /// # Safety
    /// The images and channels exist; `to` is good for the part.
    pub unsafe fn copy(&self, part: &Part, to: *mut f32) {
        let (s, mut to) = (self.strides, to);
        let step = (part.step as isize).wrapping_mul(s[3]);
        part.runs(self.extents, |[image, channel], [row, column], Range { start: low, end: high }| {
            let at = image as isize * s[0] + channel as isize * s[1] + row * s[2] + column * s[3];
            // SAFETY: elements of the images between `low` and `high`, and the run.
            unsafe {
                zero(to, low);
                copy_row(self.start.wrapping_offset(at), step, low, high, to);
                zero(to.add(high), part.pitch - high);
                to = to.add(part.pitch);
            }
        });
    }
}

/// # Safety
/// `to` is good for `n` elements.
#[inline(always)]
unsafe fn zero(to: *mut f32, n: usize) {
    for i in 0..n {
        // SAFETY: `i < n`.
        unsafe { *to.add(i) = 0.0 };
    }
}

/// # Safety
/// The elements `low..high` from `from` on, `stride` apart, can be read; `to` is good for them.
#[inline(always)]
unsafe fn copy_row(from: *const f32, stride: isize, low: usize, high: usize, to: *mut f32) {
    // SAFETY: the caller's contract.
    unsafe {
        if stride == 1 {
            let mut i = low;
            while i + 8 <= high {
                to.add(i)
                    .cast::<[f32; 8]>()
                    .write_unaligned(from.wrapping_add(i).cast::<[f32; 8]>().read_unaligned());
                i += 8;
            }
            while i < high {
                *to.add(i) = *from.wrapping_add(i);
                i += 1;
            }
        } else {
            (low..high).for_each(|i| *to.add(i) = *from.wrapping_offset(i as isize * stride));
        }
    }
}

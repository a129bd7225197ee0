//! Convolutions in which every result channel is of one source channel alone (depthwise): sums over the taps of a window,
//! for vectors of neighbouring places.
//!
//! A band of a channel's rows is copied with its padding first, columns apart by their remainder of the stride: then the
//! elements that a tap meets at neighbouring places are neighbours, whatever the stride. An element of the result is one chain
//! of multiply-adds in the order of the taps, so its bits depend on its window alone.

use super::{Algorithm, Conv};
#[cfg(target_arch = "x86_64")]
use crate::gemm::{Avx2, Avx512};
use crate::gemm::{Portable, Tiles, Vector, store};
use crate::kernel::{Cx, Scratch};
use crate::path::{KernelPath, by_vectors};
use crate::view::View;
use crate::window::Window;

/// Bytes of a band's copy, which is to stay in the second-level cache, and the most that one row of places may take.
const BAND_BYTES: usize = 96 << 10;
const BAND_BYTES_MAX: usize = 1 << 20;
/// Rows and vectors of places that are summed at once.
const ROWS: usize = 4;
const VECTORS: usize = 2;

/// A depthwise convolution, compiled for operands and a path.
#[derive(Debug)]
pub(super) struct Depthwise {
    /// Sums the taps of the places of a band.
    sums: unsafe fn(&Band<'_>),
    window: Window,
    /// Images, source channels, and result channels of each of these.
    batch: usize,
    channels: usize,
    outs: usize,
    /// Rows and columns of an image, and of places.
    extents: [usize; 2],
    grid: [usize; 2],
    /// Columns of the window.
    kernel: [usize; 2],
    /// Rows of places in a band.
    band: usize,
    /// Floats between the copies of columns with one remainder and with the next, in one row.
    pitch: usize,
    /// For each tap, its distance from a place's corner in the copy.
    offsets: Vec<usize>,
}

/// A band of places to compute.
struct Band<'a> {
    /// The corner of the first place in the copy, and elements between rows of places there.
    copy: *const f32,
    row_step: usize,
    /// The weights of the taps in order, and the taps' distances from a corner.
    weights: *const f32,
    offsets: &'a [usize],
    /// Rows and columns of places.
    rows: usize,
    columns: usize,
    out: *mut f32,
    /// Elements between rows of the result.
    out_step: isize,
}

impl Depthwise {
    /// The forward direction, of f32 and results whose columns are neighbours.
    pub fn forward(conv: &Conv, path: KernelPath) -> Option<Self> {
        let (x, w, y) = (&conv.x, &conv.weight, &conv.y);
        let kernel = [w.dims[2], w.dims[3]];
        let taps = kernel[0].checked_mul(kernel[1])?;
        let fits = conv.groups > 1 && w.dims[1] == 1 && conv.is_f32() && y.strides[3] == 1;
        if !fits || taps == 0 || y.elements() == 0 {
            return None;
        }
        let lanes = Tiles::new(path).lanes;
        let [_, stride] = conv.window.strides;
        let dilation = conv.window.dilation;
        let reach = |axis: usize| (kernel[axis] - 1).checked_mul(dilation[axis]);
        // Whole vectors of places, and what the last tap reaches beyond.
        let pitch = y.dims[3].next_multiple_of(lanes).checked_add(reach(1)? / stride)?.checked_add(1)?;
        let mut plan = Self {
            sums: sums(path),
            window: conv.window,
            batch: x.dims[0],
            channels: x.dims[1],
            outs: w.dims[0] / conv.groups,
            extents: [x.dims[2], x.dims[3]],
            grid: [y.dims[2], y.dims[3]],
            kernel,
            band: 1,
            pitch,
            offsets: Vec::new(),
        };
        let bytes = |band: usize| plan.copied_rows(band)?.checked_mul(plan.row_floats()?)?.checked_mul(4);
        if bytes(1)?.max(taps * 4) > BAND_BYTES_MAX {
            return None;
        }
        let more = (1..=plan.grid[0].div_ceil(ROWS)).map(|n| (n * ROWS).min(plan.grid[0]));
        let band = more.take_while(|band| bytes(*band).is_some_and(|bytes| bytes <= BAND_BYTES)).last();
        plan.band = band.unwrap_or(1);
        let row = plan.row_floats()?;
        for k in 0..taps {
            let [i, j] = [k / kernel[1] * dilation[0], k % kernel[1] * dilation[1]];
            plan.offsets.push(i * row + j % stride * pitch + j / stride);
        }
        Some(plan)
    }

    /// Floats of a copied row.
    fn row_floats(&self) -> Option<usize> {
        self.pitch.checked_mul(self.window.strides[1])
    }

    /// Rows that so many rows of places meet.
    fn copied_rows(&self, band: usize) -> Option<usize> {
        let reach = (self.kernel[0] - 1).checked_mul(self.window.dilation[0])?;
        (band - 1).checked_mul(self.window.strides[0])?.checked_add(reach)?.checked_add(1)
    }

    fn bands(&self) -> usize {
        self.grid[0].div_ceil(self.band)
    }

    /// Floats of the copied weights, so that what follows them begins a line.
    fn weight_floats(&self) -> usize {
        self.offsets.len().next_multiple_of(16)
    }

    /// Copies the rows that the places from row `first` on meet to `to`.
    ///
    /// # Safety
    /// `plane` is the first element of a plane of these strides and extents; `to` is good for the copy.
    unsafe fn copy(&self, plane: *const f32, strides: [isize; 2], first: usize, rows: usize, to: *mut f32) {
        let [step, stride] = self.window.strides;
        let [height, width] = self.extents;
        let [top, left] = [self.window.padding[0], self.window.padding[2]];
        let mut to = to;
        for row in first * step..first * step + rows {
            for phase in 0..stride {
                // The place `q` of the copy is column `q * stride + phase - left`.
                let inside = row.checked_sub(top).filter(|row| *row < height);
                let low = left.saturating_sub(phase).div_ceil(stride).min(self.pitch);
                let high = (width + left).saturating_sub(phase).div_ceil(stride).clamp(low, self.pitch);
                let (low, high) = if inside.is_some() { (low, high) } else { (self.pitch, self.pitch) };
                let at = inside.unwrap_or(0) as isize * strides[0]
                    + ((low * stride + phase) as isize - left as isize) * strides[1];
                let from = plane.wrapping_offset(at);
                // SAFETY: columns of the plane; one row of the copy.
                unsafe {
                    to.write_bytes(0, low);
                    if stride as isize * strides[1] == 1 {
                        to.add(low).copy_from_nonoverlapping(from, high - low);
                    } else {
                        let step = stride as isize * strides[1];
                        for q in 0..high - low {
                            *to.add(low + q) = *from.wrapping_offset(q as isize * step);
                        }
                    }
                    to.add(high).write_bytes(0, self.pitch - high);
                    to = to.add(self.pitch);
                }
            }
        }
    }
}

impl Algorithm for Depthwise {
    fn scratch(&self) -> Scratch {
        let copy =
            self.copied_rows(self.band).zip(self.row_floats()).map(|(rows, row)| rows.saturating_mul(row));
        let floats = copy.unwrap_or(usize::MAX).saturating_add(self.weight_floats());
        Scratch { per_thread: floats.saturating_mul(4), shared: 0 }
    }

    fn run(&self, cx: &Cx<'_>, [x, weight]: [&View; 2], out: &View, cost_ns: usize) {
        let (bands, outs) = (self.bands(), self.channels * self.outs);
        let row_floats = self.pitch * self.window.strides[1];
        // Taps are loaded for each place: a few times what products cost.
        cx.parallel(self.batch * outs * bands, cost_ns.saturating_mul(4), &|thread, range| {
            let weights = cx.scratch(thread).cast::<f32>();
            let copy = weights.wrapping_add(self.weight_floats());
            // What was copied last: result channels may share a source channel.
            let mut there = None;
            for task in range {
                let (of, channel) = (task % self.outs, task / self.outs);
                let (band, channel) = (channel % bands, channel / bands);
                let (image, channel) = (channel / self.channels, channel % self.channels);
                let o = channel * self.outs + of;
                let first = band * self.band;
                let rows = self.band.min(self.grid[0] - first);
                let plane = |view: &View, channel: usize| {
                    image as isize * view.strides[0] + channel as isize * view.strides[1]
                };
                let source = cx.origin(x).cast::<f32>().wrapping_offset(plane(x, channel)).cast_const();
                // SAFETY: planes of the checked views; the scratch memory is this thread's; nobody else computes this band
                // of this channel; the program's builder found the path supported.
                unsafe {
                    if there.replace((image, channel, band)) != Some((image, channel, band)) {
                        let copied = (rows - 1) * self.window.strides[0]
                            + (self.kernel[0] - 1) * self.window.dilation[0]
                            + 1;
                        self.copy(source, [x.strides[2], x.strides[3]], first, copied, copy);
                    }
                    let from =
                        cx.origin(weight).cast::<f32>().wrapping_offset(o as isize * weight.strides[0]);
                    for k in 0..self.offsets.len() {
                        let [i, j] = [k / self.kernel[1], k % self.kernel[1]];
                        let at = i as isize * weight.strides[2] + j as isize * weight.strides[3];
                        *weights.add(k) = *from.wrapping_offset(at);
                    }
                    let to = plane(out, o) + first as isize * out.strides[2];
                    (self.sums)(&Band {
                        copy,
                        row_step: self.window.strides[0] * row_floats,
                        weights,
                        offsets: &self.offsets,
                        rows,
                        columns: self.grid[1],
                        out: cx.origin(out).cast::<f32>().wrapping_offset(to),
                        out_step: out.strides[2],
                    });
                }
            }
        });
    }
}

/// Sums the taps of all places of a band.
///
/// # Safety
/// The copy holds what the taps meet in whole vectors of places, the result is there, and the processor supports the path of
/// the vectors.
#[inline(always)]
unsafe fn band<V: Vector>(b: &Band<'_>) {
    let width = VECTORS * V::LANES;
    for row in (0..b.rows).step_by(ROWS) {
        let rows = ROWS.min(b.rows - row);
        for column in (0..b.columns).step_by(width) {
            let columns = width.min(b.columns - column);
            // SAFETY: the caller's contract is the same.
            unsafe {
                match (rows, columns > V::LANES) {
                    (ROWS, true) => tile::<V, ROWS, VECTORS>(b, row, column, columns),
                    (ROWS, false) => tile::<V, ROWS, 1>(b, row, column, columns),
                    (rows, two) => {
                        for row in row..row + rows {
                            if two {
                                tile::<V, 1, VECTORS>(b, row, column, columns);
                            } else {
                                tile::<V, 1, 1>(b, row, column, columns);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sums the taps of the places of `R` rows from `row` on and `N` vectors from `column` on, of which `columns` are stored.
///
/// # Safety
/// As for [`band`].
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const N: usize>(
    b: &Band<'_>,
    row: usize,
    column: usize,
    columns: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut sums = [[V::zero(); N]; R];
        let corner = b.copy.add(row * b.row_step + column);
        for (k, offset) in b.offsets.iter().enumerate() {
            let weight = V::splat(b.weights.add(k));
            let from = corner.add(*offset);
            for (r, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.mul_add(weight, V::load(from.add(r * b.row_step + n * V::LANES)));
                }
            }
        }
        let to =
            |r: usize, n: usize| b.out.offset((row + r) as isize * b.out_step).add(column + n * V::LANES);
        let valid = std::array::from_fn(|n| columns.saturating_sub(n * V::LANES).min(V::LANES));
        store(&sums, valid, to, false);
    }
}

by_vectors! {
    /// What sums the taps of a band on a path.
    fn sums -> fn(b: &Band<'_>);
    portable band::<Portable>(b);
    avx2 band::<Avx2>(b);
    avx512 band::<Avx512>(b);
}

//! Depthwise convolutions with windows of 3 by 3, one or two elements apart: straight from the image, without a copy of it.
//!
//! A tile is some rows of places, one vector wide. What the taps of a row of the image meet is loaded once, for all rows of
//! places that it belongs to; lanes beyond the image are loaded as zeros. An element of the result is one chain of multiply-adds
//! in the order of the taps, as in [`super::depthwise`], and has the same bits.

use super::{Algorithm, Conv};
use crate::finish::{Finisher, OfChannel};
#[cfg(target_arch = "x86_64")]
use crate::gemm::{Avx2, Avx512};
use crate::gemm::{Portable, Vector};
use crate::kernel::{Cx, Scratch};
use crate::path::{KernelPath, by_vectors};
use crate::view::View;
use std::ops::Range;

/// Rows of places that are computed together by one thread.
const BAND: usize = 28;

/// A depthwise convolution, compiled for operands and a path.
#[derive(Debug)]
pub(super) struct Depthwise3x3 {
    sums: unsafe fn(&Plane, Range<usize>),
    stride: usize,
    /// Rows above the image, and columns before it.
    padding: [isize; 2],
    /// Images, source channels, and result channels of each of these.
    batch: usize,
    channels: usize,
    outs: usize,
}

/// A channel of an image, and where its sums go.
struct Plane {
    source: *const f32,
    /// Elements between rows, here and in the result.
    source_step: isize,
    out_step: isize,
    /// Rows and columns of the channel.
    extents: [isize; 2],
    padding: [isize; 2],
    stride: usize,
    weights: [f32; 9],
    out: *mut f32,
    /// Places of a row.
    columns: usize,
    finish: Option<OfChannel>,
}

impl Depthwise3x3 {
    /// The forward direction, of f32 and images whose columns are neighbours.
    pub fn forward(conv: &Conv, path: KernelPath) -> Option<Self> {
        let (x, w, y, window) = (&conv.x, &conv.weight, &conv.y, &conv.window);
        let fits = conv.groups > 1
            && w.dims[1..] == [1, 3, 3]
            && matches!(window.strides, [1, 1] | [2, 2])
            && window.dilation == [1, 1]
            && conv.is_f32()
            && [x.strides[3], y.strides[3]] == [1, 1];
        fits.then(|| Self {
            sums: sums(path),
            stride: window.strides[0],
            padding: [window.padding[0] as isize, window.padding[2] as isize],
            batch: x.dims[0],
            channels: x.dims[1],
            outs: w.dims[0] / conv.groups,
        })
    }
}

impl Algorithm for Depthwise3x3 {
    fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    fn run(&self, cx: &Cx<'_>, reads: [&View; 2], out: &View, cost_ns: usize) {
        self.run_with(cx, reads, out, cost_ns, None);
    }

    fn run_finished(&self, cx: &Cx<'_>, reads: [&View; 2], out: &View, cost_ns: usize, finisher: &Finisher) {
        self.run_with(cx, reads, out, cost_ns, Some(finisher));
    }
}

impl Depthwise3x3 {
    fn run_with(
        &self,
        cx: &Cx<'_>,
        [x, weight]: [&View; 2],
        out: &View,
        cost_ns: usize,
        finisher: Option<&Finisher>,
    ) {
        let (rows, outs) = (out.dims[2], self.channels * self.outs);
        let bands = rows.div_ceil(BAND);
        // Most of the time goes into loads.
        cx.parallel(self.batch * outs * bands, cost_ns.saturating_mul(2), &|_, range| {
            for task in range {
                let (band, plane) = (task % bands, task / bands);
                let (o, image) = (plane % outs, plane / outs);
                let start = |view: &View, channel: usize| {
                    let at = image as isize * view.strides[0] + channel as isize * view.strides[1];
                    cx.origin(view).cast::<f32>().wrapping_offset(at)
                };
                let from = cx.origin(weight).cast::<f32>().wrapping_offset(o as isize * weight.strides[0]);
                let tap = |k: usize| {
                    let at = (k / 3) as isize * weight.strides[2] + (k % 3) as isize * weight.strides[3];
                    // SAFETY: one of the nine weights of a channel of the checked view.
                    unsafe { *from.wrapping_offset(at) }
                };
                let plane = Plane {
                    source: start(x, o / self.outs),
                    source_step: x.strides[2],
                    out_step: out.strides[2],
                    extents: [x.dims[2] as isize, x.dims[3] as isize],
                    padding: self.padding,
                    stride: self.stride,
                    weights: std::array::from_fn(tap),
                    out: start(out, o),
                    columns: out.dims[3],
                    finish: finisher.map(|it| it.of_channel(o, start(out, o))),
                };
                // SAFETY: planes of the checked views; nobody else computes these rows; the program's builder found the path
                // supported.
                unsafe { (self.sums)(&plane, band * BAND..rows.min((band + 1) * BAND)) };
            }
        });
    }
}

/// Sums the taps of all places of some rows.
///
/// # Safety
/// The plane and its result are there, and the processor supports the path of the vectors.
#[inline(always)]
unsafe fn band<V: Vector>(plane: &Plane, rows: Range<usize>) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        match plane.stride {
            1 => strided::<V, 1>(plane, rows),
            _ => strided::<V, 2>(plane, rows),
        }
    }
}

/// # Safety
/// As for [`band`]; `S` is the stride.
#[inline(always)]
unsafe fn strided<V: Vector, const S: usize>(plane: &Plane, rows: Range<usize>) {
    let mut row = rows.start;
    while row < rows.end {
        // SAFETY: the caller's contract is the same.
        row += unsafe {
            match rows.end - row {
                7.. => tiles::<V, S, 7>(plane, row),
                4.. => tiles::<V, S, 4>(plane, row),
                _ => tiles::<V, S, 1>(plane, row),
            }
        };
    }
}

/// Computes the `R` rows from `row` on and says how many they are.
///
/// # Safety
/// As for [`band`]; there are so many rows.
#[inline(always)]
unsafe fn tiles<V: Vector, const S: usize, const R: usize>(plane: &Plane, row: usize) -> usize {
    let top = (row * S) as isize - plane.padding[0];
    let rows_inside = top >= 0 && top + ((R - 1) * S + 3) as isize <= plane.extents[0];
    for column in (0..plane.columns).step_by(V::LANES) {
        let left = (column * S) as isize - plane.padding[1];
        // Of what is loaded, the last elements are those of the last tap.
        let inside = rows_inside && left >= 0 && left + (2 + S * V::LANES) as isize <= plane.extents[1];
        // SAFETY: the caller's contract is the same.
        unsafe {
            if inside && !V::MASKED {
                tile::<V, S, R, false>(plane, row, column, [top, left]);
            } else {
                tile::<V, S, R, true>(plane, row, column, [top, left]);
            }
        }
    }
    R
}

/// Computes `R` rows of a vector of places, whose first window has its corner at this row and column of the image. With `EDGE`
/// some of what they meet may lie outside.
///
/// # Safety
/// As for [`tiles`].
#[inline(always)]
unsafe fn tile<V: Vector, const S: usize, const R: usize, const EDGE: bool>(
    plane: &Plane,
    row: usize,
    column: usize,
    [top, left]: [isize; 2],
) {
    // Where the loads of a row begin, and which of their lanes are in the image.
    let begin = if S == 1 { [0, 1, 2, 2] } else { [0, V::LANES, 2, 2 + V::LANES] };
    // SAFETY: the caller's contract; lanes and rows outside the image are not read.
    unsafe {
        // Made once: a row is hardly more than its loads.
        let mut lanes = [V::lanes(0, V::LANES); 4];
        for (lanes, begin) in lanes.iter_mut().zip(begin) {
            let first = left + begin as isize;
            let within = |n: isize| n.clamp(0, V::LANES as isize) as usize;
            *lanes = V::lanes(within(-first), within(plane.extents[1] - first));
        }
        let mut weights = [V::zero(); 9];
        for (weight, from) in weights.iter_mut().zip(&plane.weights) {
            *weight = V::splat(from);
        }
        let mut sums = [V::zero(); R];
        // Written out for each row of the image, so that the sums stay in registers.
        macro_rules! rows {
            ($($i:literal)*) => {$(
                if $i < (R - 1) * S + 3 {
                    let at = top + $i;
                    let from = plane.source.wrapping_offset(at * plane.source_step + left);
                    let mut taps = [V::zero(); 3];
                    if !EDGE || (at >= 0 && at < plane.extents[0]) {
                        taps = met::<V, S, EDGE>(from, &begin, &lanes);
                    }
                    for (r, sum) in sums.iter_mut().enumerate() {
                        if r * S <= $i && $i < r * S + 3 {
                            for j in 0..3 {
                                *sum = sum.mul_add(weights[3 * ($i - r * S) + j], taps[j]);
                            }
                        }
                    }
                }
            )*};
        }
        rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        let stored = (plane.columns - column).min(V::LANES);
        for (r, sum) in sums.iter().enumerate() {
            let at = (row + r) as isize * plane.out_step + column as isize;
            let to = plane.out.wrapping_offset(at);
            let mut sum = if S == 1 { *sum } else { sum.in_order() };
            if let Some(finish) = &plane.finish {
                sum = finish.vector(sum, at, stored);
            }
            if stored == V::LANES {
                sum.store(to);
            } else {
                sum.store_first(to, stored);
            }
        }
    }
}

/// What the three taps of a row meet at a vector of places, the first of them at `from`: loads that begin so many elements from
/// there, and have these lanes in the image. Places that are two elements apart are in the order of [`Vector::unzip_anyhow`].
///
/// # Safety
/// These lanes can be read, and without `EDGE` all of them; the processor supports the path of `V`.
#[inline(always)]
unsafe fn met<V: Vector, const S: usize, const EDGE: bool>(
    from: *const f32,
    begin: &[usize; 4],
    lanes: &[V::Lanes; 4],
) -> [V; 3] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut loaded = [V::zero(); 4];
        for i in 0..if S == 1 { 3 } else { 4 } {
            let from = from.wrapping_add(begin[i]);
            loaded[i] = if EDGE { V::load_lanes(from, lanes[i]) } else { V::load(from) };
        }
        let [a, b, c, d] = loaded;
        if S == 1 {
            return [a, b, c];
        }
        let [first, second] = V::unzip_anyhow([a, b]);
        let [third, _] = V::unzip_anyhow([c, d]);
        [first, second, third]
    }
}

by_vectors! {
    /// What sums the taps of some rows on a path.
    fn sums -> fn(plane: &Plane, rows: Range<usize>);
    portable band::<Portable>(plane, rows);
    avx2 band::<Avx2>(plane, rows);
    avx512 band::<Avx512>(plane, rows);
}

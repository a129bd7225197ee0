//! The transforms, over vectors of tiles or channels: from elements to their values at the points, and back.

use super::read::{Images, Read, Unrounded};
use super::{Grid, POINTS, Run, TILE, WINDOW};
use crate::finish::{Finisher, OfChannel};
#[cfg(target_arch = "x86_64")]
use crate::gemm::{Avx2, Avx512};
use crate::gemm::{Element, MAX_COLUMNS, Matrix, PackFns, Panel, Portable, Vector, prefetch};
use crate::number::Bits16;
use crate::path::KernelPath;
use std::ops::Range;

// The points, besides zero and infinity, are A, -A, B and -B.
const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const A3: f32 = A2 * A;
const B2: f32 = B * B;
const B3: f32 = B2 * B;
/// Products of the differences between a point and all others, inverted: at 0, at A and -A, at B and -B.
const AT_0: f32 = 1.0 / (A2 * B2);
const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// Weights of a window.
const TAPS: usize = WINDOW * WINDOW;
/// Channels whose weights are read at a time.
const CHANNELS: usize = 16;
/// Most lanes of a vector.
const LANES_MAX: usize = MAX_COLUMNS / 2;

/// Floats of a row of a work area: a row of tiles, what the last one of them reaches beyond, and the end of a vector.
const PITCH: usize = TILE * MAX_COLUMNS + 32;

/// Tiles of images, and where their values at the points go: point `t` of channel `c` of tile `i` to `to[t * point_step +
/// c * channel_step + i]`, in whole vectors.
pub(super) struct Spread<'a> {
    pub images: Images,
    pub channels: Range<usize>,
    pub runs: &'a [Run],
    /// The row and column of the image that the first tile's first element is.
    pub corner: [isize; 2],
    /// Tiles, at most [`MAX_COLUMNS`].
    pub tiles: usize,
    pub to: *mut f32,
    pub point_step: usize,
    pub channel_step: usize,
}

/// Values at the points, and the images that are made of them: point `t` of channel `c` of tile `i` is at `from[t *
/// point_step + c * channel_step + i]`.
pub(super) struct Collect<'a> {
    pub from: *const f32,
    pub point_step: usize,
    pub channel_step: usize,
    pub channels: usize,
    pub runs: &'a [Run],
    pub grid: Grid,
    pub tiles: usize,
    /// The first of the channels, of the first image.
    pub to: *mut f32,
    /// Elements between images, channels, rows and columns.
    pub strides: [isize; 4],
    /// What finishes the images, whose columns are neighbours then, and the number of the first channel.
    pub finish: Option<(&'a Finisher, usize)>,
}

/// A panel of weights, and where their values at the points go: those of row `r` and channel `c` to `to[t * point_step + c
/// * rows + r]`.
pub(super) struct Filters {
    /// Those of a path that widens bf16.
    pub pack: PackFns,
    pub from: *const u8,
    pub read: Read,
    /// Elements between rows, channels, and the window's rows and columns.
    pub strides: [isize; 4],
    pub rows: usize,
    pub channels: usize,
    pub to: *mut f32,
    pub point_step: usize,
}

/// Values at the points of the gradient of a row of weights, and the gradient: those of channel `c` are at `from[t *
/// point_step + c]`.
pub(super) struct Unfilter {
    pub from: *const f32,
    pub point_step: usize,
    pub channels: usize,
    pub to: *mut f32,
    /// Elements between channels, and the window's rows and columns.
    pub strides: [isize; 3],
}

/// The transforms of a path.
#[derive(Clone, Copy)]
pub(super) struct Transforms {
    /// Of the 6x6 elements that tiles meet.
    pub source: unsafe fn(&Spread<'_>),
    /// Of the 4x4 elements of tiles, as the other factor of the gradient of the weights.
    pub tiles: unsafe fn(&Spread<'_>),
    pub collect: unsafe fn(&Collect<'_>),
    pub filters: unsafe fn(&Filters),
    pub unfilter: unsafe fn(&Unfilter),
}

impl std::fmt::Debug for Transforms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transforms")
    }
}

impl Transforms {
    pub fn new(path: KernelPath) -> Self {
        match path.vectors() {
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx512 => avx512(),
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx2 => avx2(),
            _ => portable(),
        }
    }
}

// SAFETY: (for every block below) the callers vouch for the path's instructions, and for the elements behind pointers:
// those that are read are there, and nobody else works on those that are written.

#[inline(always)]
unsafe fn number<V: Vector>(value: f32) -> V {
    // SAFETY: as above.
    unsafe { V::splat(&raw const value) }
}

/// Six elements as the coefficients of a polynomial that is to be multiplied: the transpose of interpolation.
#[inline(always)]
unsafe fn source<V: Vector>(d: [V; POINTS]) -> [V; POINTS] {
    // SAFETY: as above.
    unsafe {
        let (sum, product) = (number::<V>(-(A2 + B2)), number::<V>(A2 * B2));
        let (even_a, odd_a) = (d[4].mul_add(number(-B2), d[2]), d[3].mul_add(number(-B2), d[1]));
        let (even_b, odd_b) = (d[4].mul_add(number(-A2), d[2]), d[3].mul_add(number(-A2), d[1]));
        [
            d[4].mul_add(sum, d[2]).mul_add(product, d[0]),
            even_a.mul_add(number(A), odd_a),
            even_a.mul_add(number(-A), odd_a),
            even_b.mul_add(number(B), odd_b),
            even_b.mul_add(number(-B), odd_b),
            d[5].mul_add(sum, d[3]).mul_add(product, d[1]),
        ]
    }
}

/// Four elements as the coefficients of a polynomial: its values.
#[inline(always)]
unsafe fn tile<V: Vector>(y: [V; TILE]) -> [V; POINTS] {
    // SAFETY: as above.
    unsafe {
        let zero = V::zero();
        let pair = |point: f32, scale: f32| {
            let even = zero.mul_add(number(scale), y[0]).mul_add(number(scale * point * point), y[2]);
            let odd = zero
                .mul_add(number(scale * point), y[1])
                .mul_add(number(scale * point * point * point), y[3]);
            (even.add(odd), even.mul_add(number(-1.0), odd))
        };
        let ((a, minus_a), (b, minus_b)) = (pair(A, AT_A), pair(B, AT_B));
        [zero.mul_add(number(AT_0), y[0]), a, minus_a, b, minus_b, y[3]]
    }
}

/// The values of what tiles meet: of six elements of the source, or of four of their own.
#[inline(always)]
unsafe fn values<V: Vector, const R: usize>(d: [V; R]) -> [V; POINTS] {
    let at = |i: usize| d[i % R];
    // SAFETY: as above.
    unsafe {
        if R == POINTS {
            source([at(0), at(1), at(2), at(3), at(4), at(5)])
        } else {
            tile([at(0), at(1), at(2), at(3)])
        }
    }
}

/// The same of three weights.
#[inline(always)]
unsafe fn filter<V: Vector>(w: [V; WINDOW]) -> [V; POINTS] {
    // SAFETY: as above.
    unsafe {
        let zero = V::zero();
        let pair = |point: f32, scale: f32| {
            let even = zero.mul_add(number(scale), w[0]).mul_add(number(scale * point * point), w[2]);
            let odd = zero.mul_add(number(scale * point), w[1]);
            (even.add(odd), even.mul_add(number(-1.0), odd))
        };
        let ((a, minus_a), (b, minus_b)) = (pair(A, AT_A), pair(B, AT_B));
        [zero.mul_add(number(AT_0), w[0]), a, minus_a, b, minus_b, w[2]]
    }
}

/// What the values at the points say of the first `N` powers; the last of them takes what is at infinity.
#[inline(always)]
unsafe fn powers<V: Vector, const N: usize>(m: [V; POINTS]) -> [V; N] {
    // SAFETY: as above.
    unsafe {
        let minus = number::<V>(-1.0);
        let (even_a, odd_a) = (m[1].add(m[2]), m[1].mul_add(minus, m[2]));
        let (even_b, odd_b) = (m[3].add(m[4]), m[3].mul_add(minus, m[4]));
        let zero = V::zero();
        let mut out = [zero; N];
        out[0] = m[0].add(even_a).add(even_b);
        out[1] = zero.mul_add(number(A), odd_a).mul_add(number(B), odd_b);
        let last = |i: usize| if i + 1 == N { m[5] } else { zero };
        out[2] = last(2).mul_add(number(A2), even_a).mul_add(number(B2), even_b);
        if N == TILE {
            out[3] = last(3).mul_add(number(A3), odd_a).mul_add(number(B3), odd_b);
        }
        out
    }
}

#[inline(always)]
unsafe fn load<V: Vector, const N: usize>(from: *const f32, step: usize) -> [V; N] {
    // SAFETY: as above.
    unsafe {
        let mut all = [V::zero(); N];
        for (i, vector) in all.iter_mut().enumerate() {
            *vector = V::load(from.add(i * step));
        }
        all
    }
}

/// A row of an image, and what is wanted of it: `width` elements from column `left` on, zeros beyond its edges.
struct Row {
    start: *const u8,
    /// Elements between columns.
    step: isize,
    columns: usize,
    left: isize,
    width: usize,
    /// What is so many elements behind is wanted next.
    ahead: isize,
}

#[inline(always)]
unsafe fn stage<V: Vector>(read: Read, row: &Row, to: *mut f32) {
    // SAFETY: as above.
    unsafe {
        match read {
            Read::Plain => stage_as::<V, f32>(row, to),
            Read::Rounded => stage_as::<V, Unrounded>(row, to),
            Read::Widened => stage_as::<V, Bits16>(row, to),
        }
    }
}

#[inline(always)]
unsafe fn stage_as<V: Vector, E: Element>(row: &Row, to: *mut f32) {
    // SAFETY: as above.
    unsafe {
        let (left, width) = (row.left, row.width);
        let low = (-left).clamp(0, width as isize) as usize;
        let high = (row.columns as isize - left).clamp(low as isize, width as isize) as usize;
        for i in 0..low {
            *to.add(i) = 0.0;
        }
        let from = row.start.cast::<E>().wrapping_offset(left * row.step);
        if row.step == 1 {
            let mut i = low;
            while i + V::LANES <= high {
                let at = from.wrapping_add(i);
                prefetch(at.wrapping_offset(row.ahead).cast());
                E::load::<V>(at).store(to.add(i));
                i += V::LANES;
            }
            if i < high {
                let at = from.wrapping_add(i);
                prefetch(at.wrapping_offset(row.ahead).cast());
                E::load_first::<V>(at, high - i).store_first(to.add(i), high - i);
            }
        } else {
            for i in low..high {
                *to.add(i) = (*from.wrapping_offset(i as isize * row.step)).widen();
            }
        }
        for i in high..width {
            *to.add(i) = 0.0;
        }
    }
}

/// Where tiles are worked on: rows of elements, and of each row of points the phases of its columns.
struct Work {
    staged: [f32; POINTS * PITCH],
    tall: [f32; POINTS * PITCH],
    /// Of each row of points, for the columns 0 to 5 of all tiles.
    phases: [[[f32; 2 * MAX_COLUMNS]; POINTS]; POINTS],
}

/// Tiles that meet `R` rows and columns: six of the source, or four of themselves.
#[inline(always)]
unsafe fn spread<V: Vector, const R: usize>(s: &Spread<'_>) {
    // SAFETY: as above.
    unsafe {
        let mut work = Work {
            staged: [0.0; POINTS * PITCH],
            tall: [0.0; POINTS * PITCH],
            phases: [[[0.0; 2 * MAX_COLUMNS]; POINTS]; POINTS],
        };
        // The last two columns of the last tile of each run, in each row of points.
        let mut ends = [[[0.0f32; 2]; MAX_COLUMNS]; POINTS];
        let (staged, tall) = (work.staged.as_mut_ptr(), work.tall.as_mut_ptr());
        let vectors = s.tiles.div_ceil(V::LANES);
        let Images { start, read, strides: [image_step, channel_step, row_step, column_step], .. } = s.images;
        for (index, channel) in s.channels.clone().enumerate() {
            for (r, run) in s.runs.iter().enumerate() {
                let plane = run.image as isize * image_step + channel as isize * channel_step;
                let width = TILE * run.count + R - TILE;
                let left = (TILE * run.first) as isize + s.corner[1];
                for i in 0..R {
                    let row = (TILE * run.row + i) as isize + s.corner[0];
                    // A row outside the image has no columns.
                    let columns = if (0..s.images.extents[0] as isize).contains(&row) {
                        s.images.extents[1]
                    } else {
                        0
                    };
                    let row = Row {
                        start: read.at(start, plane + row * row_step),
                        step: column_step,
                        columns,
                        left,
                        width,
                        ahead: channel_step,
                    };
                    stage::<V>(read, &row, staged.add(i * PITCH));
                }
                for column in (0..width).step_by(V::LANES) {
                    let points = values::<V, R>(load(staged.add(column), PITCH));
                    for (i, point) in points.into_iter().enumerate() {
                        point.store(tall.add(i * PITCH + TILE * run.at + column));
                    }
                }
                if R > TILE {
                    for (i, ends) in ends.iter_mut().enumerate() {
                        let end = tall.add(i * PITCH + TILE * run.at + width - 2);
                        ends[r] = [*end, *end.add(1)];
                    }
                }
            }
            for (i, phases) in work.phases.iter_mut().enumerate() {
                for v in 0..vectors {
                    let at = v * V::LANES;
                    let four = V::deinterleave(load(tall.add(i * PITCH + TILE * at), V::LANES));
                    for (phase, row) in four.into_iter().zip(&mut *phases) {
                        phase.store(row.as_mut_ptr().add(at));
                    }
                    if R > TILE {
                        // The fifth and sixth column of a tile are the first two of the next one, here a place on.
                        for (phase, row) in four.into_iter().zip(&mut phases[TILE..]) {
                            phase.store(row.as_mut_ptr().add(LANES_MAX + at - 1));
                        }
                    }
                }
                if R > TILE {
                    for (run, end) in s.runs.iter().zip(&ends[i]) {
                        for (row, value) in phases[TILE..].iter_mut().zip(end) {
                            row[LANES_MAX + run.at + run.count - 1] = *value;
                        }
                    }
                }
            }
            let to = s.to.add(index * s.channel_step);
            for (i, phases) in work.phases.iter().enumerate() {
                for at in (0..vectors).map(|v| v * V::LANES) {
                    let mut columns = [V::zero(); R];
                    for (j, (column, row)) in columns.iter_mut().zip(phases).enumerate() {
                        let shift = if j < TILE { 0 } else { LANES_MAX };
                        *column = V::load(row.as_ptr().add(shift + at));
                    }
                    for (j, point) in values::<V, R>(columns).into_iter().enumerate() {
                        point.store(to.add((i * POINTS + j) * s.point_step + at));
                    }
                }
            }
        }
    }
}

/// The first `n` values as they are stored at the place `at` of a plane.
#[inline(always)]
unsafe fn finished<V: Vector>(values: V, finish: Option<OfChannel>, at: isize, n: usize) -> V {
    match finish {
        // SAFETY: as above.
        Some(finish) => unsafe { finish.vector(values, at, n) },
        None => values,
    }
}

#[inline(always)]
unsafe fn collect<V: Vector>(c: &Collect<'_>) {
    // SAFETY: as above.
    unsafe {
        let mut rows = [0.0f32; TILE * PITCH];
        let rows = rows.as_mut_ptr();
        let [image_step, channel_step, row_step, column_step] = c.strides;
        for channel in 0..c.channels {
            let from = c.from.add(channel * c.channel_step);
            for at in (0..c.tiles).step_by(V::LANES) {
                let mut tall = [[V::zero(); POINTS]; TILE];
                for j in 0..POINTS {
                    let column =
                        powers::<V, TILE>(load(from.add(j * c.point_step + at), POINTS * c.point_step));
                    for (row, value) in tall.iter_mut().zip(column) {
                        row[j] = value;
                    }
                }
                for (r, row) in tall.into_iter().enumerate() {
                    let four = V::interleave(powers::<V, TILE>(row));
                    for (v, vector) in four.into_iter().enumerate() {
                        vector.store(rows.add(r * PITCH + TILE * at + v * V::LANES));
                    }
                }
            }
            for run in c.runs {
                let plane =
                    c.to.wrapping_offset(run.image as isize * image_step + channel as isize * channel_step);
                let finish = c.finish.map(|(finisher, first)| finisher.of_channel(first + channel, plane));
                let (top, left) = (TILE * run.row, TILE * run.first);
                let width = (TILE * run.count).min(c.grid.extents[1] - left);
                for r in 0..TILE.min(c.grid.extents[0] - top) {
                    let from = rows.add(r * PITCH + TILE * run.at);
                    let place = (top + r) as isize * row_step + left as isize * column_step;
                    let to = plane.wrapping_offset(place);
                    if column_step == 1 {
                        let mut i = 0;
                        while i + V::LANES <= width {
                            let values = V::load(from.add(i));
                            finished(values, finish, place + i as isize, V::LANES).store(to.add(i));
                            i += V::LANES;
                        }
                        if i < width {
                            let (values, n) = (V::load_first(from.add(i), width - i), width - i);
                            finished(values, finish, place + i as isize, n).store_first(to.add(i), n);
                        }
                    } else {
                        for i in 0..width {
                            *to.offset(i as isize * column_step) = *from.add(i);
                        }
                    }
                }
            }
        }
    }
}

/// There are as many rows as a vector has lanes at most.
#[inline(always)]
unsafe fn filters<V: Vector>(f: &Filters) {
    // SAFETY: as above.
    unsafe {
        let [row_step, channel_step, height_step, width_step] = f.strides;
        // Row by row of the window, in the order of memory: forwards, or backwards where the window is turned around.
        let turned = width_step < 0;
        let dense = width_step.abs() == 1 && height_step == WINDOW as isize * width_step;
        let first = if turned { (TAPS - 1) as isize * width_step } else { 0 };
        let channels = if dense && channel_step == TAPS as isize { CHANNELS } else { 1 };
        // The weights of some channels: of each tap, those of all rows.
        let mut taps = [0.0f32; CHANNELS * TAPS * LANES_MAX];
        for channel in 0..f.channels {
            let from = f.read.at(f.from, channel as isize * channel_step);
            if dense && channel % channels == 0 {
                let k = TAPS * channels.min(f.channels - channel);
                let panel = Panel { count: f.rows, width: V::LANES, pitch: LANES_MAX, k };
                let (start, across, to) = (f.read.at(from, first), row_step, taps.as_mut_ptr());
                match f.read {
                    Read::Widened => {
                        (f.pack.bf16)(Matrix { start: start.cast(), across, along: 1 }, panel, to);
                    }
                    _ => (f.pack.f32)(Matrix { start: start.cast(), across, along: 1 }, panel, to),
                }
            } else if !dense {
                for tap in 0..TAPS {
                    let (i, j) = ((tap / WINDOW) as isize, (tap % WINDOW) as isize);
                    let from = f.read.at(from, i * height_step + j * width_step);
                    for row in 0..f.rows {
                        taps[tap * LANES_MAX + row] = f.read.get(f.read.at(from, row as isize * row_step));
                    }
                }
            }
            let lanes = |tap: usize| {
                let tap = if dense && turned { TAPS - 1 - tap } else { tap };
                let weights = V::load(taps.as_ptr().add((channel % channels * TAPS + tap) * LANES_MAX));
                if f.read == Read::Rounded { weights.rounded() } else { weights }
            };
            let mut tall = [[V::zero(); WINDOW]; POINTS];
            for j in 0..WINDOW {
                let column = [lanes(j), lanes(WINDOW + j), lanes(2 * WINDOW + j)];
                for (row, value) in tall.iter_mut().zip(filter(column)) {
                    row[j] = value;
                }
            }
            let to = f.to.add(channel * f.rows);
            for (i, row) in tall.into_iter().enumerate() {
                for (j, value) in filter(row).into_iter().enumerate() {
                    value.store_first(to.add((i * POINTS + j) * f.point_step), f.rows);
                }
            }
        }
    }
}

/// The values can be read up to whole vectors.
#[inline(always)]
unsafe fn unfilter<V: Vector>(u: &Unfilter) {
    // SAFETY: as above.
    unsafe {
        let mut taps = [[0.0f32; LANES_MAX]; TAPS];
        for first in (0..u.channels).step_by(V::LANES) {
            let mut tall = [[V::zero(); POINTS]; WINDOW];
            for j in 0..POINTS {
                let from = u.from.add(j * u.point_step + first);
                let column = powers::<V, WINDOW>(load(from, POINTS * u.point_step));
                for (row, value) in tall.iter_mut().zip(column) {
                    row[j] = value;
                }
            }
            for (i, row) in tall.into_iter().enumerate() {
                for (j, value) in powers::<V, WINDOW>(row).into_iter().enumerate() {
                    value.store(taps[i * WINDOW + j].as_mut_ptr());
                }
            }
            for lane in 0..V::LANES.min(u.channels - first) {
                let to = u.to.wrapping_offset((first + lane) as isize * u.strides[0]);
                for (tap, lanes) in taps.iter().enumerate() {
                    let (i, j) = ((tap / WINDOW) as isize, (tap % WINDOW) as isize);
                    *to.wrapping_offset(i * u.strides[1] + j * u.strides[2]) = lanes[lane];
                }
            }
        }
    }
}

/// Makes the transforms of a path.
macro_rules! path_transforms {
    ($table:ident, $vector:ty $(, $features:literal)?) => {
        fn $table() -> Transforms {
            $(#[target_feature(enable = $features)])?
            unsafe fn of_source(s: &Spread<'_>) {
                // SAFETY: as above.
                unsafe { spread::<$vector, POINTS>(s) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn of_tiles(s: &Spread<'_>) {
                // SAFETY: as above.
                unsafe { spread::<$vector, TILE>(s) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn to_tiles(c: &Collect<'_>) {
                // SAFETY: as above.
                unsafe { collect::<$vector>(c) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn of_filters(f: &Filters) {
                // SAFETY: as above.
                unsafe { filters::<$vector>(f) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn to_filters(u: &Unfilter) {
                // SAFETY: as above.
                unsafe { unfilter::<$vector>(u) }
            }
            Transforms {
                source: of_source,
                tiles: of_tiles,
                collect: to_tiles,
                filters: of_filters,
                unfilter: to_filters,
            }
        }
    };
}
path_transforms!(portable, Portable);
#[cfg(target_arch = "x86_64")]
path_transforms!(avx2, Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
path_transforms!(avx512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");

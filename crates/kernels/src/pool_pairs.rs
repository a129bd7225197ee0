//! Pooling of f32 planes by windows of 2x2 that lie side by side: the usual ones. Results are those of the general loops,
//! bit for bit, but every window is computed alike, so that the compiler takes several at once.

use crate::path::{KernelPath, by_vectors};

/// Windows that are computed at a time.
const MANY: usize = 8;
/// The same in rows that are shorter.
const FEW: usize = 4;

/// Planes whose rows are contiguous and follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planes {
    /// Rows and columns of windows.
    pub places: [usize; 2],
    /// Rows and columns of the input.
    pub extents: [usize; 2],
}

/// Writes the maxima of a plane.
pub(crate) type MaxFn = unsafe fn(&Planes, x: &[f32], y: &mut [f32]);
/// Writes the gradient of a plane by its maxima's.
pub(crate) type GradFn = unsafe fn(&Planes, x: &[f32], dy: &[f32], dx: &mut [f32]);

/// The later of two elements, if it is larger or not a number.
#[inline(always)]
fn larger(first: f32, second: f32) -> f32 {
    if second > first || second.is_nan() { second } else { first }
}

/// Calls `block` with the first window and the number of windows, so that all of a row's are covered, some of them twice;
/// numbers are known when compiled.
macro_rules! blocks {
    ($width:expr, $block:ident ( $($arg:expr),* )) => {
        let width = $width;
        if width >= MANY {
            for at in (0..width - MANY).step_by(MANY).chain([width - MANY]) {
                $block::<MANY>(at, $($arg),*);
            }
        } else if width >= FEW {
            $block::<FEW>(0, $($arg),*);
            $block::<FEW>(width - FEW, $($arg),*);
        } else {
            for at in 0..width {
                $block::<1>(at, $($arg),*);
            }
        }
    };
}

#[inline(always)]
fn max_block<const N: usize>(at: usize, top: &[f32], bottom: &[f32], y: &mut [f32]) {
    let (top, bottom) = (&top[2 * at..][..2 * N], &bottom[2 * at..][..2 * N]);
    let y = &mut y[at..][..N];
    for w in 0..N {
        let best = larger(larger(top[2 * w], top[2 * w + 1]), bottom[2 * w]);
        y[w] = larger(best, bottom[2 * w + 1]);
    }
}

#[inline(always)]
fn max(planes: &Planes, x: &[f32], y: &mut [f32]) {
    let ([height, width], pitch) = (planes.places, planes.extents[1]);
    for h in 0..height {
        let (top, bottom) = x[2 * h * pitch..].split_at(pitch);
        let y = &mut y[h * width..][..width];
        blocks!(width, max_block(top, bottom, y));
    }
}

/// The gradient goes to the first of the largest, or to the first that is not a number.
#[inline(always)]
fn grad_block<const N: usize>(
    at: usize,
    [top, bottom]: [&[f32]; 2],
    dy: &[f32],
    d_top: &mut [f32],
    d_bottom: &mut [f32],
) {
    let (top, bottom, dy) = (&top[2 * at..][..2 * N], &bottom[2 * at..][..2 * N], &dy[at..][..N]);
    let (d_top, d_bottom) = (&mut d_top[2 * at..][..2 * N], &mut d_bottom[2 * at..][..2 * N]);
    // One step for all windows after the other, without branches: so it becomes vectors.
    let [a, b] = [0, 1].map(|j| std::array::from_fn::<f32, N, _>(|w| top[2 * w + j]));
    let [c, d] = [0, 1].map(|j| std::array::from_fn::<f32, N, _>(|w| bottom[2 * w + j]));
    let better = |best: &[f32; N], value: &[f32; N]| {
        std::array::from_fn::<u32, N, _>(|w| {
            mask(value[w] > best[w]) | (mask(value[w].is_nan()) & !mask(best[w].is_nan()))
        })
    };
    let best = |is: &[u32; N], best: &[f32; N], value: &[f32; N]| {
        std::array::from_fn::<f32, N, _>(|w| {
            f32::from_bits((value[w].to_bits() & is[w]) | (best[w].to_bits() & !is[w]))
        })
    };
    let is_b = better(&a, &b);
    let ab = best(&is_b, &a, &b);
    let is_c = better(&ab, &c);
    let abc = best(&is_c, &ab, &c);
    let is_d = better(&abc, &d);
    // As it is when added to zero: a negative zero becomes a positive one.
    let gradient = std::array::from_fn::<u32, N, _>(|w| (0.0 + dy[w]).to_bits());
    for w in 0..N {
        d_top[2 * w] = f32::from_bits(gradient[w] & !is_b[w] & !is_c[w] & !is_d[w]);
        d_top[2 * w + 1] = f32::from_bits(gradient[w] & is_b[w] & !is_c[w] & !is_d[w]);
    }
    for w in 0..N {
        d_bottom[2 * w] = f32::from_bits(gradient[w] & is_c[w] & !is_d[w]);
        d_bottom[2 * w + 1] = f32::from_bits(gradient[w] & is_d[w]);
    }
}

/// All bits, or none.
#[inline(always)]
fn mask(is: bool) -> u32 {
    u32::from(is).wrapping_neg()
}

#[inline(always)]
fn grad(planes: &Planes, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let ([height, width], [rows, pitch]) = (planes.places, planes.extents);
    for h in 0..height {
        let source = x[2 * h * pitch..].split_at(pitch);
        let (d_top, d_bottom) = dx[2 * h * pitch..][..2 * pitch].split_at_mut(pitch);
        let dy = &dy[h * width..][..width];
        blocks!(width, grad_block(source.into(), dy, d_top, d_bottom));
        // What no window meets.
        d_top[2 * width..].fill(0.0);
        d_bottom[2 * width..].fill(0.0);
    }
    dx[2 * height * pitch..][..(rows - 2 * height) * pitch].fill(0.0);
}

by_vectors! {
    /// The maxima of pairs, for a path.
    fn max_fn -> fn(planes: &Planes, x: &[f32], y: &mut [f32]);
    portable max(planes, x, y);
    avx2 avx2::max(planes, x, y);
    avx512 avx512::max(planes, x, y);
}
by_vectors! {
    /// Their gradient, for a path.
    fn grad_fn -> fn(planes: &Planes, x: &[f32], dy: &[f32], dx: &mut [f32]);
    portable grad(planes, x, dy, dx);
    avx2 avx2::grad(planes, x, dy, dx);
    avx512 avx512::grad(planes, x, dy, dx);
}

/// The same by eight windows at a time, or four in rows that are shorter.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Planes;
    use std::arch::x86_64::*;

    /// Windows at a time.
    const LANES: usize = 8;
    /// The same in rows that are shorter.
    const FEW: usize = 4;

    /// Both functions for one width of vectors. `unzip` gives the first and the second columns of as many pairs, in an
    /// order that `ordered` takes back and that `put` gives numbers that are in order, and `zip` is its inverse. Closures of
    /// other functions are not inlined into vector code, so that there are none in it.
    macro_rules! of_vectors {
        ($max:ident, $grad:ident, $vector:ty, $lanes:expr, $load:ident, $store:ident, $zero:ident, $add:ident,
         [$cmp:ident, $or:ident, $and:ident, $andnot:ident, $blend:ident],
         |$pair:ident| $unzip:expr, |$best:ident| $ordered:expr, |$in_order:ident| $put:expr,
         |$both:ident| $zip:expr) => {
            /// Maxima by as many windows at a time.
            ///
            /// # Safety
            /// The processor has AVX2, and no row has fewer windows.
            #[inline]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn $max(planes: &Planes, x: &[f32], y: &mut [f32]) {
                let larger = |first: $vector, second: $vector| {
                    let is = $or($cmp::<_CMP_GT_OQ>(second, first), $cmp::<_CMP_UNORD_Q>(second, second));
                    $blend(first, second, is)
                };
                let ([height, width], pitch) = (planes.places, planes.extents[1]);
                assert!(2 * width <= pitch, "windows lie within their rows");
                for h in 0..height {
                    let (top, bottom) = x[2 * h * pitch..][..2 * pitch].split_at(pitch);
                    let y = &mut y[h * width..][..width];
                    for at in (0..width).step_by($lanes) {
                        let at = at.min(width - $lanes);
                        // SAFETY: `2 * width` columns lie in a row, and `width` in one of the result.
                        unsafe {
                            let [top, bottom] = [top, bottom].map(|row| row.as_ptr().add(2 * at));
                            let $pair = [$load(top), $load(top.add($lanes))];
                            let [a, b] = $unzip;
                            let $pair = [$load(bottom), $load(bottom.add($lanes))];
                            let [c, d] = $unzip;
                            let $best = larger(larger(larger(a, b), c), d);
                            $store(y.as_mut_ptr().add(at), $ordered);
                        }
                    }
                }
            }

            /// Their gradient.
            ///
            /// # Safety
            /// As for the maxima.
            #[inline]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn $grad(planes: &Planes, x: &[f32], dy: &[f32], dx: &mut [f32]) {
                // Where a value is larger than the best one, or not a number and that is one.
                let better = |best: $vector, value: $vector| {
                    $and($cmp::<_CMP_NLE_UQ>(value, best), $cmp::<_CMP_ORD_Q>(best, best))
                };
                let ([height, width], [extent, pitch]) = (planes.places, planes.extents);
                assert!(2 * width <= pitch, "windows lie within their rows");
                for h in 0..height {
                    let (top, bottom) = x[2 * h * pitch..][..2 * pitch].split_at(pitch);
                    let (d_top, d_bottom) = dx[2 * h * pitch..][..2 * pitch].split_at_mut(pitch);
                    let dy = &dy[h * width..][..width];
                    for at in (0..width).step_by($lanes) {
                        let at = at.min(width - $lanes);
                        // SAFETY: `2 * width` columns lie in a row, and `width` in one of `dy`.
                        unsafe {
                            let [top, bottom] = [top, bottom].map(|row| row.as_ptr().add(2 * at));
                            let $pair = [$load(top), $load(top.add($lanes))];
                            let [a, b] = $unzip;
                            let $pair = [$load(bottom), $load(bottom.add($lanes))];
                            let [c, d] = $unzip;
                            let is_b = better(a, b);
                            let ab = $blend(a, b, is_b);
                            let is_c = better(ab, c);
                            let abc = $blend(ab, c, is_c);
                            let is_d = better(abc, d);
                            // As it is when added to zero: a negative zero becomes a positive one.
                            let $in_order = $add($zero(), $load(dy.as_ptr().add(at)));
                            let dy = $put;
                            // What is left for each of the four, the last of which comes first.
                            let above_d = $andnot(is_d, dy);
                            let above = $andnot(is_c, above_d);
                            let to = d_top.as_mut_ptr().add(2 * at);
                            let $both = [$andnot(is_b, above), $and(is_b, above)];
                            let [low, high] = $zip;
                            $store(to, low);
                            $store(to.add($lanes), high);
                            let to = d_bottom.as_mut_ptr().add(2 * at);
                            let $both = [$and(is_c, above_d), $and(is_d, dy)];
                            let [low, high] = $zip;
                            $store(to, low);
                            $store(to.add($lanes), high);
                        }
                    }
                    // What no window meets.
                    d_top[2 * width..].fill(0.0);
                    d_bottom[2 * width..].fill(0.0);
                }
                dx[2 * height * pitch..][..(extent - 2 * height) * pitch].fill(0.0);
            }
        };
    }
    of_vectors!(
        max_8,
        grad_8,
        __m256,
        LANES,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_setzero_ps,
        _mm256_add_ps,
        [_mm256_cmp_ps, _mm256_or_ps, _mm256_and_ps, _mm256_andnot_ps, _mm256_blendv_ps],
        |pair| [_mm256_shuffle_ps::<0x88>(pair[0], pair[1]), _mm256_shuffle_ps::<0xDD>(pair[0], pair[1])],
        |best| swap_inner(best),
        |dy| swap_inner(dy),
        |both| [_mm256_unpacklo_ps(both[0], both[1]), _mm256_unpackhi_ps(both[0], both[1])]
    );
    of_vectors!(
        max_4,
        grad_4,
        __m128,
        FEW,
        _mm_loadu_ps,
        _mm_storeu_ps,
        _mm_setzero_ps,
        _mm_add_ps,
        [_mm_cmp_ps, _mm_or_ps, _mm_and_ps, _mm_andnot_ps, _mm_blendv_ps],
        |pair| [_mm_shuffle_ps::<0x88>(pair[0], pair[1]), _mm_shuffle_ps::<0xDD>(pair[0], pair[1])],
        |best| best,
        |dy| dy,
        |both| [_mm_unpacklo_ps(both[0], both[1]), _mm_unpackhi_ps(both[0], both[1])]
    );

    /// With the two inner of four pairs of lanes in each other's place.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn swap_inner(lanes: __m256) -> __m256 {
        _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(lanes)))
    }

    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn max(planes: &Planes, x: &[f32], y: &mut [f32]) {
        // SAFETY: the caller's contract, and rows are as wide.
        unsafe {
            match planes.places[1] {
                LANES.. => max_8(planes, x, y),
                FEW.. => max_4(planes, x, y),
                _ => super::max(planes, x, y),
            }
        }
    }

    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn grad(planes: &Planes, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        // SAFETY: the caller's contract, and rows are as wide.
        unsafe {
            match planes.places[1] {
                LANES.. => grad_8(planes, x, dy, dx),
                FEW.. => grad_4(planes, x, dy, dx),
                _ => super::grad(planes, x, dy, dx),
            }
        }
    }
}

/// The same by 16 windows at a time, with the columns of pairs put apart in registers.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Planes;
    use std::arch::x86_64::{
        __m512, __mmask16, _CMP_GT_OQ, _CMP_NLE_UQ, _CMP_ORD_Q, _CMP_UNORD_Q, _mm512_add_ps,
        _mm512_cmp_ps_mask, _mm512_loadu_si512, _mm512_mask_mov_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps, _mm512_permutex2var_ps, _mm512_setzero_ps,
    };

    /// Windows at a time.
    const LANES: usize = 16;

    /// The lanes of two vectors that go to each lane of one.
    const EVEN: [i32; LANES] = lanes(2, 0, 0);
    const ODD: [i32; LANES] = lanes(2, 1, 0);
    const LOW: [i32; LANES] = lanes(0, 0, 0);
    const HIGH: [i32; LANES] = lanes(0, 0, 8);

    /// Every second lane from `first` on of both in a row; or (`step` 0) lanes of both in turns, from this one on.
    const fn lanes(step: usize, first: usize, from: usize) -> [i32; LANES] {
        let mut lanes = [0; LANES];
        let mut at = 0;
        while at < LANES {
            let lane = if step > 0 { step * at + first } else { from + at / 2 + at % 2 * LANES };
            lanes[at] = lane as i32;
            at += 1;
        }
        lanes
    }

    /// # Safety
    /// The processor has AVX-512.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn pick(first: __m512, lanes: &[i32; LANES], second: __m512) -> __m512 {
        // SAFETY: as many lanes as are read.
        let lanes = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
        _mm512_permutex2var_ps(first, lanes, second)
    }

    /// Lanes of the two vectors that `windows` windows have columns in.
    fn columns(windows: usize) -> [__mmask16; 2] {
        let all = ((1u64 << (2 * windows)) - 1) as u32;
        [all as __mmask16, (all >> LANES) as __mmask16]
    }

    /// The first and the second columns of as many pairs.
    ///
    /// # Safety
    /// The processor has AVX-512; these columns can be read.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn pairs(row: *const f32, [low, high]: [__mmask16; 2]) -> [__m512; 2] {
        // SAFETY: the caller's contract; lanes that are off are not read.
        unsafe {
            let low = _mm512_maskz_loadu_ps(low, row);
            let high = _mm512_maskz_loadu_ps(high, row.wrapping_add(LANES));
            [pick(low, &EVEN, high), pick(low, &ODD, high)]
        }
    }

    /// # Safety
    /// The processor has AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn max(planes: &Planes, x: &[f32], y: &mut [f32]) {
        let ([height, width], pitch) = (planes.places, planes.extents[1]);
        for h in 0..height {
            let (top, bottom) = x[2 * h * pitch..][..2 * pitch].split_at(pitch);
            let y = &mut y[h * width..][..width];
            for at in (0..width).step_by(LANES) {
                let windows = LANES.min(width - at);
                let of = columns(windows);
                // SAFETY: `2 * width` columns lie in a row, and `width` in one of the result.
                unsafe {
                    let [[a, b], [c, d]] =
                        [top, bottom].map(|row| pairs(row.as_ptr().wrapping_add(2 * at), of));
                    let best = larger(larger(larger(a, b), c), d);
                    _mm512_mask_storeu_ps(y.as_mut_ptr().wrapping_add(at), some(windows), best);
                }
            }
        }
    }

    /// The first lanes.
    fn some(lanes: usize) -> __mmask16 {
        ((1u32 << lanes) - 1) as __mmask16
    }

    /// The later of two elements, if it is larger or not a number.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn larger(first: __m512, second: __m512) -> __m512 {
        let larger = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(second, first);
        let no_number = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(second, second);
        _mm512_mask_mov_ps(first, larger | no_number, second)
    }

    /// Where a value is larger than the best one, or not a number and that is one.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn better(best: __m512, value: __m512) -> __mmask16 {
        let not_less = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(value, best);
        not_less & _mm512_cmp_ps_mask::<_CMP_ORD_Q>(best, best)
    }

    /// # Safety
    /// The processor has AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn grad(planes: &Planes, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let ([height, width], [rows, pitch]) = (planes.places, planes.extents);
        for h in 0..height {
            let (top, bottom) = x[2 * h * pitch..][..2 * pitch].split_at(pitch);
            let (d_top, d_bottom) = dx[2 * h * pitch..][..2 * pitch].split_at_mut(pitch);
            let dy = &dy[h * width..][..width];
            for at in (0..width).step_by(LANES) {
                let windows = LANES.min(width - at);
                let of = columns(windows);
                // SAFETY: `2 * width` columns lie in a row, and `width` in one of `dy`.
                unsafe {
                    let [[a, b], [c, d]] =
                        [top, bottom].map(|row| pairs(row.as_ptr().wrapping_add(2 * at), of));
                    let is_b = better(a, b);
                    let ab = _mm512_mask_mov_ps(a, is_b, b);
                    let is_c = better(ab, c);
                    let abc = _mm512_mask_mov_ps(ab, is_c, c);
                    let is_d = better(abc, d);
                    // As it is when added to zero: a negative zero becomes a positive one.
                    let dy = _mm512_maskz_loadu_ps(some(windows), dy.as_ptr().wrapping_add(at));
                    let dy = _mm512_add_ps(_mm512_setzero_ps(), dy);
                    let top = [!(is_b | is_c | is_d), is_b & !(is_c | is_d)];
                    for (is, to) in [(top, &mut *d_top), ([is_c & !is_d, is_d], &mut *d_bottom)] {
                        let [first, second] = is.map(|is| _mm512_maskz_mov_ps(is, dy));
                        let to = to.as_mut_ptr().wrapping_add(2 * at);
                        _mm512_mask_storeu_ps(to, of[0], pick(first, &LOW, second));
                        _mm512_mask_storeu_ps(to.wrapping_add(LANES), of[1], pick(first, &HIGH, second));
                    }
                }
            }
            // What no window meets.
            d_top[2 * width..].fill(0.0);
            d_bottom[2 * width..].fill(0.0);
        }
        dx[2 * height * pitch..][..(rows - 2 * height) * pitch].fill(0.0);
    }
}

/// The loops for a path. Calling them demands a processor that supports it.
pub(crate) fn pick(path: KernelPath) -> (MaxFn, GradFn) {
    (max_fn(path), grad_fn(path))
}

//! Packing: copying a strided part of an operand into a panel in which every step of the inner dimension is a row of
//! fixed width.

#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{Portable, Vector};
use crate::block::widen;
use crate::number::Bits16;
use crate::path::KernelPath;

/// The extents of a panel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel {
    /// Elements of the operand in each row.
    pub count: usize,
    /// Elements written in each row; what is written behind `count` is unspecified.
    pub width: usize,
    /// Elements between rows.
    pub pitch: usize,
    /// Number of rows: the inner dimension.
    pub k: usize,
}

impl Panel {
    /// A panel without gaps between its rows.
    pub fn dense(count: usize, width: usize, k: usize) -> Self {
        Self { count, width, pitch: width, k }
    }
}

/// Packs f32: writes element `(i, p)` of the matrix to `to[p * pitch + i]`.
///
/// # Safety
/// The elements can be read, `to` is good for the panel, and the processor supports the path.
pub(crate) type PackFn = unsafe fn(matrix: Matrix<f32>, panel: Panel, to: *mut f32);

/// The packing loop of a path.
pub(crate) fn pack_fn(path: KernelPath) -> PackFn {
    match path.vectors() {
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx512 => pack_avx512,
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx2 => pack_avx2,
        _ => pack_portable,
    }
}

/// An element type that products in f32 can read.
pub(crate) trait Source: Copy + Sync {
    /// Packs elements of this type; see [`PackFn`], which is given as `fast` and does it for f32.
    ///
    /// # Safety
    /// As for [`PackFn`].
    unsafe fn pack(fast: PackFn, matrix: Matrix<Self>, panel: Panel, to: *mut f32);
}

impl Source for f32 {
    #[inline(always)]
    unsafe fn pack(fast: PackFn, matrix: Matrix<Self>, panel: Panel, to: *mut f32) {
        // SAFETY: the caller's contract is the same.
        unsafe { fast(matrix, panel, to) }
    }
}

impl Source for Bits16 {
    unsafe fn pack(_fast: PackFn, matrix: Matrix<Self>, panel: Panel, to: *mut f32) {
        // SAFETY: the caller's contract is the same.
        unsafe { copy_strided(matrix, panel, to, |x| widen(x.0)) }
    }
}

/// The strided elements of a matrix: `(i, p)` is at `start[i * across + p * along]`, where `p` counts the inner
/// dimension.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<T> {
    pub start: *const T,
    pub across: isize,
    pub along: isize,
}

// SAFETY: an address only; whoever dereferences it answers for races.
unsafe impl<T> Sync for Matrix<T> {}

impl<T> Matrix<T> {
    /// The matrix from element `(i, p)` on.
    pub fn at(&self, i: usize, p: usize) -> Self {
        let offset = i as isize * self.across + p as isize * self.along;
        Self { start: self.start.wrapping_offset(offset), across: self.across, along: self.along }
    }
}

/// Packs any strides, in blocks of the inner dimension so that the panel's lines stay in the first-level cache.
///
/// # Safety
/// As for [`PackFn`].
#[inline(always)]
unsafe fn copy_strided<T: Copy>(matrix: Matrix<T>, panel: Panel, to: *mut f32, value: impl Fn(T) -> f32) {
    let Panel { count, pitch, k, .. } = panel;
    let mut low = 0;
    while low < k {
        let high = (low + 64).min(k);
        for i in 0..count {
            let from = matrix.at(i, 0).start;
            for p in low..high {
                // SAFETY: the caller's contract.
                unsafe { *to.add(p * pitch + i) = value(*from.offset(p as isize * matrix.along)) };
            }
        }
        low = high;
    }
}

/// Packs a matrix whose rows lie next to each other.
///
/// # Safety
/// As for [`PackFn`]; `across` is one.
#[inline(always)]
unsafe fn copy_rows<V: Vector>(matrix: Matrix<f32>, panel: Panel, to: *mut f32) {
    let Panel { count, width, pitch, k } = panel;
    // SAFETY: the caller's contract.
    unsafe {
        let (mut from, mut to) = (matrix.start, to);
        if count == 2 * V::LANES && width == count {
            for _ in 0..k {
                V::load(from).store(to);
                V::load(from.add(V::LANES)).store(to.add(V::LANES));
                (from, to) = (from.wrapping_offset(matrix.along), to.wrapping_add(pitch));
            }
            return;
        }
        for _ in 0..k {
            let mut i = 0;
            while i < width {
                let read = count.saturating_sub(i).min(V::LANES);
                V::load_first(from.wrapping_add(i), read).store_first(to.add(i), (width - i).min(V::LANES));
                i += V::LANES;
            }
            (from, to) = (from.wrapping_offset(matrix.along), to.wrapping_add(pitch));
        }
    }
}

unsafe fn pack_portable(matrix: Matrix<f32>, panel: Panel, to: *mut f32) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        if matrix.across == 1 {
            copy_rows::<Portable>(matrix, panel, to);
        } else {
            copy_strided(matrix, panel, to, |x| x);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn pack_avx2(matrix: Matrix<f32>, panel: Panel, to: *mut f32) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        match (matrix.across, matrix.along) {
            (1, _) => copy_rows::<Avx2>(matrix, panel, to),
            (_, 1) => transpose::<Avx2>(matrix, panel, to),
            _ => copy_strided(matrix, panel, to, |x| x),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn pack_avx512(matrix: Matrix<f32>, panel: Panel, to: *mut f32) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        match (matrix.across, matrix.along) {
            (1, _) => copy_rows::<Avx512>(matrix, panel, to),
            (_, 1) => transpose::<Avx512>(matrix, panel, to),
            _ => copy_strided(matrix, panel, to, |x| x),
        }
    }
}

/// Packs a matrix whose inner dimension is contiguous: blocks of eight rows and four inner positions are transposed
/// in registers. Rows past `count` repeat the last one.
///
/// # Safety
/// As for [`PackFn`]; `along` is one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose<V: Vector>(matrix: Matrix<f32>, panel: Panel, to: *mut f32) {
    let Panel { count, width, pitch, k } = panel;
    use std::arch::x86_64::*;
    let even = k - k % 4;
    let mut i = 0;
    while i < width {
        let rows: [*const f32; 8] = std::array::from_fn(|r| matrix.at((i + r).min(count - 1), 0).start);
        let lanes = (width - i).min(8);
        let mut p = 0;
        // SAFETY: four positions of each row can be read for `p + 4 <= k`; `lanes` elements of each of the four rows
        // of the panel are written.
        unsafe {
            let half = |r: usize, p: usize| {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(rows[r].add(p)));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(rows[r + 4].add(p)))
            };
            while p < even {
                let (a, b, c, d) = (half(0, p), half(1, p), half(2, p), half(3, p));
                let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                let columns = [
                    _mm256_shuffle_ps::<0x44>(ab, cd),
                    _mm256_shuffle_ps::<0xee>(ab, cd),
                    _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                    _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
                ];
                for (q, column) in columns.into_iter().enumerate() {
                    let to = to.add((p + q) * pitch + i);
                    if lanes == 8 { _mm256_storeu_ps(to, column) } else { V::store_half(to, column, lanes) }
                }
                p += 4;
            }
            for p in even..k {
                for (lane, row) in rows.iter().enumerate().take(lanes) {
                    *to.add(p * pitch + i + lane) = *row.add(p);
                }
            }
        }
        i += 8;
    }
}

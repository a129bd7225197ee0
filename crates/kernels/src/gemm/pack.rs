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
    /// Inner positions of the operand: the number of rows, or twice that of rows of pairs.
    pub k: usize,
}

impl Panel {
    /// A panel without gaps between its rows.
    pub fn dense(count: usize, width: usize, k: usize) -> Self {
        Self { count, width, pitch: width, k }
    }
}

/// Packs elements of one type as f32: writes element `(i, p)` of the matrix to `to[p * pitch + i]`. Or packs pairs of
/// bf16 as bits: elements `(i, 2 p)` and `(i, 2 p + 1)` to the lower and upper half of `to[p * pitch + i]`, with zero
/// behind an odd inner dimension.
///
/// # Safety
/// The elements can be read, `to` is good for the panel, and the processor supports the path.
pub(crate) type PackFn<T> = unsafe fn(matrix: Matrix<T>, panel: Panel, to: *mut f32);

/// The packing loops of a path.
#[derive(Clone, Copy)]
pub(crate) struct PackFns {
    pub f32: PackFn<f32>,
    pub bf16: PackFn<Bits16>,
}

/// The packing loops of a path.
pub(crate) fn pack_fns(path: KernelPath) -> PackFns {
    match path {
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx512Bf16 => PackFns { f32: pack_avx512, bf16: pack_pairs },
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx512 => PackFns { f32: pack_avx512, bf16: pack_avx512 },
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx2 => PackFns { f32: pack_avx2, bf16: pack_avx2 },
        _ => PackFns { f32: pack_portable, bf16: pack_portable },
    }
}

/// A type of elements, and how they become f32. Pointers are good for the elements that are read, and the processor has
/// the instructions of the vectors.
pub(crate) trait Element: Copy + Sync {
    /// The f32 that it is read as.
    fn widen(self) -> f32;
    /// As [`Vector::load`].
    unsafe fn load<V: Vector>(from: *const Self) -> V;
    /// As [`Vector::load_first`].
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V;
}

/// An element type that products in f32 can read.
pub(crate) trait Source: Element {
    /// The loop that packs this type.
    fn packing(of: &PackFns) -> PackFn<Self>;
    #[cfg(target_arch = "x86_64")]
    unsafe fn load_four(from: *const Self) -> std::arch::x86_64::__m128;
}

// SAFETY: (for every block below) the callers vouch for elements and instructions.
impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: as above.
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V {
        // SAFETY: as above.
        unsafe { V::load_first(from, n) }
    }
}

impl Source for f32 {
    fn packing(of: &PackFns) -> PackFn<Self> {
        of.f32
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load_four(from: *const Self) -> std::arch::x86_64::__m128 {
        // SAFETY: as above.
        unsafe { std::arch::x86_64::_mm_loadu_ps(from) }
    }
}

impl Element for Bits16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        widen(self.0)
    }
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: as above.
        unsafe { V::load_bf16(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V {
        // SAFETY: as above.
        unsafe { V::load_bf16_first(from.cast(), n) }
    }
}

impl Source for Bits16 {
    fn packing(of: &PackFns) -> PackFn<Self> {
        of.bf16
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load_four(from: *const Self) -> std::arch::x86_64::__m128 {
        use std::arch::x86_64::*;
        // SAFETY: as above.
        unsafe { _mm_castsi128_ps(_mm_slli_epi32::<16>(_mm_cvtepu16_epi32(_mm_loadl_epi64(from.cast())))) }
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
unsafe fn copy_strided<T: Source>(matrix: Matrix<T>, panel: Panel, to: *mut f32) {
    let Panel { count, pitch, k, .. } = panel;
    let mut low = 0;
    while low < k {
        let high = (low + 64).min(k);
        for i in 0..count {
            let from = matrix.at(i, 0).start;
            for p in low..high {
                // SAFETY: the caller's contract.
                unsafe { *to.add(p * pitch + i) = (*from.offset(p as isize * matrix.along)).widen() };
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
unsafe fn copy_rows<V: Vector, T: Source>(matrix: Matrix<T>, panel: Panel, to: *mut f32) {
    let Panel { count, width, pitch, k } = panel;
    // SAFETY: the caller's contract.
    unsafe {
        let (mut from, mut to) = (matrix.start, to);
        if count == 2 * V::LANES && width == count {
            for _ in 0..k {
                T::load::<V>(from).store(to);
                T::load::<V>(from.add(V::LANES)).store(to.add(V::LANES));
                (from, to) = (from.wrapping_offset(matrix.along), to.wrapping_add(pitch));
            }
            return;
        }
        for _ in 0..k {
            let mut i = 0;
            while i < width {
                let read = count.saturating_sub(i).min(V::LANES);
                T::load_first::<V>(from.wrapping_add(i), read)
                    .store_first(to.add(i), (width - i).min(V::LANES));
                i += V::LANES;
            }
            (from, to) = (from.wrapping_offset(matrix.along), to.wrapping_add(pitch));
        }
    }
}

unsafe fn pack_portable<T: Source>(matrix: Matrix<T>, panel: Panel, to: *mut f32) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        if matrix.across == 1 {
            copy_rows::<Portable, T>(matrix, panel, to);
        } else {
            copy_strided(matrix, panel, to);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn pack_avx2<T: Source>(matrix: Matrix<T>, panel: Panel, to: *mut f32) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        match (matrix.across, matrix.along) {
            (1, _) => copy_rows::<Avx2, T>(matrix, panel, to),
            (_, 1) => transpose::<Avx2, T>(matrix, panel, to),
            _ => copy_strided(matrix, panel, to),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn pack_avx512<T: Source>(matrix: Matrix<T>, panel: Panel, to: *mut f32) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        match (matrix.across, matrix.along) {
            (1, _) => copy_rows::<Avx512, T>(matrix, panel, to),
            (_, 1) => transpose::<Avx512, T>(matrix, panel, to),
            _ => copy_strided(matrix, panel, to),
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
unsafe fn transpose<V: Vector, T: Source>(matrix: Matrix<T>, panel: Panel, to: *mut f32) {
    // SAFETY: the caller's contract is the same.
    unsafe { transpose_rows::<V, T>(|i| matrix.at(i, 0).start, panel, to) }
}

/// As [`transpose`], of rows that begin there.
///
/// # Safety
/// As for [`PackFn`]: `k` elements can be read from each of the rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_rows<V: Vector, T: Source>(row: impl Fn(usize) -> *const T, panel: Panel, to: *mut f32) {
    let Panel { count, width, pitch, k } = panel;
    use std::arch::x86_64::*;
    let even = k - k % 4;
    let mut i = 0;
    while i < width {
        let rows: [*const T; 8] = std::array::from_fn(|r| row((i + r).min(count - 1)));
        let lanes = (width - i).min(8);
        let mut p = 0;
        // SAFETY: four positions of each row can be read for `p + 4 <= k`; `lanes` elements of each of the four rows
        // of the panel are written.
        unsafe {
            let half = |r: usize, p: usize| {
                let low = _mm256_castps128_ps256(T::load_four(rows[r].add(p)));
                _mm256_insertf128_ps::<1>(low, T::load_four(rows[r + 4].add(p)))
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
                    *to.add(p * pitch + i + lane) = row.add(p).read_unaligned().widen();
                }
            }
        }
        i += 8;
    }
}

/// Packs pairs of bf16 as they are; see [`PackFn`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn pack_pairs(matrix: Matrix<Bits16>, panel: Panel, to: *mut f32) {
    use std::arch::x86_64::*;
    let Panel { count, width, pitch, k } = panel;
    let pairs = k / 2;
    // SAFETY: the caller's contract; a bf16 of a row that is read is within its `count` elements or its `k` positions.
    unsafe {
        match (matrix.across, matrix.along) {
            (1, along) => {
                for p in 0..k.div_ceil(2) {
                    let low = matrix.start.wrapping_offset(2 * p as isize * along).cast::<i16>();
                    let high = low.wrapping_offset(along);
                    for i in (0..width).step_by(16) {
                        let read = first_of(count.saturating_sub(i));
                        let read_high = if 2 * p + 1 < k { read } else { 0 };
                        let a = _mm256_maskz_loadu_epi16(read, low.wrapping_add(i));
                        let b = _mm256_maskz_loadu_epi16(read_high, high.wrapping_add(i));
                        let (a, b) = (_mm512_cvtepu16_epi32(a), _mm512_cvtepu16_epi32(b));
                        let both = _mm512_or_si512(a, _mm512_slli_epi32::<16>(b));
                        _mm512_mask_storeu_epi32(to.add(p * pitch + i).cast(), first_of(width - i), both);
                    }
                }
            }
            // A pair lies as it is to lie: the rows are rows of pairs.
            (_, 1) => {
                let row = |i: usize| matrix.at(i, 0).start.cast::<f32>();
                transpose_rows::<Avx512, f32>(row, Panel { k: pairs, ..panel }, to);
                if k % 2 == 1 {
                    for i in 0..width {
                        let last = matrix.at(i.min(count - 1), k - 1).start;
                        *to.add(pairs * pitch + i) = f32::from_bits(u32::from((*last).0));
                    }
                }
            }
            _ => {
                for i in 0..count {
                    for p in 0..k.div_ceil(2) {
                        let bits = |p: usize| if p < k { u32::from((*matrix.at(i, p).start).0) } else { 0 };
                        *to.add(p * pitch + i) = f32::from_bits(bits(2 * p) | bits(2 * p + 1) << 16);
                    }
                }
            }
        }
    }
}

/// The mask of the first `n` of 16 lanes.
#[cfg(target_arch = "x86_64")]
fn first_of(n: usize) -> std::arch::x86_64::__mmask16 {
    ((1u32 << n.min(16)) - 1) as u16
}

//! Vectors of f32 for the micro-kernels: one trait, one implementation per SIMD path.

use crate::block::{narrow, widen};

/// A vector of `LANES` floats. Methods are unsafe because they need the path's instructions, and pointers that are
/// good for the elements they touch.
pub(crate) trait Vector: Copy {
    /// Some of the lanes.
    type Lanes: Copy;
    const LANES: usize;
    /// Rows of the largest tile that is two vectors wide.
    const ROWS: usize;
    /// Whether reading and writing only the first lanes is as cheap as all of them.
    const MASKED: bool;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `n` lanes; the others are zero.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    /// The lanes from `start` to `end`, for [`Vector::load_lanes`].
    unsafe fn lanes(start: usize, end: usize) -> Self::Lanes;
    /// These lanes; the others are zero, and need not be there.
    unsafe fn load_lanes(from: *const f32, lanes: Self::Lanes) -> Self;
    /// As [`Vector::load`], of bf16.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// As [`Vector::load_first`], of bf16.
    unsafe fn load_bf16_first(from: *const u16, n: usize) -> Self;
    /// The element in all lanes.
    unsafe fn splat(from: *const f32) -> Self;
    /// `self + a * b`.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// The bound where it is greater, and otherwise what is there.
    unsafe fn at_least(self, bound: Self) -> Self;
    /// The bound where it is less, and otherwise what is there.
    unsafe fn at_most(self, bound: Self) -> Self;
    /// The nearest numbers of bf16, halves to even; NaN stays NaN.
    unsafe fn rounded(self) -> Self;
    /// Four times as many floats in order, taken apart: lane `l` of vector `i` is float `4 * l + i`.
    unsafe fn deinterleave(four: [Self; 4]) -> [Self; 4];
    /// The inverse of [`Vector::deinterleave`].
    unsafe fn interleave(four: [Self; 4]) -> [Self; 4];
    /// Of twice as many floats in order, those at even places and those at odd ones.
    unsafe fn unzip(two: [Self; 2]) -> [Self; 2];
    /// As [`Vector::unzip`], but with lanes in an order of the path's own.
    #[inline(always)]
    unsafe fn unzip_anyhow(two: [Self; 2]) -> [Self; 2] {
        // SAFETY: the caller's contract is the same.
        unsafe { Self::unzip(two) }
    }
    /// Lanes in the order of [`Vector::unzip`], of a vector of that of [`Vector::unzip_anyhow`].
    #[inline(always)]
    unsafe fn in_order(self) -> Self {
        self
    }
    unsafe fn store(self, to: *mut f32);
    /// Writes the first `n` lanes.
    unsafe fn store_first(self, to: *mut f32, n: usize);
    /// Writes the first `n` of eight lanes.
    #[cfg(target_arch = "x86_64")]
    unsafe fn store_half(to: *mut f32, lanes: std::arch::x86_64::__m256, n: usize);
}

/// The first `n` of eight bf16 as their bits; the others are zero.
///
/// # Safety
/// `from` is good for `n` elements.
#[inline(always)]
unsafe fn first_bits(from: *const u16, n: usize) -> [u16; 8] {
    let mut bits = [0; 8];
    for (i, lane) in bits.iter_mut().enumerate().take(n) {
        // SAFETY: `i < n`.
        *lane = unsafe { *from.add(i) };
    }
    bits
}

/// Plain arrays that the compiler turns into whatever vectors the target has. Products are rounded before they are
/// added.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

// SAFETY: (for every block below) the callers vouch for the elements behind the pointers.
impl Vector for Portable {
    type Lanes = [usize; 2];
    const LANES: usize = 8;
    const ROWS: usize = 3;
    const MASKED: bool = false;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for 8 elements.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: the caller vouches for `n` elements.
            *lane = unsafe { *from.add(i) };
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn lanes(start: usize, end: usize) -> [usize; 2] {
        [start, end]
    }
    #[inline(always)]
    unsafe fn load_lanes(from: *const f32, [start, end]: [usize; 2]) -> Self {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(end).skip(start) {
            // SAFETY: the caller vouches for these elements.
            *lane = unsafe { *from.wrapping_add(i) };
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller vouches for 8 elements.
        Self(unsafe { from.cast::<[u16; 8]>().read_unaligned() }.map(widen))
    }
    #[inline(always)]
    unsafe fn load_bf16_first(from: *const u16, n: usize) -> Self {
        // SAFETY: the caller vouches for `n` elements.
        Self(unsafe { first_bits(from, n) }.map(widen))
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the element.
        Self([unsafe { *from }; 8])
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        let mut sum = self.0;
        for i in 0..8 {
            sum[i] += a.0[i] * b.0[i];
        }
        Self(sum)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        let mut sum = self.0;
        for i in 0..8 {
            sum[i] += other.0[i];
        }
        Self(sum)
    }
    #[inline(always)]
    unsafe fn at_least(self, bound: Self) -> Self {
        Self(std::array::from_fn(|i| if bound.0[i] > self.0[i] { bound.0[i] } else { self.0[i] }))
    }
    #[inline(always)]
    unsafe fn at_most(self, bound: Self) -> Self {
        Self(std::array::from_fn(|i| if bound.0[i] < self.0[i] { bound.0[i] } else { self.0[i] }))
    }
    #[inline(always)]
    unsafe fn rounded(self) -> Self {
        Self(self.0.map(|x| widen(narrow(x))))
    }
    #[inline(always)]
    unsafe fn deinterleave(four: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|i| Self(std::array::from_fn(|l| four[(4 * l + i) / 8].0[(4 * l + i) % 8])))
    }
    #[inline(always)]
    unsafe fn interleave(four: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|i| Self(std::array::from_fn(|l| four[(8 * i + l) % 4].0[(8 * i + l) / 4])))
    }
    #[inline(always)]
    unsafe fn unzip(two: [Self; 2]) -> [Self; 2] {
        std::array::from_fn(|i| Self(std::array::from_fn(|l| two[l / 4].0[2 * (l % 4) + i])))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 8 elements.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: the caller vouches for `n` elements.
            unsafe { *to.add(i) = *lane };
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn store_half(to: *mut f32, lanes: std::arch::x86_64::__m256, n: usize) {
        // SAFETY: both are 32 bytes; the caller vouches for `n` elements.
        unsafe { Self(std::mem::transmute::<std::arch::x86_64::__m256, [f32; 8]>(lanes)).store_first(to, n) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Avx512Pairs};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Vector, first_bits};
    use std::arch::x86_64::*;

    /// 8 floats of AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    /// Lanes by their numbers, from any of the first four on.
    const LANE_NUMBERS: [i32; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3];

    /// The mask whose first `n` of 8 lanes are set.
    #[inline(always)]
    unsafe fn first8(n: usize) -> __m256i {
        const ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: `n <= 8`, so that 8 elements are read within the table.
        unsafe { _mm256_loadu_si256(ONES.as_ptr().add(8 - n.min(8)).cast()) }
    }

    /// The four-by-four matrices in the lower and in the upper halves of four vectors, transposed.
    #[inline(always)]
    unsafe fn transpose_halves([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        // SAFETY: the path has AVX2.
        unsafe {
            let low = [_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)].map(|v| _mm256_castps_pd(v));
            let high = [_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)].map(|v| _mm256_castps_pd(v));
            [
                _mm256_unpacklo_pd(low[0], low[1]),
                _mm256_unpackhi_pd(low[0], low[1]),
                _mm256_unpacklo_pd(high[0], high[1]),
                _mm256_unpackhi_pd(high[0], high[1]),
            ]
            .map(|v| _mm256_castpd_ps(v))
        }
    }

    impl Vector for Avx2 {
        type Lanes = __m256i;
        const LANES: usize = 8;
        const ROWS: usize = 6;
        const MASKED: bool = false;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the path has AVX2.
            Self(unsafe { _mm256_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the path has AVX2; the caller vouches for 8 elements.
            Self(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, n: usize) -> Self {
            // SAFETY: the path has AVX2; masked lanes are not touched, the caller vouches for the others.
            Self(unsafe { _mm256_maskload_ps(from, first8(n)) })
        }
        #[inline(always)]
        unsafe fn lanes(start: usize, end: usize) -> __m256i {
            // SAFETY: the path has AVX2.
            unsafe { _mm256_andnot_si256(first8(start), first8(end)) }
        }
        #[inline(always)]
        unsafe fn load_lanes(from: *const f32, lanes: __m256i) -> Self {
            // SAFETY: the path has AVX2; masked lanes are not touched, the caller vouches for the others.
            Self(unsafe { _mm256_maskload_ps(from, lanes) })
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            // SAFETY: the path has AVX2; the caller vouches for 8 elements.
            unsafe {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)))
            }
        }
        #[inline(always)]
        unsafe fn load_bf16_first(from: *const u16, n: usize) -> Self {
            // SAFETY: the caller vouches for `n` elements.
            unsafe { Self::load_bf16(first_bits(from, n).as_ptr()) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: the path has AVX2; the caller vouches for the element.
            Self(unsafe { _mm256_broadcast_ss(&*from) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: the path has FMA.
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the path has AVX2.
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn at_least(self, bound: Self) -> Self {
            // SAFETY: the path has AVX2. Where neither is greater, the second operand is taken.
            Self(unsafe { _mm256_max_ps(bound.0, self.0) })
        }
        #[inline(always)]
        unsafe fn at_most(self, bound: Self) -> Self {
            // SAFETY: the path has AVX2. Where neither is less, the second operand is taken.
            Self(unsafe { _mm256_min_ps(bound.0, self.0) })
        }
        #[inline(always)]
        unsafe fn rounded(self) -> Self {
            // SAFETY: the path has AVX2.
            unsafe {
                let bits = _mm256_castps_si256(self.0);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
                // NaN must not become infinite.
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
                let high = _mm256_set1_epi32(0xffff_0000u32 as i32);
                Self(_mm256_castsi256_ps(_mm256_and_si256(_mm256_blendv_epi8(up, quiet, nan), high)))
            }
        }
        #[inline(always)]
        unsafe fn deinterleave(four: [Self; 4]) -> [Self; 4] {
            // SAFETY: the path has AVX2.
            unsafe {
                let [a, b, c, d] = four.map(|v| v.0);
                transpose_halves([
                    _mm256_permute2f128_ps::<0x20>(a, c),
                    _mm256_permute2f128_ps::<0x31>(a, c),
                    _mm256_permute2f128_ps::<0x20>(b, d),
                    _mm256_permute2f128_ps::<0x31>(b, d),
                ])
                .map(Self)
            }
        }
        #[inline(always)]
        unsafe fn interleave(four: [Self; 4]) -> [Self; 4] {
            // SAFETY: the path has AVX2.
            unsafe {
                let [a, b, c, d] = transpose_halves(four.map(|v| v.0));
                [
                    _mm256_permute2f128_ps::<0x20>(a, b),
                    _mm256_permute2f128_ps::<0x20>(c, d),
                    _mm256_permute2f128_ps::<0x31>(a, b),
                    _mm256_permute2f128_ps::<0x31>(c, d),
                ]
                .map(Self)
            }
        }
        #[inline(always)]
        unsafe fn unzip(two: [Self; 2]) -> [Self; 2] {
            // SAFETY: the path has AVX2.
            unsafe { Self::unzip_anyhow(two).map(|v| v.in_order()) }
        }
        #[inline(always)]
        unsafe fn unzip_anyhow([a, b]: [Self; 2]) -> [Self; 2] {
            // SAFETY: the path has AVX2. What comes from one vector and from the other takes turns by pairs.
            unsafe { [Self(_mm256_shuffle_ps::<0x88>(a.0, b.0)), Self(_mm256_shuffle_ps::<0xDD>(a.0, b.0))] }
        }
        #[inline(always)]
        unsafe fn in_order(self) -> Self {
            // SAFETY: the path has AVX2.
            Self(unsafe { _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(self.0))) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the path has AVX2; the caller vouches for 8 elements.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, n: usize) {
            // Without masks: on many processors a masked store takes as long as dozens of whole ones, however few lanes it has.
            // SAFETY: the path has AVX2; the caller vouches for `n` elements. Those from `n - 4` on are moved to the front by
            // lane numbers within the table.
            unsafe {
                let low = _mm256_castps256_ps128(self.0);
                match n {
                    8.. => _mm256_storeu_ps(to, self.0),
                    4.. => {
                        _mm_storeu_ps(to, low);
                        if n > 4 {
                            let last = _mm256_loadu_si256(LANE_NUMBERS.as_ptr().add(n - 4).cast());
                            let moved = _mm256_permutevar8x32_ps(self.0, last);
                            _mm_storeu_ps(to.add(n - 4), _mm256_castps256_ps128(moved));
                        }
                    }
                    0 => {}
                    1 => _mm_store_ss(to, low),
                    _ => {
                        _mm_storel_pd(to.cast(), _mm_castps_pd(low));
                        if n > 2 {
                            _mm_store_ss(to.add(2), _mm_movehl_ps(low, low));
                        }
                    }
                }
            }
        }
        #[inline(always)]
        unsafe fn store_half(to: *mut f32, lanes: __m256, n: usize) {
            // SAFETY: the caller's contract is the same.
            unsafe { Self(lanes).store_first(to, n) }
        }
    }

    /// 16 floats of AVX-512. With `PAIRS`, a lane of a product's operands is a pair of bf16, whose lower half belongs to the
    /// first of two inner positions; sums are floats.
    #[derive(Clone, Copy)]
    pub(crate) struct Lanes512<const PAIRS: bool>(__m512);
    pub(crate) type Avx512 = Lanes512<false>;
    pub(crate) type Avx512Pairs = Lanes512<true>;

    #[inline(always)]
    fn first16(n: usize) -> __mmask16 {
        ((1u32 << n.min(16)) - 1) as __mmask16
    }

    impl<const PAIRS: bool> Vector for Lanes512<PAIRS> {
        type Lanes = __mmask16;
        const LANES: usize = 16;
        const ROWS: usize = 14;
        const MASKED: bool = true;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the path has AVX-512.
            Self(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the path has AVX-512; the caller vouches for 16 elements.
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, n: usize) -> Self {
            // SAFETY: the path has AVX-512; masked lanes are not touched, the caller vouches for the others.
            Self(unsafe { _mm512_maskz_loadu_ps(first16(n), from) })
        }
        #[inline(always)]
        unsafe fn lanes(start: usize, end: usize) -> __mmask16 {
            first16(end) & !first16(start)
        }
        #[inline(always)]
        unsafe fn load_lanes(from: *const f32, lanes: __mmask16) -> Self {
            // SAFETY: the path has AVX-512; masked lanes are not touched, the caller vouches for the others.
            Self(unsafe { _mm512_maskz_loadu_ps(lanes, from) })
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            // SAFETY: the caller's contract is the same.
            unsafe { Self::load_bf16_first(from, 16) }
        }
        #[inline(always)]
        unsafe fn load_bf16_first(from: *const u16, n: usize) -> Self {
            // SAFETY: the path has AVX-512 BW and VL; masked lanes are not touched, the caller vouches for the others.
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first16(n), from.cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
            }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: the path has AVX-512; the caller vouches for the element, which may begin at any bf16 if it is a pair.
            Self(unsafe { _mm512_set1_ps(from.read_unaligned()) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: the path has AVX-512, with BF16 if there are pairs, of which all bits are numbers.
            Self(unsafe {
                if PAIRS {
                    let [a, b] = [a.0, b.0].map(|v| std::mem::transmute::<__m512, __m512bh>(v));
                    _mm512_dpbf16_ps(self.0, a, b)
                } else {
                    _mm512_fmadd_ps(a.0, b.0, self.0)
                }
            })
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the path has AVX-512.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn at_least(self, bound: Self) -> Self {
            // SAFETY: the path has AVX-512. Where neither is greater, the second operand is taken.
            Self(unsafe { _mm512_max_ps(bound.0, self.0) })
        }
        #[inline(always)]
        unsafe fn at_most(self, bound: Self) -> Self {
            // SAFETY: the path has AVX-512. Where neither is less, the second operand is taken.
            Self(unsafe { _mm512_min_ps(bound.0, self.0) })
        }
        #[inline(always)]
        unsafe fn rounded(self) -> Self {
            // SAFETY: the path has AVX-512.
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                // NaN must not become infinite.
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
                let rounded = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x0040_0000));
                let high = _mm512_set1_epi32(0xffff_0000u32 as i32);
                Self(_mm512_castsi512_ps(_mm512_and_si512(rounded, high)))
            }
        }
        #[inline(always)]
        unsafe fn deinterleave(four: [Self; 4]) -> [Self; 4] {
            // SAFETY: the path has AVX-512.
            unsafe {
                let [a, b, c, d] = four.map(|v| v.0);
                // Of two vectors the floats 0, 4, ... and 1, 5, ...; and those two places on.
                let first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
                let second = _mm512_add_epi32(first, _mm512_set1_epi32(2));
                let [ab, cd] = [(a, b), (c, d)].map(|(x, y)| _mm512_permutex2var_ps(x, first, y));
                let [ab2, cd2] = [(a, b), (c, d)].map(|(x, y)| _mm512_permutex2var_ps(x, second, y));
                [
                    _mm512_shuffle_f32x4::<0b01_00_01_00>(ab, cd),
                    _mm512_shuffle_f32x4::<0b11_10_11_10>(ab, cd),
                    _mm512_shuffle_f32x4::<0b01_00_01_00>(ab2, cd2),
                    _mm512_shuffle_f32x4::<0b11_10_11_10>(ab2, cd2),
                ]
                .map(Self)
            }
        }
        #[inline(always)]
        unsafe fn interleave(four: [Self; 4]) -> [Self; 4] {
            // SAFETY: the path has AVX-512.
            unsafe {
                let [a, b, c, d] = four.map(|v| v.0);
                let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
                let pairs = _mm512_setr_epi32(0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
                let rest = _mm512_add_epi32(pairs, _mm512_set1_epi32(8));
                let [ab, cd] = [(a, b), (c, d)].map(|(x, y)| _mm512_permutex2var_ps(x, low, y));
                let [ab2, cd2] = [(a, b), (c, d)].map(|(x, y)| _mm512_permutex2var_ps(x, high, y));
                [
                    _mm512_permutex2var_ps(ab, pairs, cd),
                    _mm512_permutex2var_ps(ab, rest, cd),
                    _mm512_permutex2var_ps(ab2, pairs, cd2),
                    _mm512_permutex2var_ps(ab2, rest, cd2),
                ]
                .map(Self)
            }
        }
        #[inline(always)]
        unsafe fn unzip([a, b]: [Self; 2]) -> [Self; 2] {
            // SAFETY: the path has AVX-512.
            unsafe {
                let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
                let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
                [Self(_mm512_permutex2var_ps(a.0, even, b.0)), Self(_mm512_permutex2var_ps(a.0, odd, b.0))]
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the path has AVX-512; the caller vouches for 16 elements.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, n: usize) {
            // SAFETY: the path has AVX-512; masked lanes are not touched, the caller vouches for the others.
            unsafe { _mm512_mask_storeu_ps(to, first16(n), self.0) }
        }
        #[inline(always)]
        unsafe fn store_half(to: *mut f32, lanes: __m256, n: usize) {
            // SAFETY: the path has AVX-512 VL; masked lanes are not touched, the caller vouches for the others.
            unsafe { _mm256_mask_storeu_ps(to, first16(n) as __mmask8, lanes) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "x86_64")]
    use crate::path::KernelPath;

    /// # Safety
    /// The processor supports the path of `V`.
    unsafe fn stores_the_first<V: Vector>() {
        let numbers: [f32; 16] = std::array::from_fn(|i| 1.0 + i as f32);
        for n in 0..=V::LANES {
            let mut to = [-1.0f32; 17];
            // SAFETY: the caller's contract; there are at least as many elements as lanes.
            unsafe { V::load(numbers.as_ptr()).store_first(to.as_mut_ptr(), n) };
            assert_eq!(to[..n], numbers[..n]);
            assert!(to[n..].iter().all(|&x| x == -1.0), "{n} lanes: {to:?}");
        }
    }

    #[test]
    fn storing_the_first_lanes_writes_these_alone() {
        // SAFETY: paths that the processor supports.
        unsafe {
            stores_the_first::<Portable>();
            #[cfg(target_arch = "x86_64")]
            if KernelPath::Avx2.is_supported() {
                stores_the_first::<Avx2>();
            }
            #[cfg(target_arch = "x86_64")]
            if KernelPath::Avx512.is_supported() {
                stores_the_first::<Avx512>();
            }
        }
    }
}

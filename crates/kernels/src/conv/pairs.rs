//! Operands of convolutions whose products are of bf16, as pairs of neighbouring channels: the first channel's number in the
//! lower half of 32 bits, the second one's in the upper half, zero where there is no second one. An instruction multiplies
//! both and adds the products to a sum of f32.
//!
//! What is f32 is rounded to bf16 here, to nearest and ties to even (numbers below 2^-126 count as zero, as they do in the
//! products).

use super::padded::Part;
use crate::block::narrow;
#[cfg(target_arch = "x86_64")]
use crate::gemm::{Avx512, Vector};
use crate::gemm::{RightOperand, Tile};
use crate::view::View;
use outgrow_tensor::DType;
use std::ops::Range;

/// Numbers of bf16, or of f32 to be rounded, `[batch, channels, height, width]`.
#[derive(Clone, Copy)]
pub(super) struct PairImages {
    pub start: *const u8,
    /// Whether they are bf16 already.
    pub bf16: bool,
    /// In elements.
    pub strides: [isize; 4],
    /// Height and width.
    pub extents: [usize; 2],
    /// Channels that are there.
    pub channels: usize,
}

// SAFETY: an address only; whoever dereferences it answers for races.
unsafe impl Sync for PairImages {}

/// Two rows of numbers that become one of pairs.
#[derive(Clone, Copy)]
struct Rows {
    start: *const u8,
    /// Elements from the first row to the second, if there is one.
    second: Option<isize>,
    /// Elements between neighbours of a row.
    step: isize,
    bf16: bool,
}

/// Calls a method of rows for their type and their step: 1, 2, or 0 for any other.
macro_rules! by_step {
    ($rows:ident.$method:ident($($arg:expr),*)) => {
        match ($rows.bf16, $rows.step) {
            (true, 1) => $rows.$method::<u16, 1>($($arg),*),
            (true, 2) => $rows.$method::<u16, 2>($($arg),*),
            (true, _) => $rows.$method::<u16, 0>($($arg),*),
            (false, 1) => $rows.$method::<f32, 1>($($arg),*),
            (false, 2) => $rows.$method::<f32, 2>($($arg),*),
            (false, _) => $rows.$method::<f32, 0>($($arg),*),
        }
    };
}

impl Rows {
    /// Writes the pairs `low..high`, whose numbers begin that many steps behind the start.
    ///
    /// # Safety
    /// The numbers are there, `to` is good for the pairs, and the processor has AVX-512 with BF16.
    #[inline(always)]
    unsafe fn copy(&self, low: usize, high: usize, to: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { by_step!(self.copy_as(low, high, to)) }
    }

    /// Writes the numbers `low..high` of the first row alone, as they are paired with each other later.
    ///
    /// # Safety
    /// As for [`Rows::copy`].
    #[inline(always)]
    unsafe fn copy_single(&self, low: usize, high: usize, to: *mut u16) {
        // SAFETY: the caller's contract.
        unsafe { by_step!(self.copy_single_as(low, high, to)) }
    }

    /// As [`Rows::copy`] of this type, with neighbours `STEP` elements apart, or as far as `step` says.
    ///
    /// # Safety
    /// As for [`Rows::copy`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn copy_as<T: Number, const STEP: isize>(&self, low: usize, high: usize, to: *mut f32) {
        use std::arch::x86_64::*;
        let step = if STEP == 0 { self.step } else { STEP };
        let first = self.start.cast::<T>();
        for i in (low..high).step_by(16) {
            let n = (high - i).min(16);
            let at = first.wrapping_offset(i as isize * step);
            // SAFETY: `n` numbers of each row are there, and as many pairs.
            unsafe {
                let mut pairs = T::load::<STEP>(at, step, n);
                if let Some(second) = self.second {
                    let upper = T::load::<STEP>(at.wrapping_offset(second), step, n);
                    pairs = _mm512_or_si512(pairs, _mm512_slli_epi32::<16>(upper));
                }
                let to = to.wrapping_add(i).cast();
                if n == 16 {
                    _mm512_storeu_si512(to, pairs);
                } else {
                    _mm512_mask_storeu_epi32(to.cast(), first_of(n), pairs);
                }
            }
        }
    }

    /// As [`Rows::copy_single`], as [`Rows::copy_as`] is of the other.
    ///
    /// # Safety
    /// As for [`Rows::copy`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn copy_single_as<T: Number, const STEP: isize>(&self, low: usize, high: usize, to: *mut u16) {
        use std::arch::x86_64::*;
        let step = if STEP == 0 { self.step } else { STEP };
        let first = self.start.cast::<T>();
        for i in (low..high).step_by(16) {
            let n = (high - i).min(16);
            // SAFETY: `n` numbers are there, and as many are written.
            unsafe {
                let numbers = T::load::<STEP>(first.wrapping_offset(i as isize * step), step, n);
                let to = to.wrapping_add(i).cast();
                _mm256_mask_storeu_epi16(to, first_of(n), _mm512_cvtepi32_epi16(numbers));
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    unsafe fn copy_single_as<T, const STEP: isize>(&self, low: usize, high: usize, to: *mut u16) {
        let numbers = PairWeights { start: self.start, bf16: self.bf16 };
        for i in low..high {
            // SAFETY: the caller's contract.
            unsafe { *to.add(i) = numbers.pair(i as isize * self.step, None).to_bits() as u16 };
        }
    }

    /// No other path multiplies pairs.
    ///
    /// # Safety
    /// As for [`Rows::copy`].
    #[cfg(not(target_arch = "x86_64"))]
    unsafe fn copy_as<T, const STEP: isize>(&self, low: usize, high: usize, to: *mut f32) {
        let numbers = PairWeights { start: self.start, bf16: self.bf16 };
        for i in low..high {
            // SAFETY: the caller's contract.
            unsafe { *to.add(i) = numbers.pair(i as isize * self.step, self.second) };
        }
    }
}

/// The mask of the first `n` of 16 lanes.
#[cfg(target_arch = "x86_64")]
fn first_of(n: usize) -> std::arch::x86_64::__mmask16 {
    ((1u32 << n.min(16)) - 1) as u16
}

/// Writes `n` zeros.
///
/// # Safety
/// `to` is good for them, and the processor has AVX-512.
#[inline(always)]
unsafe fn zero(to: *mut f32, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for i in (0..n).step_by(16) {
        // SAFETY: the caller's contract.
        unsafe { Avx512::zero().store_first(to.add(i), (n - i).min(16)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's contract.
    unsafe {
        to.write_bytes(0, n);
    }
}

/// A type that pairs are made of.
#[cfg(target_arch = "x86_64")]
trait Number: Copy {
    /// The first `n` of 16 numbers as bf16, in the lower halves of lanes; others are zero.
    ///
    /// # Safety
    /// The numbers are there, `STEP` elements apart (`step`, if that is zero), and the processor has AVX-512 with BF16.
    unsafe fn load<const STEP: isize>(from: *const Self, step: isize, n: usize)
    -> std::arch::x86_64::__m512i;
}

/// The first `n` of 16 elements, `step` apart.
///
/// # Safety
/// They are there.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn gather<T: Copy>(from: *const T, step: isize, n: usize, zero: T) -> [T; 16] {
    let mut all = [zero; 16];
    for (i, element) in all.iter_mut().enumerate().take(n) {
        // SAFETY: the caller's contract.
        *element = unsafe { *from.wrapping_offset(i as isize * step) };
    }
    all
}

#[cfg(target_arch = "x86_64")]
impl Number for u16 {
    #[inline(always)]
    unsafe fn load<const STEP: isize>(
        from: *const Self,
        step: isize,
        n: usize,
    ) -> std::arch::x86_64::__m512i {
        use std::arch::x86_64::*;
        // SAFETY: the caller's contract; lanes that are masked are not touched.
        unsafe {
            match STEP {
                1 => _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_of(n), from.cast())),
                2 => {
                    let there = (1u64 << (2 * n - 1)) - 1;
                    let both = _mm512_maskz_loadu_epi16(there as u32, from.cast());
                    _mm512_and_si512(both, _mm512_set1_epi32(0xffff))
                }
                _ => {
                    let all = gather(from, step, n, 0);
                    _mm512_cvtepu16_epi32(_mm256_loadu_si256(all.as_ptr().cast()))
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Number for f32 {
    #[inline(always)]
    unsafe fn load<const STEP: isize>(
        from: *const Self,
        step: isize,
        n: usize,
    ) -> std::arch::x86_64::__m512i {
        use std::arch::x86_64::*;
        // SAFETY: the caller's contract; lanes that are masked are not touched.
        unsafe {
            let wide = match STEP {
                1 => _mm512_maskz_loadu_ps(first_of(n), from),
                2 => {
                    let there = (1u64 << (2 * n - 1)) - 1;
                    let low = _mm512_maskz_loadu_ps(there as u16, from);
                    let high = _mm512_maskz_loadu_ps((there >> 16) as u16, from.wrapping_add(16));
                    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
                    _mm512_permutex2var_ps(low, even, high)
                }
                _ => _mm512_loadu_ps(gather(from, step, n, 0.0).as_ptr()),
            };
            let bits: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(wide));
            _mm512_cvtepu16_epi32(bits)
        }
    }
}

impl PairImages {
    /// The element of an index.
    fn at(&self, image: usize, channel: usize, row: isize, column: isize) -> *const u8 {
        let s = &self.strides;
        let offset = image as isize * s[0] + channel as isize * s[1] + row * s[2] + column * s[3];
        self.start.wrapping_offset(offset * if self.bf16 { 2 } else { 4 })
    }

    /// The rows of pair `pair` that begin at the first channel's element at `start`.
    fn rows(&self, pair: usize, start: *const u8, step: isize) -> Rows {
        let second = (2 * pair + 1 < self.channels).then_some(self.strides[1]);
        Rows { start, second, step, bf16: self.bf16 }
    }

    /// Copies the part, whose channels are counted in pairs, as [`Images::copy`](super::padded::Images::copy) does.
    ///
    /// # Safety
    /// The images and channels exist; `to` is good for the part; the processor has AVX-512 with BF16.
    #[cfg_attr(
        target_arch = "x86_64",
        target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
    )]
    pub unsafe fn copy(&self, part: &Part, to: *mut f32) {
        let (step, mut to) = ((part.step as isize).wrapping_mul(self.strides[3]), to);
        part.runs(self.extents, |[image, pair], [row, column], inside| {
            let rows = self.rows(pair, self.at(image, 2 * pair, row, column), step);
            // SAFETY: elements of the images, and the run.
            unsafe {
                zero(to, inside.start);
                rows.copy(inside.start, inside.end, to);
                zero(to.add(inside.end), part.pitch - inside.end);
                to = to.add(part.pitch);
            }
        });
    }

    /// Copies the part as [`Images::copy`](super::padded::Images::copy) does, in bf16.
    ///
    /// # Safety
    /// As for [`PairImages::copy`].
    #[cfg_attr(
        target_arch = "x86_64",
        target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
    )]
    pub unsafe fn copy_single(&self, part: &Part, to: *mut u16) {
        let (step, mut to) = ((part.step as isize).wrapping_mul(self.strides[3]), to);
        part.runs(self.extents, |[image, channel], [row, column], inside| {
            let start = self.at(image, channel, row, column);
            let rows = Rows { start, second: None, step, bf16: self.bf16 };
            // SAFETY: elements of the images, and the run.
            unsafe {
                to.write_bytes(0, inside.start);
                rows.copy_single(inside.start, inside.end, to);
                to.add(inside.end).write_bytes(0, part.pitch - inside.end);
                to = to.add(part.pitch);
            }
        });
    }

    /// Packs pairs `pairs` of image `image`'s elements `columns`, which lie in a row, to rows of `width`.
    ///
    /// # Safety
    /// As for [`PairImages::copy`].
    #[cfg_attr(
        target_arch = "x86_64",
        target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
    )]
    unsafe fn pack(
        &self,
        image: usize,
        pairs: Range<usize>,
        columns: Range<usize>,
        width: usize,
        to: *mut f32,
    ) {
        for (i, pair) in pairs.enumerate() {
            let rows = self.rows(pair, self.at(image, 2 * pair, 0, columns.start as isize), 1);
            // SAFETY: the caller's contract.
            unsafe { rows.copy(0, columns.len(), to.wrapping_add(i * width)) };
        }
    }
}

/// An image as the right operand, whose inner positions are pairs of channels.
pub(super) struct PairColumns {
    pub images: PairImages,
    pub image: usize,
}

impl RightOperand for PairColumns {
    fn slice(&self) -> usize {
        // As for matrices with neighbouring columns.
        16
    }

    unsafe fn pack(&self, p: usize, k: usize, j: usize, columns: usize, width: usize, buffer: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { self.images.pack(self.image, p..p + k, j..j + columns, width, buffer) };
    }

    fn point(&self, _p: usize, _j: usize, _tile: &mut Tile) {}
}

/// Weights of bf16, or of f32.
#[derive(Clone, Copy)]
pub(super) struct PairWeights {
    pub start: *const u8,
    bf16: bool,
}

impl PairWeights {
    /// Those of a view, whose element of index zero is at `start`.
    pub fn new(start: *const u8, view: &View) -> Self {
        Self { start, bf16: view.dtype == DType::BF16 }
    }

    /// The pair that begins with the weight `at` elements behind the first, whose second one is as much further as `second`
    /// says.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    pub unsafe fn pair(&self, at: isize, second: Option<isize>) -> f32 {
        // SAFETY: the caller's contract.
        let bits = |at: isize| unsafe {
            u32::from(if self.bf16 {
                *self.start.cast::<u16>().wrapping_offset(at)
            } else {
                narrow(*self.start.cast::<f32>().wrapping_offset(at))
            })
        };
        f32::from_bits(bits(at) | second.map_or(0, |second| bits(at + second)) << 16)
    }
}

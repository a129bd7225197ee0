//! Products on the tiles of AMX: operands in parts of bf16, sums in f32.
//!
//! A float is the sum of three bf16 numbers (8 bits each of its 24; see [`split`]), so a product of floats is one of
//! nine products of parts. The six largest of them are as accurate as a product in f32: what is left out is below
//! 2^-23 of it (Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype for Higher
//! Precision Computations"). Two parts hold 16 bits of the 24, and the three largest of their four products leave out
//! below 2^-15 ([`KernelPath::AmxBf16x3`](crate::KernelPath::AmxBf16x3)). Operands that are bf16 already have one part, and
//! one product. What the tiles compute is written down in plain Rust in `amx_model.rs`, where its accuracy is tested.
//!
//! As everywhere, an element's bits depend on its row, its column and the inner extent alone: the parts' products are
//! added in a fixed order within steps of 32 inner positions, whatever the tile's place.

use super::{OutColumns, Product, part};
use crate::gemm::K_BLOCK_MAX;
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows and columns of the four tiles that are computed together, two by two.
pub(super) const SIDE: usize = 32;
/// Rows of a tile, or its columns of f32.
const TILE: usize = 16;
/// Inner positions of a tile of bf16.
const STEP: usize = 32;
/// bf16 numbers of a tile.
const TILE_LENGTH: usize = TILE * STEP;
/// Inner positions of a block, rounded up to whole steps.
const K_MAX: usize = K_BLOCK_MAX.next_multiple_of(STEP);
/// Most parts that a number has.
const PARTS_MAX: usize = 3;

/// bf16 numbers of a packed panel: 32 rows or columns of a block, in all parts.
const PANEL: usize = SIDE * K_MAX * PARTS_MAX;
/// Panels of the left operand that are packed at a time: those of a usual block of 512 inner positions fill three
/// quarters of a second-level cache of two mebibytes.
const CHUNK: usize = 16;

/// Floats of scratch memory that one thread needs: packed panels, one that is being packed, and the four tiles.
pub(super) const SCRATCH_FLOATS: usize = (CHUNK + 1) * PANEL / 2 + SIDE * K_BLOCK_MAX + SIDE * SIDE + 64;

/// Whether this processor and system have tiles for bf16; asks the system for leave to use them.
pub(crate) fn is_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| {
        let leaves = __cpuid(0).eax;
        // Bits 22 and 24: AMX-BF16 and AMX-TILE.
        leaves >= 7 && {
            let features = __cpuid_count(7, 0).edx;
            features >> 22 & features >> 24 & 1 == 1 && ask_for_tiles()
        }
    })
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`: the system saves tiles only of processes that ask for them.
#[cfg(target_os = "linux")]
fn ask_for_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: the call reads and writes no memory of this process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn ask_for_tiles() -> bool {
    false
}

/// What `ldtilecfg` reads: eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

const CONFIG: Config = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = TILE as u8;
        tile += 1;
    }
    Config(bytes)
};

/// The tiles' configuration of this thread, while it lasts.
struct Tiles;

impl Tiles {
    /// # Safety
    /// [`is_supported`].
    unsafe fn configured() -> Self {
        // SAFETY: the processor has tiles; the configuration is valid.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly)) };
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there is a configuration to release.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

impl Product<'_> {
    /// [`Product::compute`] on tiles; operands have `parts` parts (one, two or three).
    ///
    /// # Safety
    /// As for [`Product::compute`], with [`SCRATCH_FLOATS`] of scratch memory; the processor supports tiles.
    pub(super) unsafe fn compute_on_tiles(
        &self,
        panels: Range<usize>,
        columns: Range<usize>,
        scratch: *mut f32,
    ) {
        // SAFETY: the caller's contract.
        let _tiles = unsafe { Tiles::configured() };
        let parts = self.tiles.parts;
        let count = self.m.div_ceil(SIDE);
        let left_panels = scratch.cast::<u16>();
        let right_panel = left_panels.wrapping_add(CHUNK * PANEL);
        let plain = right_panel.wrapping_add(PANEL).cast::<f32>();
        let sums = plain.wrapping_add(SIDE * K_BLOCK_MAX).cast::<[f32; SIDE]>();
        let (mut tile, mut out) = (super::Tile::new(), OutColumns::new());
        for chunk in panels.clone().step_by(CHUNK) {
            let chunk = chunk..panels.end.min(chunk + CHUNK);
            for block in 0..self.blocks.count {
                let block = self.blocks.get(block);
                let (p, k) = (block.start, block.len());
                let steps = k.div_ceil(STEP);
                let panel_length = steps * 2 * TILE_LENGTH * parts;
                // SAFETY: this thread computes alone with these operands; every buffer holds a panel of the largest
                // block, or `CHUNK` of them.
                unsafe {
                    self.right.begin(block.clone(), &mut tile);
                    for (i, panel) in chunk.clone().enumerate() {
                        let rows = part(self.m, panel, count);
                        self.left.pack(rows.start, rows.len(), p, k, plain);
                        let to = left_panels.wrapping_add(i * panel_length);
                        pack_left(plain, rows.len(), k, parts, to);
                    }
                    for j in columns.clone().step_by(SIDE) {
                        let width = SIDE.min(columns.end - j);
                        let padded = width.next_multiple_of(TILE);
                        self.right.pack(p, k, j, width, padded, plain);
                        pack_right(plain, padded, k, parts, right_panel);
                        self.out.columns(j, width, TILE, &mut out);
                        for (i, panel) in chunk.clone().enumerate() {
                            let rows = part(self.m, panel, count);
                            let left = left_panels.wrapping_add(i * panel_length);
                            multiply(left, right_panel, steps, (parts, self.tiles.mirrored), sums);
                            self.take(rows, &out, sums, self.add || p > 0);
                        }
                    }
                }
            }
        }
    }

    /// Moves sums to the result.
    ///
    /// # Safety
    /// As for [`Product::compute`]; `sums` holds 32 rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn take(&self, rows: Range<usize>, out: &OutColumns, sums: *const [f32; SIDE], add: bool) {
        let row_step = self.out.row_step();
        for (r, row) in rows.enumerate() {
            let offset = row as isize * row_step;
            // SAFETY: elements of the result; a row of sums.
            unsafe {
                let sums = sums.add(r).cast::<f32>();
                if out.direct {
                    for (v, &(start, valid)) in out.vectors.iter().enumerate() {
                        let mask = ((1u32 << valid.min(TILE)) - 1) as __mmask16;
                        let to = start.wrapping_offset(offset);
                        let mut new = _mm512_loadu_ps(sums.add(v * TILE));
                        if add {
                            new = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), new);
                        }
                        _mm512_mask_storeu_ps(to, mask, new);
                    }
                } else {
                    for &(column, start) in &out.scattered[..out.count] {
                        let (sum, to) = (*sums.add(column), start.wrapping_offset(offset));
                        *to = if add { *to + sum } else { sum };
                    }
                }
            }
        }
    }
}

/// The parts of 16 floats, each as an f32 whose lower half is zero: what rounding to bf16 gives, what rounding the rest
/// gives, and so on. Infinities and NaN have one part; so has what would round to infinity, with its bits cut off.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn split(x: __m512, parts: usize) -> [__m512i; PARTS_MAX] {
    let high = _mm512_set1_epi32(0xffff_0000u32 as i32);
    let exponent = _mm512_set1_epi32(0x7f80_0000);
    let round = |x: __m512| {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        _mm512_and_si512(up, high)
    };
    let is_infinite = |bits: __m512i| _mm512_cmpeq_epi32_mask(_mm512_and_si512(bits, exponent), exponent);
    let bits = _mm512_castps_si512(x);
    let first = round(x);
    let wide = is_infinite(first) | is_infinite(bits);
    // NaN stays NaN when its lower half goes.
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let cut = _mm512_and_si512(bits, high);
    let cut = _mm512_mask_or_epi32(cut, nan, cut, _mm512_set1_epi32(0x0040_0000));
    let first = _mm512_mask_mov_epi32(first, wide, cut);
    if parts == 1 {
        return [first, _mm512_setzero_si512(), _mm512_setzero_si512()];
    }
    let finite = !is_infinite(bits);
    let rest = _mm512_maskz_sub_ps(finite, x, _mm512_castsi512_ps(first));
    let second = round(rest);
    if parts == 2 {
        return [first, second, _mm512_setzero_si512()];
    }
    let third = round(_mm512_sub_ps(rest, _mm512_castsi512_ps(second)));
    [first, second, third]
}

/// Two rows of parts as one of pairs: bf16 of `even` in the lower halves, of `odd` in the upper ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn pair(even: __m512i, odd: __m512i) -> __m512i {
    _mm512_or_si512(_mm512_srli_epi32::<16>(even), odd)
}

/// Packs a right panel: `width` (16 or 32) columns of `k` inner positions, at `from[p * width + j]`. A tile has a row for
/// each pair of inner positions; tiles lie in the order of step, part, and half of the columns.
///
/// # Safety
/// `from` holds the panel, `to` whole steps of 32 columns in all parts; the processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pack_right(from: *const f32, width: usize, k: usize, parts: usize, to: *mut u16) {
    for step in 0..k.div_ceil(STEP) {
        let to = to.wrapping_add(step * parts * 2 * TILE_LENGTH);
        for half in 0..2 {
            for q in 0..TILE {
                let p = step * STEP + 2 * q;
                let row = |p: usize| {
                    if p < k && half * TILE < width {
                        // SAFETY: a row of the panel.
                        unsafe { _mm512_loadu_ps(from.add(p * width + half * TILE)) }
                    } else {
                        _mm512_setzero_ps()
                    }
                };
                let (even, odd) = (split(row(p), parts), split(row(p + 1), parts));
                for t in 0..parts {
                    let tile = to.wrapping_add((2 * t + half) * TILE_LENGTH + q * STEP);
                    // SAFETY: a row of a tile.
                    unsafe { _mm512_storeu_si512(tile.cast(), pair(even[t], odd[t])) };
                }
            }
        }
    }
}

/// Packs a left panel: `rows` (at most 32) rows of `k` inner positions, at `from[p * rows + i]`. A tile has a row for each
/// of 16 rows, with 32 inner positions; tiles lie in the order of step, part, and half of the rows.
///
/// # Safety
/// As for [`pack_right`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pack_left(from: *const f32, rows: usize, k: usize, parts: usize, to: *mut u16) {
    for step in 0..k.div_ceil(STEP) {
        let to = to.wrapping_add(step * parts * 2 * TILE_LENGTH);
        for half in 0..2 {
            let valid = rows.saturating_sub(half * TILE).min(TILE);
            let mask = ((1u32 << valid) - 1) as __mmask16;
            let zero = [_mm512_setzero_si512(); TILE];
            let mut pairs = [zero; PARTS_MAX];
            for q in 0..TILE {
                let p = step * STEP + 2 * q;
                let row = |p: usize| {
                    let mask = if p < k { mask } else { 0 };
                    // SAFETY: masked lanes are not touched, the others are the panel's.
                    unsafe { _mm512_maskz_loadu_ps(mask, from.wrapping_add(p * rows + half * TILE)) }
                };
                let (even, odd) = (split(row(p), parts), split(row(p + 1), parts));
                for t in 0..parts {
                    pairs[t][q] = pair(even[t], odd[t]);
                }
            }
            for (t, pairs) in pairs.iter().enumerate().take(parts) {
                let tile = to.wrapping_add((2 * t + half) * TILE_LENGTH);
                for (i, row) in transposed(pairs).into_iter().enumerate() {
                    // SAFETY: a row of a tile.
                    unsafe { _mm512_storeu_si512(tile.wrapping_add(i * STEP).cast(), row) };
                }
            }
        }
    }
}

/// Sixteen vectors of sixteen lanes, transposed.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: &[__m512i; TILE]) -> [__m512i; TILE] {
    let mut a = *rows;
    for i in (0..TILE).step_by(4) {
        let low =
            [_mm512_unpacklo_epi32(rows[i], rows[i + 1]), _mm512_unpacklo_epi32(rows[i + 2], rows[i + 3])];
        let high =
            [_mm512_unpackhi_epi32(rows[i], rows[i + 1]), _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3])];
        a[i] = _mm512_unpacklo_epi64(low[0], low[1]);
        a[i + 1] = _mm512_unpackhi_epi64(low[0], low[1]);
        a[i + 2] = _mm512_unpacklo_epi64(high[0], high[1]);
        a[i + 3] = _mm512_unpackhi_epi64(high[0], high[1]);
    }
    // Each vector now has four lanes of each of its four columns in its quarters; the quarters change places.
    let mut result = a;
    for c in 0..4 {
        let low =
            [_mm512_shuffle_i32x4::<0x88>(a[c], a[c + 4]), _mm512_shuffle_i32x4::<0x88>(a[c + 8], a[c + 12])];
        let high =
            [_mm512_shuffle_i32x4::<0xdd>(a[c], a[c + 4]), _mm512_shuffle_i32x4::<0xdd>(a[c + 8], a[c + 12])];
        result[c] = _mm512_shuffle_i32x4::<0x88>(low[0], low[1]);
        result[c + 8] = _mm512_shuffle_i32x4::<0xdd>(low[0], low[1]);
        result[c + 4] = _mm512_shuffle_i32x4::<0x88>(high[0], high[1]);
        result[c + 12] = _mm512_shuffle_i32x4::<0xdd>(high[0], high[1]);
    }
    result
}

/// Loads a tile whose rows are 64 bytes apart.
macro_rules! load {
    ($tile:literal, $from:expr) => {
        asm!(concat!("tileloadd ", $tile, ", [{from} + {step}*1]"), from = in(reg) $from, step = in(reg) 64usize,
            options(nostack, readonly))
    };
}

/// Stores a tile to the rows of 32 sums.
macro_rules! store {
    ($tile:literal, $to:expr) => {
        asm!(concat!("tilestored [{to} + {step}*1], ", $tile), to = in(reg) $to, step = in(reg) SIDE * 4,
            options(nostack))
    };
}

/// Loads both halves of part `$part` of the left operand.
macro_rules! left {
    ($step:expr, $part:literal) => {
        load!("tmm4", $step.add(2 * $part * TILE_LENGTH));
        load!("tmm5", $step.add((2 * $part + 1) * TILE_LENGTH));
    };
}

/// Loads both halves of part `$part` of the right operand.
macro_rules! right {
    ($step:expr, $part:literal) => {
        load!("tmm6", $step.add(2 * $part * TILE_LENGTH));
        load!("tmm7", $step.add((2 * $part + 1) * TILE_LENGTH));
    };
}

/// Adds the products of what is loaded.
macro_rules! add_products {
    () => {
        asm!(
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            options(nostack, nomem)
        )
    };
}

/// Adds six products of parts of `$a` and `$b`, the largest last: 0 2, 0 1, 1 1, 1 0, 2 0 and 0 0. Neighbours share a part,
/// which is not loaded again.
macro_rules! six_products {
    ($load_a:ident $a:expr, $load_b:ident $b:expr) => {
        $load_a!($a, 0);
        $load_b!($b, 2);
        add_products!();
        $load_b!($b, 1);
        add_products!();
        $load_a!($a, 1);
        add_products!();
        $load_b!($b, 0);
        add_products!();
        $load_a!($a, 2);
        add_products!();
        $load_a!($a, 0);
        add_products!();
    };
}

/// Adds three products of parts of `$a` and `$b`, the largest last: 0 1, 1 0 and 0 0.
macro_rules! three_products {
    ($load_a:ident $a:expr, $load_b:ident $b:expr) => {
        $load_a!($a, 0);
        $load_b!($b, 1);
        add_products!();
        $load_a!($a, 1);
        $load_b!($b, 0);
        add_products!();
        $load_a!($a, 0);
        add_products!();
    };
}

/// Computes 32 by 32 sums over `steps` steps of the inner dimension. With `mirrored`, the operands have changed sides,
/// and so do the parts.
///
/// # Safety
/// The operands hold packed panels, `sums` 32 rows; tiles are configured.
unsafe fn multiply(
    left: *const u16,
    right: *const u16,
    steps: usize,
    (parts, mirrored): (usize, bool),
    sums: *mut [f32; SIDE],
) {
    let length = parts * 2 * TILE_LENGTH;
    // SAFETY: the processor has tiles, and all pointers stay within the panels. The compiler keeps nothing in tiles.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        match (parts, mirrored) {
            (1, _) => {
                for step in 0..steps {
                    left!(left.add(step * length), 0);
                    right!(right.add(step * length), 0);
                    add_products!();
                }
            }
            (2, false) => {
                for step in 0..steps {
                    three_products!(left left.add(step * length), right right.add(step * length));
                }
            }
            (2, true) => {
                for step in 0..steps {
                    three_products!(right right.add(step * length), left left.add(step * length));
                }
            }
            (_, false) => {
                for step in 0..steps {
                    six_products!(left left.add(step * length), right right.add(step * length));
                }
            }
            (_, true) => {
                for step in 0..steps {
                    six_products!(right right.add(step * length), left left.add(step * length));
                }
            }
        }
        let to = sums.cast::<f32>();
        store!("tmm0", to);
        store!("tmm1", to.add(TILE));
        store!("tmm2", to.add(TILE * SIDE));
        store!("tmm3", to.add(TILE * SIDE + TILE));
    }
}

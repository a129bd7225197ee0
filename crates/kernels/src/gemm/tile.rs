//! The micro-kernel: a tile of the result in registers, summed over one block of the inner dimension.
//!
//! Every element is one chain of multiply-adds in order of the inner dimension, starting from zero; the sum is then
//! written or added to what the result holds. All variants of a path therefore give the same bits.

use super::pack::{PackFn, pack_fn};
#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{Portable, Vector};
use crate::path::KernelPath;

/// Most rows that a tile of any path has.
pub(crate) const MAX_ROWS: usize = 14;
/// Most columns that a tile of any path has.
pub(crate) const MAX_COLUMNS: usize = 32;

/// One tile to compute. It is filled in place, field by field, because tiles may be too short to pay for copies.
pub(crate) struct Tile {
    /// Extent of the inner dimension; a multiple of `run` where the left operand is given by rows.
    pub k: usize,
    /// Whether the left operand is given by `rows`.
    pub by_rows: bool,
    /// Otherwise element `(i, p)` is at `left[p * left_step + i]`: packed, or a matrix whose rows lie next to each
    /// other.
    pub left: *const f32,
    /// Elements between inner positions of the left operand (within a run).
    pub left_step: usize,
    /// By rows, element `(i, p)` is at `rows[i][(p / run) * run_step + (p % run) * left_step]`.
    pub rows: [*const f32; MAX_ROWS],
    pub run: usize,
    pub run_step: usize,
    /// Element `(p, j)` of the right operand is at `right[p * right_step + j]`.
    pub right: *const f32,
    pub right_step: usize,
    /// Where row 0 of each vector's columns goes.
    pub out: [*mut f32; 2],
    /// Elements between rows of the result.
    pub out_step: isize,
    /// Valid columns in each vector; only these are read (where the right operand is not packed) and written.
    pub valid: [usize; 2],
    /// Whether the sums are added to what is there.
    pub add: bool,
}

impl Tile {
    pub fn new() -> Self {
        Self {
            k: 0,
            by_rows: false,
            left: std::ptr::null(),
            left_step: 0,
            rows: [std::ptr::null(); MAX_ROWS],
            run: 1,
            run_step: 0,
            right: std::ptr::null(),
            right_step: 0,
            out: [std::ptr::null_mut(); 2],
            out_step: 0,
            valid: [0; 2],
            add: false,
        }
    }
}

pub(crate) type TileFn = unsafe fn(&Tile);

/// The micro-kernels of one path: `by_rows[rows - 1][vectors - 1]`.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    pub lanes: usize,
    /// Rows of the largest tile.
    pub rows: usize,
    /// Whether the right operand may be read in place when its columns are not a multiple of the lanes.
    pub masked: bool,
    pub pack: PackFn,
    pub panel: [[TileFn; 2]; MAX_ROWS],
    pub by_rows: [[TileFn; 2]; MAX_ROWS],
}

impl std::fmt::Debug for Tiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tiles({}x{})", self.rows, 2 * self.lanes)
    }
}

impl Tiles {
    pub fn new(path: KernelPath) -> Self {
        match path {
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx512 => avx512_tiles(),
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx2 => avx2_tiles(),
            _ => portable_tiles(),
        }
    }

    /// Columns of a tile.
    pub fn columns(&self) -> usize {
        2 * self.lanes
    }
}

/// # Safety
/// The operands hold `k` times `R` and `k` times the valid columns (all lanes, unless the path masks), the result `R`
/// rows of the valid columns; the processor supports the path of `V`.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const N: usize, const BY_ROWS: bool>(t: &Tile) {
    // SAFETY: all pointers stay within what the caller vouches for.
    unsafe {
        // The result's lines are needed last, and may be far away.
        for i in 0..R {
            for out in &t.out[..N] {
                prefetch(out.wrapping_offset(i as isize * t.out_step));
            }
        }
        let mut sum = [[V::zero(); N]; R];
        let mut right = t.right;
        let load = |right: *const f32| {
            let mut b = [V::zero(); N];
            for (v, b) in b.iter_mut().enumerate() {
                let from = right.add(v * V::LANES);
                *b = if V::MASKED { V::load_first(from, t.valid[v]) } else { V::load(from) };
            }
            b
        };
        if BY_ROWS {
            let mut start = 0;
            for _ in 0..t.k / t.run {
                let mut at = start;
                for _ in 0..t.run {
                    let b = load(right);
                    for (sum, row) in sum.iter_mut().zip(&t.rows) {
                        let a = V::splat(row.add(at));
                        for (s, b) in sum.iter_mut().zip(b) {
                            *s = s.mul_add(a, b);
                        }
                    }
                    at += t.left_step;
                    right = right.add(t.right_step);
                }
                start += t.run_step;
            }
        } else {
            let mut left = t.left;
            for _ in 0..t.k {
                let b = load(right);
                for (i, sum) in sum.iter_mut().enumerate() {
                    let a = V::splat(left.add(i));
                    for (s, b) in sum.iter_mut().zip(b) {
                        *s = s.mul_add(a, b);
                    }
                }
                left = left.add(t.left_step);
                right = right.add(t.right_step);
            }
        }
        // Each of these loops is short enough to be unrolled, which is what keeps the sums in registers above.
        let full = t.valid[..N].iter().all(|&n| n == V::LANES);
        let out = |i: usize, v: usize| t.out[v].offset(i as isize * t.out_step);
        if full && t.add {
            for i in 0..R {
                for v in 0..N {
                    V::load(out(i, v)).add(sum[i][v]).store(out(i, v));
                }
            }
        } else if full {
            for i in 0..R {
                for v in 0..N {
                    sum[i][v].store(out(i, v));
                }
            }
        } else if t.add {
            for i in 0..R {
                for v in 0..N {
                    let old = V::load_first(out(i, v), t.valid[v]);
                    old.add(sum[i][v]).store_first(out(i, v), t.valid[v]);
                }
            }
        } else {
            for i in 0..R {
                for v in 0..N {
                    sum[i][v].store_first(out(i, v), t.valid[v]);
                }
            }
        }
    }
}

#[inline(always)]
fn prefetch(line: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

const fn at_most(rows: usize, most: usize) -> usize {
    if rows < most { rows } else { most }
}

/// Makes the table of a path's micro-kernels. Rows beyond the path's largest tile stand in the table as that tile.
macro_rules! path_tiles {
    ($table:ident, $tile:ident, $vector:ty, $path:expr $(, $features:literal)?) => {
        $(#[cfg(target_arch = "x86_64")] #[target_feature(enable = $features)])?
        unsafe fn $tile<const R: usize, const N: usize, const BY_ROWS: bool>(t: &Tile) {
            // SAFETY: the caller's contract is the same.
            unsafe { tile::<$vector, R, N, BY_ROWS>(t) }
        }

        $(#[cfg(target_arch = "x86_64")] #[doc = $features])?
        fn $table() -> Tiles {
            macro_rules! row {
                ($r:literal, $by_rows:literal) => {
                    [
                        $tile::<{ at_most($r, <$vector>::ROWS) }, 1, $by_rows> as TileFn,
                        $tile::<{ at_most($r, <$vector>::ROWS) }, 2, $by_rows>,
                    ]
                };
            }
            macro_rules! rows {
                ($by_rows:literal) => {
                    [
                        row!(1, $by_rows), row!(2, $by_rows), row!(3, $by_rows), row!(4, $by_rows), row!(5, $by_rows),
                        row!(6, $by_rows), row!(7, $by_rows), row!(8, $by_rows), row!(9, $by_rows),
                        row!(10, $by_rows), row!(11, $by_rows), row!(12, $by_rows), row!(13, $by_rows),
                        row!(14, $by_rows),
                    ]
                };
            }
            Tiles {
                lanes: <$vector>::LANES,
                rows: <$vector>::ROWS,
                masked: <$vector>::MASKED,
                pack: pack_fn($path),
                panel: rows!(false),
                by_rows: rows!(true),
            }
        }
    };
}
path_tiles!(portable_tiles, portable_tile, Portable, KernelPath::Portable);
#[cfg(target_arch = "x86_64")]
path_tiles!(avx2_tiles, avx2_tile, Avx2, KernelPath::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
path_tiles!(
    avx512_tiles,
    avx512_tile,
    Avx512,
    KernelPath::Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
);

//! The micro-kernel: a tile of the result in registers, summed over one block of the inner dimension.
//!
//! Every element is one chain of multiply-adds in order of the inner dimension, starting from zero; the sum is then
//! written or added to what the result holds. All variants of a path therefore give the same bits.

use super::pack::{PackFns, pack_fns};
use super::packed::PackedColumns;
use super::store::store;
#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512, Avx512Pairs};
use super::vector::{Portable, Vector};
use crate::finish::OfTile;
use crate::path::KernelPath;

/// Most rows that a tile of any path has.
pub(crate) const MAX_ROWS: usize = 14;
/// Most columns that a tile of any path has.
pub(crate) const MAX_COLUMNS: usize = 32;

/// How a tile's operands are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Left by panel, right by panel.
    Panels,
    /// Left by rows, right by panel.
    LeftRows,
    /// Left by panel, right by offsets.
    RightOffsets,
}

/// One tile to compute. It is filled in place, field by field, because tiles may be too short to pay for copies.
pub(crate) struct Tile {
    /// Extent of the inner dimension.
    pub k: usize,
    pub mode: Mode,
    /// By panel, element `(i, p)` of the left operand is at `left[p * left_step + i]`: packed, or a matrix whose rows
    /// lie next to each other.
    pub left: *const f32,
    /// Elements between inner positions of the left operand (within a run).
    pub left_step: usize,
    /// By rows, element `(i, p)` of the left operand is at `rows[i][runs[p / run] + p % run * left_step]`; `k` is a
    /// multiple of `run`.
    pub rows: [*const f32; MAX_ROWS],
    pub run: usize,
    pub runs: *const usize,
    /// By panel, element `(p, j)` of the right operand is at `right[p * right_step + j]`.
    pub right: *const f32,
    pub right_step: usize,
    /// By offsets, lane `l` of vector `v` at inner position `p` is at `right_vectors[v][right_offsets[p] + l]`.
    pub right_vectors: [*const f32; 2],
    pub right_offsets: *const usize,
    /// Where row 0 of each vector's columns goes.
    pub out: [*mut f32; 2],
    /// Elements between rows of the result.
    pub out_step: isize,
    /// Valid columns in each vector; only these are read (where the right operand is not packed) and written.
    pub valid: [usize; 2],
    /// Whether the sums are added to what is there.
    pub add: bool,
    /// What finishes the sums in registers; all lanes of each vector are valid then.
    pub finish: Option<OfTile>,
}

impl Tile {
    pub fn new() -> Self {
        Self {
            k: 0,
            mode: Mode::Panels,
            left: std::ptr::null(),
            left_step: 0,
            rows: [std::ptr::null(); MAX_ROWS],
            run: 1,
            runs: &0,
            right: std::ptr::null(),
            right_step: 0,
            right_vectors: [std::ptr::null(); 2],
            right_offsets: std::ptr::null(),
            out: [std::ptr::null_mut(); 2],
            out_step: 0,
            valid: [0; 2],
            add: false,
            finish: None,
        }
    }
}

const PANELS: u8 = Mode::Panels as u8;
const LEFT_ROWS: u8 = Mode::LeftRows as u8;
const RIGHT_OFFSETS: u8 = Mode::RightOffsets as u8;

/// Rows of a panel on AMX.
const AMX_ROWS: usize = 32;
/// Products of a smaller inner extent stay with vectors.
const AMX_K_MIN: usize = 32;

type TileFn = unsafe fn(&Tile);

/// The micro-kernels of one path.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    pub lanes: usize,
    /// Rows of the largest tile.
    pub rows: usize,
    /// Whether the right operand may be read in place when its columns are not a multiple of the lanes.
    pub masked: bool,
    pub pack: PackFns,
    /// Inner positions of an element of a packed panel: two, if it is a pair of bf16.
    pub unit: usize,
    /// The path.
    path: KernelPath,
    /// How many parts of bf16 a number has, if products are computed on AMX; 0 if by these micro-kernels.
    pub parts: usize,
    /// Whether the operands of the product changed sides, on AMX.
    pub mirrored: bool,
    /// By mode, rows less one, and vectors less one.
    run: [[[TileFn; 2]; MAX_ROWS]; 3],
}

impl std::fmt::Debug for Tiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tiles({}x{})", self.rows, 2 * self.lanes)
    }
}

impl Tiles {
    /// The micro-kernels of a path.
    pub fn new(path: KernelPath) -> Self {
        let tiles = match path.vectors() {
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx512 => avx512_tiles(),
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx2 => avx2_tiles(),
            _ => portable_tiles(),
        };
        Self { path, ..tiles }
    }

    /// Whether products may be computed on AMX.
    pub fn has_amx(&self) -> bool {
        matches!(self.path, KernelPath::Amx | KernelPath::AmxBf16x3)
    }

    /// The tiles for products of inner extent `k` whose numbers are bf16, or else f32.
    pub fn for_products(self, k: usize, bf16: bool) -> Self {
        // By the inner extent alone, so that an element's bits do not depend on the others. A step that is mostly empty
        // does not pay.
        #[cfg(target_arch = "x86_64")]
        if self.path == KernelPath::Avx512Bf16 && bf16 {
            return Self { path: self.path, ..pairs_tiles() };
        }
        if !self.has_amx() || k < AMX_K_MIN {
            return self;
        }
        let parts = match self.path {
            _ if bf16 => 1,
            KernelPath::AmxBf16x3 => 2,
            _ => 3,
        };
        Self { rows: AMX_ROWS, parts, masked: false, ..self }
    }

    /// The tiles of a path that multiplies bf16, for operands whose elements are pairs already: these are inner positions.
    pub fn of_pairs(path: KernelPath) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if path == KernelPath::Avx512Bf16 {
            return Some(Self { path, unit: 1, ..pairs_tiles() });
        }
        let _ = path;
        None
    }

    /// Floats of scratch memory that a thread needs for products.
    pub fn scratch_floats(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.parts > 0 {
            return super::amx::SCRATCH_FLOATS;
        }
        super::SCRATCH_FLOATS
    }

    /// The same if the left operand is in place.
    pub fn scratch_floats_in_place(&self) -> usize {
        if self.parts > 0 { self.scratch_floats() } else { super::SCRATCH_FLOATS_IN_PLACE }
    }

    /// Runs a tile of `rows` rows (at most those of the largest) and one or two `vectors` of columns.
    ///
    /// # Safety
    /// The tile's operands hold what it reads, its result can be written, and the processor supports the path.
    #[inline(always)]
    pub unsafe fn run(&self, tile: &Tile, rows: usize, vectors: usize) {
        // SAFETY: the caller's contract is the same.
        unsafe { self.run[tile.mode as usize][rows - 1][vectors - 1](tile) }
    }

    /// A right operand of `n` columns that was packed for these tiles.
    pub fn packed_columns(&self, start: *const f32, n: usize) -> PackedColumns {
        PackedColumns { start, n, panel: self.columns(), lanes: self.lanes, unit: self.unit }
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
unsafe fn tile<V: Vector, const R: usize, const N: usize, const MODE: u8>(t: &Tile) {
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
        let mut left = t.left;
        match MODE {
            PANELS => {
                for _ in 0..t.k {
                    accumulate(&mut sum, load(right), |i| left.add(i));
                    left = left.add(t.left_step);
                    right = right.add(t.right_step);
                }
            }
            LEFT_ROWS => {
                for run in 0..t.k / t.run {
                    let mut at = *t.runs.add(run);
                    for _ in 0..t.run {
                        accumulate(&mut sum, load(right), |i| t.rows[i].add(at));
                        at += t.left_step;
                        right = right.add(t.right_step);
                    }
                }
            }
            _ => {
                for p in 0..t.k {
                    let offset = *t.right_offsets.add(p);
                    let mut b = [V::zero(); N];
                    for (b, from) in b.iter_mut().zip(&t.right_vectors) {
                        *b = V::load(from.add(offset));
                    }
                    accumulate(&mut sum, b, |i| left.add(i));
                    left = left.add(t.left_step);
                }
            }
        }
        let out = |i: usize, v: usize| t.out[v].offset(i as isize * t.out_step);
        if let Some(finish) = &t.finish {
            if t.add {
                for i in 0..R {
                    for v in 0..N {
                        sum[i][v] = V::load(out(i, v)).add(sum[i][v]);
                    }
                }
            }
            finish.apply(&mut sum, t.out_step);
            return store(&sum, [V::LANES; N], out, false);
        }
        store(&sum, std::array::from_fn(|v| t.valid[v]), out, t.add);
    }
}

/// Adds the products of one inner position: `left(i)` is the left operand's element of row `i`.
///
/// # Safety
/// The elements can be read.
#[inline(always)]
unsafe fn accumulate<V: Vector, const R: usize, const N: usize>(
    sum: &mut [[V; N]; R],
    right: [V; N],
    left: impl Fn(usize) -> *const f32,
) {
    for (i, sum) in sum.iter_mut().enumerate() {
        // SAFETY: the caller's contract.
        unsafe {
            let a = V::splat(left(i));
            for (s, b) in sum.iter_mut().zip(right) {
                *s = s.mul_add(a, b);
            }
        }
    }
}

/// Asks for the line of an address, which need not be one.
#[inline(always)]
pub(crate) fn prefetch(line: *const f32) {
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
    ($table:ident, $tile:ident, $vector:ty, $path:expr, $unit:literal $(, $features:literal)?) => {
        $(#[cfg(target_arch = "x86_64")] #[target_feature(enable = $features)])?
        unsafe fn $tile<const R: usize, const N: usize, const MODE: u8>(t: &Tile) {
            // SAFETY: the caller's contract is the same.
            unsafe { tile::<$vector, R, N, MODE>(t) }
        }

        $(#[cfg(target_arch = "x86_64")] #[doc = $features])?
        fn $table() -> Tiles {
            macro_rules! row {
                ($r:literal, $mode:ident) => {
                    [
                        $tile::<{ at_most($r, <$vector>::ROWS) }, 1, $mode> as TileFn,
                        $tile::<{ at_most($r, <$vector>::ROWS) }, 2, $mode>,
                    ]
                };
            }
            macro_rules! rows {
                ($mode:ident) => {
                    [
                        row!(1, $mode), row!(2, $mode), row!(3, $mode), row!(4, $mode), row!(5, $mode),
                        row!(6, $mode), row!(7, $mode), row!(8, $mode), row!(9, $mode),
                        row!(10, $mode), row!(11, $mode), row!(12, $mode), row!(13, $mode),
                        row!(14, $mode),
                    ]
                };
            }
            Tiles {
                lanes: <$vector>::LANES,
                rows: <$vector>::ROWS,
                masked: <$vector>::MASKED,
                pack: pack_fns($path),
                unit: $unit,
                path: $path,
                parts: 0,
                mirrored: false,
                run: [rows!(PANELS), rows!(LEFT_ROWS), rows!(RIGHT_OFFSETS)],
            }
        }
    };
}
path_tiles!(portable_tiles, portable_tile, Portable, KernelPath::Portable, 1);
#[cfg(target_arch = "x86_64")]
path_tiles!(avx2_tiles, avx2_tile, Avx2, KernelPath::Avx2, 1, "avx2,fma");
#[cfg(target_arch = "x86_64")]
path_tiles!(
    avx512_tiles,
    avx512_tile,
    Avx512,
    KernelPath::Avx512,
    1,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
);
#[cfg(target_arch = "x86_64")]
path_tiles!(
    pairs_tiles,
    pairs_tile,
    Avx512Pairs,
    KernelPath::Avx512Bf16,
    2,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"
);

//! Storing what a tile has summed, whole vectors or the first lanes of the last ones.

use super::tile::{MAX_COLUMNS, MAX_ROWS};
use super::vector::Vector;
use std::mem::MaybeUninit;

/// Writes the first `valid(n)` lanes of each row's vector `n` to `out(row, n)`, or adds them to what is there.
///
/// # Safety
/// A tile has at most [`MAX_ROWS`] rows of [`MAX_COLUMNS`] columns; `out` is good for the valid lanes, of which a vector has
/// no more than it has lanes; the processor supports the path of `V`.
#[inline(always)]
pub(crate) unsafe fn store<V: Vector, const R: usize, const N: usize>(
    sums: &[[V; N]; R],
    valid: [usize; N],
    out: impl Fn(usize, usize) -> *mut f32,
    add: bool,
) {
    const { assert!(R <= MAX_ROWS && N * V::LANES <= MAX_COLUMNS) };
    let full = valid.iter().all(|&n| n == V::LANES);
    // SAFETY: the caller's contract; the copy has a place for each sum.
    unsafe {
        // Each of these loops is short enough to be unrolled, which is what keeps the sums in registers while they grow.
        if full && add {
            for r in 0..R {
                for n in 0..N {
                    V::load(out(r, n)).add(sums[r][n]).store(out(r, n));
                }
            }
        } else if full {
            for r in 0..R {
                for n in 0..N {
                    sums[r][n].store(out(r, n));
                }
            }
        } else if !V::MASKED {
            // From a copy: what stores parts of vectors is too long to be unrolled here, and sums that a loop picks from would
            // not stay in registers.
            let mut copy = MaybeUninit::<[f32; MAX_ROWS * MAX_COLUMNS]>::uninit();
            let copy = copy.as_mut_ptr().cast::<f32>();
            for r in 0..R {
                for n in 0..N {
                    sums[r][n].store(copy.add((r * N + n) * V::LANES));
                }
            }
            for r in 0..R {
                for (n, &lanes) in valid.iter().enumerate() {
                    let sum = V::load(copy.add((r * N + n) * V::LANES));
                    let sum = if add { V::load_first(out(r, n), lanes).add(sum) } else { sum };
                    sum.store_first(out(r, n), lanes);
                }
            }
        } else if add {
            for r in 0..R {
                for n in 0..N {
                    let old = V::load_first(out(r, n), valid[n]);
                    old.add(sums[r][n]).store_first(out(r, n), valid[n]);
                }
            }
        } else {
            for r in 0..R {
                for n in 0..N {
                    sums[r][n].store_first(out(r, n), valid[n]);
                }
            }
        }
    }
}

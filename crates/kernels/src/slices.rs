//! Plain functions on slices that trainers use outside programs. Each gives the same bits for any number of threads.

use crate::threads::ThreadPool;

/// Elements that are summed one task at a time, and the unit at which sums over parameters may be cut.
pub const SUM_BLOCK: usize = 4096;
/// Slices shorter than this are worked on by the calling thread.
const PARALLEL: usize = 1 << 16;

/// A pointer that tasks may share: each touches a part of its own.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: an address only; whoever dereferences it answers for races.
unsafe impl Sync for Shared {}

/// Calls `run(part)` on disjoint parts of `dst` that start at multiples of [`SUM_BLOCK`], with the part's start.
fn parts(pool: &ThreadPool, dst: &mut [f32], run: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let n = dst.len();
    if n < PARALLEL {
        return run(0, dst);
    }
    let start = Shared(dst.as_mut_ptr());
    pool.split(n.div_ceil(SUM_BLOCK), &|_, range| {
        let start = &start;
        let (low, high) = (range.start * SUM_BLOCK, (range.end * SUM_BLOCK).min(n));
        // SAFETY: within `dst`, which is borrowed for the whole call; threads get disjoint ranges.
        run(low, unsafe { std::slice::from_raw_parts_mut(start.0.add(low), high - low) });
    });
}

/// `dst[i] += src[i]`. Panics when the lengths differ.
pub fn add_assign(pool: &ThreadPool, dst: &mut [f32], src: &[f32]) {
    assert_eq!(dst.len(), src.len());
    parts(pool, dst, &|start, part| {
        for (d, s) in part.iter_mut().zip(&src[start..]) {
            *d += s;
        }
    });
}

/// `dst[i] *= factor`.
pub fn scale(pool: &ThreadPool, dst: &mut [f32], factor: f32) {
    parts(pool, dst, &|_, part| part.iter_mut().for_each(|d| *d *= factor));
}

/// The sum of squares of each block of [`SUM_BLOCK`] elements of `x`, in f64, appended to `blocks`. The sums of parts
/// of a vector that are cut at multiples of the block size are the parts of the whole's sums.
pub fn sum_of_squares_blocks(pool: &ThreadPool, x: &[f32], blocks: &mut Vec<f64>) {
    let first = blocks.len();
    let count = x.len().div_ceil(SUM_BLOCK);
    blocks.resize(first + count, 0.0);
    let of = |block: &[f32]| {
        let mut lanes = [0f64; 16];
        for run in block.chunks(16) {
            for (lane, &v) in lanes.iter_mut().zip(run) {
                *lane += f64::from(v) * f64::from(v);
            }
        }
        tree_sum(&lanes)
    };
    if x.len() < PARALLEL {
        for (sum, block) in blocks[first..].iter_mut().zip(x.chunks(SUM_BLOCK)) {
            *sum = of(block);
        }
        return;
    }
    let sums: Vec<std::sync::OnceLock<f64>> = (0..count).map(|_| std::sync::OnceLock::new()).collect();
    pool.run(count, &|i| {
        let block = &x[i * SUM_BLOCK..((i + 1) * SUM_BLOCK).min(x.len())];
        sums[i].get_or_init(|| of(block));
    });
    for (sum, found) in blocks[first..].iter_mut().zip(sums) {
        *sum = found.into_inner().unwrap_or_default();
    }
}

/// The sum of `values` by a fixed binary tree over neighbours: (0 + 1) + (2 + 3) and so on.
pub fn tree_sum(values: &[f64]) -> f64 {
    match values {
        [] => 0.0,
        [one] => *one,
        _ => {
            let (low, high) = values.split_at(values.len().next_power_of_two() / 2);
            tree_sum(low) + tree_sum(high)
        }
    }
}

/// Whether no element is infinite or NaN.
pub fn all_finite(x: &[f32]) -> bool {
    // Whole blocks without an early exit are vector code; the exit between blocks stops early on bad data.
    x.chunks(SUM_BLOCK).all(|block| block.iter().fold(true, |ok, v| ok & v.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_threads_or_cuts() {
        let x: Vec<f32> = (0..200_001).map(|i| ((i * 37) % 1001) as f32 - 500.0).collect();
        let exact: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let mut one = Vec::new();
        sum_of_squares_blocks(&ThreadPool::new(1), &x, &mut one);
        assert_eq!(tree_sum(&one), exact);
        let pool = ThreadPool::new(3);
        let mut cut = Vec::new();
        for part in x.chunks(25 * SUM_BLOCK) {
            sum_of_squares_blocks(&pool, part, &mut cut);
        }
        assert_eq!(one, cut);
    }

    #[test]
    fn arithmetic_in_place() {
        let pool = ThreadPool::new(2);
        for n in [0, 5, 100_003] {
            let mut x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let y: Vec<f32> = (0..n).map(|i| (i * 2) as f32).collect();
            add_assign(&pool, &mut x, &y);
            scale(&pool, &mut x, 0.5);
            assert!(x.iter().enumerate().all(|(i, &v)| v == i as f32 * 1.5));
        }
    }

    #[test]
    fn finds_what_is_not_finite() {
        let mut x = vec![1.0; 10_000];
        assert!(all_finite(&x));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[9_999] = bad;
            assert!(!all_finite(&x));
        }
        assert!(all_finite(&[]));
    }
}

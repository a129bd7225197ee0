//! What a processor does at most, by bare loops: multiply-adds between registers, and floats read, written and copied.
//! Kernels are held against it.

#[cfg(target_arch = "x86_64")]
use crate::gemm::{Avx2, Avx512, Avx512Pairs};
use crate::gemm::{Portable, Vector};
use crate::path::{KernelPath, by_vectors};
use std::hint::black_box;

/// Sums that run beside each other: as many as the latency of two multiply-adds in every cycle needs.
const CHAINS: usize = 12;
/// Vectors that are moved in one turn of a loop.
const UNROLLED: usize = 8;

/// What is done with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// All floats of the first buffer are read.
    Read,
    /// All floats of the second buffer are written.
    Write,
    /// The first buffer is copied to the second.
    Copy,
}

/// Computes `rounds` rounds of multiply-adds on the calling thread, by the vectors of a path, and says how many operations
/// that was, a multiply-add counting as two. With `bf16`, products of pairs of bf16 that are added to floats: nothing where
/// the path has no instruction for them.
///
/// # Panics
/// When the processor does not support the path.
pub fn multiply_adds(path: KernelPath, bf16: bool, rounds: usize) -> Option<u64> {
    assert!(path.is_supported(), "the path {path} is not supported");
    let chains: unsafe fn(usize) -> u64 = match (path, bf16) {
        #[cfg(target_arch = "x86_64")]
        (KernelPath::Avx512Bf16, true) => pairs,
        (_, true) => return None,
        _ => chains_fn(path),
    };
    // SAFETY: the processor supports the path.
    Some(unsafe { chains(black_box(rounds)) })
}

/// Reads, writes or copies floats by the vectors of a path; a rest that fills no eight vectors is left out.
///
/// # Panics
/// When the buffers differ in length, or the processor does not support the path.
pub fn traffic(path: KernelPath, traffic: Traffic, from: &[f32], to: &mut [f32]) {
    assert!(path.is_supported(), "the path {path} is not supported");
    assert_eq!(from.len(), to.len(), "two buffers of one length");
    // SAFETY: the processor supports the path.
    unsafe { moved_fn(path)(traffic, from, to) };
}

/// # Safety
/// The processor has the instructions of the vectors.
#[inline(always)]
unsafe fn chains<V: Vector>(rounds: usize, lane: u64) -> u64 {
    let (x, y) = (black_box(0.999f32), black_box(1e-3f32));
    let mut results = [0f32; 16];
    // SAFETY: the caller's contract; the results hold the lanes of any vector.
    unsafe {
        let (a, b) = (V::splat(&x), V::splat(&y));
        let mut sums = [V::zero(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(a, b);
            }
        }
        let all = sums.into_iter().reduce(|all, sum| all.add(sum)).unwrap_or(V::zero());
        all.store(results.as_mut_ptr());
    }
    black_box(results);
    (rounds * CHAINS * V::LANES) as u64 * lane
}

/// # Safety
/// The processor has the instructions of the vectors; the buffers are of one length.
#[inline(always)]
unsafe fn moved<V: Vector>(traffic: Traffic, from: &[f32], to: &mut [f32]) {
    let turn = UNROLLED * V::LANES;
    let mut results = [0f32; 16];
    let one = black_box(1f32);
    // SAFETY: the caller's contract; whole turns lie within the buffers.
    unsafe {
        let one = V::splat(&one);
        let mut sums = [V::zero(); UNROLLED];
        for start in (0..from.len() / turn).map(|i| i * turn) {
            let (from, to) = (from.as_ptr().add(start), to.as_mut_ptr().add(start));
            for (i, sum) in sums.iter_mut().enumerate() {
                match traffic {
                    Traffic::Read => *sum = sum.add(V::load(from.add(i * V::LANES))),
                    Traffic::Write => one.store(to.add(i * V::LANES)),
                    Traffic::Copy => V::load(from.add(i * V::LANES)).store(to.add(i * V::LANES)),
                }
            }
        }
        let all = sums.into_iter().reduce(|all, sum| all.add(sum)).unwrap_or(V::zero());
        all.store(results.as_mut_ptr());
    }
    black_box(results);
    black_box(to);
}

by_vectors! {
    /// Chains of multiply-adds on a path.
    fn chains_fn -> fn(rounds: usize) -> u64;
    portable chains::<Portable>(rounds, 2);
    avx2 chains::<Avx2>(rounds, 2);
    avx512 chains::<Avx512>(rounds, 2);
}
by_vectors! {
    /// What moves floats on a path, each kind in a loop of its own.
    fn moved_fn -> fn(traffic: Traffic, from: &[f32], to: &mut [f32]);
    portable each_kind::<Portable>(traffic, from, to);
    avx2 each_kind::<Avx2>(traffic, from, to);
    avx512 each_kind::<Avx512>(traffic, from, to);
}

/// # Safety
/// As for [`moved`].
#[inline(always)]
unsafe fn each_kind<V: Vector>(traffic: Traffic, from: &[f32], to: &mut [f32]) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        match traffic {
            Traffic::Read => moved::<V>(Traffic::Read, from, to),
            Traffic::Write => moved::<V>(Traffic::Write, from, to),
            Traffic::Copy => moved::<V>(Traffic::Copy, from, to),
        }
    }
}

/// Chains of products of pairs of bf16 that are added to floats.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn pairs(rounds: usize) -> u64 {
    // SAFETY: the caller's contract is the same.
    unsafe { chains::<Avx512Pairs>(rounds, 4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_counts_and_moves() {
        for path in KernelPath::supported() {
            let lanes = match path.vectors() {
                KernelPath::Avx512 => 16,
                _ => 8,
            };
            assert_eq!(multiply_adds(path, false, 10), Some(10 * 12 * 2 * lanes), "{path}");
            let pairs = multiply_adds(path, true, 10);
            assert_eq!(pairs.is_some(), path == KernelPath::Avx512Bf16, "{path}");
            let from: Vec<f32> = (0..1024).map(|i| i as f32).collect();
            let mut to = vec![0f32; 1024];
            traffic(path, Traffic::Read, &from, &mut to);
            assert!(to.iter().all(|x| *x == 0.0), "{path}");
            traffic(path, Traffic::Write, &from, &mut to);
            assert!(to.iter().all(|x| *x == 1.0), "{path}");
            traffic(path, Traffic::Copy, &from, &mut to);
            assert_eq!(from, to, "{path}");
        }
    }
}

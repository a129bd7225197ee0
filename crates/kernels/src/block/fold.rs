//! The loops of reductions: accumulating blocks into lanes, and folding lanes by a fixed tree.

use super::ops::{Number, with_register};
use super::{Literal, ReduceOp};
use crate::path::KernelPath;
use outgrow_tensor::DType;
use std::marker::PhantomData;

/// Partial results that a contiguous run is accumulated into: element `p` goes to lane `p % LANES`, on every path.
/// Several vectors' worth, so that the latency of an addition is hidden.
pub(crate) const LANES: usize = 32;

/// A way of combining two values.
trait Combine {
    type T: Copy;
    fn combine(a: Self::T, b: Self::T) -> Self::T;
}

struct SumOf<T>(PhantomData<T>);
struct ProdOf<T>(PhantomData<T>);
struct MaxOf<T>(PhantomData<T>);
struct MinOf<T>(PhantomData<T>);
macro_rules! combine {
    ($($name:ident => $method:ident),*) => {$(
        impl<T: Number> Combine for $name<T> {
            type T = T;
            #[inline(always)]
            fn combine(a: T, b: T) -> T { Number::$method(a, b) }
        }
    )*};
}
combine!(SumOf => add, ProdOf => mul, MaxOf => max, MinOf => min);

/// `rows` times `width` runs of `inner` contiguous elements: element `p` of run `(row, k)` goes to
/// `acc[k * lanes + p % lanes]`.
type AccumulateFn =
    unsafe fn(acc: *mut u8, src: *const u8, rows: usize, width: usize, inner: usize, lanes: usize);
/// Folds `width` groups of `lanes` accumulators (a power of two) into `dst[k]`, halving the lanes each time. The
/// accumulators are overwritten.
type FoldFn = unsafe fn(dst: *mut u8, acc: *mut u8, width: usize, lanes: usize);

/// # Safety
/// `acc` holds `width * lanes` elements and `src` holds `rows * width * inner`; they do not overlap.
#[inline(always)]
unsafe fn accumulate<O: Combine>(
    acc: *mut u8,
    src: *const u8,
    rows: usize,
    width: usize,
    inner: usize,
    lanes: usize,
) {
    let (acc, mut src) = (acc.cast::<O::T>(), src.cast::<O::T>());
    // SAFETY: all indices are below the lengths that the caller vouches for.
    unsafe {
        for _ in 0..rows {
            if inner == 1 {
                for k in 0..width {
                    *acc.add(k) = O::combine(*acc.add(k), *src.add(k));
                }
                src = src.add(width);
                continue;
            }
            for k in 0..width {
                let acc = acc.add(k * lanes);
                let mut p = 0;
                if lanes == LANES {
                    let mut partial = acc.cast::<[O::T; LANES]>().read();
                    while p + LANES <= inner {
                        let run = src.add(p).cast::<[O::T; LANES]>().read_unaligned();
                        for (a, x) in partial.iter_mut().zip(run) {
                            *a = O::combine(*a, x);
                        }
                        p += LANES;
                    }
                    acc.cast::<[O::T; LANES]>().write(partial);
                }
                for lane in 0..inner - p {
                    *acc.add(lane) = O::combine(*acc.add(lane), *src.add(p + lane));
                }
                src = src.add(inner);
            }
        }
    }
}

/// # Safety
/// `acc` holds `width * lanes` elements and `dst` holds `width`; they do not overlap.
#[inline(always)]
unsafe fn fold<O: Combine>(dst: *mut u8, acc: *mut u8, width: usize, lanes: usize) {
    let (dst, acc) = (dst.cast::<O::T>(), acc.cast::<O::T>().cast_const());
    // SAFETY: the caller's contract.
    unsafe {
        match lanes {
            1 => std::ptr::copy_nonoverlapping(acc, dst, width),
            2 => fold_lanes::<O, 2>(dst, acc, width),
            4 => fold_lanes::<O, 4>(dst, acc, width),
            8 => fold_lanes::<O, 8>(dst, acc, width),
            16 => fold_lanes::<O, 16>(dst, acc, width),
            _ => fold_lanes::<O, LANES>(dst, acc, width),
        }
    }
}

/// # Safety
/// `acc` holds `width * L` elements and `dst` holds `width`; they do not overlap.
#[inline(always)]
unsafe fn fold_lanes<O: Combine, const L: usize>(dst: *mut O::T, acc: *const O::T, width: usize) {
    for k in 0..width {
        // SAFETY: within what the caller vouches for.
        unsafe {
            let mut lanes = acc.add(k * L).cast::<[O::T; L]>().read();
            // Written out, so that the lanes stay in registers.
            halve::<O, L, 16>(&mut lanes);
            halve::<O, L, 8>(&mut lanes);
            halve::<O, L, 4>(&mut lanes);
            halve::<O, L, 2>(&mut lanes);
            halve::<O, L, 1>(&mut lanes);
            *dst.add(k) = lanes[0];
        }
    }
}

/// Combines lane `i` with lane `i + HALF`, if there are so many.
#[inline(always)]
fn halve<O: Combine, const L: usize, const HALF: usize>(lanes: &mut [O::T; L]) {
    if 2 * HALF <= L {
        for i in 0..HALF {
            lanes[i] = O::combine(lanes[i], lanes[i + HALF]);
        }
    }
}

macro_rules! on_path {
    ($suffix_acc:ident, $suffix_fold:ident $(, $features:literal)?) => {
        $(#[cfg(target_arch = "x86_64")] #[target_feature(enable = $features)])?
        unsafe fn $suffix_acc<O: Combine>(
            acc: *mut u8, src: *const u8, rows: usize, width: usize, inner: usize, lanes: usize,
        ) {
            // SAFETY: the caller's contract is the same.
            unsafe { accumulate::<O>(acc, src, rows, width, inner, lanes) }
        }
        $(#[cfg(target_arch = "x86_64")] #[target_feature(enable = $features)])?
        unsafe fn $suffix_fold<O: Combine>(dst: *mut u8, acc: *mut u8, width: usize, lanes: usize) {
            // SAFETY: the caller's contract is the same.
            unsafe { fold::<O>(dst, acc, width, lanes) }
        }
    };
}
on_path!(accumulate_portable, fold_portable);
on_path!(accumulate_avx2, fold_avx2, "avx2,fma");
on_path!(accumulate_avx512, fold_avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");

fn pick<O: Combine>(path: KernelPath) -> (AccumulateFn, FoldFn) {
    match path.vectors() {
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx2 => (accumulate_avx2::<O>, fold_avx2::<O>),
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx512 => (accumulate_avx512::<O>, fold_avx512::<O>),
        _ => (accumulate_portable::<O>, fold_portable::<O>),
    }
}

/// A reduction of registers of one type, with its loops for one path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fold {
    pub op: ReduceOp,
    pub dtype: DType,
    pub accumulate: AccumulateFn,
    pub fold: FoldFn,
}

impl Fold {
    pub fn new(op: ReduceOp, dtype: DType, path: KernelPath) -> Self {
        let (accumulate, fold) = with_register!(dtype, T => match op {
            ReduceOp::Sum => pick::<SumOf<T>>(path),
            ReduceOp::Prod => pick::<ProdOf<T>>(path),
            ReduceOp::Max => pick::<MaxOf<T>>(path),
            ReduceOp::Min => pick::<MinOf<T>>(path),
        });
        Self { op, dtype, accumulate, fold }
    }

    /// The result over no values, as a register value.
    pub fn identity(&self) -> Literal {
        let float = match self.op {
            ReduceOp::Sum => 0.0,
            ReduceOp::Prod => 1.0,
            ReduceOp::Max => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
        };
        // The lowest value of `i64` is not a float's neighbour of -inf, but casting saturates to it.
        Literal::from_f64(
            if self.dtype == DType::Bool && self.op == ReduceOp::Max { DType::U8 } else { self.dtype },
            float,
        )
    }
}

//! How one scalar expression becomes a vector loop for each SIMD path: the loop is generic over the expression and
//! instantiated in three functions that differ in the instructions the compiler may use.

use crate::path::KernelPath;

/// A compiled instruction over `n` elements: reads up to three operands and writes one result. The result overlaps
/// no operand, and each pointer is good for `n` elements of its type.
pub(crate) type OpFn = unsafe fn(dst: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize);

/// Whether a fused multiply-add is one instruction on the path.
pub(crate) trait LaneMode {
    const FMA: bool;
}

/// Products and sums are rounded separately.
pub(crate) struct Separate;
/// Products are added without being rounded first.
pub(crate) struct Fused;

impl LaneMode for Separate {
    const FMA: bool = false;
}
impl LaneMode for Fused {
    const FMA: bool = true;
}

/// `a * b + c`, fused where the path can.
#[inline(always)]
pub(crate) fn mul_add<M: LaneMode>(a: f32, b: f32, c: f32) -> f32 {
    if M::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `a * b + c` in double precision, fused where the path can.
#[inline(always)]
pub(crate) fn mul_add_f64<M: LaneMode>(a: f64, b: f64, c: f64) -> f64 {
    if M::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// One element of an instruction. Unused operands have the type `()`.
pub(crate) trait Lanewise {
    type A: Copy;
    type B: Copy;
    type C: Copy;
    type Out;
    fn eval<M: LaneMode>(a: Self::A, b: Self::B, c: Self::C) -> Self::Out;
    /// Whether some operands need another computation that is too slow or branches too much for the vector loop.
    const HAS_RARE: bool = false;
    /// Whether this operand does.
    #[inline(always)]
    fn is_rare(_a: Self::A) -> bool {
        false
    }
    /// That computation.
    fn rare(a: Self::A, b: Self::B, c: Self::C) -> Self::Out {
        Self::eval::<Separate>(a, b, c)
    }
}

/// # Safety
/// As for [`OpFn`].
#[inline(always)]
unsafe fn each<O: Lanewise, M: LaneMode>(dst: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
    let (dst, a, b, c) = (dst.cast::<O::Out>(), a.cast::<O::A>(), b.cast::<O::B>(), c.cast::<O::C>());
    for i in 0..n {
        // SAFETY: `i < n`, and the caller vouches for `n` elements behind each pointer (operands that are not used
        // have no size).
        unsafe { dst.add(i).write(O::eval::<M>(a.add(i).read(), b.add(i).read(), c.add(i).read())) };
    }
    if !O::HAS_RARE {
        return;
    }
    // SAFETY: as above.
    let any = (0..n).fold(false, |any, i| any | O::is_rare(unsafe { a.add(i).read() }));
    if any {
        for i in 0..n {
            // SAFETY: as above.
            unsafe {
                if O::is_rare(a.add(i).read()) {
                    dst.add(i).write(O::rare(a.add(i).read(), b.add(i).read(), c.add(i).read()));
                }
            }
        }
    }
}

unsafe fn each_portable<O: Lanewise>(dst: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
    // SAFETY: the caller's contract is the same.
    unsafe { each::<O, Separate>(dst, a, b, c, n) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
unsafe fn each_avx2<O: Lanewise>(dst: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
    // SAFETY: the caller's contract is the same.
    unsafe { each::<O, Fused>(dst, a, b, c, n) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2")]
unsafe fn each_avx512<O: Lanewise>(dst: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
    // SAFETY: the caller's contract is the same.
    unsafe { each::<O, Fused>(dst, a, b, c, n) }
}

/// The loop of expression `O` for `path`. Calling it demands a processor that supports the path.
pub(crate) fn pick<O: Lanewise>(path: KernelPath) -> OpFn {
    match path.vectors() {
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx2 => each_avx2::<O>,
        #[cfg(target_arch = "x86_64")]
        KernelPath::Avx512 => each_avx512::<O>,
        _ => each_portable::<O>,
    }
}

/// The loop of expression `O` for every path alike: for types and functions that are right but not fast.
pub(crate) fn plain<O: Lanewise>() -> OpFn {
    each_portable::<O>
}

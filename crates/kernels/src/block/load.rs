//! Moving elements between strided views and the blocks of the interpreter.

use super::ops::Cast;
use super::simd::{LaneMode, Lanewise, OpFn, pick};
use crate::kernel::Cx;
use crate::path::KernelPath;
use crate::view::View;
use outgrow_tensor::{DType, to_odd};

/// Most dimensions that a loop space may have after merging.
pub(crate) const MAX_RANK: usize = 12;

/// Neighbouring elements that are moved by a loop in place: for fewer a call takes longer.
const SHORT: usize = 16;

/// The value of a bf16 as f32: exact.
#[inline(always)]
pub(crate) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bf16, halves to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn narrow(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

/// The loops that move neighbouring elements between memory and registers on one path: those of four bytes, as bits, and
/// bf16, which registers hold as f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Movers {
    word: OpFn,
    widen: OpFn,
    narrow: OpFn,
}

impl Movers {
    pub fn new(path: KernelPath) -> Self {
        Self { word: pick::<Cast<i32, i32>>(path), widen: pick::<Widen>(path), narrow: pick::<Narrow>(path) }
    }
}

struct Widen;
impl Lanewise for Widen {
    type A = u16;
    type B = ();
    type C = ();
    type Out = f32;
    #[inline(always)]
    fn eval<M: LaneMode>(bits: u16, (): (), (): ()) -> f32 {
        widen(bits)
    }
}

struct Narrow;
impl Lanewise for Narrow {
    type A = f32;
    type B = ();
    type C = ();
    type Out = u16;
    #[inline(always)]
    fn eval<M: LaneMode>(x: f32, (): (), (): ()) -> u16 {
        narrow(x)
    }
}

/// Calls `segment(position, offset, length, stride)` for each run along the innermost dimension that the elements
/// `first..first + n` (in row-major order) consist of: `position` counts from `first`, `offset` is in elements from
/// the view's origin.
#[inline(always)]
pub(crate) fn walk(
    dims: &[usize],
    strides: &[isize],
    first: usize,
    n: usize,
    mut segment: impl FnMut(usize, isize, usize, isize),
) {
    let inner = dims.len() - 1;
    let mut index = [0usize; MAX_RANK];
    let mut offset = 0isize;
    let mut rest = first;
    for d in (0..dims.len()).rev() {
        index[d] = rest % dims[d];
        rest /= dims[d];
        offset += index[d] as isize * strides[d];
    }
    let mut position = 0;
    loop {
        let length = (dims[inner] - index[inner]).min(n - position);
        segment(position, offset, length, strides[inner]);
        position += length;
        if position == n {
            return;
        }
        // The inner dimension is at its end: back to its start, and one step along the next outer one.
        offset -= index[inner] as isize * strides[inner];
        index[inner] = 0;
        for d in (0..inner).rev() {
            index[d] += 1;
            offset += strides[d];
            if index[d] < dims[d] {
                break;
            }
            offset -= dims[d] as isize * strides[d];
            index[d] = 0;
        }
    }
}

/// A view, with its strides over a loop space.
#[derive(Clone, Debug)]
pub(crate) struct Strided {
    pub view: View,
    pub strides: Vec<isize>,
}

impl Strided {
    /// Copies the elements `first..first + n` of the loop space `dims` into the block at `dst`; bf16 is widened.
    ///
    /// # Safety
    /// The view was checked against the buffers of `cx`, `first + n` is within the space, `dst` is good for `n`
    /// register elements and does not overlap the view; the processor supports the path of `movers`.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn gather(
        &self,
        cx: &Cx<'_>,
        movers: &Movers,
        dims: &[usize],
        first: usize,
        n: usize,
        dst: *mut u8,
    ) {
        let origin = cx.origin(&self.view);
        // SAFETY: the caller's contract, with the type that belongs to the view's element type.
        unsafe {
            match self.view.dtype {
                DType::Bool | DType::U8 => self.gather_as::<u8, u8>(origin, dims, first, n, dst, |x| x, None),
                DType::I32 | DType::F32 => {
                    self.gather_as::<u32, u32>(origin, dims, first, n, dst, |x| x, Some(movers.word))
                }
                DType::I64 => self.gather_as::<i64, i64>(origin, dims, first, n, dst, |x| x, None),
                DType::F64 => self.gather_as::<f64, f64>(origin, dims, first, n, dst, |x| x, None),
                DType::BF16 => {
                    self.gather_as::<u16, f32>(origin, dims, first, n, dst, widen, Some(movers.widen))
                }
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn gather_as<T: Copy, R: Copy>(
        &self,
        origin: *const u8,
        dims: &[usize],
        first: usize,
        n: usize,
        dst: *mut u8,
        convert: impl Fn(T) -> R,
        neighbours: Option<OpFn>,
    ) {
        let none = std::ptr::null();
        let (origin, dst) = (origin.cast::<T>(), dst.cast::<R>());
        walk(dims, &self.strides, first, n, |position, offset, length, stride| {
            // SAFETY: offsets of indices within the space lie within the view; `position + length <= n`.
            unsafe {
                let (from, to) = (origin.offset(offset), dst.add(position));
                match (stride, neighbours) {
                    (1, Some(all)) if length >= SHORT => all(to.cast(), from.cast(), none, none, length),
                    (1, _) => (0..length).for_each(|i| *to.add(i) = convert(*from.add(i))),
                    (0, _) => {
                        let value = convert(*from);
                        (0..length).for_each(|i| *to.add(i) = value);
                    }
                    _ => (0..length).for_each(|i| *to.add(i) = convert(*from.offset(i as isize * stride))),
                }
            }
        });
    }

    /// Copies the block at `src` to the elements `first..first + n` of the loop space; bf16 is rounded.
    ///
    /// # Safety
    /// As for [`Strided::gather`], with the view writable and these elements written by nobody else.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn scatter(
        &self,
        cx: &Cx<'_>,
        movers: &Movers,
        dims: &[usize],
        first: usize,
        n: usize,
        src: *const u8,
    ) {
        let origin = cx.origin(&self.view);
        // SAFETY: the caller's contract, with the type that belongs to the view's element type.
        unsafe {
            match self.view.dtype {
                DType::Bool | DType::U8 => {
                    self.scatter_as::<u8, u8>(origin, dims, first, n, src, |x| x, None)
                }
                DType::I32 | DType::F32 => {
                    self.scatter_as::<u32, u32>(origin, dims, first, n, src, |x| x, Some(movers.word))
                }
                DType::I64 => self.scatter_as::<i64, i64>(origin, dims, first, n, src, |x| x, None),
                DType::F64 => self.scatter_as::<f64, f64>(origin, dims, first, n, src, |x| x, None),
                DType::BF16 => {
                    self.scatter_as::<f32, u16>(origin, dims, first, n, src, narrow, Some(movers.narrow))
                }
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn scatter_as<R: Copy, T: Copy>(
        &self,
        origin: *mut u8,
        dims: &[usize],
        first: usize,
        n: usize,
        src: *const u8,
        convert: impl Fn(R) -> T,
        neighbours: Option<OpFn>,
    ) {
        let none = std::ptr::null();
        let (origin, src) = (origin.cast::<T>(), src.cast::<R>());
        walk(dims, &self.strides, first, n, |position, offset, length, stride| {
            // SAFETY: offsets of indices within the space lie within the view; `position + length <= n`.
            unsafe {
                let (from, to) = (src.add(position), origin.offset(offset));
                match (stride, neighbours) {
                    (1, Some(all)) if length >= SHORT => all(to.cast(), from.cast(), none, none, length),
                    (1, _) => (0..length).for_each(|i| *to.add(i) = convert(*from.add(i))),
                    _ => (0..length).for_each(|i| *to.offset(i as isize * stride) = convert(*from.add(i))),
                }
            }
        });
    }
}

/// Writes the index along one dimension, which has stride 1 in `strides` before merging, to the block at `dst`.
///
/// # Safety
/// `dst` is good for `n` register elements of `dtype`.
pub(crate) unsafe fn iota(
    dtype: DType,
    dims: &[usize],
    strides: &[isize],
    first: usize,
    n: usize,
    dst: *mut u8,
) {
    walk(dims, strides, first, n, |position, offset, length, stride| {
        for i in 0..length {
            let value = offset + i as isize * stride;
            let at = position + i;
            // SAFETY: `at < n`.
            unsafe {
                match dtype {
                    DType::Bool => {}
                    DType::U8 => *dst.add(at) = value as u8,
                    DType::I32 => *dst.cast::<i32>().add(at) = value as i32,
                    DType::I64 => *dst.cast::<i64>().add(at) = value as i64,
                    DType::BF16 => *dst.cast::<f32>().add(at) = widen(narrow(to_odd(value as f64))),
                    DType::F32 => *dst.cast::<f32>().add(at) = value as f32,
                    DType::F64 => *dst.cast::<f64>().add(at) = value as f64,
                }
            }
        }
    });
}

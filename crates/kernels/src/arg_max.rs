//! The position of the maximum along one dimension.

use crate::block::widen;
use crate::error::KernelError;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel};
use crate::view::View;
use outgrow_tensor::DType;

/// The index of the maximum along one dimension, which vanishes: of the first among equals; of the first NaN if there
/// is one.
#[derive(Debug)]
pub struct ArgMax {
    x: View,
    axis: usize,
    out: View,
}

impl ArgMax {
    /// From `x` of any type to `out` of type i32 or i64, with the extents of `x` without `axis`.
    ///
    /// # Errors
    /// When extents or element types do not fit, or `axis` has no elements.
    pub fn new(x: View, axis: usize, out: View) -> Result<Self, KernelError> {
        let mut kept = x.dims.clone();
        if axis >= kept.len() || kept.remove(axis) == 0 || kept != out.dims {
            return Err(KernelError::operand("arg_max", format!("along {axis} of {x} to {out}")));
        }
        if !matches!(out.dtype, DType::I32 | DType::I64) {
            return Err(KernelError::dtype("arg_max", "the result", out.dtype, "i32 or i64"));
        }
        Ok(Self { x, axis, out })
    }

    /// The search for an element type, whose elements `convert` makes comparable.
    fn run_as<T: Copy, V: PartialOrd + Copy>(&self, cx: &Cx<'_>, convert: impl Fn(T) -> V + Sync) {
        let (n, step) = (self.x.dims[self.axis], self.x.strides[self.axis]);
        let mut strides = self.x.strides.clone();
        strides.remove(self.axis);
        cx.parallel(self.out.elements(), self.x.elements(), &|_, range| {
            let (x, out) = (cx.origin(&self.x).cast::<T>(), cx.origin(&self.out));
            for flat in range {
                let (mut from, mut to, mut rest) = (0, 0, flat);
                for d in (0..self.out.rank()).rev() {
                    let i = (rest % self.out.dims[d]) as isize;
                    rest /= self.out.dims[d];
                    from += i * strides[d];
                    to += i * self.out.strides[d];
                }
                // SAFETY: indices within the checked views; each result is written by one thread.
                unsafe {
                    let get = |k: usize| convert(*x.offset(from + k as isize * step));
                    let (mut best, mut at) = (get(0), 0);
                    for k in 1..n {
                        let value = get(k);
                        if value > best || (is_nan(value) && !is_nan(best)) {
                            (best, at) = (value, k);
                        }
                    }
                    match self.out.dtype {
                        DType::I32 => *out.cast::<i32>().offset(to) = at as i32,
                        _ => *out.cast::<i64>().offset(to) = at as i64,
                    }
                }
            }
        });
    }
}

#[inline(always)]
fn is_nan<V: PartialOrd + Copy>(value: V) -> bool {
    value.partial_cmp(&value).is_none()
}

impl Sealed for ArgMax {}

impl Kernel for ArgMax {
    fn name(&self) -> &'static str {
        "arg_max"
    }
    fn reads(&self) -> Vec<&View> {
        vec![&self.x]
    }
    fn writes(&self) -> Vec<&View> {
        vec![&self.out]
    }
    fn flops(&self) -> u64 {
        self.x.elements() as u64
    }
    fn run(&self, cx: &Cx<'_>) {
        match self.x.dtype {
            DType::Bool | DType::U8 => self.run_as(cx, |x: u8| x),
            DType::I32 => self.run_as(cx, |x: i32| x),
            DType::I64 => self.run_as(cx, |x: i64| x),
            DType::BF16 => self.run_as(cx, widen),
            DType::F32 => self.run_as(cx, |x: f32| x),
            DType::F64 => self.run_as(cx, |x: f64| x),
        }
    }
}

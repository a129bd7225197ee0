//! Convolutions by plain loops over outputs: for f64, and what is too small for products; right, not fast.

use super::Conv;
use crate::block::{narrow, widen};
use crate::kernel::Cx;
use crate::number::Factor;
use crate::view::View;
use outgrow_tensor::DType;

/// Runs `$method::<T>` for the element type.
macro_rules! by_type {
    ($self:ident, $cx:ident, $method:ident) => {
        match $self.x.dtype {
            DType::F64 => $self.$method::<f64>($cx),
            _ => $self.$method::<f32>($cx),
        }
    };
}

/// A type that is summed in.
trait Number: Factor {
    /// The element `at` behind the first, of that type; rounded to bf16 first if it is to be `narrow`.
    ///
    /// # Safety
    /// It is there.
    unsafe fn read(first: *const u8, dtype: DType, at: isize, narrow: bool) -> Self;
}

impl Number for f32 {
    #[inline(always)]
    unsafe fn read(first: *const u8, dtype: DType, at: isize, is_narrow: bool) -> Self {
        // SAFETY: the caller's contract.
        unsafe {
            match dtype {
                DType::BF16 => widen(*first.cast::<u16>().offset(at)),
                _ if is_narrow => widen(narrow(*first.cast::<f32>().offset(at))),
                _ => *first.cast::<f32>().offset(at),
            }
        }
    }
}

impl Number for f64 {
    #[inline(always)]
    unsafe fn read(first: *const u8, _: DType, at: isize, _: bool) -> Self {
        // SAFETY: the caller's contract.
        unsafe { *first.cast::<f64>().offset(at) }
    }
}

/// Elements from a view's origin to index `[a, b, c, d]`.
fn offset(view: &View, index: [usize; 4]) -> isize {
    index.iter().zip(&view.strides).map(|(&i, &s)| i as isize * s).sum()
}

/// The multi-index of flat position `flat` in `dims`.
fn unravel(mut flat: usize, dims: &[usize]) -> [usize; 4] {
    let mut index = [0; 4];
    for d in (0..4).rev() {
        index[d] = flat % dims[d];
        flat /= dims[d];
    }
    index
}

impl Conv {
    pub(super) fn forward_loops(&self, cx: &Cx<'_>) {
        by_type!(self, cx, forward_as)
    }

    pub(super) fn grad_input_loops(&self, cx: &Cx<'_>) {
        by_type!(self, cx, grad_input_as)
    }

    pub(super) fn grad_weight_loops(&self, cx: &Cx<'_>) {
        by_type!(self, cx, grad_weight_as)
    }

    /// Estimated nanoseconds of the whole.
    fn cost(&self) -> usize {
        usize::try_from(self.flops()).unwrap_or(usize::MAX)
    }

    /// Computes every element of `out` by `sum(index)`, divided over the threads.
    fn each_output<T: Factor>(&self, cx: &Cx<'_>, out: &View, sum: &(dyn Fn([usize; 4]) -> T::Sum + Sync)) {
        cx.parallel(out.elements(), self.cost(), &|_, range| {
            for flat in range {
                let index = unravel(flat, &out.dims);
                // SAFETY: an index within the checked view; each element is written by one thread.
                unsafe { *cx.origin(out).cast::<T>().offset(offset(out, index)) = T::from_sum(sum(index)) };
            }
        });
    }

    /// `sum + a[i] * b[j]`.
    ///
    /// # Safety
    /// The indices are within the views, which were checked.
    #[inline(always)]
    unsafe fn product<T: Number>(
        &self,
        cx: &Cx<'_>,
        (a, i): (&View, [usize; 4]),
        (b, j): (&View, [usize; 4]),
        sum: T::Sum,
    ) -> T::Sum {
        // SAFETY: the caller's contract.
        unsafe {
            let number = |view: &View, index| {
                T::read(cx.origin(view), view.dtype, offset(view, index), self.is_narrow())
            };
            number(a, i).fma(number(b, j), sum)
        }
    }

    fn forward_as<T: Number>(&self, cx: &Cx<'_>) {
        let [outs, per_group, kh, kw] = unravel_dims(&self.weight);
        let outs_per_group = (outs / self.groups).max(1);
        self.each_output::<T>(cx, &self.y, &|[b, o, h, w]| {
            let mut sum = T::ZERO;
            for c in 0..per_group {
                for i in 0..kh {
                    let Some(row) = self.window.source(0, self.x.dims[2], h, i) else { continue };
                    for j in 0..kw {
                        let Some(column) = self.window.source(1, self.x.dims[3], w, j) else { continue };
                        let x = [b, o / outs_per_group * per_group + c, row, column];
                        // SAFETY: `source` gives places inside the image; the rest counts over extents.
                        sum =
                            unsafe { self.product::<T>(cx, (&self.x, x), (&self.weight, [o, c, i, j]), sum) };
                    }
                }
            }
            sum
        });
    }

    fn grad_input_as<T: Number>(&self, cx: &Cx<'_>) {
        let [outs, per_group, kh, kw] = unravel_dims(&self.weight);
        let outs_per_group = outs / self.groups;
        // The place whose window has its element `k` on `at`.
        let place = |axis: usize, at: usize, k: usize| {
            let steps = (at + self.window.padding[2 * axis]).checked_sub(k * self.window.dilation[axis])?;
            let p = steps / self.window.strides[axis];
            (steps % self.window.strides[axis] == 0 && p < self.y.dims[2 + axis]).then_some(p)
        };
        self.each_output::<T>(cx, &self.x, &|[b, c, row, column]| {
            let mut sum = T::ZERO;
            let group = c / per_group;
            for o in group * outs_per_group..(group + 1) * outs_per_group {
                for i in 0..kh {
                    let Some(h) = place(0, row, i) else { continue };
                    for j in 0..kw {
                        let Some(w) = place(1, column, j) else { continue };
                        let (y, weight) = ([b, o, h, w], [o, c % per_group, i, j]);
                        // SAFETY: `place` gives places inside the result; the rest counts over extents.
                        sum = unsafe { self.product::<T>(cx, (&self.y, y), (&self.weight, weight), sum) };
                    }
                }
            }
            sum
        });
    }

    fn grad_weight_as<T: Number>(&self, cx: &Cx<'_>) {
        let [outs, per_group, ..] = unravel_dims(&self.weight);
        let outs_per_group = (outs / self.groups).max(1);
        let [batch, _, height, width] = unravel_dims(&self.y);
        self.each_output::<T>(cx, &self.weight, &|[o, c, i, j]| {
            let mut sum = T::ZERO;
            let channel = o / outs_per_group * per_group + c;
            for b in 0..batch {
                for h in 0..height {
                    let Some(row) = self.window.source(0, self.x.dims[2], h, i) else { continue };
                    for w in 0..width {
                        let Some(column) = self.window.source(1, self.x.dims[3], w, j) else { continue };
                        let x = [b, channel, row, column];
                        // SAFETY: `source` gives places inside the image; the rest counts over extents.
                        sum = unsafe { self.product::<T>(cx, (&self.x, x), (&self.y, [b, o, h, w]), sum) };
                    }
                }
            }
            sum
        });
    }
}

fn unravel_dims(view: &View) -> [usize; 4] {
    [view.dims[0], view.dims[1], view.dims[2], view.dims[3]]
}

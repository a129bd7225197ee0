//! Matrix products of the element types that have no fast kernels, in any layout.

use super::MatMul;
use crate::kernel::Cx;
use crate::number::Factor;
use crate::view::View;
use outgrow_tensor::DType;

impl MatMul {
    /// The product by three loops.
    pub(super) fn run_loops(&self, cx: &Cx<'_>) {
        match self.a.dtype {
            DType::F64 => self.loops::<f64>(cx),
            DType::I32 => self.loops::<i32>(cx),
            DType::I64 => self.loops::<i64>(cx),
            DType::U8 => self.loops::<u8>(cx),
            DType::F32 | DType::BF16 | DType::Bool => {
                unreachable!("invariant: sums in f32 have a plan, and there are none of bool")
            }
        }
    }

    fn loops<T: Factor>(&self, cx: &Cx<'_>) {
        let rank = self.c.rank();
        let rows = self.batch.iter().product::<usize>() * self.m;
        let cost = rows.saturating_mul(self.n).saturating_mul(self.k.max(1));
        let (k_stride, n_stride) = (self.b.strides[rank - 2], self.b.strides[rank - 1]);
        cx.parallel(rows, cost, &|_, range| {
            let (a, b) = (cx.origin(&self.a).cast::<T>(), cx.origin(&self.b).cast::<T>());
            let c = cx.origin(&self.c).cast::<T>();
            for row in range {
                let (i, batch) = (row % self.m, row / self.m);
                let at = |v: &View| batch_offset(&self.batch, v, batch);
                let a_row = at(&self.a) + i as isize * self.a.strides[rank - 2];
                let c_row = at(&self.c) + i as isize * self.c.strides[rank - 2];
                let b_batch = at(&self.b);
                for j in 0..self.n {
                    // SAFETY: indices within the views, which were checked; each row is written by one thread.
                    unsafe {
                        let column = b.offset(b_batch + j as isize * n_stride);
                        let mut sum = T::ZERO;
                        for p in 0..self.k as isize {
                            let x = *a.offset(a_row + p * self.a.strides[rank - 1]);
                            sum = x.fma(*column.offset(p * k_stride), sum);
                        }
                        let out = c.offset(c_row + j as isize * self.c.strides[rank - 1]);
                        *out = T::from_sum(sum);
                    }
                }
            }
        });
    }
}

/// Elements from a view's origin to its matrix number `index`, batches counted in row-major order.
pub(crate) fn batch_offset(batch: &[usize], view: &View, mut index: usize) -> isize {
    let mut offset = 0;
    for (d, &dim) in batch.iter().enumerate().rev() {
        offset += (index % dim) as isize * view.strides[d];
        index /= dim;
    }
    offset
}

//! `MatMul`: batched matrix products.

mod fast;
mod loops;

use crate::error::KernelError;
use crate::finish::Finish;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel, Scratch};
use crate::number::Bits16;
use crate::path::KernelPath;
use crate::view::View;
use crate::weight::Packer;
use outgrow_tensor::DType;

const NAME: &str = "matmul";

/// `C[.., m, n] = sum over k of A[.., m, k] * B[.., k, n]`.
///
/// The order of summation of an element depends on the extent of `k` alone: not on `m`, `n`, the batch or the number
/// of threads. A row computed on its own has the same bits as within a larger product.
#[derive(Debug)]
pub struct MatMul {
    a: View,
    b: View,
    c: View,
    batch: Vec<usize>,
    m: usize,
    n: usize,
    k: usize,
    finish: Option<Finish>,
    path: KernelPath,
    /// How the fast kernels run it, where they do: results in f32.
    plan: Option<fast::Plan>,
}

impl MatMul {
    /// A product of views of equal rank, at least two, with equal leading (batch) extents; operands repeat over the
    /// batch through strides of zero. Element types: bf16 operands with an f32 result, or one type of numbers for all
    /// three, other than bf16.
    ///
    /// # Errors
    /// When extents or element types do not fit.
    pub fn new(a: View, b: View, c: View) -> Result<Self, KernelError> {
        let misfit = || KernelError::operand(NAME, format!("{a} times {b} does not give {c}"));
        let rank = c.rank();
        if rank < 2 || a.rank() != rank || b.rank() != rank {
            return Err(misfit());
        }
        let batch = c.dims[..rank - 2].to_vec();
        let (m, n, k) = (c.dims[rank - 2], c.dims[rank - 1], a.dims[rank - 1]);
        let fits =
            |v: &View, rows, columns| v.dims[..rank - 2] == batch && v.dims[rank - 2..] == [rows, columns];
        if !fits(&a, m, k) || !fits(&b, k, n) {
            return Err(misfit());
        }
        let sums = if a.dtype == DType::BF16 { DType::F32 } else { a.dtype };
        if a.dtype != b.dtype || a.dtype == DType::Bool || c.dtype != sums {
            return Err(KernelError::dtype(
                NAME,
                format!("{a} times {b} to"),
                c.dtype,
                "a matching number type",
            ));
        }
        Ok(Self { a, b, c, batch, m, n, k, finish: None, path: KernelPath::Portable, plan: None })
    }

    /// With what follows element by element; the result is row-major and of f32, and the bias, if there is one, has stride
    /// one.
    ///
    /// # Errors
    /// When the views do not fit the result.
    pub fn finished(mut self, finish: Finish) -> Result<Self, KernelError> {
        finish.check(NAME, &self.c, self.c.rank() - 1)?;
        if let Some(bias) = finish.bias.as_ref().filter(|bias| !bias.is_row_major()) {
            return Err(KernelError::operand(NAME, format!("the biases {bias} do not lie side by side")));
        }
        self.finish = Some(finish);
        Ok(self)
    }
}

impl Sealed for MatMul {
    fn pack(&mut self, packer: &Packer<'_>) -> Result<(), KernelError> {
        self.pack_weights(packer)
    }
}

impl Kernel for MatMul {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self, path: KernelPath) {
        self.path = path;
        self.plan = (self.c.dtype == DType::F32).then(|| self.plan(path));
    }

    fn scratch(&self) -> Scratch {
        Scratch { per_thread: self.plan.as_ref().map_or(0, fast::Plan::scratch_bytes), shared: 0 }
    }

    fn reads(&self) -> Vec<&View> {
        [&self.a, &self.b].into_iter().chain(self.finish.iter().flat_map(Finish::reads)).collect()
    }

    fn writes(&self) -> Vec<&View> {
        vec![&self.c]
    }

    fn flops(&self) -> u64 {
        let extents = self.batch.iter().chain([&self.m, &self.n, &self.k]);
        extents.fold(2, |flops: u64, &d| flops.saturating_mul(d as u64))
    }

    fn run(&self, cx: &Cx<'_>) {
        match &self.plan {
            Some(plan) if self.a.dtype == DType::F32 => self.run_fast::<f32>(cx, plan),
            Some(plan) => self.run_fast::<Bits16>(cx, plan),
            None => self.run_loops(cx),
        }
    }
}

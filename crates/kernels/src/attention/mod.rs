//! `Attention` and `AttentionGrad`: scaled dot-product attention of each head, and its gradients.
//!
//! No matrix of all scores is ever there: a thread computes those of some queries in its own memory, uses them up, and
//! goes on; the gradient computes them once more (Rabe and Staats 2021, arXiv 2112.05682; Dao et al. 2022, arXiv
//! 2205.14135). Of causal attention, what lies behind a query's own place is computed only where it shares a panel of
//! rows with what does not.

mod fast;
mod loops;

use crate::error::KernelError;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel, Scratch};
use crate::path::KernelPath;
use crate::view::View;
use outgrow_tensor::DType;

/// Extents of `[batch, tokens, heads, d]`, of f32 or f64.
#[derive(Clone, Copy, Debug)]
struct Extents {
    batch: usize,
    tokens: usize,
    heads: usize,
    d: usize,
    causal: bool,
}

impl Extents {
    /// Those of `operands`, which are all alike, and of a result whose heads are `parts` times as many.
    fn of(
        kernel: &'static str,
        operands: &[&View],
        out: &View,
        parts: usize,
        causal: bool,
    ) -> Result<Self, KernelError> {
        let first = operands[0];
        let misfit = || KernelError::operand(kernel, format!("{first} and its like do not give {out}"));
        let [batch, tokens, heads, d] =
            <[usize; 4]>::try_from(first.dims.as_slice()).map_err(|_| misfit())?;
        let alike = operands.iter().all(|view| view.dims == first.dims && view.dtype == first.dtype);
        let result = heads.checked_mul(parts).map(|heads| vec![batch, tokens, heads, d]);
        if !alike || out.dtype != first.dtype || result.as_ref() != Some(&out.dims) || d == 0 {
            return Err(misfit());
        }
        if !matches!(first.dtype, DType::F32 | DType::F64) {
            return Err(KernelError::dtype(kernel, first.to_string(), first.dtype, "f32 or f64"));
        }
        Ok(Self { batch, tokens, heads, d, causal })
    }

    /// How many keys query `i` sees: the first ones.
    #[inline(always)]
    fn seen(&self, i: usize) -> usize {
        if self.causal { i + 1 } else { self.tokens }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.d as f64).sqrt()
    }

    /// Heads of all samples: each is a task.
    fn tasks(&self) -> usize {
        self.batch * self.heads
    }

    /// Operations of `products` matrix products of every head.
    fn flops(&self, products: u64) -> u64 {
        let extents = [self.batch, self.tokens, self.tokens, self.heads, self.d];
        let all = extents.iter().fold(2 * products, |flops, &n| flops.saturating_mul(n as u64));
        if self.causal { all / 2 } else { all }
    }

    /// How the fast kernels run it, where they do: operands in f32.
    fn plan(&self, operand: &View, path: KernelPath) -> Option<fast::Plan> {
        (operand.dtype == DType::F32).then(|| fast::Plan::new(path, self))
    }

    /// What a thread needs for the result, or for gradients.
    fn scratch(&self, plan: Option<&fast::Plan>, gradient: bool) -> Scratch {
        let bytes = plan.map_or_else(|| loops::scratch_bytes(self), |plan| plan.scratch_bytes(gradient));
        Scratch { per_thread: bytes, shared: 0 }
    }

    /// Elements from a view's origin to the first token of a head, counted over samples and heads, of part `part` of
    /// the heads.
    fn head(&self, view: &View, task: usize, part: usize) -> isize {
        let (batch, head) = (task / self.heads, task % self.heads + part * self.heads);
        batch as isize * view.strides[0] + head as isize * view.strides[2]
    }
}

/// `y = softmax(q kᵀ / √d) v`, where causal attention lets query i see the keys up to i only. Each head of each sample
/// is a task of its own, and all of an element's sums are in an order that the number of tokens, `d` and the path decide.
#[derive(Debug)]
pub struct Attention {
    q: View,
    k: View,
    v: View,
    y: View,
    extents: Extents,
    /// How the fast kernels run it: in f32.
    plan: Option<fast::Plan>,
}

impl Attention {
    /// Attention of views `[batch, tokens, heads, d]` of f32 or f64.
    ///
    /// # Errors
    /// When extents or element types do not fit.
    pub fn new(q: View, k: View, v: View, y: View, causal: bool) -> Result<Self, KernelError> {
        let extents = Extents::of("attention", &[&q, &k, &v], &y, 1, causal)?;
        Ok(Self { q, k, v, y, extents, plan: None })
    }
}

impl Sealed for Attention {}

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }
    fn prepare(&mut self, path: KernelPath) {
        self.plan = self.extents.plan(&self.q, path);
    }
    fn scratch(&self) -> Scratch {
        self.extents.scratch(self.plan.as_ref(), false)
    }
    fn reads(&self) -> Vec<&View> {
        vec![&self.q, &self.k, &self.v]
    }
    fn writes(&self) -> Vec<&View> {
        vec![&self.y]
    }
    fn flops(&self) -> u64 {
        self.extents.flops(2)
    }
    fn run(&self, cx: &Cx<'_>) {
        match &self.plan {
            Some(plan) => self.run_fast(cx, plan),
            None => self.run_loops(cx),
        }
    }
}

/// From queries, keys, values and the gradient of their attention to the gradients by the three, one behind the other
/// along the heads.
#[derive(Debug)]
pub struct AttentionGrad {
    q: View,
    k: View,
    v: View,
    dy: View,
    out: View,
    extents: Extents,
    plan: Option<fast::Plan>,
}

impl AttentionGrad {
    /// The gradients of attention of views `[batch, tokens, heads, d]`, all of f32 or of f64, as `[batch, tokens,
    /// 3 heads, d]`.
    ///
    /// # Errors
    /// When extents or element types do not fit.
    pub fn new(q: View, k: View, v: View, dy: View, out: View, causal: bool) -> Result<Self, KernelError> {
        let extents = Extents::of("attention_grad", &[&q, &k, &v, &dy], &out, 3, causal)?;
        Ok(Self { q, k, v, dy, out, extents, plan: None })
    }
}

impl Sealed for AttentionGrad {}

impl Kernel for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention_grad"
    }
    fn prepare(&mut self, path: KernelPath) {
        self.plan = self.extents.plan(&self.q, path);
    }
    fn scratch(&self) -> Scratch {
        self.extents.scratch(self.plan.as_ref(), true)
    }
    fn reads(&self) -> Vec<&View> {
        vec![&self.q, &self.k, &self.v, &self.dy]
    }
    fn writes(&self) -> Vec<&View> {
        vec![&self.out]
    }
    fn flops(&self) -> u64 {
        self.extents.flops(5)
    }
    fn run(&self, cx: &Cx<'_>) {
        match &self.plan {
            Some(plan) => self.run_fast(cx, plan),
            None => self.run_loops(cx),
        }
    }
}

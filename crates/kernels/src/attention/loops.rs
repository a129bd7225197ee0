//! Attention in f64, in plain loops over one query at a time.

use super::{Attention, AttentionGrad, Extents};
use crate::kernel::Cx;
use crate::view::View;

/// Bytes of scratch memory that a thread needs: two rows of numbers for each key.
pub(super) fn scratch_bytes(extents: &Extents) -> usize {
    extents.tokens.saturating_mul(16)
}

/// One head of a view.
#[derive(Clone, Copy)]
struct Head {
    start: *mut f64,
    token: isize,
    along: isize,
}

impl Head {
    fn new(cx: &Cx<'_>, extents: &Extents, view: &View, task: usize, part: usize) -> Self {
        let start = cx.origin(view).cast::<f64>().wrapping_offset(extents.head(view, task, part));
        Self { start, token: view.strides[1], along: view.strides[3] }
    }

    fn at(&self, i: usize, p: usize) -> *mut f64 {
        self.start.wrapping_offset(i as isize * self.token + p as isize * self.along)
    }

    /// # Safety
    /// Tokens `i` and `j` have `d` elements in either view.
    unsafe fn product(&self, i: usize, other: &Self, j: usize, d: usize) -> f64 {
        // SAFETY: the caller's contract.
        (0..d).map(|p| unsafe { *self.at(i, p) * *other.at(j, p) }).sum()
    }

    /// Adds `factor` times token `j` of another view to token `i`.
    ///
    /// # Safety
    /// As for [`Head::product`]; nobody else uses token `i`.
    unsafe fn add(&self, i: usize, factor: f64, other: &Self, j: usize, d: usize) {
        for p in 0..d {
            // SAFETY: the caller's contract.
            unsafe { *self.at(i, p) += factor * *other.at(j, p) };
        }
    }

    /// # Safety
    /// As for [`Head::add`].
    unsafe fn clear(&self, i: usize, d: usize) {
        // SAFETY: the caller's contract.
        (0..d).for_each(|p| unsafe { *self.at(i, p) = 0.0 });
    }
}

/// How much query `i` takes of each key that it sees.
///
/// # Safety
/// The heads have as many tokens, and `weights` has room for them.
unsafe fn weigh(extents: &Extents, q: &Head, k: &Head, i: usize, weights: &mut [f64]) {
    for (j, weight) in weights.iter_mut().enumerate() {
        // SAFETY: the caller's contract.
        *weight = unsafe { q.product(i, k, j, extents.d) } * extents.scale();
    }
    let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    weights.iter_mut().for_each(|weight| *weight = libm::exp(*weight - most));
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
}

impl Attention {
    pub(super) fn run_loops(&self, cx: &Cx<'_>) {
        let x = &self.extents;
        cx.parallel(x.tasks(), x.flops(2) as usize, &|thread, range| {
            for task in range {
                let [q, k, v, y] =
                    [&self.q, &self.k, &self.v, &self.y].map(|view| Head::new(cx, x, view, task, 0));
                for i in 0..x.tokens {
                    // SAFETY: the views were checked; a head of the result is one thread's, as is the scratch memory, which
                    // holds two numbers for each key.
                    unsafe {
                        let weights =
                            std::slice::from_raw_parts_mut(cx.scratch(thread).cast::<f64>(), x.seen(i));
                        weigh(x, &q, &k, i, weights);
                        y.clear(i, x.d);
                        weights.iter().enumerate().for_each(|(j, weight)| y.add(i, *weight, &v, j, x.d));
                    }
                }
            }
        });
    }
}

impl AttentionGrad {
    pub(super) fn run_loops(&self, cx: &Cx<'_>) {
        let x = &self.extents;
        cx.parallel(x.tasks(), x.flops(5) as usize, &|thread, range| {
            for task in range {
                let [q, k, v, dy] =
                    [&self.q, &self.k, &self.v, &self.dy].map(|view| Head::new(cx, x, view, task, 0));
                let [dq, dk, dv] = [0, 1, 2].map(|part| Head::new(cx, x, &self.out, task, part));
                let scratch = cx.scratch(thread).cast::<f64>();
                // SAFETY: the views were checked; a head of the results is one thread's, as is the scratch memory, which
                // holds two numbers for each key.
                unsafe {
                    (0..x.tokens).for_each(|i| [dq, dk, dv].iter().for_each(|head| head.clear(i, x.d)));
                    for i in 0..x.tokens {
                        let weights = std::slice::from_raw_parts_mut(scratch, x.seen(i));
                        let by = std::slice::from_raw_parts_mut(scratch.add(x.tokens), x.seen(i));
                        weigh(x, &q, &k, i, weights);
                        by.iter_mut().enumerate().for_each(|(j, by)| *by = dy.product(i, &v, j, x.d));
                        let mean: f64 = weights.iter().zip(by.iter()).map(|(w, by)| w * by).sum();
                        for (j, (weight, by)) in weights.iter().zip(by.iter()).enumerate() {
                            let score = weight * (by - mean) * x.scale();
                            dq.add(i, score, &k, j, x.d);
                            dk.add(j, score, &q, i, x.d);
                            dv.add(j, *weight, &dy, i, x.d);
                        }
                    }
                }
            }
        });
    }
}

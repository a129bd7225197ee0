//! What is done with the sums of a convolution before anybody else reads them: biases, what a shortcut adds, and bounds (as
//! those of ReLU), while the sums lie in registers or in the cache.

#[cfg(target_arch = "x86_64")]
use crate::gemm::{Avx2, Avx512};
use crate::gemm::{Portable, Vector};
use crate::kernel::Cx;
use crate::path::{KernelPath, by_vectors};
use crate::view::View;

/// Adds to `[batch, channels, height, width]` sums, in this order, a bias and a residual, and then bounds them from below and
/// from above. What is NaN stays NaN.
#[derive(Clone, Debug)]
pub struct Finish {
    /// A number for each channel: `[channels]`.
    pub bias: Option<View>,
    /// One for each element: row-major, of the extents of the sums.
    pub residual: Option<View>,
    /// The lower bound; where a zero is as large, the element's own sign of zero stays. Minus infinity bounds nothing.
    pub low: f32,
    /// Whether a zero that is not above the lower bound becomes positive.
    pub zero_is_positive: bool,
    /// The upper bound; infinity bounds nothing.
    pub high: f32,
}

impl Finish {
    /// The views that are read.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &View> {
        self.bias.iter().chain(&self.residual)
    }

    /// Makes it ready for a run.
    pub(crate) fn start(&self, cx: &Cx<'_>, path: KernelPath, out: &View) -> Finisher {
        let origin = |view: &View| cx.origin(view).cast::<f32>().cast_const();
        Finisher {
            rows: rows(path),
            bias: self.bias.as_ref().map_or((std::ptr::null(), 0), |bias| (origin(bias), bias.strides[0])),
            out: origin(out),
            residual: self.residual.as_ref().map(origin),
            bounds: Bounds {
                low: self.low,
                // Added to the greater of the bound and the element: minus zero changes nothing.
                shift: if self.zero_is_positive { 0.0 } else { -0.0 },
                high: self.high,
            },
        }
    }
}

/// A [`Finish`] over the memory of a run.
pub(crate) struct Finisher {
    rows: unsafe fn(&Rows),
    bias: (*const f32, isize),
    /// The first element of the sums, and of what is added to them.
    out: *const f32,
    residual: Option<*const f32>,
    bounds: Bounds,
}

// SAFETY: addresses only; threads work on disjoint elements.
unsafe impl Sync for Finisher {}

#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    low: f32,
    shift: f32,
    high: f32,
}

/// Minus zero, which changes nothing that it is added to.
static NO_BIAS: f32 = -0.0;

/// Rows of neighbouring elements, and what belongs to them.
struct Rows {
    to: *mut f32,
    /// Elements between rows, here and of the residual.
    step: isize,
    rows: usize,
    columns: usize,
    /// The bias of the first row, and elements between biases.
    bias: *const f32,
    bias_step: isize,
    /// Null if there is none.
    residual: *const f32,
    bounds: Bounds,
}

impl Finisher {
    /// The bias of a channel, and elements to that of the next.
    fn bias(&self, channel: usize) -> (*const f32, isize) {
        match self.bias {
            (start, _) if start.is_null() => (&NO_BIAS, 0),
            (start, step) => (start.wrapping_offset(channel as isize * step), step),
        }
    }

    /// What is added to the element at `to`, or null.
    fn residual(&self, to: *const f32) -> *const f32 {
        let distance = to.addr().wrapping_sub(self.out.addr());
        self.residual.map_or(std::ptr::null(), |start| start.wrapping_byte_add(distance))
    }

    /// Finishes `columns` elements of each of `count` channels from `channel` on; the first is at `to`, the next one's `step`
    /// elements from there.
    ///
    /// # Safety
    /// They are elements of the result, of one image; nobody else works on them; the processor supports the path.
    pub unsafe fn run(&self, channel: usize, count: usize, to: *mut f32, step: isize, columns: usize) {
        let (bias, bias_step) = self.bias(channel);
        let (residual, bounds) = (self.residual(to), self.bounds);
        // SAFETY: the caller's contract; biases and residuals were checked with the result.
        unsafe {
            (self.rows)(&Rows { to, step, rows: count, columns, bias, bias_step, residual, bounds });
        }
    }

    /// What finishes vectors of one channel, of which an element is at `to`.
    pub fn of_channel(&self, channel: usize, to: *const f32) -> OfChannel {
        OfChannel { bias: self.bias(channel).0, residual: self.residual(to), bounds: self.bounds }
    }

    /// Finishes the whole result, which is row-major.
    pub fn over(&self, cx: &Cx<'_>, out: &View) {
        let (channels, places) = (out.dims[1], out.dims[2] * out.dims[3]);
        let cost_ns = out.elements() / 8;
        cx.parallel(out.dims[0] * channels, cost_ns, &|_, range| {
            for plane in range {
                let to = cx.origin(out).cast::<f32>().wrapping_add(plane * places);
                // SAFETY: a plane of the checked result, which is this thread's; the program's builder found the path
                // supported.
                unsafe { self.run(plane % channels, 1, to, 0, places) };
            }
        });
    }
}

/// A [`Finisher`] of one channel.
#[derive(Clone, Copy)]
pub(crate) struct OfChannel {
    bias: *const f32,
    residual: *const f32,
    bounds: Bounds,
}

impl OfChannel {
    /// Finishes the first `n` lanes, the first of which belongs to the element `at` behind that one.
    ///
    /// # Safety
    /// These are elements of the channel, and the processor supports the path of `V`.
    #[inline(always)]
    pub unsafe fn vector<V: Vector>(&self, sums: V, at: isize, n: usize) -> V {
        // SAFETY: the caller's contract.
        unsafe {
            let mut sums = sums.add(V::splat(self.bias));
            if !self.residual.is_null() {
                let from = self.residual.wrapping_offset(at);
                sums = sums.add(if n == V::LANES { V::load(from) } else { V::load_first(from, n) });
            }
            self.bounds.apply(sums)
        }
    }
}

impl Bounds {
    /// # Safety
    /// The processor supports the path of `V`.
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, sums: V) -> V {
        // SAFETY: the caller's contract.
        unsafe {
            let bounded = sums.at_least(V::splat(&self.low)).add(V::splat(&self.shift));
            bounded.at_most(V::splat(&self.high))
        }
    }
}

/// # Safety
/// The elements are there, with what is added to them, and the processor supports the path of the vectors.
#[inline(always)]
unsafe fn finish<V: Vector>(r: &Rows) {
    for row in 0..r.rows as isize {
        let to = r.to.wrapping_offset(row * r.step);
        let residual =
            if r.residual.is_null() { r.residual } else { r.residual.wrapping_offset(row * r.step) };
        let of = OfChannel { bias: r.bias.wrapping_offset(row * r.bias_step), residual, bounds: r.bounds };
        for column in (0..r.columns).step_by(V::LANES) {
            let n = (r.columns - column).min(V::LANES);
            let to = to.wrapping_add(column);
            // SAFETY: the caller's contract.
            unsafe {
                if n == V::LANES {
                    of.vector(V::load(to), column as isize, n).store(to);
                } else {
                    of.vector(V::load_first(to, n), column as isize, n).store_first(to, n);
                }
            }
        }
    }
}

by_vectors! {
    /// What finishes rows on a path.
    fn rows -> fn(r: &Rows);
    portable finish::<Portable>(r);
    avx2 finish::<Avx2>(r);
    avx512 finish::<Avx512>(r);
}

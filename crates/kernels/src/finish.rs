//! What is done with the sums of a convolution or a matrix product before anybody else reads them: biases, what a shortcut
//! adds, and bounds (as those of ReLU), while the sums lie in registers or in the cache.

use crate::error::KernelError;
#[cfg(target_arch = "x86_64")]
use crate::gemm::{Avx2, Avx512};
use crate::gemm::{Portable, Vector, prefetch};
use crate::kernel::Cx;
use crate::path::{KernelPath, by_vectors};
use crate::view::View;
use outgrow_tensor::DType;
use std::ops::Range;

/// Floats of a line of the cache.
const LINE: usize = 16;

/// Adds to sums, in this order, a bias and a residual, and then bounds them from below and from above, and may round them to
/// bf16. What is NaN stays NaN.
#[derive(Clone, Debug)]
pub struct Finish {
    /// A number for each channel of the `[batch, channels, height, width]` sums of a convolution: `[channels]`; or for each
    /// column of those of a matrix product, side by side: `[columns]`.
    pub bias: Option<View>,
    /// One for each element: row-major, of the extents of the sums.
    pub residual: Option<View>,
    /// The lower bound; where a zero is as large, the element's own sign of zero stays. Minus infinity bounds nothing.
    pub low: f32,
    /// Whether a zero that is not above the lower bound becomes positive.
    pub zero_is_positive: bool,
    /// The upper bound; infinity bounds nothing.
    pub high: f32,
    /// Whether what comes out is rounded to bf16 in the end, to nearest and ties to even.
    pub rounded: bool,
}

impl Finish {
    /// The views that are read.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &View> {
        self.bias.iter().chain(&self.residual)
    }

    /// An error unless it fits `out`, which is to be row-major and of f32, and whose biases go along dimension `axis`.
    pub(crate) fn check(&self, kernel: &'static str, out: &View, axis: usize) -> Result<(), KernelError> {
        let fits = |view: &View, dims: &[usize]| view.dtype == DType::F32 && view.dims == dims;
        let bias = self.bias.as_ref().is_none_or(|bias| fits(bias, &out.dims[axis..=axis]));
        let residual = self.residual.as_ref().is_none_or(|it| fits(it, &out.dims) && it.is_row_major());
        if bias && residual && out.dtype == DType::F32 && out.is_row_major() {
            return Ok(());
        }
        Err(KernelError::operand(kernel, format!("{self:?} does not fit the result {out}")))
    }

    /// Makes it ready for a run, for sums whose rows are channels, each of which has a bias.
    pub(crate) fn start(&self, cx: &Cx<'_>, path: KernelPath, out: &View) -> Finisher {
        let origin = |view: &View| cx.origin(view).cast::<f32>().cast_const();
        Finisher {
            rows: rows(path),
            bias: self.bias.as_ref().map_or((std::ptr::null(), 0), |bias| (origin(bias), bias.strides[0])),
            by_column: false,
            out: origin(out),
            residual: self.residual.as_ref().map(origin),
            bounds: Bounds {
                low: self.low,
                // Added to the greater of the bound and the element: minus zero changes nothing.
                shift: if self.zero_is_positive { 0.0 } else { -0.0 },
                high: self.high,
                rounded: self.rounded,
            },
        }
    }

    /// The same for sums that have a bias for each column.
    pub(crate) fn start_by_column(&self, cx: &Cx<'_>, path: KernelPath, out: &View) -> Finisher {
        Finisher { by_column: self.bias.is_some(), ..self.start(cx, path, out) }
    }
}

/// A [`Finish`] over the memory of a run.
pub(crate) struct Finisher {
    rows: unsafe fn(&Rows),
    /// The first bias, and elements between them.
    bias: (*const f32, isize),
    /// Whether biases belong to columns, side by side, and not to rows.
    by_column: bool,
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
    rounded: bool,
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
    /// The bias of the first row or column, and elements between those of rows.
    bias: *const f32,
    bias_step: isize,
    by_column: bool,
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

    /// Finishes the elements of the columns `columns` in each of `count` rows from `row` on; the first is at `to`, the next
    /// row's `step` elements from there.
    ///
    /// # Safety
    /// They are elements of the result, of one image or matrix; nobody else works on them; the processor supports the path.
    pub unsafe fn run(&self, row: usize, count: usize, to: *mut f32, step: isize, columns: Range<usize>) {
        let by_column = self.by_column;
        let (bias, bias_step) = if by_column { (self.bias(columns.start).0, 0) } else { self.bias(row) };
        let (residual, bounds, columns) = (self.residual(to), self.bounds, columns.len());
        // SAFETY: the caller's contract; biases and residuals were checked with the result.
        unsafe {
            (self.rows)(&Rows {
                to,
                step,
                rows: count,
                columns,
                bias,
                bias_step,
                by_column,
                residual,
                bounds,
            });
        }
    }

    /// Asks for what will be added to `columns` elements of each of `count` rows, as for [`Finisher::run`].
    pub fn prefetch(&self, count: usize, to: *const f32, step: isize, columns: usize) {
        if self.residual.is_none() {
            return;
        }
        for row in 0..count as isize {
            let from = self.residual(to.wrapping_offset(row * step));
            (0..columns).step_by(LINE).for_each(|column| prefetch(from.wrapping_add(column)));
        }
    }

    /// What finishes vectors of one channel, of which an element is at `to`.
    pub fn of_channel(&self, channel: usize, to: *const f32) -> OfChannel {
        OfChannel { bias: self.bias(channel).0, residual: self.residual(to), bounds: self.bounds }
    }

    /// What finishes a tile of sums before they are stored, the first row and column of which are these and go to `to`; `None`
    /// if they are to be rounded, which takes more registers than a tile leaves.
    #[inline]
    pub fn of_tile(&self, row: usize, column: usize, to: *const f32) -> Option<OfTile> {
        if self.bounds.rounded {
            return None;
        }
        let of_rows = if self.by_column { (&raw const NO_BIAS, 0) } else { self.bias(row) };
        let biases = if self.by_column { self.bias(column).0 } else { std::ptr::null() };
        Some(OfTile { bias: of_rows, biases, residual: self.residual(to), bounds: self.bounds })
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
                unsafe { self.run(plane % channels, 1, to, 0, 0..places) };
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
        unsafe { self.biased(sums, V::splat(self.bias), at, n) }
    }

    /// The same with biases of their own.
    ///
    /// # Safety
    /// As for [`OfChannel::vector`].
    #[inline(always)]
    unsafe fn biased<V: Vector>(&self, sums: V, bias: V, at: isize, n: usize) -> V {
        // SAFETY: the caller's contract.
        unsafe {
            let mut sums = sums.add(bias);
            if !self.residual.is_null() {
                let from = self.residual.wrapping_offset(at);
                sums = sums.add(if n == V::LANES { V::load(from) } else { V::load_first(from, n) });
            }
            self.bounds.apply(sums)
        }
    }
}

/// A [`Finisher`] of the sums of one tile, while they lie in registers: where inner positions are few, to store and load them
/// again takes as long as to sum them.
#[derive(Clone, Copy)]
pub(crate) struct OfTile {
    /// The bias of the first row, and elements between those of rows.
    bias: (*const f32, isize),
    /// The biases of the columns, or null.
    biases: *const f32,
    /// Null if there is none.
    residual: *const f32,
    bounds: Bounds,
}

impl OfTile {
    /// Finishes sums, whose rows are `step` elements apart in the residual.
    ///
    /// # Safety
    /// All of them are elements of the result, and the processor supports the path of `V`.
    #[inline(always)]
    pub unsafe fn apply<V: Vector, const R: usize, const N: usize>(
        &self,
        sums: &mut [[V; N]; R],
        step: isize,
    ) {
        // SAFETY: the caller's contract; biases and residuals were checked with the result.
        unsafe {
            for (i, row) in sums.iter_mut().enumerate() {
                let bias = V::splat(self.bias.0.offset(i as isize * self.bias.1));
                for sum in row {
                    *sum = sum.add(bias);
                }
            }
            // A stage of its own: what one branch or the other adds to sums would have to be in memory.
            if !self.biases.is_null() {
                for row in sums.iter_mut() {
                    for (v, sum) in row.iter_mut().enumerate() {
                        *sum = sum.add(V::load(self.biases.add(v * V::LANES)));
                    }
                }
            }
            if !self.residual.is_null() {
                for (i, row) in sums.iter_mut().enumerate() {
                    let from = self.residual.offset(i as isize * step);
                    for (v, sum) in row.iter_mut().enumerate() {
                        *sum = sum.add(V::load(from.add(v * V::LANES)));
                    }
                }
            }
            let [low, shift, high] =
                [&self.bounds.low, &self.bounds.shift, &self.bounds.high].map(|it| V::splat(it));
            for row in sums.iter_mut() {
                for sum in row {
                    *sum = sum.at_least(low).add(shift).at_most(high);
                }
            }
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
            let bounded = bounded.at_most(V::splat(&self.high));
            if self.rounded { bounded.rounded() } else { bounded }
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
                let load =
                    |from: *const f32| if n == V::LANES { V::load(from) } else { V::load_first(from, n) };
                let bias = if r.by_column { load(of.bias.wrapping_add(column)) } else { V::splat(of.bias) };
                let done = of.biased(load(to), bias, column as isize, n);
                if n == V::LANES { done.store(to) } else { done.store_first(to, n) }
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

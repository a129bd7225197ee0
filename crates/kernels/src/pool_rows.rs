//! Pooling of f32 planes whose rows are contiguous: a row of results at a time. Taps are visited in the same order as in
//! the general loops, so the bits are the same.

use crate::view::View;
use crate::window::Window;

/// A plane of contiguous rows and the windows over it.
#[derive(Clone, Copy)]
pub(crate) struct PlaneRows {
    /// Elements between rows of the input.
    pub pitch: usize,
    /// Height and width of the input.
    pub extents: [usize; 2],
    /// Steps of the window along height and width.
    pub strides: [usize; 2],
    /// Height and width of the window.
    pub size: [usize; 2],
    /// Padding at the top and on the left, and distances of the window's own elements.
    padding: [usize; 2],
    dilation: [usize; 2],
    /// Whether all windows lie wholly inside, without gaps.
    pub inside: bool,
}

impl PlaneRows {
    /// When the fast loops apply: all views are row-major, so that planes lie apart.
    pub fn new(x: &View, others: &[&View], size: [usize; 2], window: &Window) -> Option<Self> {
        let dense = |view: &View| view.is_row_major() && view.strides[3] == 1 && view.strides[2] >= 0;
        let inside = window.padding == [0; 4] && window.dilation == [1; 2];
        let fits = dense(x) && others.iter().all(|v| dense(v)) && size[0] * size[1] > 0;
        fits.then(|| Self {
            pitch: x.strides[2] as usize,
            extents: [x.dims[2], x.dims[3]],
            strides: window.strides,
            size,
            padding: [window.padding[0], window.padding[2]],
            dilation: window.dilation,
            inside,
        })
    }

    /// Whether windows are pairs of rows and columns, side by side.
    pub fn is_pairs(&self) -> bool {
        self.inside && self.size == [2, 2] && self.strides == [2, 2]
    }

    /// The maxima of row `h` of windows over the plane `x`.
    pub fn max(&self, x: &[f32], h: usize, out: &mut [f32]) {
        out.fill(f32::NEG_INFINITY);
        self.taps(x, h, out, |result, value| if value > result || value.is_nan() { value } else { result });
    }

    /// The sums of row `h` of windows.
    pub fn sum(&self, x: &[f32], h: usize, out: &mut [f32]) {
        out.fill(0.0);
        self.taps(x, h, out, |result, value| result + value);
    }

    #[inline(always)]
    fn taps(&self, x: &[f32], h: usize, out: &mut [f32], fold: impl Fn(f32, f32) -> f32) {
        let ([height, width], stride) = (self.extents, self.strides[1]);
        for i in 0..self.size[0] {
            let row = (h * self.strides[0] + i * self.dilation[0]).checked_sub(self.padding[0]);
            let Some(row) = row.filter(|row| *row < height) else { continue };
            for j in 0..self.size[1] {
                // The places whose window has its column `j` inside.
                let (at, left) = (j * self.dilation[1], self.padding[1]);
                let low = left.saturating_sub(at).div_ceil(stride).min(out.len());
                let high = (width + left).saturating_sub(at).div_ceil(stride).clamp(low, out.len());
                if low == high {
                    continue;
                }
                let (out, row) = (&mut out[low..high], &x[row * self.pitch + low * stride + at - left..]);
                match stride {
                    1 => out.iter_mut().zip(row).for_each(|(o, v)| *o = fold(*o, *v)),
                    2 => out.iter_mut().zip(row.chunks(2)).for_each(|(o, v)| *o = fold(*o, v[0])),
                    s => out.iter_mut().zip(row.chunks(s)).for_each(|(o, v)| *o = fold(*o, v[0])),
                }
            }
        }
    }

    /// Adds the gradients of a row of maxima to the rows of the input's gradient under it; `pitch` is that of `dx`.
    pub fn max_grad(&self, x: &[f32], dy: &[f32], dx: &mut [f32], pitch: usize) {
        match self.size {
            [2, 2] => self.max_grad_of::<2, 2>(x, dy, dx, pitch),
            [3, 3] => self.max_grad_of::<3, 3>(x, dy, dx, pitch),
            _ => self.max_grad_of::<0, 0>(x, dy, dx, pitch),
        }
    }

    /// With the window's size known when compiled, or 0 where it is not.
    #[inline(always)]
    fn max_grad_of<const H: usize, const W: usize>(
        &self,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        pitch: usize,
    ) {
        let [height, width] = if H == 0 { self.size } else { [H, W] };
        for (w, gradient) in dy.iter().enumerate() {
            let first = w * self.strides[1];
            let (mut best, mut at) = (x[first], first);
            for i in 0..height {
                let row = &x[i * self.pitch + first..][..width];
                for (j, value) in row.iter().enumerate() {
                    if *value > best || (value.is_nan() && !best.is_nan()) {
                        (best, at) = (*value, i * pitch + first + j);
                    }
                }
            }
            dx[at] += gradient;
        }
    }
}

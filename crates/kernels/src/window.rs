//! Windows that slide over the last two dimensions of `[batch, channels, height, width]`.

use crate::error::KernelError;
use crate::view::View;

/// Strides, distances and paddings are no larger than this, so that positions in a padded image are never near the end
/// of what can be counted.
pub const WINDOW_MAX: usize = 1 << 32;

/// How a window slides over height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Steps of the window along height and width.
    pub strides: [usize; 2],
    /// Padding: top, bottom, left, right.
    pub padding: [usize; 4],
    /// Distance of the window's own elements along height and width.
    pub dilation: [usize; 2],
}

impl Default for Window {
    fn default() -> Self {
        Self { strides: [1; 2], padding: [0; 4], dilation: [1; 2] }
    }
}

impl Window {
    /// A window with one stride and symmetric padding.
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { strides: [stride; 2], padding: [padding; 4], ..Self::default() }
    }

    /// How many places a window of `size` elements has along `axis` (0 height, 1 width) of extent `n`: `None` when
    /// it does not fit, a stride or dilation is zero, or a number is larger than [`WINDOW_MAX`].
    pub fn places(&self, axis: usize, n: usize, size: usize) -> Option<usize> {
        let numbers =
            [self.strides[axis], self.dilation[axis], self.padding[2 * axis], self.padding[2 * axis + 1]];
        if numbers.iter().any(|&number| number > WINDOW_MAX) {
            return None;
        }
        let padded = n.checked_add(self.padding[2 * axis])?.checked_add(self.padding[2 * axis + 1])?;
        let reach = size.checked_sub(1)?.checked_mul(self.dilation[axis])?;
        if self.dilation[axis] == 0 {
            return None;
        }
        padded.checked_sub(reach + 1)?.checked_div(self.strides[axis]).map(|steps| steps + 1)
    }

    /// The element that element `k` of the window at place `p` lies on, if it is no padding.
    #[inline(always)]
    pub(crate) fn source(&self, axis: usize, n: usize, p: usize, k: usize) -> Option<usize> {
        let at = (p * self.strides[axis] + k * self.dilation[axis]).wrapping_sub(self.padding[2 * axis]);
        (at < n).then_some(at)
    }

    /// Checks that windows of `size` over the image `x` have the places that `y` has.
    pub(crate) fn check(
        &self,
        kernel: &'static str,
        x: &View,
        y: &View,
        size: [usize; 2],
    ) -> Result<(), KernelError> {
        for axis in 0..2 {
            let places = self.places(axis, x.dims[2 + axis], size[axis]);
            if places != Some(y.dims[2 + axis]) {
                let what =
                    format!("windows {size:?} ({self:?}) over {x} give {places:?} places, not those of {y}");
                return Err(KernelError::operand(kernel, what));
            }
        }
        Ok(())
    }
}

/// Checks that a view has four dimensions.
pub(crate) fn four(kernel: &'static str, view: &View) -> Result<[usize; 4], KernelError> {
    <[usize; 4]>::try_from(view.dims.as_slice())
        .map_err(|_| KernelError::operand(kernel, format!("{view} should have four dimensions")))
}

//! Windows that slide over the last two dimensions of `[batch, channels, height, width]`: what convolution and
//! pooling have in common.

use crate::{Attr, AttrReader};

/// Strides, dilation and padding are no larger than this: it is far beyond any image, and keeps what backends compute
/// from them away from the end of what can be counted.
const NUMBER_MAX: usize = 1 << 32;

/// How a window slides over height and width.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
        Self { strides: [1, 1], padding: [0; 4], dilation: [1, 1] }
    }
}

impl Window {
    /// A window with one stride and symmetric padding.
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { strides: [stride; 2], padding: [padding; 4], ..Self::default() }
    }

    /// How many places a window of `size` elements has along `axis` (0 height, 1 width) of extent `n`.
    pub fn places(&self, axis: usize, n: usize, size: usize) -> Result<usize, String> {
        let (stride, dilation) = (self.strides[axis], self.dilation[axis]);
        if stride == 0 || dilation == 0 || size == 0 {
            return Err("strides, dilation and window must be at least 1".into());
        }
        let [low, high] = [self.padding[2 * axis], self.padding[2 * axis + 1]];
        if [stride, dilation, low, high].iter().any(|&number| number > NUMBER_MAX) {
            return Err(format!("strides, dilation and padding must be at most {NUMBER_MAX}"));
        }
        let padded = n.checked_add(low).and_then(|p| p.checked_add(high)).ok_or("the padding overflows")?;
        let reach = (size - 1).checked_mul(dilation).ok_or("the dilation overflows")?;
        if padded <= reach {
            return Err(format!(
                "a window of {} does not fit into {padded} padded elements",
                reach.saturating_add(1)
            ));
        }
        Ok((padded - reach - 1) / stride + 1)
    }

    /// The element of the input that element `k` of the window at place `p` lies on, if it is no padding.
    pub fn source(&self, axis: usize, n: usize, p: usize, k: usize) -> Option<usize> {
        let at = (p * self.strides[axis] + k * self.dilation[axis]).checked_sub(self.padding[2 * axis])?;
        (at < n).then_some(at)
    }

    pub(crate) fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![
            ("strides", Attr::list(&self.strides)),
            ("padding", Attr::list(&self.padding)),
            ("dilation", Attr::list(&self.dilation)),
        ]
    }

    pub(crate) fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self {
            strides: attrs.array("strides")?,
            padding: attrs.array("padding")?,
            dilation: attrs.array("dilation")?,
        })
    }

    /// Windows that convolutions are tested with.
    pub(super) fn samples() -> Vec<Self> {
        vec![
            Self::default(),
            Self::new(1, 1),
            Self::new(2, 1),
            Self { strides: [2, 1], padding: [1, 0, 2, 1], dilation: [1, 2] },
            Self { strides: [3, 2], padding: [0, 2, 1, 1], dilation: [2, 1] },
        ]
    }
}

//! Where operands live: byte ranges of a program's buffers, and strided views of them.

use outgrow_tensor::DType;
use std::fmt;
use std::ops::Range;

/// A byte range of one of a program's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Number of the buffer, as [`crate::ProgramBuilder`] gave it.
    pub buffer: u32,
    /// First byte.
    pub offset: usize,
    /// Length in bytes.
    pub bytes: usize,
}

impl Slot {
    /// The byte range `offset..offset + bytes` of `buffer`.
    pub const fn new(buffer: u32, offset: usize, bytes: usize) -> Self {
        Self { buffer, offset, bytes }
    }
}

/// A strided view of a slot's elements. Strides may be zero (broadcast) or negative (reversed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The bytes viewed.
    pub slot: Slot,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// Elements between neighbours along each dimension.
    pub strides: Vec<isize>,
    /// Position of the element of index zero, in elements from the slot's start.
    pub start: usize,
}

/// Row-major strides of `dims`, in elements.
pub(crate) fn row_major(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].wrapping_mul(dims[i].max(1) as isize);
    }
    strides
}

/// Number of elements of these extents, saturating.
fn elements(dims: &[usize]) -> usize {
    if dims.contains(&0) { 0 } else { dims.iter().fold(1, |n, &d| n.saturating_mul(d)) }
}

/// Whether the elements of all combinations of these extents can be counted in bytes: those of some of them too, when
/// others are zero. Kernels multiply extents freely after this was checked.
pub(crate) fn countable(dims: &[usize]) -> bool {
    let elements = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    elements.is_some_and(|n| n <= isize::MAX as usize / 8)
}

impl View {
    /// A row-major view from the slot's start.
    pub fn contiguous(slot: Slot, dtype: DType, dims: impl Into<Vec<usize>>) -> Self {
        let dims = dims.into();
        Self { slot, dtype, strides: row_major(&dims), dims, start: 0 }
    }

    /// A row-major view of all of `buffer`'s first bytes: the slot is as long as the elements need.
    pub fn whole(buffer: u32, dtype: DType, dims: impl Into<Vec<usize>>) -> Self {
        let dims = dims.into();
        let bytes = elements(&dims).saturating_mul(dtype.bytes());
        Self::contiguous(Slot::new(buffer, 0, bytes), dtype, dims)
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements; as many as can be counted where there are more.
    pub fn elements(&self) -> usize {
        elements(&self.dims)
    }

    /// Bytes of its distinct elements: broadcast dimensions count once.
    pub fn distinct_bytes(&self) -> u64 {
        let distinct = self.dims.iter().zip(&self.strides).map(|(&d, &s)| if s == 0 { d.min(1) } else { d });
        let elements = distinct.fold(1u64, |n, d| n.saturating_mul(d as u64));
        elements.saturating_mul(self.dtype.bytes() as u64)
    }

    /// The view with its dimensions in the order `order`: dimension `i` of the result is dimension `order[i]` of
    /// this one. Panics when `order` is not a permutation.
    #[must_use]
    pub fn permuted(&self, order: &[usize]) -> Self {
        assert_eq!(order.len(), self.rank());
        Self {
            dims: order.iter().map(|&d| self.dims[d]).collect(),
            strides: order.iter().map(|&d| self.strides[d]).collect(),
            ..self.clone()
        }
    }

    /// Repeats the view over `dims`, where `axes[i]` is the dimension of the result that dimension `i` of this view
    /// becomes; an extent of one is repeated too. Panics when an extent neither matches nor is one.
    #[must_use]
    pub fn broadcast(&self, dims: &[usize], axes: &[usize]) -> Self {
        assert_eq!(axes.len(), self.rank());
        let mut strides = vec![0; dims.len()];
        for (i, &axis) in axes.iter().enumerate() {
            assert!(self.dims[i] == dims[axis] || self.dims[i] == 1, "extent {} over {dims:?}", self.dims[i]);
            strides[axis] = if self.dims[i] == 1 { 0 } else { self.strides[i] };
        }
        Self { dims: dims.to_vec(), strides, ..self.clone() }
    }

    /// The elements `low`, `low + step`, … (`count` of them) along `dim`. A negative `step` walks backwards.
    #[must_use]
    pub fn sliced(&self, dim: usize, low: usize, count: usize, step: isize) -> Self {
        let mut view = self.clone();
        view.start = view.start.wrapping_add_signed(self.strides[dim].wrapping_mul(low as isize));
        view.strides[dim] = self.strides[dim].wrapping_mul(step);
        view.dims[dim] = count;
        view
    }

    /// The view with dimension `dim` walked from its end to its start.
    #[must_use]
    pub fn reversed(&self, dim: usize) -> Self {
        match self.dims[dim] {
            0 => self.clone(),
            n => self.sliced(dim, n - 1, n, -1),
        }
    }

    /// The same elements in row-major order under other extents; `None` when the view is not row-major or the
    /// number of elements differs.
    pub fn reshaped(&self, dims: impl Into<Vec<usize>>) -> Option<Self> {
        let dims = dims.into();
        let same = elements(&dims) == self.elements();
        (same && self.is_row_major()).then(|| Self { strides: row_major(&dims), dims, ..self.clone() })
    }

    /// Whether the elements lie one after the other in row-major order.
    pub fn is_row_major(&self) -> bool {
        let mut expected = 1isize;
        for (&dim, &stride) in self.dims.iter().zip(&self.strides).rev() {
            if dim != 1 && stride != expected {
                return self.elements() == 0;
            }
            expected = expected.wrapping_mul(dim as isize);
        }
        true
    }

    /// Whether no two indices share an element, by a sufficient test: sorted by stride, each dimension steps over
    /// all the elements of the smaller ones.
    pub fn is_injective(&self) -> bool {
        let mut steps: Vec<(i128, i128)> = self
            .dims
            .iter()
            .zip(&self.strides)
            .filter(|(d, _)| **d > 1)
            .map(|(&d, &s)| ((s as i128).abs(), d as i128))
            .collect();
        steps.sort_unstable();
        let mut reach = 0i128;
        steps.iter().all(|&(stride, dim)| {
            let free = stride > reach;
            reach = reach.saturating_add(stride.saturating_mul(dim - 1));
            free
        }) || self.elements() == 0
    }

    /// The bytes of the buffer from the first to the last element, or `None` when an element lies outside the slot.
    /// A view without elements has an empty range.
    pub fn byte_range(&self) -> Option<Range<usize>> {
        if self.dims.len() != self.strides.len() {
            return None;
        }
        if self.dims.contains(&0) {
            return Some(self.slot.offset..self.slot.offset);
        }
        let (mut low, mut high) = (self.start as i128, self.start as i128);
        for (&dim, &stride) in self.dims.iter().zip(&self.strides) {
            let reach = (dim as i128 - 1).checked_mul(stride as i128)?;
            if reach < 0 { low = low.checked_add(reach)? } else { high = high.checked_add(reach)? }
        }
        let size = self.dtype.bytes() as i128;
        let (first, last) = (low.checked_mul(size)?, high.checked_add(1)?.checked_mul(size)?);
        if first < 0 || last > self.slot.bytes as i128 {
            return None;
        }
        Some(self.slot.offset.checked_add(first as usize)?..self.slot.offset.checked_add(last as usize)?)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{:?} strides {:?} from {} in buffer {} bytes {}+{}",
            self.dtype,
            self.dims,
            self.strides,
            self.start,
            self.slot.buffer,
            self.slot.offset,
            self.slot.bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(dims: &[usize]) -> View {
        View::whole(0, DType::F32, dims)
    }

    #[test]
    fn ranges_follow_strides() {
        let v = view(&[3, 4]);
        assert_eq!(v.byte_range(), Some(0..48));
        assert_eq!(v.permuted(&[1, 0]).byte_range(), Some(0..48));
        assert_eq!(v.reversed(0).byte_range(), Some(0..48));
        assert_eq!(v.sliced(1, 1, 2, 2).byte_range(), Some(4..48));
        assert_eq!(v.sliced(1, 1, 3, 2).byte_range(), None);
        assert_eq!(view(&[3, 0]).byte_range(), Some(0..0));
        assert_eq!(view(&[4]).broadcast(&[9, 4], &[1]).byte_range(), Some(0..16));
        let far = View { strides: vec![isize::MAX, 1], ..view(&[3, 4]) };
        assert_eq!(far.byte_range(), None);
        let farther = View { dims: vec![usize::MAX; 4], strides: vec![isize::MAX; 4], ..view(&[1; 4]) };
        assert_eq!(farther.byte_range(), None);
    }

    #[test]
    fn layout_questions() {
        let v = view(&[3, 4]);
        assert!(v.is_row_major() && v.is_injective());
        assert!(!v.permuted(&[1, 0]).is_row_major() && v.permuted(&[1, 0]).is_injective());
        assert!(!view(&[4]).broadcast(&[9, 4], &[1]).is_injective());
        assert!(v.reshaped([2, 6]).is_some() && v.reshaped([5]).is_none());
        assert!(view(&[1, 4]).permuted(&[1, 0]).is_row_major());
        // Its elements are 2^64, which wraps to none at all.
        let repeated = view(&[1]).broadcast(&[1 << 32, 1 << 32], &[0]);
        assert!(!repeated.is_injective() && !repeated.is_row_major());
        assert!(repeated.elements() == usize::MAX && view(&[0, usize::MAX, 2]).elements() == 0);
    }

    #[test]
    fn extents_that_cannot_be_counted() {
        assert!(countable(&[]) && countable(&[1 << 30, 1 << 29]) && countable(&[0, 0]));
        assert!(!countable(&[1 << 30, 1 << 30]) && !countable(&[0, 1 << 40, 1 << 40]));
    }
}

//! Elements as the transforms read them: f32, or bf16 that becomes f32 in registers.

use crate::block::{narrow, widen};
use crate::gemm::{Element, Vector};
use crate::kernel::Cx;
use crate::number::Bits16;
use crate::view::View;
use outgrow_tensor::DType;

/// How elements become the f32 that are worked with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Read {
    /// They are f32.
    Plain,
    /// They are f32, and are rounded to bf16.
    Rounded,
    /// They are bf16.
    Widened,
}

impl Read {
    /// Of the elements of an operand, where bf16 is multiplied or is not.
    pub fn of(view: &View, narrow: bool) -> Self {
        match view.dtype {
            DType::BF16 => Self::Widened,
            _ if narrow => Self::Rounded,
            _ => Self::Plain,
        }
    }

    /// The address of an element so many behind the one at `start`.
    pub fn at(self, start: *const u8, elements: isize) -> *const u8 {
        start.wrapping_offset(elements.wrapping_mul(if self == Self::Widened { 2 } else { 4 }))
    }

    /// An element, before it is rounded.
    ///
    /// # Safety
    /// It is there.
    #[inline(always)]
    pub unsafe fn get(self, from: *const u8) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            match self {
                Self::Plain | Self::Rounded => *from.cast::<f32>(),
                Self::Widened => (*from.cast::<Bits16>()).widen(),
            }
        }
    }
}

/// Images `[batch, channels, height, width]` in memory.
#[derive(Clone, Copy)]
pub(super) struct Images {
    pub start: *const u8,
    pub read: Read,
    /// In elements.
    pub strides: [isize; 4],
    /// Height and width.
    pub extents: [usize; 2],
}

impl Images {
    /// Those of a view, where bf16 is multiplied or is not.
    pub fn of(cx: &Cx<'_>, view: &View, narrow: bool) -> Self {
        let (d, s) = (&view.dims, &view.strides);
        Self {
            start: cx.origin(view).cast_const(),
            read: Read::of(view, narrow),
            strides: [s[0], s[1], s[2], s[3]],
            extents: [d[2], d[3]],
        }
    }
}

/// An f32 that is rounded to bf16 where it is read.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Unrounded(f32);

// SAFETY: (for every block below) the callers vouch for elements and instructions.
impl Element for Unrounded {
    #[inline(always)]
    fn widen(self) -> f32 {
        widen(narrow(self.0))
    }
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: as above.
        unsafe { V::load(from.cast()).rounded() }
    }
    #[inline(always)]
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V {
        // SAFETY: as above.
        unsafe { V::load_first(from.cast(), n).rounded() }
    }
}

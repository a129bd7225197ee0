//! Elements as the transforms read them: f32, or bf16 that becomes f32 in registers.

use crate::block::{narrow, widen};
use crate::gemm::Vector;
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

    /// An element.
    ///
    /// # Safety
    /// It is there.
    #[inline(always)]
    pub unsafe fn get(self, from: *const u8) -> f32 {
        // SAFETY: the caller's contract.
        unsafe {
            match self {
                Self::Plain => *from.cast::<f32>(),
                Self::Rounded => (*from.cast::<Unrounded>()).get(),
                Self::Widened => (*from.cast::<Bits16>()).get(),
            }
        }
    }
}

/// A type of elements, and how they are read.
pub(super) trait Element: Copy {
    /// This one.
    fn get(self) -> f32;

    /// Neighbouring elements.
    ///
    /// # Safety
    /// They are there, and the processor supports the path of `V`.
    unsafe fn load<V: Vector>(from: *const Self) -> V;

    /// The first `n` of them; the others are zero.
    ///
    /// # Safety
    /// As for [`Element::load`].
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V;
}

impl Element for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load_first(from, n) }
    }
}

/// An f32 that is rounded to bf16 where it is read.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Unrounded(f32);

impl Element for Unrounded {
    #[inline(always)]
    fn get(self) -> f32 {
        widen(narrow(self.0))
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load(from.cast()).rounded() }
    }

    #[inline(always)]
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load_first(from.cast(), n).rounded() }
    }
}

impl Element for Bits16 {
    #[inline(always)]
    fn get(self) -> f32 {
        widen(self.0)
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load_bf16(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_first<V: Vector>(from: *const Self, n: usize) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load_bf16_first(from.cast(), n) }
    }
}

//! Copies and fills: maps over strided views.

use crate::block::{Instr, Literal};
use crate::error::KernelError;
use crate::map::Map;
use crate::view::View;

impl Map {
    /// Copies `from` to `to`; extents and types are equal, strides are free.
    ///
    /// # Errors
    /// When extents or types differ.
    pub fn copy(from: View, to: View) -> Result<Self, KernelError> {
        Self::new(&to.dims.clone(), &[Instr::Load(0)], vec![from], vec![(0, to)])
    }

    /// Writes `value` to every element of `to`.
    ///
    /// # Errors
    /// When the types differ.
    pub fn fill(value: Literal, to: View) -> Result<Self, KernelError> {
        Self::new(&to.dims.clone(), &[Instr::Const(value)], Vec::new(), vec![(0, to)])
    }
}

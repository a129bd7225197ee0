//! Copies and fills: maps over strided views, and transposes.

use crate::block::{Instr, Literal};
use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::map::Map;
use crate::transpose::Transpose;
use crate::view::View;

/// Copies `from` to `to`, whose extents and types are equal, by the kernel that suits their strides.
///
/// # Errors
/// When extents or types differ.
pub fn copy(from: View, to: View) -> Result<Box<dyn Kernel>, KernelError> {
    Ok(match Transpose::of(&from, &to) {
        Some(transpose) => Box::new(transpose),
        None => Box::new(Map::copy(from, to)?),
    })
}

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

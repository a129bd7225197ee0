//! Copies, fills, padding and concatenation: maps over strided views.

use crate::block::{Instr, Literal};
use crate::error::KernelError;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel, Scratch};
use crate::map::Map;
use crate::path::KernelPath;
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

/// Several maps that together write one view, one after the other.
#[derive(Debug)]
struct Maps {
    maps: Vec<Map>,
    out: View,
}

impl Maps {
    fn scratch(&self) -> Scratch {
        let per_thread = self.maps.iter().map(|m| m.scratch().per_thread).max().unwrap_or(0);
        Scratch { per_thread, shared: 0 }
    }
}

/// Declares a kernel that consists of maps.
macro_rules! of_maps {
    ($name:ident, $text:literal) => {
        impl Sealed for $name {}

        impl Kernel for $name {
            fn name(&self) -> &'static str {
                $text
            }
            fn prepare(&mut self, path: KernelPath) {
                self.0.maps.iter_mut().for_each(|m| m.prepare(path));
            }
            fn scratch(&self) -> Scratch {
                self.0.scratch()
            }
            fn reads(&self) -> Vec<&View> {
                self.0.maps.iter().flat_map(|m| m.reads()).collect()
            }
            fn writes(&self) -> Vec<&View> {
                vec![&self.0.out]
            }
            fn flops(&self) -> u64 {
                0
            }
            fn run(&self, cx: &Cx<'_>) {
                self.0.maps.iter().for_each(|m| m.run(cx));
            }
        }
    };
}

/// A view surrounded by a constant, with gaps between its elements if asked for.
#[derive(Debug)]
pub struct Pad(Maps);
of_maps!(Pad, "pad");

impl Pad {
    /// `out[low[d] + i * (interior[d] + 1), ...] = x[i, ...]`, and `value` elsewhere. What lies behind the last
    /// element of `x` along each dimension is the high padding.
    ///
    /// # Errors
    /// When `x` does not fit into `out`, or types differ.
    pub fn new(
        x: View,
        out: View,
        low: &[usize],
        interior: &[usize],
        value: Literal,
    ) -> Result<Self, KernelError> {
        let misfit = || KernelError::operand("pad", format!("{x} does not fit into {out} from {low:?}"));
        if x.rank() != out.rank() || low.len() != x.rank() || interior.len() != x.rank() {
            return Err(misfit());
        }
        let mut inner = out.clone();
        for d in 0..x.rank() {
            let step = interior[d].checked_add(1).and_then(|s| isize::try_from(s).ok()).ok_or_else(misfit)?;
            let last =
                x.dims[d].saturating_sub(1).checked_mul(step as usize).and_then(|l| l.checked_add(low[d]));
            if x.dims[d] > 0 && last.is_none_or(|l| l >= out.dims[d]) {
                return Err(misfit());
            }
            inner = inner.sliced(d, low[d], x.dims[d], step);
        }
        let mut maps = vec![Map::fill(value, out.clone())?];
        if x.elements() > 0 {
            maps.push(Map::copy(x, inner)?);
        }
        Ok(Self(Maps { maps, out }))
    }
}

/// Views one after the other along a dimension.
#[derive(Debug)]
pub struct Concat(Maps);
of_maps!(Concat, "concat");

impl Concat {
    /// Joins `parts` along dimension `axis` into `out`.
    ///
    /// # Errors
    /// When extents or types do not fit.
    pub fn new(parts: Vec<View>, axis: usize, out: View) -> Result<Self, KernelError> {
        let mut start = 0usize;
        let mut maps = Vec::new();
        let misfit = |part: &View| KernelError::operand("concat", format!("{part} does not fit into {out}"));
        for part in parts {
            let end = part.dims.get(axis).and_then(|n| start.checked_add(*n));
            let Some(end) = end.filter(|&e| axis < out.rank() && e <= out.dims[axis]) else {
                return Err(misfit(&part));
            };
            let target = out.sliced(axis, start, end - start, 1);
            start = end;
            if target.dims != part.dims {
                return Err(misfit(&part));
            }
            if part.elements() > 0 {
                maps.push(Map::copy(part, target)?);
            }
        }
        if out.dims.get(axis) != Some(&start) {
            return Err(KernelError::operand(
                "concat",
                format!("the parts fill {start} along {axis} of {out}"),
            ));
        }
        Ok(Self(Maps { maps, out }))
    }
}

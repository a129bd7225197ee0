//! `Transpose`: copies between views that do not walk memory in the same order.

use crate::block::{MAX_RANK, collapse, walk};
use crate::gemm::{Matrix, Panel, Tiles};
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel};
use crate::path::KernelPath;
use crate::view::{View, countable};

/// A square that is turned at once: a line of each of so many rows is read, and one of as many rows is written.
const SQUARE: usize = 16;
/// Squares along either side of a tile, which is a task: its lines and pages stay near.
const SQUARES: usize = 4;
const TILE: usize = SQUARE * SQUARES;
/// Below this extent of either side, a map's loops are as good.
const LEAST: usize = 8;

/// A copy whose source has its neighbours along another dimension than its result, of elements of four bytes.
#[derive(Debug)]
pub struct Transpose {
    from: View,
    to: View,
    /// Extents and strides (of the source, of the result) of the dimensions that are not turned.
    outer: Vec<usize>,
    outer_strides: [Vec<isize>; 2],
    /// The dimension along which the source has its neighbours: its extent, and the result's stride.
    rows: usize,
    row_step: usize,
    /// That along which the result has them: its extent, and the source's stride.
    columns: usize,
    column_step: isize,
    tiles: Tiles,
}

impl Transpose {
    /// A copy of `from` to `to`, of the same extents and type, if it is such a one.
    pub fn of(from: &View, to: &View) -> Option<Self> {
        let like = from.dtype == to.dtype && from.dims == to.dims;
        if !like || from.dtype.bytes() != 4 || from.elements() == 0 || !countable(&from.dims) {
            return None;
        }
        let (mut extents, mut strides) = collapse(&from.dims, &[from.strides.clone(), to.strides.clone()]);
        let along = |strides: &[isize]| (0..extents.len()).find(|d| strides[*d] == 1 && extents[*d] >= LEAST);
        let (row, column) = (along(&strides[0])?, along(&strides[1])?);
        if row == column || extents.len() > MAX_RANK {
            return None;
        }
        let (rows, columns) = (extents[row], extents[column]);
        let (row_step, column_step) = (usize::try_from(strides[1][row]).ok()?, strides[0][column]);
        for d in [row.max(column), row.min(column)] {
            extents.remove(d);
            strides.iter_mut().for_each(|strides| {
                strides.remove(d);
            });
        }
        if extents.is_empty() {
            extents.push(1);
            strides.iter_mut().for_each(|strides| strides.push(0));
        }
        let [source, result] = <[Vec<isize>; 2]>::try_from(strides).ok()?;
        Some(Self {
            from: from.clone(),
            to: to.clone(),
            outer: extents,
            outer_strides: [source, result],
            rows,
            row_step,
            columns,
            column_step,
            tiles: Tiles::new(KernelPath::Portable),
        })
    }

    /// Offsets in the source and in the result of an index of the dimensions that are not turned.
    fn offsets(&self, index: usize) -> [isize; 2] {
        self.outer_strides.each_ref().map(|strides| {
            let mut at = 0;
            walk(&self.outer, strides, index, 1, |_, offset, _, _| at = offset);
            at
        })
    }
}

impl Sealed for Transpose {}

impl Kernel for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn prepare(&mut self, path: KernelPath) {
        self.tiles = Tiles::new(path);
    }

    fn reads(&self) -> Vec<&View> {
        vec![&self.from]
    }

    fn writes(&self) -> Vec<&View> {
        vec![&self.to]
    }

    fn flops(&self) -> u64 {
        0
    }

    fn run(&self, cx: &Cx<'_>) {
        let (down, across) = (self.rows.div_ceil(TILE), self.columns.div_ceil(TILE));
        let outer: usize = self.outer.iter().product();
        // About a nanosecond for four elements.
        let cost = self.to.elements() / 4;
        cx.parallel(outer * down * across, cost, &|_, range| {
            let (source, result) = (cx.origin(&self.from).cast::<f32>(), cx.origin(&self.to).cast::<f32>());
            for task in range {
                let [from, to] = self.offsets(task / (down * across));
                let (top, left) = (task / across % down * TILE, task % across * TILE);
                let (bottom, right) = (self.rows.min(top + TILE), self.columns.min(left + TILE));
                for row in (top..bottom).step_by(SQUARE) {
                    for column in (left..right).step_by(SQUARE) {
                        let start = from + row as isize + column as isize * self.column_step;
                        let matrix = Matrix {
                            start: source.wrapping_offset(start).cast_const(),
                            across: self.column_step,
                            along: 1,
                        };
                        let count = SQUARE.min(right - column);
                        let k = SQUARE.min(bottom - row);
                        let panel = Panel { count, width: count, pitch: self.row_step, k };
                        let out = result.wrapping_offset(to).wrapping_add(row * self.row_step + column);
                        // SAFETY: the views were checked; squares of the result are disjoint; the program's builder found
                        // the path supported. Elements of four bytes are moved as bits.
                        unsafe { (self.tiles.pack.f32)(matrix, panel, out) };
                    }
                }
            }
        });
    }
}

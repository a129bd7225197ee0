//! Operands that were packed beforehand: the same panels as [`Product::compute`](super::Product::compute) packs, all of
//! them, block by block of the inner dimension.

use super::{Blocks, LeftOperand, Matrix, PackFn, Panel, RightOperand, Source, Tile};

/// A left operand of `m` rows, in the panels that a product asks for.
#[derive(Clone, Copy)]
pub(crate) struct PackedRows {
    pub start: *const f32,
    pub m: usize,
}

// SAFETY: an address only; nobody writes there while products read.
unsafe impl Sync for PackedRows {}

impl LeftOperand for PackedRows {
    fn in_place(&self) -> bool {
        true
    }

    unsafe fn pack(&self, i: usize, rows: usize, p: usize, k: usize, buffer: *mut f32) {
        // SAFETY: panels are packed for these rows already, one behind the other within each block.
        unsafe { buffer.copy_from_nonoverlapping(self.start.add(self.m * p + i * k), rows * k) };
    }

    fn point(&self, i: usize, rows: usize, p: usize, tile: &mut Tile) {
        (tile.left, tile.left_step) = (self.start.wrapping_add(self.m * p + i * tile.k), rows);
    }
}

/// A right operand of `n` columns in panels of `panel`, the last one rounded up to whole vectors.
#[derive(Clone, Copy)]
pub(crate) struct PackedColumns {
    pub start: *const f32,
    pub n: usize,
    pub panel: usize,
    pub lanes: usize,
    /// Inner positions of an element; blocks are cut at multiples of it.
    pub unit: usize,
}

// SAFETY: an address only; nobody writes there while products read.
unsafe impl Sync for PackedColumns {}

impl PackedColumns {
    /// Columns of all panels, rounded up: as many floats are packed for each inner position. Saturates.
    pub fn width(n: usize, lanes: usize) -> usize {
        n.div_ceil(lanes).saturating_mul(lanes)
    }

    /// Packs all columns.
    ///
    /// # Safety
    /// The matrix has `n` columns of as many inner positions as the blocks, `start` is good for all of
    /// [`PackedColumns::width`], and the processor supports the path of `pack`.
    pub unsafe fn fill<T: Source>(&self, matrix: Matrix<T>, blocks: Blocks, pack: PackFn<T>) {
        for block in (0..blocks.count()).map(|i| blocks.get(i)) {
            for j in (0..self.n).step_by(self.panel) {
                let count = self.panel.min(self.n - j);
                let panel = Panel::dense(count, count.next_multiple_of(self.lanes), block.len());
                let to = self.at(block.start, j, block.len().div_ceil(self.unit)).cast_mut();
                // SAFETY: the caller's contract.
                unsafe { pack(matrix.at(j, block.start), panel, to) };
            }
        }
    }

    /// The panel that begins with column `j`, of the block of `k` elements along the inner dimension that begins at
    /// position `p`.
    fn at(&self, p: usize, j: usize, k: usize) -> *const f32 {
        self.start.wrapping_add(Self::width(self.n, self.lanes) * (p / self.unit) + j * k)
    }
}

impl RightOperand for PackedColumns {
    fn in_place(&self) -> bool {
        true
    }

    unsafe fn pack(&self, p: usize, k: usize, j: usize, _columns: usize, width: usize, buffer: *mut f32) {
        // SAFETY: the panel is packed already, at the same width.
        unsafe { buffer.copy_from_nonoverlapping(self.at(p, j, k), width * k) };
    }

    fn point(&self, p: usize, j: usize, tile: &mut Tile) {
        tile.right = self.at(p, j, tile.k);
        tile.right_step = self.panel.min(self.n - j).next_multiple_of(self.lanes);
    }
}

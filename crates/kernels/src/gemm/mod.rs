//! Blocked matrix products in f32, over operands that can be packed panel by panel: plain matrices, and the patches
//! of convolutions.
//!
//! The inner dimension is cut into blocks by its extent (see [`k_blocks`]); within a block an element of the result
//! is one chain of multiply-adds, and the blocks' sums are added in order. Nothing else decides an element's bits: neither the
//! extents nor the strides nor the threads.

mod pack;
mod tile;
mod vector;

pub(crate) use pack::{Matrix, PackFn, Source, pack_fn};
pub(crate) use tile::{MAX_COLUMNS, MAX_ROWS, Tile, Tiles};

use std::ops::Range;

/// The inner dimension is cut into `k / K_BLOCK` blocks, rounded, of nearly equal extent.
pub(crate) const K_BLOCK: usize = 512;
/// The largest block there can be.
pub(crate) const K_BLOCK_MAX: usize = K_BLOCK + K_BLOCK / 2;
/// Rows of the left operand that are packed at a time: a block of them is most of a mebibyte.
const ROW_CHUNK: usize = 336;
/// Panels of the right operand that are packed at a time, so that its rows are read in longer runs.
const GROUP: usize = 4;

/// Floats of a thread's packed left panels, and of a packed right panel.
const LEFT_FLOATS: usize = ROW_CHUNK * K_BLOCK_MAX + 16;
const PANEL_FLOATS: usize = K_BLOCK_MAX * MAX_COLUMNS + 16;

/// Floats of scratch memory that one thread needs.
pub(crate) const SCRATCH_FLOATS: usize = LEFT_FLOATS + GROUP * PANEL_FLOATS + MAX_ROWS * MAX_COLUMNS;

/// Number of blocks that an inner dimension of extent `k` is cut into.
pub(crate) fn k_blocks(k: usize) -> usize {
    ((k + K_BLOCK / 2) / K_BLOCK).max(1)
}

/// The left operand: rows of the result.
pub(crate) trait LeftOperand: Sync {
    /// Whether panels are read where they are.
    fn in_place(&self) -> bool;

    /// Packs the panel of rows `i..i + rows` and inner positions `p..p + k` to `buffer`, if they are not read in
    /// place: element `(i, p)` goes to `p * rows + i`.
    ///
    /// # Safety
    /// The positions are within the operand; the buffer holds `rows * k` floats.
    unsafe fn pack(&self, i: usize, rows: usize, p: usize, k: usize, buffer: *mut f32);

    /// Tells a tile where the panel is, if panels are read in place.
    fn point(&self, i: usize, rows: usize, p: usize, tile: &mut Tile);
}

/// The right operand: columns of the result.
pub(crate) trait RightOperand: Sync {
    /// Whether panels are read where they are.
    fn in_place(&self) -> bool {
        false
    }

    /// Inner positions to pack at a time when several panels are packed together.
    fn slice(&self) -> usize {
        K_BLOCK_MAX
    }

    /// Packs the panel of columns `j..j + columns` and inner positions `p..p + k` to `buffer`, if they are not read
    /// in place: element `(p, j)` goes to `p * width + j`, and anything to the columns up to `width`.
    ///
    /// # Safety
    /// The positions are within the operand; the buffer holds `width * k` floats.
    unsafe fn pack(&self, p: usize, k: usize, j: usize, columns: usize, width: usize, buffer: *mut f32);

    /// Tells a tile where the panel is, if panels are read in place.
    fn point(&self, _p: usize, _j: usize, _tile: &mut Tile) {}
}

/// The result.
pub(crate) trait Output: Sync {
    /// Where row `i` of columns `j..j + columns` goes, if these lie next to each other.
    fn run(&self, i: usize, j: usize, columns: usize) -> Option<*mut f32>;

    /// Elements between rows.
    fn row_step(&self) -> isize;

    /// Where element `(i, j)` goes.
    fn element(&self, i: usize, j: usize) -> *mut f32;
}

/// A product to compute: `out = left * right`, or `out += left * right`.
pub(crate) struct Product<'a> {
    pub tiles: &'a Tiles,
    pub k: usize,
    pub left: &'a dyn LeftOperand,
    pub right: &'a dyn RightOperand,
    pub out: &'a dyn Output,
    pub accumulate: bool,
}

/// The `i`-th of `parts` nearly equal parts of `0..total`.
fn part(total: usize, i: usize, parts: usize) -> Range<usize> {
    total * i / parts..total * (i + 1) / parts
}

impl Product<'_> {
    /// Computes the rows `rows` of the columns `columns`.
    ///
    /// # Safety
    /// The operands are as large as that, nobody else writes these elements, `scratch` is aligned to 64, good for
    /// [`SCRATCH_FLOATS`] and used by nobody else, and the processor supports the path of the tiles.
    pub unsafe fn compute(&self, rows: Range<usize>, columns: Range<usize>, scratch: *mut f32) {
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        if self.k == 0 {
            // SAFETY: the caller's contract.
            return unsafe { self.no_products(rows, columns) };
        }
        // SAFETY: within the scratch memory.
        let right_buffer = unsafe { scratch.add(LEFT_FLOATS) };
        let in_place = self.left.in_place();
        let chunk = if in_place { rows.len() } else { ROW_CHUNK.min(rows.len()) };
        let chunks = rows.len().div_ceil(chunk);
        let group_columns = self.tiles.columns() * if self.right.in_place() { 1 } else { GROUP };
        let mut tile = Tile::new();
        for c in 0..chunks {
            let chunk = part(rows.len(), c, chunks);
            let first = rows.start + chunk.start;
            let panels = chunk.len().div_ceil(self.tiles.rows);
            for block in 0..k_blocks(self.k) {
                let block = part(self.k, block, k_blocks(self.k));
                let (p, k) = (block.start, block.len());
                if !in_place {
                    for i in 0..panels {
                        let rows = part(chunk.len(), i, panels);
                        let buffer = scratch.wrapping_add(rows.start * k);
                        // SAFETY: panels are packed one behind the other, `ROW_CHUNK` rows in all.
                        unsafe { self.left.pack(first + rows.start, rows.len(), p, k, buffer) };
                    }
                }
                (tile.k, tile.run, tile.add) = (k, k, self.accumulate || p > 0);
                for group in columns.clone().step_by(group_columns) {
                    let group = group..columns.end.min(group + group_columns);
                    if !self.right.in_place() {
                        // SAFETY: the columns are within the right operand; the buffer holds a group of panels.
                        unsafe { self.pack_group(group.clone(), block.clone(), right_buffer) };
                    }
                    for (g, j) in group.clone().step_by(self.tiles.columns()).enumerate() {
                        let count = self.tiles.columns().min(group.end - j);
                        if self.right.in_place() {
                            self.right.point(p, j, &mut tile);
                        } else {
                            tile.right = right_buffer.wrapping_add(g * PANEL_FLOATS);
                            tile.right_step = count.next_multiple_of(self.tiles.lanes);
                        }
                        tile.valid = [count.min(self.tiles.lanes), count.saturating_sub(self.tiles.lanes)];
                        for i in 0..panels {
                            let rows = part(chunk.len(), i, panels);
                            if in_place {
                                self.left.point(first + rows.start, rows.len(), p, &mut tile);
                            } else {
                                (tile.left, tile.left_step) =
                                    (scratch.wrapping_add(rows.start * k), rows.len());
                            }
                            // SAFETY: the operands are packed, or in place.
                            unsafe {
                                self.tile(first + rows.start, rows.len(), j, count, &mut tile, scratch)
                            };
                        }
                    }
                }
            }
        }
    }

    /// Packs the panels of a group of columns, some inner positions of all of them at a time.
    ///
    /// # Safety
    /// As for [`Product::compute`]; the buffer holds a group of panels.
    unsafe fn pack_group(&self, columns: Range<usize>, block: Range<usize>, buffer: *mut f32) {
        let slice = if columns.len() > self.tiles.columns() { self.right.slice() } else { block.len() };
        for p in block.clone().step_by(slice) {
            let k = slice.min(block.end - p);
            for (g, j) in columns.clone().step_by(self.tiles.columns()).enumerate() {
                let count = self.tiles.columns().min(columns.end - j);
                let width = count.next_multiple_of(self.tiles.lanes);
                let to = buffer.wrapping_add(g * PANEL_FLOATS + (p - block.start) * width);
                // SAFETY: the caller's contract.
                unsafe { self.right.pack(p, k, j, count, width, to) };
            }
        }
    }

    /// Runs one tile, whose output is filled in here.
    ///
    /// # Safety
    /// As for [`Product::compute`].
    #[inline(always)]
    unsafe fn tile(
        &self,
        i: usize,
        rows: usize,
        j: usize,
        columns: usize,
        tile: &mut Tile,
        scratch: *mut f32,
    ) {
        let lanes = self.tiles.lanes;
        let vectors = columns.div_ceil(lanes);
        let table = if tile.by_rows { &self.tiles.by_rows } else { &self.tiles.panel };
        let run = table[rows - 1][vectors - 1];
        let mut direct = true;
        for v in 0..vectors {
            match self.out.run(i, j + v * lanes, tile.valid[v]) {
                Some(out) => tile.out[v] = out,
                None => direct = false,
            }
        }
        // SAFETY: the caller's contract; the buffer behind the panels holds a tile.
        unsafe {
            if direct {
                tile.out_step = self.out.row_step();
                return run(tile);
            }
            let buffer = scratch.add(LEFT_FLOATS + GROUP * PANEL_FLOATS);
            let add = std::mem::replace(&mut tile.add, false);
            tile.out = [buffer, buffer.add(lanes)];
            tile.out_step = MAX_COLUMNS as isize;
            run(tile);
            tile.add = add;
            for column in 0..columns {
                for row in 0..rows {
                    let out = self.out.element(i + row, j + column);
                    let sum = *buffer.add(row * MAX_COLUMNS + column);
                    *out = if add { *out + sum } else { sum };
                }
            }
        }
    }

    /// The result of sums over nothing.
    ///
    /// # Safety
    /// As for [`Product::compute`].
    unsafe fn no_products(&self, rows: Range<usize>, columns: Range<usize>) {
        if self.accumulate {
            return;
        }
        for i in rows {
            for j in columns.clone() {
                // SAFETY: an element of the result.
                unsafe { *self.out.element(i, j) = 0.0 };
            }
        }
    }
}

/// A plain matrix as the left operand.
pub(crate) struct Rows<T> {
    pub matrix: Matrix<T>,
    pub pack: PackFn,
    /// Whether to read it where it is: only for f32, when its rows or its inner dimension have stride one.
    pub in_place: bool,
}

impl<T: Source> LeftOperand for Rows<T> {
    fn in_place(&self) -> bool {
        self.in_place
    }

    unsafe fn pack(&self, i: usize, rows: usize, p: usize, k: usize, buffer: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { T::pack(self.pack, self.matrix.at(i, p), rows, rows, k, buffer) };
    }

    fn point(&self, i: usize, rows: usize, p: usize, tile: &mut Tile) {
        let part = self.matrix.at(i, p);
        tile.left = part.start.cast();
        tile.left_step = part.along as usize;
        tile.by_rows = part.across != 1;
        if tile.by_rows {
            for (r, row) in tile.rows.iter_mut().enumerate().take(rows) {
                *row = part.at(r, 0).start.cast();
            }
        }
    }
}

/// A plain matrix as the right operand.
pub(crate) struct Columns<T> {
    pub matrix: Matrix<T>,
    pub pack: PackFn,
    /// Whether to read it where it is: only for f32 and neighbouring columns.
    pub in_place: bool,
}

impl<T: Source> RightOperand for Columns<T> {
    fn in_place(&self) -> bool {
        self.in_place
    }

    fn slice(&self) -> usize {
        // Neighbouring columns: short slices walk rows of memory in long runs. A contiguous inner dimension: whole
        // columns do.
        if self.matrix.across == 1 { 16 } else { K_BLOCK_MAX }
    }

    unsafe fn pack(&self, p: usize, k: usize, j: usize, columns: usize, width: usize, buffer: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { T::pack(self.pack, self.matrix.at(j, p), columns, width, k, buffer) };
    }

    fn point(&self, p: usize, j: usize, tile: &mut Tile) {
        let part = self.matrix.at(j, p);
        (tile.right, tile.right_step) = (part.start.cast(), part.along as usize);
    }
}

/// A plain matrix as the result.
pub(crate) struct Plain {
    pub start: *mut f32,
    pub row_step: isize,
    pub column_step: isize,
}

// SAFETY: an address only; whoever dereferences it answers for races.
unsafe impl Sync for Plain {}

impl Output for Plain {
    #[inline]
    fn run(&self, i: usize, j: usize, columns: usize) -> Option<*mut f32> {
        (self.column_step == 1 || columns == 1).then(|| self.element(i, j))
    }

    #[inline]
    fn row_step(&self) -> isize {
        self.row_step
    }

    #[inline]
    fn element(&self, i: usize, j: usize) -> *mut f32 {
        self.start.wrapping_offset(i as isize * self.row_step + j as isize * self.column_step)
    }
}

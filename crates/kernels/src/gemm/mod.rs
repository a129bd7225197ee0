//! Blocked matrix products in f32, over operands that can be packed panel by panel: plain matrices, and the patches
//! of convolutions.
//!
//! The inner dimension is cut into blocks by its extent (see [`Blocks`]); within a block an element of the result
//! is one chain of multiply-adds, and the blocks' sums are added in order. Nothing else decides an element's bits: neither the
//! extents nor the strides nor the threads.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(test)]
mod amx_model;
mod pack;
mod packed;
mod store;
mod tile;
mod vector;

pub(crate) use pack::{Element, Matrix, PackFn, PackFns, Panel, Source};
pub(crate) use packed::{PackedColumns, PackedRows};
pub(crate) use store::store;
pub(crate) use tile::{MAX_COLUMNS, MAX_ROWS, Mode, Tile, Tiles, prefetch};
#[cfg(target_arch = "x86_64")]
pub(crate) use vector::{Avx2, Avx512, Avx512Pairs};
pub(crate) use vector::{Portable, Vector};

use crate::finish::Finisher;
use std::ops::Range;

/// The inner dimension is cut into `k / K_BLOCK` blocks, rounded, of nearly equal extent.
const K_BLOCK: usize = 512;
/// The largest block there can be.
pub(crate) const K_BLOCK_MAX: usize = K_BLOCK + K_BLOCK / 2;
/// Panels of the left operand that are packed at a time, of the longest block: most of a mebibyte.
const PANEL_CHUNK: usize = 24;
/// Panels of the right operand that are packed at a time, so that its rows are read in longer runs.
const GROUP: usize = 4;

/// Floats of packed right panels, two at least, that stay in the first-level cache while all rows meet them: 16 KiB.
const HELD_FLOATS: usize = 4096;
/// Most of these panels; so many vectors of a row, or twice that, are written one after the other.
const HELD_PANELS: usize = 16;

/// Floats of a thread's packed left panels, and of a packed right panel.
const LEFT_FLOATS: usize = PANEL_CHUNK * MAX_ROWS * K_BLOCK_MAX + 16;
const PANEL_FLOATS: usize = K_BLOCK_MAX * MAX_COLUMNS + 16;

/// Floats of scratch memory that one thread needs, if the left operand is packed in [`Product::compute`].
const SCRATCH_FLOATS: usize = LEFT_FLOATS + SCRATCH_FLOATS_IN_PLACE;
/// Floats of scratch memory that one thread needs if the left operand is in place.
const SCRATCH_FLOATS_IN_PLACE: usize = GROUP * PANEL_FLOATS + MAX_ROWS * MAX_COLUMNS;

/// How an inner dimension is cut into blocks: as a function of its extent (and the unit it may be cut at) alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    units: usize,
    unit: usize,
    count: usize,
    /// All inner positions.
    extent: usize,
}

impl Blocks {
    /// The blocks of `extent` inner positions, cut at multiples of `unit`.
    pub fn of(extent: usize, unit: usize) -> Self {
        Self { extent, ..Self::new(extent.div_ceil(unit), unit) }
    }

    /// The blocks of `units` times `unit` inner positions, cut between units; `unit` is at most [`K_BLOCK_MAX`].
    pub fn new(units: usize, unit: usize) -> Self {
        // None is empty: large units may be fewer than the blocks that they would fill.
        let mut count = ((units * unit + K_BLOCK / 2) / K_BLOCK).clamp(1, units.max(1));
        while units.div_ceil(count) * unit > K_BLOCK_MAX {
            count += 1;
        }
        Self { units, unit, count, extent: units * unit }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The inner positions of block `i`.
    pub fn get(&self, i: usize) -> Range<usize> {
        let units = part(self.units, i, self.count);
        units.start * self.unit..(units.end * self.unit).min(self.extent)
    }
}

/// The left operand: rows of the result.
pub(crate) trait LeftOperand: Sync {
    /// Whether panels are read where they are.
    fn in_place(&self) -> bool;

    /// Packs the panel of rows `i..i + rows` and inner positions `p..p + k` to `buffer`, if they are not read in
    /// place, and always on AMX: element `(i, p)` goes to `p * rows + i`.
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

    /// Called before the panels of a block of inner positions are asked for.
    ///
    /// # Safety
    /// One thread computes with this operand at a time.
    unsafe fn begin(&self, _block: Range<usize>, _tile: &mut Tile) {}

    /// Inner positions to pack at a time when several panels are packed together: an even number.
    fn slice(&self) -> usize {
        K_BLOCK_MAX
    }

    /// Packs the panel of columns `j..j + columns` and inner positions `p..p + k` to `buffer`, if they are not read
    /// in place, and always on AMX: element `(p, j)` goes to `p * width + j`, and anything to the columns up to `width`.
    ///
    /// # Safety
    /// The positions are within the operand; the buffer holds `width * k` floats.
    unsafe fn pack(&self, p: usize, k: usize, j: usize, columns: usize, width: usize, buffer: *mut f32);

    /// Tells a tile where the panel is, if panels are read in place.
    fn point(&self, _p: usize, _j: usize, _tile: &mut Tile) {}
}

/// Where the columns of a tile go: row 0 of each.
pub(crate) struct OutColumns {
    /// For each vector, where its columns go and how many of them are stored, if they lie next to each other.
    pub vectors: [(*mut f32, usize); 2],
    /// Whether `vectors` says it all.
    pub direct: bool,
    /// Otherwise, the columns that are stored and where each of them goes.
    pub scattered: [(usize, *mut f32); MAX_COLUMNS],
    pub count: usize,
}

impl OutColumns {
    fn new() -> Self {
        let null = std::ptr::null_mut();
        Self { vectors: [(null, 0); 2], direct: true, scattered: [(0, null); MAX_COLUMNS], count: 0 }
    }

    /// Goes to columns that are neighbours, in vectors of `lanes`.
    #[inline(always)]
    fn neighbours(&mut self, start: *mut f32, columns: usize, lanes: usize) {
        for (v, vector) in self.vectors.iter_mut().enumerate() {
            *vector = (start.wrapping_add(v * lanes), columns.saturating_sub(v * lanes).min(lanes));
        }
    }
}

/// The result.
pub(crate) trait Output: Sync {
    /// Elements between rows.
    fn row_step(&self) -> isize;

    /// Where row 0 begins, if its columns are neighbours.
    fn row(&self) -> Option<*mut f32> {
        None
    }

    /// Tells where the columns `j..j + columns` go, in vectors of `lanes`.
    fn columns(&self, j: usize, columns: usize, lanes: usize, to: &mut OutColumns);
}

/// A product to compute: `out = left * right`, or `out += left * right`.
pub(crate) struct Product<'a> {
    pub tiles: &'a Tiles,
    /// Rows of the result. They are cut into the fewest panels of nearly equal height.
    pub m: usize,
    pub blocks: Blocks,
    pub left: &'a dyn LeftOperand,
    pub right: &'a dyn RightOperand,
    pub out: &'a dyn Output,
    /// Whether it is added to what the result holds.
    pub add: bool,
    /// What finishes the result, whose rows are its rows (of a convolution, channels) from this one on, and whose columns are
    /// neighbours. Neither on AMX nor where there are no inner positions.
    pub finish: Option<(&'a Finisher, usize)>,
}

/// Where a product is: its next tile, and what that needs.
struct Place<'a> {
    product: &'a Product<'a>,
    tile: Tile,
    out: OutColumns,
    /// Where row 0 of the result begins, if its columns are neighbours, and elements between rows.
    row: Option<*mut f32>,
    step: isize,
    /// The first inner position of the block.
    p: usize,
    /// Packed panels of the left operand, and the first row of these.
    left: Option<(*const f32, usize)>,
    /// Packed panels of the right operand, and floats from each to the next.
    right: Option<(*const f32, usize)>,
    /// Room for a tile.
    buffer: *mut f32,
    /// What finishes the tiles, in the last block.
    finish: Option<(&'a Finisher, usize)>,
}

impl Place<'_> {
    /// Goes to a panel of rows.
    #[inline(always)]
    fn point_left(&mut self, rows: &Range<usize>) {
        let tile = &mut self.tile;
        match self.left {
            None => self.product.left.point(rows.start, rows.len(), self.p, tile),
            Some((start, first)) => {
                (tile.left, tile.left_step) = (start.wrapping_add((rows.start - first) * tile.k), rows.len());
            }
        }
    }

    /// Goes to the `g`-th panel of a group of columns.
    #[inline(always)]
    fn point_right(&mut self, g: usize, columns: &Range<usize>) {
        let (tile, lanes) = (&mut self.tile, self.product.tiles.lanes);
        match self.right {
            None => self.product.right.point(self.p, columns.start, tile),
            Some((start, pitch)) => {
                tile.right = start.wrapping_add(g * pitch);
                tile.right_step = columns.len().next_multiple_of(lanes);
            }
        }
        if let Some(row) = self.row {
            self.out.neighbours(row.wrapping_add(columns.start), columns.len(), lanes);
        } else {
            self.product.out.columns(columns.start, columns.len(), lanes, &mut self.out);
        }
        tile.valid = self.out.vectors.map(|(_, valid)| valid);
    }

    /// Computes the tile, and finishes it.
    ///
    /// # Safety
    /// As for [`Product::compute`]; this is where it is.
    #[inline(always)]
    unsafe fn compute(&mut self, rows: &Range<usize>, columns: &Range<usize>) {
        let (product, lanes, step) = (self.product, self.product.tiles.lanes, self.step);
        let to = self.out.vectors[0].0.wrapping_offset(rows.start as isize * step);
        self.tile.finish = None;
        if let Some((finisher, first)) = self.finish {
            finisher.prefetch(rows.len(), to, step, columns.len());
            if self.out.direct && columns.len().is_multiple_of(lanes) {
                self.tile.finish = finisher.of_tile(first + rows.start, columns.start, to);
            }
        }
        let vectors = columns.len().div_ceil(lanes);
        // SAFETY: the caller's contract.
        unsafe { product.tile(rows.clone(), vectors, &mut self.tile, &self.out, step, self.buffer) };
        if let Some((finisher, first)) = self.finish
            && self.tile.finish.is_none()
        {
            // SAFETY: the tile's elements, which are complete.
            unsafe { finisher.run(first + rows.start, rows.len(), to, step, columns.clone()) };
        }
    }
}

/// The `i`-th of `parts` nearly equal parts of `0..total`.
pub(crate) fn part(total: usize, i: usize, parts: usize) -> Range<usize> {
    total * i / parts..total * (i + 1) / parts
}

impl Product<'_> {
    /// Computes the panels `panels` of rows, of the columns `columns`.
    ///
    /// # Safety
    /// The operands are as large as that, nobody else writes these elements, `scratch` is aligned to 64, good for
    /// [`SCRATCH_FLOATS`] ([`SCRATCH_FLOATS_IN_PLACE`] if the left operand is in place) and used by nobody else, and
    /// the processor supports the path of the tiles.
    pub unsafe fn compute(&self, panels: Range<usize>, columns: Range<usize>, scratch: *mut f32) {
        if panels.is_empty() || columns.is_empty() {
            return;
        }
        let count = self.m.div_ceil(self.tiles.rows);
        if self.blocks.units * self.blocks.unit == 0 {
            let rows = part(self.m, panels.start, count).start..part(self.m, panels.end - 1, count).end;
            // SAFETY: the caller's contract.
            return unsafe { self.no_products(rows, columns) };
        }
        #[cfg(target_arch = "x86_64")]
        if self.tiles.parts > 0 {
            // SAFETY: the caller's contract; such tiles are made for a path with AMX only.
            return unsafe { self.compute_on_tiles(panels, columns, scratch) };
        }
        let in_place = self.left.in_place();
        let (unit, width) = (self.tiles.unit, self.tiles.columns());
        // SAFETY: within the scratch memory.
        let right_buffer = if in_place { scratch } else { unsafe { scratch.add(LEFT_FLOATS) } };
        // The right operand is packed anew for each chunk: where blocks are short, more panels are as large together.
        let longest = (0..self.blocks.count).map(|i| self.blocks.get(i).len()).max().unwrap_or(0);
        let longest = longest.div_ceil(unit).max(1);
        let chunk_panels = if in_place {
            PANEL_CHUNK * K_BLOCK_MAX / longest
        } else {
            (LEFT_FLOATS - 16) / (self.tiles.rows * longest)
        };
        // Panels of the right operand that are packed together, and floats between them.
        let (held, group_panels, pitch) = match HELD_FLOATS / (width * longest) {
            _ if self.right.in_place() => (false, 1, 0),
            panels @ 2.. => (true, panels.min(HELD_PANELS), width * longest),
            _ => (false, GROUP, PANEL_FLOATS),
        };
        let mut at = Place {
            product: self,
            tile: Tile::new(),
            out: OutColumns::new(),
            row: self.out.row(),
            step: self.out.row_step(),
            p: 0,
            left: (!in_place).then_some((scratch.cast_const(), 0)),
            right: (!self.right.in_place()).then_some((right_buffer.cast_const(), pitch)),
            buffer: right_buffer.wrapping_add(GROUP * PANEL_FLOATS),
            finish: None,
        };
        for chunk in panels.clone().step_by(chunk_panels) {
            let chunk = chunk..panels.end.min(chunk + chunk_panels);
            let rows_of = |panel| part(self.m, panel, count);
            let first = rows_of(chunk.start).start;
            at.left = at.left.map(|(start, _)| (start, first));
            for block in 0..self.blocks.count {
                at.finish = self.finish.filter(|_| block + 1 == self.blocks.count);
                let block = self.blocks.get(block);
                // What packed panels have `units` elements of along the inner dimension.
                let (p, k, units) = (block.start, block.len(), block.len().div_ceil(unit));
                // SAFETY: this thread computes alone with these operands.
                unsafe { self.right.begin(block.clone(), &mut at.tile) };
                if !in_place {
                    for rows in chunk.clone().map(rows_of) {
                        let buffer = scratch.wrapping_add((rows.start - first) * units);
                        // SAFETY: panels are packed one behind the other, as many as there is room for.
                        unsafe { self.left.pack(rows.start, rows.len(), p, k, buffer) };
                    }
                }
                at.p = p;
                (at.tile.k, at.tile.run, at.tile.add) = (units, units, self.add || p > 0);
                for group in columns.clone().step_by(group_panels * width) {
                    let group = group..columns.end.min(group + group_panels * width);
                    if !self.right.in_place() {
                        // SAFETY: the columns are within the right operand; the buffer holds a group of panels.
                        unsafe { self.pack_group(group.clone(), block.clone(), right_buffer, pitch) };
                    }
                    let across = || group.clone().step_by(width).map(|j| j..group.end.min(j + width));
                    // SAFETY: the operands are packed, or in place.
                    unsafe {
                        if held {
                            // Neighbouring lines of the result's rows are written one after the other.
                            for rows in chunk.clone().map(rows_of) {
                                at.point_left(&rows);
                                for (g, columns) in across().enumerate() {
                                    at.point_right(g, &columns);
                                    at.compute(&rows, &columns);
                                }
                            }
                        } else {
                            for (g, columns) in across().enumerate() {
                                at.point_right(g, &columns);
                                for rows in chunk.clone().map(rows_of) {
                                    at.point_left(&rows);
                                    at.compute(&rows, &columns);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Packs the panels of a group of columns, some inner positions of all of them at a time.
    ///
    /// # Safety
    /// As for [`Product::compute`]; the buffer holds a group of panels, `pitch` floats from each to the next.
    unsafe fn pack_group(&self, columns: Range<usize>, block: Range<usize>, buffer: *mut f32, pitch: usize) {
        let slice = if columns.len() > self.tiles.columns() { self.right.slice() } else { block.len() };
        for p in block.clone().step_by(slice) {
            let k = slice.min(block.end - p);
            for (g, j) in columns.clone().step_by(self.tiles.columns()).enumerate() {
                let count = self.tiles.columns().min(columns.end - j);
                let width = count.next_multiple_of(self.tiles.lanes);
                let to = buffer.wrapping_add(g * pitch + (p - block.start) / self.tiles.unit * width);
                // SAFETY: the caller's contract.
                unsafe { self.right.pack(p, k, j, count, width, to) };
            }
        }
    }

    /// Runs one tile, whose output is filled in here; `buffer` holds a tile.
    ///
    /// # Safety
    /// As for [`Product::compute`].
    #[inline(always)]
    unsafe fn tile(
        &self,
        rows: Range<usize>,
        vectors: usize,
        tile: &mut Tile,
        out: &OutColumns,
        row_step: isize,
        buffer: *mut f32,
    ) {
        let first = rows.start as isize * row_step;
        // SAFETY: the caller's contract.
        unsafe {
            if out.direct {
                tile.out = out.vectors.map(|(start, _)| start.wrapping_offset(first));
                tile.out_step = row_step;
                return self.tiles.run(tile, rows.len(), vectors);
            }
            let add = std::mem::replace(&mut tile.add, false);
            tile.out = [buffer, buffer.add(self.tiles.lanes)];
            tile.out_step = MAX_COLUMNS as isize;
            self.tiles.run(tile, rows.len(), vectors);
            tile.add = add;
            for row in 0..rows.len() {
                let (from, offset) = (buffer.add(row * MAX_COLUMNS), first + row as isize * row_step);
                for &(column, start) in &out.scattered[..out.count] {
                    let (sum, to) = (*from.add(column), start.offset(offset));
                    *to = if add { *to + sum } else { sum };
                }
            }
        }
    }

    /// The result of sums over nothing.
    ///
    /// # Safety
    /// As for [`Product::compute`].
    unsafe fn no_products(&self, rows: Range<usize>, columns: Range<usize>) {
        let lanes = self.tiles.lanes;
        let mut out = OutColumns::new();
        for j in columns.clone().step_by(2 * lanes) {
            self.out.columns(j, (2 * lanes).min(columns.end - j), lanes, &mut out);
            for row in rows.clone() {
                let offset = row as isize * self.out.row_step();
                // SAFETY: elements of the result.
                unsafe {
                    if out.direct {
                        for (start, valid) in out.vectors {
                            (0..valid).for_each(|i| *start.offset(offset).add(i) = 0.0);
                        }
                    } else {
                        out.scattered[..out.count].iter().for_each(|(_, start)| *start.offset(offset) = 0.0);
                    }
                }
            }
        }
    }
}

/// Whether a left operand of these strides (between rows, and along the inner dimension) is better read where it is: it can
/// be, and few panels of columns would use a packed copy.
pub(crate) fn left_stays([across, along]: [isize; 2], column_panels: usize) -> bool {
    (across == 1 || along == 1) && along >= 0 && column_panels <= 2
}

/// A plain matrix as the left operand.
pub(crate) struct Rows<T> {
    pub matrix: Matrix<T>,
    pub pack: PackFn<T>,
    /// Whether to read it where it is: only for f32, when its rows or its inner dimension have stride one.
    pub in_place: bool,
}

impl<T: Source> LeftOperand for Rows<T> {
    fn in_place(&self) -> bool {
        self.in_place
    }

    unsafe fn pack(&self, i: usize, rows: usize, p: usize, k: usize, buffer: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { (self.pack)(self.matrix.at(i, p), Panel::dense(rows, rows, k), buffer) };
    }

    fn point(&self, i: usize, rows: usize, p: usize, tile: &mut Tile) {
        let part = self.matrix.at(i, p);
        tile.left = part.start.cast();
        tile.left_step = part.along as usize;
        if part.across != 1 {
            tile.mode = Mode::LeftRows;
            for (r, row) in tile.rows.iter_mut().enumerate().take(rows) {
                *row = part.at(r, 0).start.cast();
            }
        }
    }
}

/// A plain matrix as the right operand.
pub(crate) struct Columns<T> {
    pub matrix: Matrix<T>,
    pub pack: PackFn<T>,
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
        unsafe { (self.pack)(self.matrix.at(j, p), Panel::dense(columns, width, k), buffer) };
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
    fn row_step(&self) -> isize {
        self.row_step
    }

    #[inline]
    fn row(&self) -> Option<*mut f32> {
        (self.column_step == 1).then_some(self.start)
    }

    #[inline]
    fn columns(&self, j: usize, columns: usize, lanes: usize, to: &mut OutColumns) {
        let column = |j: usize| self.start.wrapping_offset(j as isize * self.column_step);
        to.neighbours(column(j), columns, lanes);
        to.direct = self.column_step == 1 || columns == 1;
        if !to.direct {
            to.count = columns;
            for (i, slot) in to.scattered[..columns].iter_mut().enumerate() {
                *slot = (i, column(j + i));
            }
        }
    }
}

//! Products with f32 results through the blocked kernels.

use super::MatMul;
use super::loops::batch_offset;
use crate::error::KernelError;
use crate::gemm::{
    Blocks, Columns, Matrix, PackedColumns, Plain, Product, RightOperand, Rows, Source, Tiles, left_stays,
    part,
};
use crate::kernel::Cx;
use crate::memory::AlignedBytes;
use crate::number::Bits16;
use crate::path::KernelPath;
use crate::threads::share;
use crate::view::View;
use crate::weight::{Layout, Packer};
use outgrow_tensor::DType;
use std::ops::Range;
use std::sync::Arc;

/// How a product is run on one path: chosen from extents and strides, without influence on bits.
#[derive(Debug)]
pub(super) struct Plan {
    tiles: Tiles,
    /// Whether the transposed product is computed, so that vectors run along the rows of the result.
    transposed: bool,
    left_in_place: bool,
    right_in_place: bool,
    /// The right operand, where it is a weight.
    packed: Option<Arc<AlignedBytes>>,
    cost_ns: usize,
}

/// Extents and strides of a product as one of its two orientations sees them.
#[derive(Clone, Copy)]
struct Oriented {
    m: usize,
    n: usize,
    k: usize,
    /// Strides of the left operand: between rows, and along the inner dimension.
    left: [isize; 2],
    /// Strides of the right operand: between columns, and along the inner dimension.
    right: [isize; 2],
    /// Strides of the result: between rows and columns.
    out: [isize; 2],
}

impl Plan {
    /// Bytes of scratch memory that one thread needs.
    pub fn scratch_bytes(&self) -> usize {
        self.tiles.scratch_floats() * 4
    }

    fn packed_columns(&self, o: &Oriented) -> Option<PackedColumns> {
        let start = self.packed.as_ref()?.start().cast::<f32>().cast_const();
        Some(self.tiles.packed_columns(start, o.n))
    }
}

impl MatMul {
    fn oriented(&self, transposed: bool) -> Oriented {
        let last = self.c.rank() - 1;
        let (a, b, c) = (&self.a.strides, &self.b.strides, &self.c.strides);
        let (left, right) = ([a[last - 1], a[last]], [b[last], b[last - 1]]);
        if transposed {
            Oriented {
                m: self.n,
                n: self.m,
                k: self.k,
                left: right,
                right: left,
                out: [c[last], c[last - 1]],
            }
        } else {
            Oriented { m: self.m, n: self.n, k: self.k, left, right, out: [c[last - 1], c[last]] }
        }
    }

    /// The cheaper orientation.
    pub(super) fn plan(&self, path: KernelPath) -> Plan {
        let tiles = self.tiles(path);
        let [plain, transposed] =
            [false, true].map(|t| self.oriented(t).plan(tiles, self.is_single(), false));
        let transposes = transposed.1 < plain.1;
        self.chosen(if transposes { transposed } else { plain }, transposes)
    }

    fn tiles(&self, path: KernelPath) -> Tiles {
        Tiles::new(path).for_products(self.k, self.a.dtype == DType::BF16)
    }

    fn is_single(&self) -> bool {
        self.a.dtype.bytes() == 4
    }

    fn chosen(&self, (mut plan, cycles): (Plan, f64), transposed: bool) -> Plan {
        plan.transposed = transposed;
        plan.tiles.mirrored = transposed;
        let batch: usize = self.batch.iter().product();
        // About two and a half cycles per nanosecond.
        plan.cost_ns = (batch as f64 * cycles / 2.5) as usize;
        plan
    }

    /// Takes the packed copy of an operand that is a weight: one matrix for the whole batch, packed as f32. It becomes the right
    /// operand whatever the other one's extent is, so that all programs find the same copy, and a few rows at a time
    /// fill vectors. Where both are weights, that is `b`, which is where layers have theirs.
    pub(super) fn pack_weights(&mut self, packer: &Packer<'_>) -> Result<(), KernelError> {
        let Some(Plan { tiles, .. }) = self.plan else { return Ok(()) };
        let repeated = |view: &View| self.batch.iter().zip(&view.strides).all(|(&d, &s)| d <= 1 || s == 0);
        let is_weight =
            |view: &View, across: usize| packer.holds(view, across * self.k) && self.k > 0 && repeated(view);
        let (view, transposed) = match (is_weight(&self.a, self.m), is_weight(&self.b, self.n)) {
            (_, true) => (&self.b, false),
            (true, false) => (&self.a, true),
            (false, false) => return Ok(()),
        };
        let o = self.oriented(transposed);
        let mut plan = self.chosen(o.plan(tiles, self.is_single(), true), transposed);
        let (n, panel, lanes, unit) = (o.n, tiles.columns(), tiles.lanes, tiles.unit);
        let floats = PackedColumns::width(n, lanes).saturating_mul(self.k.div_ceil(unit));
        plan.packed = packer.packed(
            view,
            Layout::Columns { panel, lanes, unit, transposed },
            floats,
            |start, to| {
                let columns = tiles.packed_columns(to, n);
                // SAFETY: the view was checked, and the copy holds all of it with its columns rounded up.
                unsafe {
                    match view.dtype {
                        DType::BF16 => o.pack_right::<Bits16>(start.cast(), &columns, &tiles),
                        _ => o.pack_right::<f32>(start, &columns, &tiles),
                    }
                }
            },
        )?;
        self.plan = Some(plan);
        Ok(())
    }

    pub(super) fn run_fast<T: Source>(&self, cx: &Cx<'_>, plan: &Plan) {
        let o = self.oriented(plan.transposed);
        let batch: usize = self.batch.iter().product();
        let (row_parts, column_parts) =
            if batch >= cx.pool.threads() { (1, 1) } else { o.grid(&plan.tiles, cx.pool.threads()) };
        let parts = row_parts * column_parts;
        let finisher = self.finish.as_ref().map(|it| it.start_by_column(cx, self.path, &self.c));
        // What tiles cannot finish is finished when a thread's part of the sums is complete.
        let by_tile = !plan.transposed && plan.tiles.parts == 0 && o.k > 0;
        cx.parallel(batch * parts, plan.cost_ns, &|thread, range| {
            for task in range {
                let (index, row, column) = (task / parts, task % parts / column_parts, task % column_parts);
                let at = |view| batch_offset(&self.batch, view, index);
                let a = cx.origin(&self.a).cast::<T>().wrapping_offset(at(&self.a)).cast_const();
                let b = cx.origin(&self.b).cast::<T>().wrapping_offset(at(&self.b)).cast_const();
                let c = cx.origin(&self.c).cast::<f32>().wrapping_offset(at(&self.c));
                let (left, right) = if plan.transposed { (b, a) } else { (a, b) };
                let left = Rows {
                    matrix: Matrix { start: left, across: o.left[0], along: o.left[1] },
                    pack: T::packing(&plan.tiles.pack),
                    in_place: plan.left_in_place,
                };
                let right = Columns {
                    matrix: Matrix { start: right, across: o.right[0], along: o.right[1] },
                    pack: T::packing(&plan.tiles.pack),
                    in_place: plan.right_in_place,
                };
                let packed = plan.packed_columns(&o);
                let product = Product {
                    tiles: &plan.tiles,
                    m: o.m,
                    blocks: Blocks::of(o.k, plan.tiles.unit),
                    left: &left,
                    right: packed.as_ref().map_or(&right as &dyn RightOperand, |packed| packed),
                    out: &Plain { start: c, row_step: o.out[0], column_step: o.out[1] },
                    add: false,
                    finish: finisher.as_ref().filter(|_| by_tile).map(|it| (it, 0)),
                };
                let panels = share(o.m.div_ceil(plan.tiles.rows), row, row_parts);
                let tiles = share(o.n.div_ceil(plan.tiles.columns()), column, column_parts);
                let columns = tiles.start * plan.tiles.columns()..(tiles.end * plan.tiles.columns()).min(o.n);
                // SAFETY: the views were checked; parts of the result are disjoint; the scratch memory is this
                // thread's.
                unsafe { product.compute(panels.clone(), columns.clone(), cx.scratch(thread).cast()) };
                if let Some(finisher) = finisher.as_ref().filter(|_| !by_tile) {
                    let count = o.m.div_ceil(plan.tiles.rows);
                    let rows = panel_rows(o.m, panels, count);
                    let (rows, columns) = if plan.transposed { (columns, rows) } else { (rows, columns) };
                    let step = self.n as isize;
                    let to = c.wrapping_add(rows.start * self.n + columns.start);
                    // SAFETY: this thread's elements of the result, which is row-major, and complete.
                    unsafe { finisher.run(rows.start, rows.len(), to, step, columns) };
                }
            }
        });
    }
}

/// The rows of some of the `count` panels that `m` rows are cut into.
fn panel_rows(m: usize, panels: Range<usize>, count: usize) -> Range<usize> {
    if panels.is_empty() {
        return 0..0;
    }
    part(m, panels.start, count).start..part(m, panels.end - 1, count).end
}

impl Oriented {
    /// Packs the right operand, which begins at `start`.
    ///
    /// # Safety
    /// As for [`PackedColumns::fill`].
    unsafe fn pack_right<T: Source>(&self, start: *const T, columns: &PackedColumns, tiles: &Tiles) {
        let matrix = Matrix { start, across: self.right[0], along: self.right[1] };
        // SAFETY: the caller's contract is the same.
        unsafe { columns.fill(matrix, Blocks::of(self.k, tiles.unit), T::packing(&tiles.pack)) };
    }

    /// How this orientation would be run, and an estimate of its cycles; `packed`, if its right operand was packed
    /// beforehand.
    fn plan(&self, tiles: Tiles, single: bool, packed: bool) -> (Plan, f64) {
        let (m, n, k) = (self.m as f64, self.n as f64, self.k as f64);
        let lanes = tiles.lanes as f64;
        let (row_panels, column_panels) = (self.m.div_ceil(tiles.rows), self.n.div_ceil(tiles.columns()));
        let single = single && tiles.parts == 0;
        let left_in_place = single && left_stays(self.left, column_panels);
        let right_in_place = single
            && self.right[0] == 1
            && self.right[1] >= 0
            && row_panels <= 2
            && (tiles.masked || self.n.is_multiple_of(tiles.lanes));
        let packing = |in_place: bool, strides: [isize; 2]| match strides {
            _ if in_place => 0.0,
            [1, _] => 0.15,
            _ => 0.5,
        };
        // Two multiply-adds per cycle; tiles one vector wide are bound by loads instead.
        let products = m * k * (self.n.div_ceil(tiles.lanes) as f64) * if n <= lanes { 0.55 } else { 0.5 };
        let blocks = Blocks::of(self.k, tiles.unit).count() as f64;
        let out = if self.out[1] == 1 || self.n == 1 { m * n / lanes } else { 1.5 * m * n } * blocks;
        let pack =
            packing(left_in_place, self.left) * m * k + packing(packed || right_in_place, self.right) * n * k;
        let plan = Plan { tiles, transposed: false, left_in_place, right_in_place, packed: None, cost_ns: 0 };
        (plan, products + out + pack)
    }

    /// Cuts the result into `threads` parts, along the dimension with more tiles to share.
    fn grid(&self, tiles: &Tiles, threads: usize) -> (usize, usize) {
        let (rows, columns) = (self.m.div_ceil(tiles.rows), self.n.div_ceil(tiles.columns()));
        let cost = |row_parts: usize, column_parts: usize| {
            let (r, c) = (rows.div_ceil(row_parts), columns.div_ceil(column_parts));
            // Tiles of the largest part, and the panels it packs.
            8 * r * c + r + 2 * c
        };
        (1..=threads)
            .filter(|r| threads.is_multiple_of(*r))
            .map(|r| (r, threads / r))
            .min_by_key(|&(r, c)| cost(r, c))
            .unwrap_or((1, 1))
    }
}

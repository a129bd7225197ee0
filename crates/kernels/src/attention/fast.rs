//! Attention in f32 through the blocked products.
//!
//! A head's keys and values are packed once. Queries then come in blocks, of as many as their scores stay near the core,
//! and within a block in groups of two panels of rows; a group has products with the keys up to its own end only, where
//! attention is causal. In the gradient a block's sums over queries are added to those of the blocks before.

use super::{Attention, AttentionGrad, Extents};
use crate::block::{Fused, LaneMode, Separate, exp, mul_add};
use crate::gemm::{
    Blocks, Matrix, PackedColumns, Panel, Plain, Product, RightOperand, Rows, Tile, Tiles, left_stays,
};
use crate::kernel::Cx;
use crate::path::{KernelPath, by_vectors};
use crate::view::View;
use std::ops::Range;

/// Scores of a block of queries: an eighth of a mebibyte.
const BLOCK_FLOATS: usize = 1 << 15;

/// How attention is run on one path.
#[derive(Debug)]
pub(super) struct Plan {
    tiles: Tiles,
    soften: SoftenFn,
    slopes: SlopesFn,
    /// Queries that have their products together; blocks are multiples of it.
    group: usize,
    block: usize,
    /// Floats between the scores of one query and those of the next.
    pitch: usize,
    tokens: usize,
    d: usize,
}

/// The operands of a product: `m` rows, `n` columns, and `k` inner positions.
struct Factors<'a> {
    m: usize,
    k: usize,
    n: usize,
    left: Matrix<f32>,
    right: &'a dyn RightOperand,
}

/// Where the parts of a thread's scratch memory begin, in floats.
struct Parts {
    /// Keys and values that are summed over `d`.
    keys_along: usize,
    values_along: usize,
    /// Heads that are summed over tokens: values; for gradients keys, queries and the gradient.
    panels: [usize; 3],
    weights: usize,
    slopes: usize,
    product: usize,
    /// Of all.
    floats: usize,
}

impl Plan {
    pub fn new(path: KernelPath, extents: &Extents) -> Self {
        // The tiles of vectors, on every path: scores are too short for more.
        let tiles = Tiles::new(path);
        let group = 2 * tiles.rows;
        let tokens = extents.tokens;
        let pitch = tokens.checked_next_multiple_of(tiles.lanes).unwrap_or(tokens);
        let groups = (BLOCK_FLOATS / pitch.max(1) / group).max(1);
        Self {
            tiles,
            soften: soften_fn(path),
            slopes: slopes_fn(path),
            group,
            block: groups * group,
            pitch,
            tokens,
            d: extents.d,
        }
    }

    /// Bytes of scratch memory that a thread needs for the result, or for gradients.
    pub fn scratch_bytes(&self, gradient: bool) -> usize {
        self.parts(gradient).floats.saturating_mul(4)
    }

    fn parts(&self, gradient: bool) -> Parts {
        let along = PackedColumns::width(self.tokens, self.tiles.lanes).saturating_mul(self.d);
        let panels = PackedColumns::width(self.d, self.tiles.lanes).saturating_mul(self.tokens);
        let block = self.block.min(self.tokens).saturating_mul(self.pitch);
        let mut floats = 0usize;
        let mut take = |count: usize| {
            let start = floats;
            floats = start.saturating_add(count.checked_next_multiple_of(16).unwrap_or(count));
            start
        };
        let if_gradient = |count| if gradient { count } else { 0 };
        let (keys_along, values_along) = (take(along), take(if_gradient(along)));
        let panels = [take(panels), take(if_gradient(panels)), take(if_gradient(panels))];
        let (weights, slopes) = (take(block), take(if_gradient(block)));
        let product = take(self.tiles.scratch_floats());
        Parts { keys_along, values_along, panels, weights, slopes, product, floats }
    }

    fn cost_ns(&self, extents: &Extents, products: u64) -> usize {
        // Some fifty operations in a nanosecond.
        (extents.flops(products) / 50) as usize
    }

    /// Computes a product, or adds it to the result.
    ///
    /// # Safety
    /// As for [`Product::compute`].
    unsafe fn compute(&self, factors: Factors<'_>, out: Plain, add: bool, scratch: *mut f32) {
        let Factors { m, k, n, left, right } = factors;
        let in_place = left_stays([left.across, left.along], n.div_ceil(self.tiles.columns()));
        let left = Rows { matrix: left, pack: self.tiles.pack.f32, in_place };
        let blocks = Blocks::of(k, 1);
        let product =
            Product { tiles: &self.tiles, m, blocks, left: &left, right, out: &out, add, finish: None };
        // SAFETY: the caller's contract.
        unsafe { product.compute(0..m.div_ceil(self.tiles.rows), 0..n, scratch) };
    }

    /// The groups of tokens in a range that begins with one.
    fn groups(&self, block: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (end, group) = (block.end, self.group);
        block.clone().step_by(group).map(move |start| start..end.min(start + group))
    }

    /// A block of queries.
    fn block(&self, index: usize) -> Range<usize> {
        index * self.block..self.tokens.min((index + 1) * self.block)
    }
}

/// Tokens of a head as a right operand whose columns are the elements of a token, in panels of whole vectors; wherever
/// sums over them begin and end.
struct Tokens<'a> {
    plan: &'a Plan,
    /// The panels of all tokens.
    start: *mut f32,
    /// The first token that is summed.
    first: usize,
}

// SAFETY: an address only; nobody writes there while products read.
unsafe impl Sync for Tokens<'_> {}

impl<'a> Tokens<'a> {
    /// Packs a head to `start`.
    ///
    /// # Safety
    /// The head can be read, and `start` is good for its panels.
    unsafe fn pack(plan: &'a Plan, head: Matrix<f32>, start: *mut f32) -> Self {
        let tokens = Self { plan, start, first: 0 };
        for j in (0..plan.d).step_by(plan.tiles.columns()) {
            let panel = Panel::dense(plan.tiles.columns().min(plan.d - j), tokens.width(j), plan.tokens);
            // SAFETY: the caller's contract.
            unsafe { (plan.tiles.pack.f32)(turned(head).at(j, 0), panel, tokens.at(0, j).cast_mut()) };
        }
        tokens
    }

    fn from(&self, first: usize) -> Self {
        Self { first, ..*self }
    }

    /// Floats of each row of the panel that begins with column `j`.
    fn width(&self, j: usize) -> usize {
        self.plan.tiles.columns().min(self.plan.d - j).next_multiple_of(self.plan.tiles.lanes)
    }

    fn at(&self, p: usize, j: usize) -> *const f32 {
        self.start.wrapping_add(j * self.plan.tokens + (self.first + p) * self.width(j)).cast_const()
    }
}

impl RightOperand for Tokens<'_> {
    fn in_place(&self) -> bool {
        true
    }

    unsafe fn pack(&self, p: usize, k: usize, j: usize, _columns: usize, width: usize, buffer: *mut f32) {
        // SAFETY: the panel is packed already, at the same width.
        unsafe { buffer.copy_from_nonoverlapping(self.at(p, j), width * k) };
    }

    fn point(&self, p: usize, j: usize, tile: &mut Tile) {
        (tile.right, tile.right_step) = (self.at(p, j), self.width(j));
    }
}

/// One head of a view: where its first token begins, and how far it is from a token to the next and within one.
fn head(cx: &Cx<'_>, extents: &Extents, view: &View, task: usize, part: usize) -> Matrix<f32> {
    let start = cx.origin(view).cast::<f32>().wrapping_offset(extents.head(view, task, part));
    Matrix { start, across: view.strides[1], along: view.strides[3] }
}

fn turned(matrix: Matrix<f32>) -> Matrix<f32> {
    Matrix { start: matrix.start, across: matrix.along, along: matrix.across }
}

/// Token `i` of a head and those behind it as rows of a result.
fn result(matrix: Matrix<f32>, i: usize) -> Plain {
    let start = matrix.at(i, 0).start.cast_mut();
    Plain { start, row_step: matrix.across, column_step: matrix.along }
}

impl Plan {
    /// The weights of a group of queries, row by row of a pitch, for as many keys as the last of them sees.
    ///
    /// # Safety
    /// The operands can be read; `weights` has room, and `scratch` is as for [`Product::compute`].
    unsafe fn weigh(
        &self,
        extents: &Extents,
        group: &Range<usize>,
        q: Matrix<f32>,
        keys: &PackedColumns,
        weights: *mut f32,
        scratch: *mut f32,
    ) {
        let seen = extents.seen(group.end - 1);
        // SAFETY: the caller's contract; the processor supports the path.
        unsafe {
            let left = q.at(group.start, 0);
            let factors = Factors { m: group.len(), k: self.d, n: seen, left, right: keys };
            self.compute(factors, self.plain(weights), false, scratch);
            for (row, i) in group.clone().enumerate() {
                let row = std::slice::from_raw_parts_mut(weights.add(row * self.pitch), seen);
                (self.soften)(row, extents.seen(i), extents.scale() as f32);
            }
        }
    }

    fn plain(&self, scores: *mut f32) -> Plain {
        Plain { start: scores, row_step: self.pitch as isize, column_step: 1 }
    }

    /// Rows of scores as a left operand: a query each.
    fn by_query(&self, scores: *mut f32) -> Matrix<f32> {
        Matrix { start: scores, across: self.pitch as isize, along: 1 }
    }
}

impl Attention {
    pub(super) fn run_fast(&self, cx: &Cx<'_>, plan: &Plan) {
        let x = &self.extents;
        let (parts, blocks) = (plan.parts(false), x.tokens.div_ceil(plan.block));
        cx.parallel(x.tasks() * blocks, plan.cost_ns(x, 2), &|thread, range| {
            let scratch = cx.scratch(thread).cast::<f32>();
            let at = |start: usize| scratch.wrapping_add(start);
            let keys = plan.tiles.packed_columns(at(parts.keys_along), x.tokens);
            let mut packed = None;
            for part in range {
                let (task, block) = (part / blocks, plan.block(part % blocks));
                let [q, k, v, y] =
                    [&self.q, &self.k, &self.v, &self.y].map(|view| head(cx, x, view, task, 0));
                // SAFETY: the views were checked, and tokens of a head of the result are one thread's; so is the scratch
                // memory, whose parts are as large as what is put there.
                unsafe {
                    let values = match packed.take() {
                        Some((of, values)) if of == task => values,
                        _ => {
                            keys.fill(k, Blocks::of(x.d, 1), plan.tiles.pack.f32);
                            Tokens::pack(plan, v, at(parts.panels[0]))
                        }
                    };
                    for group in plan.groups(&block) {
                        let (weights, scratch) = (at(parts.weights), at(parts.product));
                        plan.weigh(x, &group, q, &keys, weights, scratch);
                        // What lies behind the keys that the group sees has no part in it.
                        let (k, left) = (x.seen(group.end - 1), plan.by_query(weights));
                        let factors = Factors { m: group.len(), k, n: x.d, left, right: &values };
                        plan.compute(factors, result(y, group.start), false, scratch);
                    }
                    packed = Some((task, values));
                }
            }
        });
    }
}

impl AttentionGrad {
    pub(super) fn run_fast(&self, cx: &Cx<'_>, plan: &Plan) {
        let x = &self.extents;
        let parts = plan.parts(true);
        cx.parallel(x.tasks(), plan.cost_ns(x, 5), &|thread, range| {
            let scratch = cx.scratch(thread).cast::<f32>();
            let at = |start: usize| scratch.wrapping_add(start);
            let [keys_along, values_along] = [parts.keys_along, parts.values_along]
                .map(|start| plan.tiles.packed_columns(at(start), x.tokens));
            let scratch = at(parts.product);
            for task in range {
                let [q, k, v, dy] =
                    [&self.q, &self.k, &self.v, &self.dy].map(|view| head(cx, x, view, task, 0));
                let [dq, dk, dv] = [0, 1, 2].map(|part| head(cx, x, &self.out, task, part));
                // SAFETY: the views were checked, and a head of the results is one thread's; so is the scratch memory,
                // whose parts are as large as what is put there.
                unsafe {
                    keys_along.fill(k, Blocks::of(x.d, 1), plan.tiles.pack.f32);
                    values_along.fill(v, Blocks::of(x.d, 1), plan.tiles.pack.f32);
                    let [start_k, start_q, start_dy] = parts.panels.map(at);
                    let keys = Tokens::pack(plan, k, start_k);
                    let queries = Tokens::pack(plan, q, start_q);
                    let gradients = Tokens::pack(plan, dy, start_dy);
                    for block in (0..x.tokens.div_ceil(plan.block)).map(|index| plan.block(index)) {
                        let rows = |start: usize, i: usize| at(start).add((i - block.start) * plan.pitch);
                        for group in plan.groups(&block) {
                            let seen = x.seen(group.end - 1);
                            let weights = rows(parts.weights, group.start);
                            let slopes = rows(parts.slopes, group.start);
                            plan.weigh(x, &group, q, &keys_along, weights, scratch);
                            let (m, left) = (group.len(), dy.at(group.start, 0));
                            let factors = Factors { m, k: x.d, n: seen, left, right: &values_along };
                            plan.compute(factors, plan.plain(slopes), false, scratch);
                            for i in group.clone() {
                                let row = std::slice::from_raw_parts(rows(parts.weights, i), seen);
                                let by = std::slice::from_raw_parts_mut(rows(parts.slopes, i), seen);
                                (plan.slopes)(row, by, x.seen(i), x.scale() as f32);
                            }
                            let left = plan.by_query(slopes);
                            let factors = Factors { m, k: seen, n: x.d, left, right: &keys };
                            plan.compute(factors, result(dq, group.start), false, scratch);
                        }
                        for group in plan.groups(&(0..x.seen(block.end - 1))) {
                            // The queries of the block that see a key of the group.
                            let first = if x.causal { block.start.max(group.start) } else { block.start };
                            let (m, k) = (group.len(), block.end - first);
                            let add = if x.causal { group.start < block.start } else { block.start > 0 };
                            for (scores, right, out) in
                                [(parts.slopes, &queries, dk), (parts.weights, &gradients, dv)]
                            {
                                let left = turned(plan.by_query(rows(scores, first).add(group.start)));
                                let factors = Factors { m, k, n: x.d, left, right: &right.from(first) };
                                plan.compute(factors, result(out, group.start), add, scratch);
                            }
                        }
                    }
                }
            }
        });
    }
}

/// Turns the scores of a query into weights: those of the first `seen` keys by the softmax of their multiples by `scale`,
/// and zeros behind.
type SoftenFn = unsafe fn(scores: &mut [f32], seen: usize, scale: f32);

/// From the weights of a query and the gradients by them to those by its scores before they were multiplied by `scale`;
/// zeros behind the first `seen`.
type SlopesFn = unsafe fn(weights: &[f32], by: &mut [f32], seen: usize, scale: f32);

/// Sums that run beside each other, whatever the vectors are.
const LANES: usize = 16;

#[inline(always)]
fn fold(
    rows: [&[f32]; 2],
    start: f32,
    step: impl Fn(f32, f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let (x, y) = (rows[0].chunks_exact(LANES), rows[1].chunks_exact(LANES));
    let rest = (x.remainder(), y.remainder());
    for (x, y) in x.zip(y) {
        for l in 0..LANES {
            lanes[l] = step(lanes[l], x[l], y[l]);
        }
    }
    for (l, (x, y)) in rest.0.iter().zip(rest.1).enumerate() {
        lanes[l] = step(lanes[l], *x, *y);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] = join(lanes[l], lanes[l + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn soften<M: LaneMode>(scores: &mut [f32], seen: usize, scale: f32) {
    let (scores, hidden) = scores.split_at_mut(seen);
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let most = fold([scores; 2], f32::NEG_INFINITY, |most, x, _| larger(most, x), larger);
    for score in scores.iter_mut() {
        *score = exp::<M>((*score - most) * scale);
    }
    let sum = fold([scores; 2], 0.0, |sum, x, _| sum + x, |a, b| a + b);
    let factor = 1.0 / sum;
    scores.iter_mut().for_each(|score| *score *= factor);
    hidden.fill(0.0);
}

#[inline(always)]
fn slopes<M: LaneMode>(weights: &[f32], by: &mut [f32], seen: usize, scale: f32) {
    let (by, hidden) = by.split_at_mut(seen);
    let weights = &weights[..seen];
    let mean = fold([weights, by], 0.0, |sum, w, g| mul_add::<M>(w, g, sum), |a, b| a + b);
    for (by, weight) in by.iter_mut().zip(weights) {
        *by = weight * (*by - mean) * scale;
    }
    hidden.fill(0.0);
}

by_vectors! {
    /// For a path.
    fn soften_fn -> fn(scores: &mut [f32], seen: usize, scale: f32);
    portable soften::<Separate>(scores, seen, scale);
    avx2 soften::<Fused>(scores, seen, scale);
    avx512 soften::<Fused>(scores, seen, scale);
}
by_vectors! {
    /// For a path.
    fn slopes_fn -> fn(weights: &[f32], by: &mut [f32], seen: usize, scale: f32);
    portable slopes::<Separate>(weights, by, seen, scale);
    avx2 slopes::<Fused>(weights, by, seen, scale);
    avx512 slopes::<Fused>(weights, by, seen, scale);
}

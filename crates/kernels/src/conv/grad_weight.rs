//! The gradient of a convolution by its weights, as products whose inner dimension runs over all places of all
//! images: `dw[(c, tap), o] = sum over (b, u, v) of x[b, c, u * stride + dh(tap), ...] * dy[b, o, u, v]`.
//!
//! The places are cut into blocks by the extents alone, and the blocks are added in order. The left operand is read
//! in place from a padded copy of a part of `x`; the right one, `dy` with its channels innermost, is packed. Sums are
//! kept as `[(c, tap), o]` and transposed at the end.
//!
//! Where bf16 is multiplied, inner positions are pairs of neighbouring places of a row, the last one of an odd number with
//! zero. Rows of the copy are of bf16, and columns of a pair lie next to each other in them.

use super::padded::{Images, PADDED_BYTES, Part};
use super::pairs::PairImages;
use super::{Algorithm, Conv};
use crate::gemm::{MAX_COLUMNS, Matrix, Mode, Panel, Tile, Tiles, part};
use crate::kernel::{Cx, Scratch};
use crate::number::Bits16;
use crate::path::KernelPath;
use crate::threads::share;
use crate::view::View;
use outgrow_tensor::DType;
use std::ops::Range;

/// Places, or pairs of them, that a block of the inner dimension aims at.
const PLACES: usize = 512;

/// The gradient by the weights, compiled for operands and a path.
#[derive(Debug)]
pub(super) struct GradWeight {
    tiles: Tiles,
    /// Whether pairs of bf16 are multiplied.
    pairs: bool,
    groups: usize,
    batch: usize,
    /// Result channels and source channels of a group.
    outs: usize,
    channels: usize,
    kernel: [usize; 2],
    dilation: [usize; 2],
    step: [usize; 2],
    corner: [isize; 2],
    /// Rows and columns of places.
    grid: [usize; 2],
    /// Images per block, or (if one) bands of rows that an image is cut into.
    images: usize,
    bands: usize,
    /// Channels of a padded part.
    chunk: usize,
}

impl GradWeight {
    pub fn new(conv: &Conv, path: KernelPath) -> Option<Self> {
        if !conv.is_fast() {
            return None;
        }
        let pairs = conv.is_narrow();
        let tiles = if pairs {
            Tiles::of_pairs(path).filter(|_| conv.y.dtype == DType::BF16)?
        } else {
            Tiles::new(path)
        };
        let (w, y) = (&conv.weight.dims, &conv.y.dims);
        let grid = [y[2], y[3]];
        let places = (grid[0] * grid[1]).max(1);
        let wanted = if pairs { 2 * PLACES } else { PLACES };
        let bands = if places > wanted { grid[0].div_ceil((wanted / grid[1]).max(1)) } else { 1 };
        let mut plan = Self {
            tiles,
            pairs,
            groups: conv.groups,
            batch: y[0],
            outs: w[0] / conv.groups,
            channels: w[1],
            kernel: [w[2], w[3]],
            dilation: conv.window.dilation,
            step: conv.window.strides,
            corner: [0, 1].map(|axis| -(conv.window.padding[2 * axis] as isize)),
            grid,
            images: (wanted / places).clamp(1, y[0].max(1)),
            bands,
            chunk: 1,
        };
        let plane = plan.part(plan.images, 0, plan.band_rows(), 0..1).plane();
        plan.chunk = (PADDED_BYTES / if pairs { 2 } else { 4 } / plane.saturating_mul(plan.images))
            .clamp(1, plan.channels.max(1));
        Some(plan)
    }

    /// Rows of the largest band.
    fn band_rows(&self) -> usize {
        self.grid[0].div_ceil(self.bands)
    }

    /// Inner positions of a row of places.
    fn run(&self) -> usize {
        if self.pairs { self.grid[1].div_ceil(2) } else { self.grid[1] }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Elements between rows of the sums.
    fn pitch(&self) -> usize {
        self.outs.next_multiple_of(16)
    }

    /// Rows or columns of `x` that so many places next to each other meet.
    fn extent(&self, axis: usize, places: usize) -> usize {
        places.saturating_sub(1) * self.step[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// The part of `x` that `rows` rows of places from `row` on meet.
    fn part(&self, images: usize, row: usize, rows: usize, channels: Range<usize>) -> Part {
        // Places of a pair meet neighbours: columns that are as far apart as places lie next to each other.
        let reach = (self.kernel[1] - 1) * self.dilation[1];
        let (step, pitch) = if self.pairs {
            let step = self.step[1];
            (step, (2 * self.run() + reach / step).next_multiple_of(2))
        } else {
            (1, self.extent(1, self.grid[1]))
        };
        Part {
            batch: [0, images],
            channels: [channels.start, channels.len()],
            corner: [self.corner[0] + (row * self.step[0]) as isize, self.corner[1]],
            extents: [self.extent(0, rows), pitch.saturating_mul(step.min(reach + 1))],
            step,
            pitch,
        }
    }

    /// Floats of the padded part, and of a packed panel of `dy`.
    fn scratch_floats(&self) -> [usize; 2] {
        let padded = self.part(self.images, 0, self.band_rows(), 0..self.chunk);
        let places = self.images * self.band_rows() * self.grid[1];
        let elements = padded.batch[1].saturating_mul(padded.image());
        let padded = if self.pairs { elements.div_ceil(2) } else { elements };
        [padded, places.saturating_mul(MAX_COLUMNS)].map(|floats| floats.div_ceil(16).saturating_mul(16))
    }

    /// Computes the weights of some rows and panels of result channels.
    ///
    /// # Safety
    /// The views were checked, nobody else computes this part, and `scratch` is a thread's own.
    unsafe fn compute(&self, cx: &Cx<'_>, x: &View, dy: &View, weight: &View, task: &Task, scratch: *mut u8) {
        if task.rows.is_empty() || task.panels.is_empty() {
            return;
        }
        let s = &x.strides;
        let (strides, extents) = ([s[0], s[1], s[2], s[3]], [x.dims[2], x.dims[3]]);
        let group = (task.group * self.channels) as isize * s[1] * x.dtype.bytes() as isize;
        let start = cx.origin(x).wrapping_offset(group).cast_const();
        let [padded_floats, panel_floats] = self.scratch_floats();
        let padded = scratch.cast::<f32>();
        let panel = padded.wrapping_add(padded_floats);
        let runs = panel.wrapping_add(panel_floats).cast::<usize>();
        let columns =
            task.panels.start * self.tiles.columns()..(task.panels.end * self.tiles.columns()).min(self.outs);
        let channels = task.rows.start / self.taps()..task.rows.end.div_ceil(self.taps());
        let mut tile = Tile::new();
        let mut first = true;
        for image in (0..self.batch).step_by(self.images) {
            let count = self.images.min(self.batch - image);
            for band in 0..self.bands {
                let band = part(self.grid[0], band, self.bands);
                if band.is_empty() || self.grid[1] == 0 {
                    continue;
                }
                let mut source = self.part(count, band.start, band.len(), channels.clone());
                source.batch[0] = image;
                // SAFETY: the scratch memory holds the largest part and a panel of as many places; the views were
                // checked.
                unsafe {
                    if self.pairs {
                        let bf16 = x.dtype == DType::BF16;
                        // The last of an odd number of places is paired with none: zeros behind it, and no infinities
                        // that nobody reads, as zero times these is NaN.
                        let read = self.corner[1].saturating_add_unsigned(self.extent(1, self.grid[1]));
                        let extents = [extents[0], extents[1].min(read.max(0) as usize)];
                        let images = PairImages { start, bf16, strides, extents, channels: self.channels };
                        images.copy_single(&source, padded.cast());
                    } else {
                        Images { start: start.cast(), strides, extents }.copy(&source, padded);
                    }
                    for i in 0..count * band.len() {
                        let (image, row) = (i / band.len(), i % band.len());
                        let at = image * source.image() + row * self.step[0] * source.extents[1];
                        *runs.add(i) = if self.pairs { at / 2 } else { at };
                    }
                    tile.mode = Mode::LeftRows;
                    tile.k = count * band.len() * self.run();
                    let step = if self.pairs { 1 } else { self.step[1] };
                    (tile.run, tile.runs, tile.left_step) = (self.run(), runs, step);
                    for j in columns.clone().step_by(self.tiles.columns()) {
                        let width = self.tiles.columns().min(columns.end - j);
                        self.pack(cx, dy, (image, count), &band, task.group * self.outs + j, width, panel);
                        tile.right = panel;
                        tile.right_step = width.next_multiple_of(self.tiles.lanes);
                        tile.valid = [width.min(self.tiles.lanes), width.saturating_sub(self.tiles.lanes)];
                        tile.add = !first;
                        self.tiles_of_rows(cx, &mut tile, &source, padded, task, j);
                    }
                }
                first = false;
            }
        }
        // SAFETY: this task's part of the sums is complete, and its part of the weights nobody else's.
        unsafe { self.transpose(cx, weight, task, columns, first) };
    }

    /// Where the sums of row `row` and result channel `j` of a group start.
    fn sums(&self, cx: &Cx<'_>, group: usize, row: usize, j: usize) -> *mut f32 {
        let row = group * self.channels * self.taps() + row;
        cx.shared().cast::<f32>().wrapping_add(row * self.pitch() + j)
    }

    /// Runs the tiles of all rows for one panel of columns.
    ///
    /// # Safety
    /// The operands named in `tile` are there.
    unsafe fn tiles_of_rows(
        &self,
        cx: &Cx<'_>,
        tile: &mut Tile,
        source: &Part,
        padded: *const f32,
        task: &Task,
        j: usize,
    ) {
        let taps = self.taps();
        let out = self.sums(cx, task.group, task.rows.start, j);
        let rows = task.rows.len();
        // Rows before this task's in its first channel.
        let before = task.rows.start % taps;
        let count = rows.div_ceil(self.tiles.rows);
        let vectors = (tile.valid[0] + tile.valid[1]).div_ceil(self.tiles.lanes);
        tile.out_step = self.pitch() as isize;
        for i in 0..count {
            let rows = part(rows, i, count);
            for (row, pointer) in rows.clone().zip(&mut tile.rows) {
                let (channel, tap) = ((before + row) / taps, (before + row) % taps);
                let column = tap % self.kernel[1] * self.dilation[1];
                let shift = tap / self.kernel[1] * self.dilation[0] * source.extents[1]
                    + column % source.step * source.pitch
                    + column / source.step;
                let at = channel * source.plane() + shift;
                *pointer =
                    if self.pairs { padded.wrapping_byte_add(2 * at) } else { padded.wrapping_add(at) };
            }
            let out = out.wrapping_add(rows.start * self.pitch());
            tile.out = [out, out.wrapping_add(self.tiles.lanes)];
            // SAFETY: every row and run of the left operand lies within the padded part; the sums of these rows and
            // columns are this task's.
            unsafe { self.tiles.run(tile, rows.len(), vectors) };
        }
    }

    /// Packs `dy` with its channels `j..j + width` innermost, for a block of places.
    ///
    /// # Safety
    /// The view was checked; `to` holds the panel.
    #[allow(clippy::too_many_arguments)]
    unsafe fn pack(
        &self,
        cx: &Cx<'_>,
        dy: &View,
        (image, count): (usize, usize),
        band: &Range<usize>,
        j: usize,
        width: usize,
        to: *mut f32,
    ) {
        let s = &dy.strides;
        let padded_width = width.next_multiple_of(self.tiles.lanes);
        let start = cx.origin(dy).cast_const();
        let mut to = to;
        // Whole bands at once where their rows lie next to each other, and are of whole pairs.
        let dense = s[2] == self.grid[1] as isize * s[3] && (!self.pairs || self.grid[1].is_multiple_of(2));
        let (runs, k) = if dense { (1, band.len() * self.grid[1]) } else { (band.len(), self.grid[1]) };
        for image in image..image + count {
            for run in 0..runs {
                let offset = image as isize * s[0] + j as isize * s[1] + (band.start + run) as isize * s[2];
                let panel = Panel::dense(width, padded_width, k);
                let (across, along) = (s[1], s[3]);
                // SAFETY: the caller's contract.
                unsafe {
                    if self.pairs {
                        let start = start.cast::<Bits16>().wrapping_offset(offset);
                        (self.tiles.pack.bf16)(Matrix { start, across, along }, panel, to);
                        to = to.wrapping_add(k.div_ceil(2) * padded_width);
                    } else {
                        let start = start.cast::<f32>().wrapping_offset(offset);
                        (self.tiles.pack.f32)(Matrix { start, across, along }, panel, to);
                        to = to.wrapping_add(k * padded_width);
                    }
                }
            }
        }
    }

    /// Copies the sums to the weights; zeros when there were no places.
    ///
    /// # Safety
    /// The view was checked; the task's sums are complete.
    unsafe fn transpose(&self, cx: &Cx<'_>, weight: &View, task: &Task, columns: Range<usize>, empty: bool) {
        let w = &weight.strides;
        let taps = self.taps();
        let start = cx.origin(weight).cast::<f32>();
        let sums = self.sums(cx, task.group, task.rows.start, columns.start);
        let out = start.wrapping_offset((task.group * self.outs + columns.start) as isize * w[0]);
        // SAFETY: elements of the weights, and of the sums.
        unsafe {
            let dense = w[3] == 1 && w[2] == self.kernel[1] as isize && w[1] == taps as isize && w[0] > 0;
            if dense && !empty {
                let matrix = Matrix { start: sums.cast_const(), across: self.pitch() as isize, along: 1 };
                let rows = task.rows.len();
                let panel = Panel { count: rows, width: rows, pitch: w[0] as usize, k: columns.len() };
                return (self.tiles.pack.f32)(matrix, panel, out.add(task.rows.start));
            }
            for o in 0..columns.len() {
                for row in task.rows.clone() {
                    let (channel, tap) = ((row / taps) as isize, row % taps);
                    let (i, j) = ((tap / self.kernel[1]) as isize, (tap % self.kernel[1]) as isize);
                    let sum = sums.wrapping_add((row - task.rows.start) * self.pitch() + o);
                    let sum = if empty { 0.0 } else { *sum };
                    *out.offset(o as isize * w[0] + channel * w[1] + i * w[2] + j * w[3]) = sum;
                }
            }
        }
    }
}

impl Algorithm for GradWeight {
    fn scratch(&self) -> Scratch {
        let runs = self.images * self.band_rows() * size_of::<usize>();
        let [padded, panel] = self.scratch_floats();
        let sums = self.groups * self.channels * self.taps();
        Scratch {
            per_thread: padded.saturating_add(panel).saturating_mul(4).saturating_add(runs),
            shared: sums.saturating_mul(self.pitch()).saturating_mul(4),
        }
    }

    fn run(&self, cx: &Cx<'_>, [x, dy]: [&View; 2], weight: &View, cost_ns: usize) {
        let threads = cx.pool.threads();
        let chunks = self.channels.div_ceil(self.chunk);
        let panels = self.outs.div_ceil(self.tiles.columns());
        // Threads share columns first: padding twice is cheaper than packing twice.
        let column_parts = threads.div_ceil((self.groups * chunks).max(1)).min(panels);
        let row_parts =
            threads.div_ceil((self.groups * chunks * column_parts).max(1)).min(self.chunk * self.taps());
        let tasks = self.groups * chunks * row_parts * column_parts;
        cx.parallel(tasks, cost_ns, &|thread, range| {
            for task in range {
                let (group, rest) =
                    (task / (chunks * row_parts * column_parts), task % (chunks * row_parts * column_parts));
                let (row_task, column) = (rest / column_parts, rest % column_parts);
                let chunk = part(self.channels, row_task / row_parts, chunks);
                let cut = share(chunk.len() * self.taps(), row_task % row_parts, row_parts);
                let first = chunk.start * self.taps();
                let task = Task {
                    group,
                    rows: first + cut.start..first + cut.end,
                    panels: share(panels, column, column_parts),
                };
                // SAFETY: tasks compute disjoint parts; the scratch memory is this thread's.
                unsafe { self.compute(cx, x, dy, weight, &task, cx.scratch(thread)) };
            }
        });
    }
}

/// A part of the result: some rows, each of a source channel and a tap, and some panels of result channels.
struct Task {
    group: usize,
    rows: Range<usize>,
    panels: Range<usize>,
}

//! Elements moved, cut, joined and repeated.

use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, axis, check_constant, check_size, fixed_dim, invalid, unsupported};
use outgrow_ir::ops::slice::Slice;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::{DType, Tensor};

pub(super) const RULES: &[Rule] = &[
    op("CenterCropPad", center_crop_pad),
    op("Concat", concat),
    op("Pad", pad),
    op("Slice", slice),
    op("Split", split),
    op("Tile", tile),
    op("Transpose", transpose),
    op("Trilu", trilu),
];

fn transpose(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, rank) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?.len());
    let order = match cx.int_list("perm")? {
        Some(given) => given.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let y = cx.b.transpose(x, &order);
    cx.one(elem, y)
}

fn concat(cx: &mut Cx<'_>) -> Lowered {
    let (elem, rank) = (cx.elem(0)?, cx.dims(0)?.len());
    let at = axis(cx.int("axis", 1)?, rank)?;
    let mut parts = Vec::new();
    for i in 0..cx.count() {
        if cx.elem(i)? != elem {
            return invalid("joins values of different element types");
        }
        parts.push(cx.x(i)?);
    }
    let y = if let [only] = parts.as_slice() { *only } else { cx.b.concat(&parts, at) };
    cx.one(elem, y)
}

fn split(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let at = axis(cx.int("axis", 0)?, dims.len())?;
    let extent = fixed_dim(&dims, at)?;
    let outputs = usize::try_from(cx.int("num_outputs", cx.node.output.len() as i64)?).unwrap_or(0);
    let parts = match cx.ints_or_attr(1, "split")? {
        Some(given) => given.iter().map(|n| usize::try_from(*n).ok()).collect::<Option<Vec<_>>>(),
        None if outputs == 0 || outputs != cx.node.output.len() => None,
        None => {
            // The last part is smaller where they do not divide evenly.
            let part = extent.div_ceil(outputs);
            Some((0..outputs).map(|i| part.min(extent.saturating_sub(i * part))).collect())
        }
    };
    let parts = parts.filter(|p| p.iter().try_fold(0usize, |n, p| n.checked_add(*p)) == Some(extent));
    let Some(parts) = parts else { return invalid(format!("its parts are not {extent} together")) };
    let mut start = 0;
    let mut results = Vec::new();
    for part in parts {
        let y = cx.b.slice(x, at, start, start + part);
        start += part;
        results.extend(cx.one(elem, y)?);
    }
    Ok(results)
}

/// What `Slice` takes along one axis: `start, start + step, …`, so many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    axis: usize,
    start: usize,
    count: usize,
    step: i64,
}

impl Part {
    /// The indices that are taken.
    pub fn indices(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |k| (self.start as i64 + k as i64 * self.step) as usize)
    }

    fn apply(self, b: &mut Builder, x: Value) -> Value {
        let stride = self.step.unsigned_abs() as usize;
        let last = self.start as i64 + (self.count.max(1) - 1) as i64 * self.step;
        let (low, high) = (self.start.min(last as usize), self.start.max(last as usize));
        let end = if self.count == 0 { low } else { high + 1 };
        let y = b.push(Slice { axis: self.axis, start: low, end, stride }, &[x]);
        if self.step < 0 && self.count > 1 { b.reverse(y, self.axis) } else { y }
    }
}

/// The parts that a `Slice` node takes of a value of these dimensions.
pub(crate) fn slices(cx: &mut Cx<'_>, dims: &[Dim]) -> Result<Vec<Part>, Refusal> {
    let old = cx.opset < 10;
    let (starts, ends, given) = if old {
        (cx.int_list("starts")?, cx.int_list("ends")?, cx.int_list("axes")?)
    } else {
        let given = if cx.has(3) { Some(cx.ints(3)?) } else { None };
        (Some(cx.ints(1)?), Some(cx.ints(2)?), given)
    };
    let (starts, ends) = (starts.unwrap_or_default(), ends.unwrap_or_default());
    let given = given.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if !old && cx.has(4) { cx.ints(4)? } else { vec![1; starts.len()] };
    if ends.len() != starts.len() || given.len() != starts.len() || steps.len() != starts.len() {
        return invalid("starts, ends, axes and steps are not equally many");
    }
    let mut parts = Vec::new();
    for (((start, end), at), step) in starts.into_iter().zip(ends).zip(given).zip(steps) {
        let at = axis(at, dims.len())?;
        if step == 0 || step == i64::MIN {
            return invalid(format!("has a step of {step}"));
        }
        let Some(n) = dims[at].fixed() else {
            if start == 0 && end >= i64::from(i32::MAX) && step == 1 {
                continue;
            }
            return unsupported(format!("cuts along the batch, dimension {at}"), "other dimensions");
        };
        parts.push(part(at, n as i64, start, end, step));
    }
    Ok(parts)
}

fn part(axis: usize, n: i64, start: i64, end: i64, step: i64) -> Part {
    let from_end = |at: i64| if at < 0 { at.saturating_add(n) } else { at };
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let start = from_end(start).clamp(low.max(0), high.max(0));
    // An end before the beginning stays there: -1 stands for it once a step is negative.
    let end = from_end(end).clamp(low, high);
    let span = if step > 0 { end - start } else { start - end };
    let count = if span <= 0 || n == 0 { 0 } else { (span - 1) / step.abs() + 1 };
    let start = if count == 0 { 0 } else { start as usize };
    Part { axis, start, count: count as usize, step }
}

fn slice(cx: &mut Cx<'_>) -> Lowered {
    let (elem, mut x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    for part in slices(cx, &dims)? {
        x = part.apply(cx.b, x);
    }
    cx.one(elem, x)
}

fn tile(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let repeats = cx.ints(1)?;
    if repeats.len() != dims.len() || repeats.iter().any(|r| *r < 0) {
        return invalid(format!("its repeats {repeats:?} do not fit {} dimensions", dims.len()));
    }
    // Each extent gets a dimension before it, which is repeated and then merged with it.
    let (mut apart, mut spread, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    for (dim, repeat) in dims.iter().zip(&repeats) {
        let repeat = Dim::Fixed(*repeat as usize);
        apart.extend([Dim::Fixed(1), *dim]);
        spread.extend([repeat, *dim]);
        match dim.times(repeat) {
            Some(product) => merged.push(product),
            None => return invalid("the repeated extent overflows"),
        }
    }
    check_size(&merged)?;
    let b = &mut *cx.b;
    let x = b.reshape(x, &apart);
    let x = b.broadcast_to(x, &spread);
    let y = b.reshape(x, &merged);
    cx.one(elem, y)
}

fn trilu(cx: &mut Cx<'_>) -> Lowered {
    let upper = cx.flag("upper", true)?;
    let (elem, x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let diagonal = if cx.has(1) { cx.known(1)?.get_i64(0) } else { 0 };
    let rank = dims.len();
    if rank < 2 {
        return invalid("needs a matrix");
    }
    let (rows, columns) = (fixed_dim(&dims, rank - 2)?, fixed_dim(&dims, rank - 1)?);
    check_constant(&[rows, columns])?;
    let mask = Tensor::from_i64(DType::Bool, [rows, columns], |i| {
        let offset = (i % columns) as i64 - (i / columns) as i64;
        i64::from(if upper { offset >= diagonal } else { offset <= diagonal })
    });
    let b = &mut *cx.b;
    let mask = b.constant(mask);
    let zero = b.scalar(0.0, elem.dtype());
    let y = b.select(mask, x, zero);
    cx.one(elem, y)
}

/// How many elements go before and after each dimension of the input; negative ones are cut off.
fn paddings(cx: &mut Cx<'_>, rank: usize) -> Result<Vec<[i64; 2]>, Refusal> {
    let attr = if cx.opset < 2 { "paddings" } else { "pads" };
    let pads = if cx.opset < 11 { cx.int_list(attr)?.unwrap_or_default() } else { cx.ints(1)? };
    let at: Vec<usize> = if cx.opset >= 18 && cx.has(3) {
        cx.ints(3)?.iter().map(|a| axis(*a, rank)).collect::<Result<_, _>>()?
    } else {
        (0..rank).collect()
    };
    if pads.len() != 2 * at.len() || pads.iter().any(|p| p.unsigned_abs() > 1 << 40) {
        return invalid(format!("{} pads do not fit {} dimensions", pads.len(), at.len()));
    }
    let mut all = vec![[0, 0]; rank];
    at.iter().enumerate().for_each(|(i, a)| all[*a] = [pads[i], pads[i + at.len()]]);
    Ok(all)
}

fn pad(cx: &mut Cx<'_>) -> Lowered {
    let mode = cx.text("mode", "constant")?;
    let (elem, mut x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let all = paddings(cx, dims.len())?;
    let value = match (cx.opset < 11, cx.has(2)) {
        (true, _) => cx.real("value", 0.0)?,
        (false, true) => cx.known_number(2)?,
        (false, false) => 0.0,
    };
    for (at, [low, high]) in all.into_iter().enumerate().filter(|(_, p)| *p != [0, 0]) {
        let mut n = fixed_dim(&dims, at)? as i64;
        let cut = [low, high].map(|p| (-p).max(0));
        if cut[0] + cut[1] > n {
            return invalid(format!("cuts more than the extent {n} of dimension {at}"));
        }
        x = cx.b.slice(x, at, cut[0] as usize, (n - cut[1]) as usize);
        n -= cut[0] + cut[1];
        let [low, high] = [low, high].map(|p| p.max(0) as usize);
        check_size(&[Dim::Fixed(low), Dim::Fixed(high)])?;
        x = match mode.as_str() {
            "constant" => cx.b.pad(x, at, low, high, 0, value),
            "edge" | "reflect" | "wrap" => {
                let total = low as i64 + n + high as i64;
                check_constant(&[total as usize])?;
                if n == 0 {
                    return invalid("pads an empty dimension with what it holds");
                }
                let source = |i: i64| match mode.as_str() {
                    "edge" => i.clamp(0, n - 1),
                    "wrap" => i.rem_euclid(n),
                    _ if n == 1 => 0,
                    _ => {
                        let phase = i.rem_euclid(2 * (n - 1));
                        phase.min(2 * (n - 1) - phase)
                    }
                };
                let indices: Vec<i64> = (-(low as i64)..n + high as i64).map(source).collect();
                take(cx.b, x, at, &indices)
            }
            other => return unsupported(format!("mode `{other}`"), "constant, edge, reflect or wrap"),
        };
    }
    cx.one(elem, x)
}

/// The elements of these indices along one axis.
pub(super) fn take(b: &mut Builder, x: Value, at: usize, indices: &[i64]) -> Value {
    let indices = b.constant(Tensor::vector(indices.to_vec()));
    take_along(b, x, at, indices)
}

/// The elements of the indices (of any shape) along one axis; their dimensions take its place.
pub(super) fn take_along(b: &mut Builder, x: Value, at: usize, indices: Value) -> Value {
    let (rank, added) = (b.rank(x), b.rank(indices));
    let mut to_front: Vec<usize> = vec![at];
    to_front.extend((0..rank).filter(|i| *i != at));
    let front = if at == 0 { x } else { b.transpose(x, &to_front) };
    let rows = b.gather(front, indices);
    if at == 0 {
        return rows;
    }
    // [indices…, before…, after…] to [before…, indices…, after…].
    let mut order: Vec<usize> = (added..added + at).collect();
    order.extend(0..added);
    order.extend(added + at..added + rank - 1);
    b.transpose(rows, &order)
}

fn center_crop_pad(cx: &mut Cx<'_>) -> Lowered {
    let (elem, mut x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let wanted = cx.ints(1)?;
    let given = cx.int_list("axes")?.unwrap_or_else(|| (0..dims.len() as i64).collect());
    if given.len() != wanted.len() {
        return invalid("its shape and axes are not equally many");
    }
    for (at, wanted) in given.into_iter().zip(wanted) {
        let at = axis(at, dims.len())?;
        let n = fixed_dim(&dims, at)?;
        let Some(wanted) = usize::try_from(wanted).ok().filter(|w| *w < 1 << 31) else {
            return invalid(format!("{wanted} is no extent"));
        };
        if wanted < n {
            let start = (n - wanted) / 2;
            x = cx.b.slice(x, at, start, start + wanted);
        } else if wanted > n {
            let low = (wanted - n) / 2;
            x = cx.b.pad(x, at, low, wanted - n - low, 0, 0.0);
        }
    }
    cx.one(elem, x)
}

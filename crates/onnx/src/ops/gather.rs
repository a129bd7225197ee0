//! Elements by index.

use super::movement::take_along;
use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, axis, check_constant, fixed, fixed_dim, invalid, unsupported};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::{DType, Tensor};

pub(super) const RULES: &[Rule] = &[
    op("Gather", gather),
    op("GatherElements", gather_elements),
    op("GatherND", gather_nd),
    op("Scatter", scatter_elements),
    op("ScatterElements", scatter_elements),
    op("ScatterND", scatter_nd),
];

/// Indices counted from the end where they are negative, as i64.
fn from_start(b: &mut Builder, indices: Value, extent: usize) -> Value {
    let indices = b.cast(indices, DType::I64);
    let zero = b.scalar(0.0, DType::I64);
    let negative = b.compare(Comparison::Lt, indices, zero);
    let wrapped = b.add_scalar(indices, extent as f64);
    b.select(negative, wrapped, indices)
}

fn gather(cx: &mut Cx<'_>) -> Lowered {
    let (elem, dims) = (cx.elem(0)?, cx.dims(0)?);
    let at = axis(cx.int("axis", 0)?, dims.len())?;
    let n = fixed_dim(&dims, at)?;
    let x = cx.x(0)?;
    if let Ok(known) = cx.known(1)
        && known.elements() == 1
    {
        // One index is a slice, which costs nothing.
        let index = axis(known.get_i64(0), n)?;
        let part = cx.b.slice(x, at, index, index + 1);
        let mut kept = dims[..at].to_vec();
        kept.extend(known.shape().dims().iter().map(|d| Dim::Fixed(*d)));
        kept.extend(&dims[at + 1..]);
        let y = cx.b.reshape(part, &kept);
        return cx.one(elem, y);
    }
    let indices = cx.number(1)?;
    let indices = from_start(cx.b, indices, n);
    let y = take_along(cx.b, x, at, indices);
    cx.one(elem, y)
}

/// For each place of `shape` its coordinates as flat positions in an array of extents `within`, but for one axis, whose
/// coordinate is `indices`.
fn positions(b: &mut Builder, indices: Value, at: usize, within: &[usize]) -> Value {
    let dims = b.dims(indices);
    let mut flat: Option<Value> = None;
    for (i, extent) in within.iter().enumerate() {
        let coordinate = if i == at { indices } else { b.iota(DType::I64, &dims, i) };
        flat = Some(match flat {
            None => coordinate,
            Some(f) => {
                let scaled = b.mul_scalar(f, *extent as f64);
                b.add(scaled, coordinate)
            }
        });
    }
    flat.unwrap_or(indices)
}

fn product(extents: &[usize]) -> Result<usize, Refusal> {
    match extents.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) {
        Some(n) if n < 1 << 53 => Ok(n),
        _ => invalid("the extents overflow"),
    }
}

fn flat_table(b: &mut Builder, x: Value, extents: &[usize]) -> Result<Value, Refusal> {
    let n = product(extents)?;
    Ok(b.reshape(x, &[Dim::Fixed(n)]))
}

fn gather_elements(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, extents) = (cx.elem(0)?, cx.x(0)?, cx.fixed(0)?);
    let at = axis(cx.int("axis", 0)?, extents.len())?;
    let indices = cx.number(1)?;
    if fixed(&cx.b.dims(indices))?.len() != extents.len() {
        return invalid("the indices have other dimensions than the data");
    }
    let b = &mut *cx.b;
    let indices = from_start(b, indices, extents[at]);
    let flat = positions(b, indices, at, &extents);
    let table = flat_table(b, x, &extents)?;
    let y = b.gather(table, flat);
    cx.one(elem, y)
}

/// The flat positions that vectors of `depth` coordinates (the last dimension of `indices`) have in the first `depth`
/// of `extents`, after `batch` that are counted already.
fn vector_positions(
    b: &mut Builder,
    indices: Value,
    extents: &[usize],
    batch: usize,
) -> Result<(Value, usize), Refusal> {
    let dims = b.dims(indices);
    let Some(last) = dims.len().checked_sub(1) else { return invalid("the indices are a scalar") };
    let depth = fixed_dim(&dims, last)?;
    if batch + depth > extents.len() || depth == 0 {
        return invalid(format!("indices of {depth} coordinates do not fit {} dimensions", extents.len()));
    }
    let outer = &dims[..last];
    let mut flat: Option<Value> = None;
    for (i, extent) in extents[..batch + depth].iter().enumerate() {
        let coordinate = if i < batch {
            b.iota(DType::I64, outer, i)
        } else {
            let part = b.slice(indices, last, i - batch, i - batch + 1);
            let part = b.reshape(part, outer);
            from_start(b, part, *extent)
        };
        flat = Some(match flat {
            None => coordinate,
            Some(f) => {
                let scaled = b.mul_scalar(f, *extent as f64);
                b.add(scaled, coordinate)
            }
        });
    }
    match flat {
        Some(flat) => Ok((flat, batch + depth)),
        None => invalid("there are no coordinates"),
    }
}

/// Data whose first `depth` dimensions are merged.
fn merged(b: &mut Builder, x: Value, extents: &[usize], depth: usize) -> Result<Value, Refusal> {
    let mut dims = vec![Dim::Fixed(product(&extents[..depth])?)];
    dims.extend(extents[depth..].iter().map(|d| Dim::Fixed(*d)));
    Ok(b.reshape(x, &dims))
}

fn gather_nd(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, extents, indices) = (cx.elem(0)?, cx.x(0)?, cx.fixed(0)?, cx.number(1)?);
    let batch = usize::try_from(cx.int("batch_dims", 0)?).unwrap_or(usize::MAX);
    if batch >= cx.b.rank(indices) || batch >= extents.len() {
        return invalid("`batch_dims` does not fit");
    }
    let b = &mut *cx.b;
    let (flat, depth) = vector_positions(b, indices, &extents, batch)?;
    let table = merged(b, x, &extents, depth)?;
    let y = b.gather(table, flat);
    cx.one(elem, y)
}

/// Rows of `table` replaced by (or combined with) `updates` at the positions `flat`.
fn scattered(
    b: &mut Builder,
    table: Value,
    flat: Value,
    updates: Value,
    how: &str,
) -> Result<Value, Refusal> {
    let dims = b.dims(table);
    let rows = dims.first().copied().unwrap_or(Dim::Fixed(1));
    let dtype = b.dtype(table);
    match how {
        "add" => {
            let wide = if dtype.is_float() { dtype } else { DType::F64 };
            let updates = b.cast(updates, wide);
            let sums = b.scatter_add(flat, updates, rows);
            let sums = b.cast(sums, dtype);
            Ok(b.add(table, sums))
        }
        "none" => {
            // Which update comes to each row, counted from 1; rows without one keep what they hold. Of several the
            // result is not defined, but stays inside.
            let count = fixed(&b.dims(flat)).and_then(|d| product(&d))?;
            if count == 0 {
                return Ok(table);
            }
            check_constant(&[count])?;
            let number = b.constant(Tensor::from_f64(DType::F64, [count], |i| (i + 1) as f64));
            let row = b.reshape(flat, &[Dim::Fixed(count)]);
            let which = b.scatter_add(row, number, rows);
            let which = b.cast(which, DType::I64);
            let zero = b.scalar(0.0, DType::I64);
            let hit = b.compare(Comparison::Gt, which, zero);
            let position = b.add_scalar(which, -1.0);
            let position = b.max(position, zero);
            let last = b.scalar(count as f64 - 1.0, DType::I64);
            let position = b.min(position, last);
            let mut list = vec![Dim::Fixed(count)];
            list.extend(&dims[1..]);
            let list = b.reshape(updates, &list);
            let new = b.gather(list, position);
            let hit = b.broadcast(hit, &dims, &[0]);
            Ok(b.select(hit, new, table))
        }
        other => unsupported(format!("reduction `{other}`"), "none or add"),
    }
}

fn scatter_elements(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, extents) = (cx.elem(0)?, cx.x(0)?, cx.fixed(0)?);
    let at = axis(cx.int("axis", 0)?, extents.len())?;
    let how = cx.text("reduction", "none")?;
    let (indices, updates) = (cx.number(1)?, cx.x(2)?);
    if cx.b.rank(indices) != extents.len() || cx.b.dims(indices) != cx.b.dims(updates) {
        return invalid("indices and updates have other dimensions than the data");
    }
    let b = &mut *cx.b;
    let indices = from_start(b, indices, extents[at]);
    let flat = positions(b, indices, at, &extents);
    let table = flat_table(b, x, &extents)?;
    let y = scattered(b, table, flat, updates, &how)?;
    let dims: Vec<Dim> = extents.iter().map(|d| Dim::Fixed(*d)).collect();
    let y = b.reshape(y, &dims);
    cx.wrapped(elem, y)
}

fn scatter_nd(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, extents) = (cx.elem(0)?, cx.x(0)?, cx.fixed(0)?);
    let how = cx.text("reduction", "none")?;
    let (indices, updates) = (cx.number(1)?, cx.x(2)?);
    let b = &mut *cx.b;
    let (flat, depth) = vector_positions(b, indices, &extents, 0)?;
    let table = merged(b, x, &extents, depth)?;
    let y = scattered(b, table, flat, updates, &how)?;
    let dims: Vec<Dim> = extents.iter().map(|d| Dim::Fixed(*d)).collect();
    let y = b.reshape(y, &dims);
    cx.wrapped(elem, y)
}

//! Pooling in one to three dimensions.

use super::conv::{Spatial, as_image, as_row, spatial};
use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, check_window, fixed, fixed_dim, invalid, unsupported};
use outgrow_ir::ops::Window;
use outgrow_ir::ops::slice::Slice;
use outgrow_ir::{Builder, Value};
use outgrow_tensor::{DType, Tensor};

pub(super) const RULES: &[Rule] = &[
    op("AveragePool", average_pool),
    op("GlobalAveragePool", global_average_pool),
    op("GlobalMaxPool", global_max_pool),
    op("LpPool", lp_pool),
    op("MaxPool", max_pool),
];

/// The spatial extents of input 0 and the window of the node, widened by what `ceil_mode` adds after each dimension.
fn window(cx: &mut Cx<'_>) -> Result<(Spatial, Vec<usize>), Refusal> {
    let dims = cx.dims(0)?;
    let image = fixed(dims.get(2..).unwrap_or_default())?;
    if !(1..=3).contains(&image.len()) {
        return unsupported(
            format!("an input of {} dimensions", dims.len()),
            "one to three spatial dimensions",
        );
    }
    let size: Vec<usize> = cx
        .int_list("kernel_shape")?
        .unwrap_or_default()
        .iter()
        .filter_map(|n| usize::try_from(*n).ok())
        .filter(|n| (1..1 << 31).contains(n))
        .collect();
    if size.len() != image.len() {
        return invalid("`kernel_shape` does not fit the input");
    }
    let how = spatial(cx, &image, &size)?;
    let ceil = cx.flag("ceil_mode", false)? && !how.auto;
    let mut extra = vec![0; image.len()];
    for i in 0..image.len() {
        let reach = (size[i] - 1).saturating_mul(how.dilations[i]) + 1;
        let padded = image[i] + how.pads[i][0] + how.pads[i][1];
        let Some(room) = padded.checked_sub(reach) else {
            return invalid(format!("a window of {reach} does not fit into {padded} elements"));
        };
        if ceil && room % how.strides[i] != 0 {
            let places = room.div_ceil(how.strides[i]) + 1;
            // A window that would begin in the padding after the input does not count.
            if (places - 1) * how.strides[i] < image[i] + how.pads[i][0] {
                extra[i] = how.strides[i] - room % how.strides[i];
            }
        }
    }
    Ok((how, extra))
}

/// Reduces each window of `x [n, c, …]`, which is padded with `fill` and then needs no more padding, by `f` of all the
/// shifted pictures of it: for kinds of windows that the kernels of two dimensions do not have.
fn shifted(
    b: &mut Builder,
    x: Value,
    how: &Spatial,
    extra: &[usize],
    fill: f64,
    f: fn(&mut Builder, Value, Value) -> Value,
) -> Result<Value, Refusal> {
    how.size.iter().try_for_each(|n| check_window(*n))?;
    let mut x = x;
    for (axis, extra) in extra.iter().enumerate() {
        x = b.pad(x, 2 + axis, how.pads[axis][0], how.pads[axis][1] + extra, 0, fill);
        let n = fixed_dim(&b.dims(x), 2 + axis)?;
        let reach = (how.size[axis] - 1) * how.dilations[axis] + 1;
        if n < reach {
            return invalid("the window does not fit");
        }
        let span = (n - reach) / how.strides[axis] * how.strides[axis] + 1;
        let mut all: Option<Value> = None;
        for k in 0..how.size[axis] {
            let start = k * how.dilations[axis];
            let part = Slice { axis: 2 + axis, start, end: start + span, stride: how.strides[axis] };
            let part = b.push(part, &[x]);
            all = Some(all.map_or(part, |a| f(b, a, part)));
        }
        x = all.unwrap_or(x);
    }
    Ok(x)
}

/// The window of the two-dimensional kernels, if they have one like it.
fn flat(how: &Spatial, extra: &[usize]) -> Option<([usize; 2], Window)> {
    let n = how.size.len();
    if n > 2 || how.dilations.iter().any(|d| *d != 1) {
        return None;
    }
    let mut window = how.window();
    let mut size = [1, 1];
    for i in 0..n {
        size[2 - n + i] = how.size[i];
        window.padding[2 * (2 - n + i) + 1] += extra[i];
    }
    let [top, bottom, left, right] = window.padding;
    (top.max(bottom) < size[0] && left.max(right) < size[1]).then_some((size, window))
}

/// The maximum (or the sum) of each window.
fn pooled(
    b: &mut Builder,
    x: Value,
    how: &Spatial,
    extra: &[usize],
    maximum: bool,
) -> Result<Value, Refusal> {
    let dtype = b.dtype(x);
    if let Some((size, window)) = flat(how, extra).filter(|_| dtype.is_float()) {
        let row = how.size.len() == 1;
        let x = if row { as_image(b, x) } else { x };
        let y = if maximum { b.max_pool2d(x, size, window) } else { b.sum_pool2d(x, size, window) };
        return Ok(if row { as_row(b, y) } else { y });
    }
    let least = if dtype.is_float() { f64::NEG_INFINITY } else { 0.0 };
    if maximum {
        shifted(b, x, how, extra, least, Builder::max)
    } else {
        shifted(b, x, how, extra, 0.0, Builder::add)
    }
}

fn max_pool(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x) = (cx.elem(0)?, cx.number(0)?);
    cx.ignore(&["storage_order"]);
    let wants_indices = cx.node.output.get(1).is_some_and(|o| !o.is_empty());
    if wants_indices {
        return unsupported("output 1, the indices, is used", "use of the maxima alone");
    }
    let (how, extra) = window(cx)?;
    if !elem.is_float() && !elem.is_unsigned() {
        // Padding is minus infinity, which signed integers lack.
        let wide = cx.b.cast(x, DType::F64);
        let y = pooled(cx.b, wide, &how, &extra, true)?;
        let y = cx.b.cast(y, elem.dtype());
        return cx.one(elem, y);
    }
    let y = pooled(cx.b, x, &how, &extra, true)?;
    cx.one(elem, y)
}

fn average_pool(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x) = (cx.elem(0)?, cx.float(0)?);
    let with_padding = cx.flag("count_include_pad", false)?;
    let (how, extra) = window(cx)?;
    let sum = pooled(cx.b, x, &how, &extra, false)?;
    let dims = cx.b.dims(x);
    let image = fixed(&dims[2..])?;
    let places = fixed(&cx.b.dims(sum)[2..])?;
    places.iter().zip(&how.size).try_for_each(|(p, n)| check_window(p.saturating_mul(*n) / 4096))?;
    // How many elements count in each window is a product over the dimensions.
    let counts: Vec<Vec<usize>> = (0..image.len())
        .map(|i| {
            let counts = |at: usize| {
                let reached = (0..how.size[i]).map(|k| at * how.strides[i] + k * how.dilations[i]);
                let (low, high) = if with_padding {
                    (0, how.pads[i][0] + image[i] + how.pads[i][1])
                } else {
                    (how.pads[i][0], how.pads[i][0] + image[i])
                };
                reached.filter(|p| (low..high).contains(p)).count()
            };
            (0..places[i]).map(counts).collect()
        })
        .collect();
    let b = &mut *cx.b;
    let dtype = b.dtype(sum);
    let result = b.dims(sum);
    let mut y = sum;
    for (i, counts) in counts.iter().enumerate() {
        if counts.iter().all(|c| *c == counts[0]) {
            y = b.mul_scalar(y, 1.0 / counts[0].max(1) as f64);
        } else {
            let factor = Tensor::from_f64(dtype, [counts.len()], |k| 1.0 / counts[k].max(1) as f64);
            let factor = b.constant(factor);
            let factor = b.broadcast_axis(factor, &result, 2 + i);
            y = b.mul(y, factor);
        }
    }
    cx.wrapped(elem, y)
}

fn lp_pool(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x) = (cx.elem(0)?, cx.float(0)?);
    let p = cx.int("p", 2)? as f64;
    let (how, extra) = window(cx)?;
    let b = &mut *cx.b;
    let magnitude = b.abs(x);
    let exponent = b.scalar(p, b.dtype(x));
    let powers = if p == 2.0 { b.mul(x, x) } else { b.pow(magnitude, exponent) };
    let sum = pooled(b, powers, &how, &extra, false)?;
    let root = b.scalar(1.0 / p, b.dtype(x));
    let y = if p == 2.0 { b.sqrt(sum) } else { b.pow(sum, root) };
    cx.wrapped(elem, y)
}

fn spatial_axes(cx: &Cx<'_>) -> Result<Vec<usize>, Refusal> {
    let rank = cx.dims(0)?.len();
    if rank > 2 { Ok((2..rank).collect()) } else { invalid("needs spatial dimensions") }
}

fn global_average_pool(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims, axes) = (cx.elem(0)?, cx.float(0)?, cx.dims(0)?, spatial_axes(cx)?);
    let mean = super::reduce::mean(cx.b, x, &axes)?;
    let y = super::reduce::keep_axes(cx.b, mean, &dims, &axes);
    cx.wrapped(elem, y)
}

fn global_max_pool(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims, axes) = (cx.elem(0)?, cx.float(0)?, cx.dims(0)?, spatial_axes(cx)?);
    let max = cx.b.reduce_max(x, &axes);
    let y = super::reduce::keep_axes(cx.b, max, &dims, &axes);
    cx.one(elem, y)
}

//! Numbers in few bits, and products of them.

use super::math::round;
use super::{Rule, op};
use crate::Elem;
use crate::cx::{Cx, Lowered, Refusal, axis, fixed_dim, invalid, unsupported};
use crate::datum::Datum;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    op("ConvInteger", conv_integer),
    op("DequantizeLinear", dequantize_linear),
    op("DynamicQuantizeLinear", dynamic_quantize_linear),
    op("MatMulInteger", matmul_integer),
    op("QLinearConv", qlinear_conv),
    op("QLinearMatMul", qlinear_matmul),
    op("QuantizeLinear", quantize_linear),
];

/// A scale or zero point beside `x`: one for all, one for each index along the axis, or one for each block.
fn spread(cx: &mut Cx<'_>, i: usize, x: &[Dim]) -> Result<Value, Refusal> {
    let v = cx.x(i)?;
    let own = cx.b.dims(v);
    let block = usize::try_from(cx.int("block_size", 0)?).unwrap_or(0);
    let at = cx.int("axis", 1)?;
    if own.iter().all(|d| *d == Dim::Fixed(1)) {
        return Ok(cx.b.reshape(v, &[]));
    }
    let at = axis(at, x.len())?;
    if block == 0 {
        return Ok(cx.b.broadcast_axis(v, x, at));
    }
    let blocks = fixed_dim(&own, at)?;
    let extent = fixed_dim(x, at)?;
    if own.len() != x.len() || blocks.saturating_mul(block) < extent {
        return invalid("the blocks do not fit the input");
    }
    let b = &mut *cx.b;
    let mut wide = own.clone();
    wide.insert(at + 1, Dim::Fixed(block));
    let kept: Vec<usize> = (0..wide.len()).filter(|k| *k != at + 1).collect();
    let repeated = b.broadcast(v, &wide, &kept);
    let mut merged = own;
    merged[at] = Dim::Fixed(blocks * block);
    let merged = b.reshape(repeated, &merged);
    Ok(b.slice(merged, at, 0, extent))
}

/// `round(x / scale) + zero`, kept in the range of `to`. Numbers are f32.
fn quantized(b: &mut Builder, x: Value, scale: Value, zero: Option<Value>, to: Elem) -> Value {
    let ratio = b.div(x, scale);
    let mut y = round(b, ratio);
    if let Some(zero) = zero {
        let zero = b.cast(zero, DType::F32);
        y = b.add(y, zero);
    }
    let (low, high) = to.range();
    let (low, high) = (b.scalar(low as f64, DType::F32), b.scalar(high as f64, DType::F32));
    let y = b.max(y, low);
    let y = b.min(y, high);
    b.cast(y, to.dtype())
}

fn narrow(elem: Elem) -> Result<Elem, Refusal> {
    match elem {
        Elem::U8 | Elem::I8 | Elem::U16 | Elem::I16 | Elem::I32 => Ok(elem),
        _ => unsupported(
            format!("quantises to or from {}", elem.name()),
            "INT8, UINT8, INT16, UINT16 or INT32",
        ),
    }
}

fn quantize_linear(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["saturate", "precision"]);
    let (x, dims) = (cx.float(0)?, cx.dims(0)?);
    let to = if cx.has(2) {
        cx.ignore(&["output_dtype"]);
        cx.elem(2)?
    } else {
        match cx.int("output_dtype", 0)? {
            0 => Elem::U8,
            code => crate::cx::elem_of(code)?,
        }
    };
    let to = narrow(to)?;
    let scale = spread(cx, 1, &dims)?;
    let zero = if cx.has(2) { Some(spread(cx, 2, &dims)?) } else { None };
    let b = &mut *cx.b;
    let (x, scale) = (b.cast(x, DType::F32), b.cast(scale, DType::F32));
    let y = quantized(b, x, scale, zero, to);
    cx.one(to, y)
}

fn dequantize_linear(cx: &mut Cx<'_>) -> Lowered {
    narrow(cx.elem(0)?)?;
    let (x, dims, scale_elem) = (cx.x(0)?, cx.dims(0)?, cx.elem(1)?);
    let to = match cx.int("output_dtype", 0)? {
        0 => scale_elem,
        code => crate::cx::elem_of(code)?,
    };
    let scale = spread(cx, 1, &dims)?;
    let zero = if cx.has(2) { Some(spread(cx, 2, &dims)?) } else { None };
    let b = &mut *cx.b;
    let wide = if to == Elem::F64 { DType::F64 } else { DType::F32 };
    let mut y = b.cast(x, wide);
    if let Some(zero) = zero {
        let zero = b.cast(zero, wide);
        y = b.sub(y, zero);
    }
    let scale = b.cast(scale, wide);
    let y = b.mul(y, scale);
    cx.wrapped(to, y)
}

fn dynamic_quantize_linear(cx: &mut Cx<'_>) -> Lowered {
    let x = cx.float(0)?;
    let b = &mut *cx.b;
    let axes: Vec<usize> = (0..b.rank(x)).collect();
    let nothing = b.scalar(0.0, DType::F32);
    let high = b.reduce_max(x, &axes);
    let high = b.max(high, nothing);
    let negative = b.neg(x);
    let low = b.reduce_max(negative, &axes);
    let low = b.max(low, nothing);
    // `low` is how far the range reaches below 0.
    let span = b.add(high, low);
    let scale = b.mul_scalar(span, 1.0 / 255.0);
    let zero = quantized(b, low, scale, None, Elem::U8);
    let y = quantized(b, x, scale, Some(zero), Elem::U8);
    Ok(vec![Datum::value(Elem::U8, y), Datum::value(Elem::F32, scale), Datum::value(Elem::U8, zero)])
}

/// Input `i` as `wide`, less the zero point that is input `zero`: one number, or one for each index along `at`.
fn centred(cx: &mut Cx<'_>, i: usize, zero: usize, wide: DType, at: usize) -> Result<Value, Refusal> {
    narrow(cx.elem(i)?)?;
    let x = cx.x(i)?;
    let x = cx.b.cast(x, wide);
    let Some(zero) = cx.opt(zero)? else { return Ok(x) };
    let b = &mut *cx.b;
    let zero = b.cast(zero, wide);
    let dims = b.dims(x);
    let zero = match b.dims(zero).as_slice() {
        [] | [Dim::Fixed(1)] => b.reshape(zero, &[]),
        [_] => b.broadcast_axis(zero, &dims, at.min(dims.len().saturating_sub(1))),
        _ => zero,
    };
    Ok(b.sub(x, zero))
}

fn matmul_integer(cx: &mut Cx<'_>) -> Lowered {
    let (rows, columns) = (cx.dims(0)?.len().saturating_sub(2), cx.dims(1)?.len().saturating_sub(1));
    let x = centred(cx, 0, 2, DType::I32, rows)?;
    let y = centred(cx, 1, 3, DType::I32, columns)?;
    let z = super::matmul::product(cx.b, x, y)?;
    cx.one(Elem::I32, z)
}

/// Sums of products of 8-bit numbers are exact in f64.
fn conv_integer(cx: &mut Cx<'_>) -> Lowered {
    let groups = usize::try_from(cx.int("group", 1)?).unwrap_or(0);
    let (x, w) = (centred(cx, 0, 2, DType::F64, 0)?, centred(cx, 1, 3, DType::F64, 0)?);
    let y = super::conv::convolved(cx, x, w, groups)?;
    let y = cx.b.cast(y, DType::I32);
    cx.one(Elem::I32, y)
}

/// A number, or one for each index along `at`, beside `x`.
fn along(cx: &mut Cx<'_>, i: usize, x: Value, at: usize) -> Result<Value, Refusal> {
    let v = cx.x(i)?;
    let b = &mut *cx.b;
    let v = b.cast(v, DType::F32);
    let dims = b.dims(x);
    Ok(match b.dims(v).as_slice() {
        [] | [Dim::Fixed(1)] => b.reshape(v, &[]),
        [_] => b.broadcast_axis(v, &dims, at),
        _ => v,
    })
}

fn qlinear_matmul(cx: &mut Cx<'_>) -> Lowered {
    let to = narrow(cx.elem(7)?)?;
    let (rows, columns) = (cx.dims(0)?.len().saturating_sub(2), cx.dims(3)?.len().saturating_sub(1));
    let x = centred(cx, 0, 2, DType::I32, rows)?;
    let y = centred(cx, 3, 5, DType::I32, columns)?;
    let z = super::matmul::product(cx.b, x, y)?;
    let z = cx.b.cast(z, DType::F32);
    let rank = cx.b.rank(z);
    let (sx, sy) = (along(cx, 1, z, rank.saturating_sub(2))?, along(cx, 4, z, rank.saturating_sub(1))?);
    let out = along(cx, 6, z, rank.saturating_sub(2))?;
    let zero = along(cx, 7, z, rank.saturating_sub(2))?;
    let b = &mut *cx.b;
    let z = b.mul(z, sx);
    let z = b.mul(z, sy);
    let q = quantized(b, z, out, Some(zero), to);
    cx.one(to, q)
}

fn qlinear_conv(cx: &mut Cx<'_>) -> Lowered {
    let to = narrow(cx.elem(7)?)?;
    let groups = usize::try_from(cx.int("group", 1)?).unwrap_or(0);
    let (x, w) = (centred(cx, 0, 2, DType::F64, 0)?, centred(cx, 3, 5, DType::F64, 0)?);
    let y = super::conv::convolved(cx, x, w, groups)?;
    let mut y = y;
    if let Some(bias) = cx.opt(8)? {
        let b = &mut *cx.b;
        let dims = b.dims(y);
        let bias = b.cast(bias, DType::F64);
        let bias = b.broadcast_axis(bias, &dims, 1);
        y = b.add(y, bias);
    }
    let y = cx.b.cast(y, DType::F32);
    let (sx, sw, out, zero) =
        (along(cx, 1, y, 1)?, along(cx, 4, y, 1)?, along(cx, 6, y, 1)?, along(cx, 7, y, 1)?);
    let b = &mut *cx.b;
    let y = b.mul(y, sx);
    let y = b.mul(y, sw);
    let q = quantized(b, y, out, Some(zero), to);
    cx.one(to, q)
}

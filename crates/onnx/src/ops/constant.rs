//! Constants, ranges and conversions.

use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, check_constant, check_size, invalid, unsupported};
use crate::datum::{Datum, Kind};
use crate::emit::Mode;
use crate::tensors::OnnxTensor;
use crate::{Elem, NoExternalData, elem};
use outgrow_ir::Dim;
use outgrow_tensor::{DType, Tensor};

pub(super) const RULES: &[Rule] = &[
    op("BitCast", bit_cast),
    op("Cast", cast),
    op("CastLike", cast_like),
    op("Constant", constant),
    op("ConstantOfShape", constant_of_shape),
    op("Dropout", dropout),
    op("EyeLike", eye_like),
    op("OneHot", one_hot),
    op("Range", range),
];

fn told(problem: outgrow_ir::Diagnostic) -> Refusal {
    match problem.code {
        "onnx.unsupported-type" => {
            Refusal::Unsupported { problem: problem.problem, expected: problem.expected.unwrap_or_default() }
        }
        _ => Refusal::Invalid(problem.problem),
    }
}

fn constant(cx: &mut Cx<'_>) -> Lowered {
    if let Some(tensor) = cx.tensor("value")? {
        let read = OnnxTensor::read(tensor, &NoExternalData).map_err(told)?;
        return Ok(vec![Datum::known(read.elem, read.tensor)]);
    }
    let datum = if cx.has_attr("value_float") {
        Datum::known(Elem::F32, Tensor::scalar(cx.real("value_float", 0.0)? as f32))
    } else if cx.has_attr("value_int") {
        Datum::known(Elem::I64, Tensor::scalar(cx.int("value_int", 0)?))
    } else if let Some(list) = cx.real_list("value_floats")? {
        Datum::known(Elem::F32, Tensor::vector(list))
    } else if let Some(list) = cx.int_list("value_ints")? {
        Datum::known(Elem::I64, Tensor::vector(list))
    } else {
        return unsupported("the constant is a text or sparse", "a tensor, numbers or a number");
    };
    Ok(vec![datum])
}

fn constant_of_shape(cx: &mut Cx<'_>) -> Lowered {
    let dims = super::shape::dims_of(&cx.syms(0)?)?;
    let (elem, value) = match cx.tensor("value")? {
        None => (Elem::F32, Tensor::scalar(0.0f32)),
        Some(tensor) => {
            let read = OnnxTensor::read(tensor, &NoExternalData).map_err(told)?;
            if read.tensor.elements() != 1 {
                return invalid("its value is no single number");
            }
            let scalar = read.tensor.reshaped(Vec::new()).map_err(|e| Refusal::Invalid(e.to_string()))?;
            (read.elem, scalar)
        }
    };
    let value = cx.b.constant(value);
    let y = cx.b.broadcast(value, &dims, &[]);
    cx.one(elem, y)
}

fn range(cx: &mut Cx<'_>) -> Lowered {
    let elem = cx.elem(0)?;
    if let Kind::Sizes { items, .. } = &cx.datum(1)?.kind {
        // As many as the batch size says.
        let dim = items.first().and_then(|s| s.dim());
        let plain = cx.known_number(0)? == 0.0 && cx.known_number(2)? == 1.0;
        let Some(dim) = dim.filter(|_| plain && elem.is_int()) else {
            return unsupported(
                "counts to the batch size from another start or in other steps",
                "from 0 in steps of 1",
            );
        };
        let y = cx.b.iota(elem.dtype(), &[dim], 0);
        return cx.one(elem, y);
    }
    let (start, limit, delta) = (cx.known(0)?, cx.known(1)?, cx.known(2)?);
    if [&start, &limit, &delta].iter().any(|t| t.elements() != 1) || delta.get_f64(0) == 0.0 {
        return invalid("needs a start, a limit and a step other than 0");
    }
    let count = ((limit.get_f64(0) - start.get_f64(0)) / delta.get_f64(0)).ceil().max(0.0);
    if count.is_nan() || count > 1e7 {
        return invalid(format!("would have {count} elements"));
    }
    let dims = [count as usize];
    let tensor = if elem.is_float() {
        Tensor::from_f64(elem.dtype(), dims, |i| start.get_f64(0) + i as f64 * delta.get_f64(0))
    } else {
        let (start, delta) = (start.get_i64(0), delta.get_i64(0));
        Tensor::from_i64(elem.dtype(), dims, |i| start.wrapping_add((i as i64).wrapping_mul(delta)))
    };
    Ok(vec![Datum::known(elem, tensor)])
}

fn cast(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["saturate", "round_mode"]);
    // The first versions give the type as a text.
    let to = cx.elem_attr("to", Elem::F32)?;
    let (from, x) = (cx.elem(0)?, cx.x(0)?);
    let y = elem::cast(cx.b, x, from, to);
    cx.one(to, y)
}

fn cast_like(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["saturate", "round_mode"]);
    let (from, to, x) = (cx.elem(0)?, cx.elem(1)?, cx.x(0)?);
    let y = elem::cast(cx.b, x, from, to);
    cx.one(to, y)
}

fn bit_cast(cx: &mut Cx<'_>) -> Lowered {
    let to = cx.elem_attr("to", Elem::F32)?;
    let (from, x) = (cx.elem(0)?, cx.x(0)?);
    let bits = |e: Elem| e.bytes();
    if from.is_float() || to.is_float() || from == Elem::Bool || to == Elem::Bool || bits(from) != bits(to) {
        return unsupported("reads the bits of floats or truth values", "integers of one width");
    }
    if from.bytes() == 8 {
        return unsupported("reads the bits of 64-bit integers", "smaller integers");
    }
    let wide = cx.b.cast(x, DType::I64);
    // Between signed and unsigned the bits are the number modulo a power of two.
    let (low, high) = to.range();
    let size = cx.b.scalar((high - low + 1) as f64, DType::I64);
    let low = cx.b.scalar(low as f64, DType::I64);
    let shifted = cx.b.sub(wide, low);
    let inside = elem::floor_mod(cx.b, shifted, size);
    let back = cx.b.add(inside, low);
    let y = cx.b.cast(back, to.dtype());
    cx.one(to, y)
}

fn eye_like(cx: &mut Cx<'_>) -> Lowered {
    let dims = cx.fixed(0)?;
    let from = cx.elem(0)?;
    let elem = cx.elem_attr("dtype", from)?;
    let offset = cx.int("k", 0)?;
    let [rows, columns] = dims.as_slice() else { return invalid("needs a matrix") };
    check_constant(&[*rows, *columns])?;
    let one = |i: usize| i64::from((i % columns) as i64 == ((i / columns) as i64).saturating_add(offset));
    let tensor = Tensor::from_i64(elem.dtype(), [*rows, *columns], one);
    Ok(vec![Datum::known(elem, tensor)])
}

fn one_hot(cx: &mut Cx<'_>) -> Lowered {
    let depth = cx.known_number(1)?;
    if !(1.0..1e8).contains(&depth) {
        return invalid(format!("a depth of {depth}"));
    }
    let (elem, indices, values) = (cx.elem(2)?, cx.number(0)?, cx.x(2)?);
    let dims = cx.b.dims(indices);
    let at = crate::cx::axis(cx.int("axis", -1)?, dims.len() + 1)?;
    let b = &mut *cx.b;
    let indices = b.cast(indices, DType::I64);
    let size = b.scalar(depth, DType::I64);
    let zero = b.scalar(0.0, DType::I64);
    let negative = b.compare(outgrow_ir::ops::compare::Comparison::Lt, indices, zero);
    let wrapped = b.add(indices, size);
    let indices = b.select(negative, wrapped, indices);
    let mut wide = dims.clone();
    wide.insert(at, Dim::Fixed(depth as usize));
    check_size(&wide)?;
    let kept: Vec<usize> = (0..wide.len()).filter(|i| *i != at).collect();
    let spread = b.broadcast(indices, &wide, &kept);
    let place = b.iota(DType::I64, &wide, at);
    let hit = b.compare(outgrow_ir::ops::compare::Comparison::Eq, spread, place);
    let (off, on) = (b.slice(values, 0, 0, 1), b.slice(values, 0, 1, 2));
    let y = b.select(hit, on, off);
    cx.one(elem, y)
}

fn dropout(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["seed", "is_test", "consumed_inputs"]);
    let attr_ratio = cx.real("ratio", 0.5)?;
    let (elem, x) = (cx.elem(0)?, cx.float(0)?);
    let ratio = match (cx.opset >= 12, cx.has(1)) {
        (true, true) => cx.known_number(1)?,
        _ => attr_ratio,
    };
    if let Mode::Training(training) = cx.mode
        && ratio > 0.0
    {
        let stream = *cx.streams;
        *cx.streams += 1;
        let y = cx.b.dropout(x, ratio, training.key, stream);
        return cx.one(elem, y);
    }
    let asked =
        matches!(cx.mode, Mode::AsWritten) && cx.opset >= 12 && cx.has(2) && cx.known(2)?.get_i64(0) != 0;
    if asked && ratio > 0.0 {
        return unsupported("drops elements at random outside training", "training_mode false");
    }
    let mask = cx.b.dims(x);
    let mask = if cx.opset < 10 {
        Datum::value(elem, cx.b.full(1.0, elem.dtype(), &mask))
    } else {
        Datum::value(Elem::Bool, cx.b.full(1.0, DType::Bool, &mask))
    };
    Ok(vec![Datum::value(elem, x), mask])
}
